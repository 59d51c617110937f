"""The HTTP requests of one agent connection, one after the other, each with its upstream connection.

This half reads requests and decides what happens; ``answer`` reads what comes back. Hot path: no Deferred, no log call,
no event objects. It is longer than most modules because it is one state machine, which two files would only hide.
"""

from __future__ import annotations

from fipsrelay.errors import AgentError, MessageError, UpstreamError
from fipsrelay.relay.answer import JOIN, Answer, local_answer
from fipsrelay.relay.frontend import FRESH, Frontend, Request
from fipsrelay.relay.hello import ALERT, HANDSHAKE, refusal
from fipsrelay.upstream.search import RETRIES, Search
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.heads import HeadReader
from fipsrelay.wire.http1 import CHUNKED, Body, ChunkedBody, LengthBody, body_of, encode_chunk, last_chunk
from fipsrelay.wire.streams import Stream
from fipsrelay.wire.tls import RECORD, TlsStream

# By us as soon as there is an upstream to take the body (as nginx does it), so that no agent waits for nothing.
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Chunks in a row, and then seconds for others: those of a byte would take a core. Of 2 KB, there are not so many in a
# read.
_PIECES, _REST = 64, 0.001
# What nginx calls lingering_timeout and lingering_time: how long an agent may pause, and go on, after an answer that
# was given before its request had ended.
_LINGER_PAUSE, _LINGER = 5.0, 30.0


class Exchange:
    """Relays the requests of one agent connection.

    Args:
        frontend: the port that it came in by.

    Attributes:
        deadline: see ``wire.deadlines``.
        closing: the connection ends after the request under way.
    """

    def __init__(self, frontend: Frontend) -> None:
        self.deadline = NEVER
        self.closing = False
        self._frontend = frontend
        self._counters = frontend.counters
        self._timeouts = frontend.timeouts
        self._now = frontend.deadlines.now
        self._took = frontend.counters.latencies.count
        self._agent: Stream
        self._heads = HeadReader(frontend.limits.head_size)
        self._answer: Answer
        self._request: Request | None = None
        self._head = b""  # as it goes upstream
        self._length = 0  # of the request's body, or CHUNKED
        self._body: Body | None = None  # what reads it, while some of it is still to come
        self._ahead = b""  # arrived before it could be used
        self._resting: Body | None = None  # whose pieces are so many that others are served first
        # Of the request, all that went upstream so far; None when that is not kept.
        self._sent: bytes | bytearray | None = None
        # What comes behind that, while it is being written and a failure means that nothing has gone out: not where
        # the kernel paces and it takes several records, of which the first may have.
        self._unsent: bytes | memoryview | None = None
        self._began = 0.0  # when its head was read
        self._retries = RETRIES  # that are left for the request
        self._search: Search | None = None
        self._upstream: TlsStream | None = None
        self._over = False  # no further request is read
        self._linger_until = NEVER

    # -- beginning and end

    def makeConnection(self, stream: Stream) -> None:
        """``IntakePort`` hands over the accepted connection."""
        self._answer = Answer(self, self._frontend)
        self._agent = stream
        stream.user = self
        self._frontend.opened(self)
        self._frontend.deadlines.watch(self)
        self.deadline = self._now() + self._timeouts.agent_keep_alive
        stream.resume()

    def drain(self) -> None:
        """Finish the request under way, if any, and close. One may be on its way: what looks idle is not always."""
        self.closing = True
        if self._request is not None or self._heads.begun or self._over:
            return
        fresh = self.deadline - self._timeouts.agent_keep_alive + FRESH
        if self._ahead or self._agent.unsent:
            self._finish()
        elif self._began == 0 and fresh > self._now():
            self.deadline = fresh
        else:
            self.give_way()

    def idle_since(self) -> float:
        """Since when it has been waiting for a request; NEVER while it is not."""
        waiting = self._request is None and not (self._heads.begun or self._over or self._ahead or self._agent.unsent)
        return self.deadline - self._timeouts.agent_keep_alive if waiting else NEVER

    def give_way(self) -> bool:
        """Close, unless a request has arrived of which the reactor has not told yet."""
        if not self._agent.is_quiet():
            return False
        self._finish()
        return True

    def abort(self) -> None:
        """Cut everything now."""
        self._cut()

    def _finish(self) -> None:
        """Close in order: what is written still goes out."""
        if self._agent.unsent:
            self._linger()
        else:
            self._gone()
            self._agent.close()

    def _cut(self) -> None:
        """Close so that a message that is not complete does not look complete."""
        self._gone()
        self._agent.abort(reset=True)

    def _break_off(self) -> None:
        """The request ends here: an answer that the agent has in part is cut, one that it has whole must arrive."""
        if self._answer.head_sent and self._answer.done:
            self._linger()
        else:
            self._cut()

    def _gone(self) -> None:
        """Let go of everything but the agent's socket.

        And of the answer, which knows this exchange: what lies in a circle waits for Python to collect it. That may be
        hours, for Python goes by the number of objects, and knows nothing of what OpenSSL keeps for a connection.
        """
        self.deadline = NEVER
        self._over = True
        self._request = self._body = self._sent = None
        self._frontend.deadlines.forget(self)
        self._drop_upstream()
        self._frontend.closed(self)
        del self._answer

    def _drop_upstream(self) -> None:
        """The upstream connection is not fit for another request, or nobody waits for it."""
        if self._search is not None:
            self._search.cancel()
            self._search = None
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    # -- the agent's stream

    def stream_data(self, view: memoryview) -> None:
        """Bytes from the agent."""
        size = len(view)
        self._counters.bytes_in += size
        body = self._body
        if body is None and self._request is None and not self._over:
            # The short way of a whole request.
            position = self._read_head(view, 0)
            if position < size:
                self._read(view, position)
        elif type(body) is LengthBody and self._upstream is not None and size < body.remaining:
            # The short way of bulk: from the read buffer to OpenSSL.
            body.remaining -= size
            self._send(self._upstream, view)
        elif self._over:
            self.deadline = min(self._now() + _LINGER_PAUSE, self._linger_until)
        else:
            self._read(view)

    def stream_drained(self) -> None:
        """The agent took what was kept: read the upstream, the next request, or the agent's end."""
        if self._upstream is not None:
            self.deadline = self._now() + self._timeouts.body
            self._upstream.resume()
        elif self._over:
            self._agent.resume()
        elif self._request is None:
            self._next(self._now())

    def stream_eof(self) -> None:
        """The agent sends no more. A complete request still gets its answer; an incomplete one is cut."""
        self.closing = True
        if self._over:
            if not self._agent.unsent:  # otherwise it has yet to take its answer; the end comes again after that
                self._finish()
        elif self._body is not None or self._heads.begun:
            self._counters.errors["agent-closed"] += 1
            self._drop_upstream()
            self._break_off()
        elif self._request is None:
            self._finish()

    def stream_lost(self, reason: Exception | None) -> None:
        """The agent's connection broke; its answer has nowhere to go."""
        if self._request is not None or (self._heads.begun and not self._over):
            self._counters.errors["agent-closed"] += 1
        self._gone()

    def expired(self) -> None:
        """Nothing happened for too long."""
        if self._request is None:
            if self._agent.unsent:
                self._agent_stalled()
            elif self._heads.begun and not self._over:
                self._refuse(AgentError("head-timeout", 408, "the request head did not arrive in time"))
            else:
                self._finish()
        elif self._upstream is not None and not self._upstream.reading:
            self._agent_stalled()
        elif self._body is not None and self._agent.reading:
            self._refuse(AgentError("body-timeout", 408, "the request body stopped arriving"))
        else:
            what = "stopped taking the request" if self._body is not None else "did not answer in time"
            self._fail(self._error("answer-timeout", 504, f"the upstream {what}"))

    def _agent_stalled(self) -> None:
        """The agent does not take its answer."""
        self._counters.errors["agent-timeout"] += 1
        self._cut()

    # -- the request

    def _read(self, view: memoryview, position: int = 0) -> None:
        length = len(view)
        while position < length and not self._over:
            if self._request is None:
                position = self._read_head(view, position)
            elif self._body is not None and self._search is None and self._resting is not self._body:
                position = self._read_body(self._body, view, position)
            else:
                self._hold(view, position)  # nobody takes it yet, or it is pipelined: its turn comes after this answer
                return

    def _hold(self, view: memoryview, position: int) -> None:
        """Keep what cannot be used yet, at most one read, and take no more."""
        self._ahead += view[position:]
        self._agent.pause()

    def _read_head(self, view: memoryview, position: int) -> int:
        """Read a head, or a part of it; returns the position after what was used or held."""
        heads = self._heads
        begun = heads.begun
        if view[position] == HANDSHAKE and not begun:
            self._refuse_tls()
            return len(view)
        try:
            data, position = heads.feed(view, position)
            if data is None:
                if not begun:
                    self.deadline = self._now() + self._timeouts.request_head
                return position
            request, length, self._head = self._frontend.requests.read(data)
        except MessageError as error:
            self._refuse(error)
            return len(view)
        self._request = request
        self._length = length
        self._began = self._now()
        self._retries = RETRIES
        if not request.keep_alive or self._frontend.draining:
            self.closing = True
        self._answer.begin(request)
        stream = request.backend.take()
        if stream is not None:
            return self._send_head(stream, view, position, self._began)
        self._body = body_of(length) if length else None
        self._hold(view, position)
        self._connect()
        return len(view)

    def _send_head(self, upstream: TlsStream, view: memoryview, position: int, now: float) -> int:
        """Send the head, together with a short body that is already here."""
        self._upstream = upstream
        upstream.user = self._answer
        length = self._length
        if 0 <= length <= JOIN and position + length <= len(view):
            end = position + length
            self._body = None
            self.deadline = now + self._timeouts.answer
            self._sent = message = self._head + view[position:end] if length else self._head
            if len(message) <= RECORD or not upstream.paced:
                self._unsent = b""
            upstream.write(message)
            self._unsent = None
            return end
        body = self._body = body_of(length)
        piece: bytes | memoryview = b""
        if length > 0 and position < len(view):
            (piece,), position = body.feed(view, position)
            if body.done:
                self._body = None
        self._send_first(upstream, self._head, piece)
        return position

    def _send_first(self, upstream: TlsStream, data: bytes, piece: bytes | memoryview = b"") -> None:
        """Send what begins a request and, if it is here, a piece of the body; keep what may have to be sent again."""
        request = self._request
        assert request is not None
        together = bool(piece) and not upstream.paced
        self._sent = data
        if len(data) <= RECORD or not upstream.paced:
            self._unsent = piece
        if together:
            self._write(upstream, piece, data)
        else:
            self._write(upstream, data)
        self._unsent = None
        if self._upstream is not upstream:
            return
        if piece or self._body is not None:
            self._sent = bytearray(data) if request.backend.upstream.retries.replay else None
            if together and self._sent is not None:
                self._keep(piece)
        if piece and not together:
            self._send(upstream, piece)
        if request.expects and self._body is not None and self._upstream is upstream:
            self.to_agent(_CONTINUE)

    def _read_body(self, body: Body, view: memoryview, position: int) -> int:
        try:
            if isinstance(body, ChunkedBody):
                pieces, position = body.feed(view, position, _PIECES)
            else:
                pieces, position = body.feed(view, position)
        except MessageError as error:
            self._refuse(error)
            return len(view)
        if body.done:
            self._body = None
        elif position < len(view):
            self._resting = body
            self._frontend.reactor.callLater(_REST, self._rested, body)
        upstream = self._upstream
        if upstream is None:
            # The upstream has answered and gone: the rest of the request is thrown away.
            self.deadline = self._now() + self._timeouts.body
            self._settle()
        elif self._length == CHUNKED:
            data = encode_chunk(pieces)
            if body.done:
                data += last_chunk(body.trailers)
            self._send(upstream, data)
        else:
            self._send(upstream, pieces[0])
        return position

    def _rested(self, body: Body) -> None:
        if self._body is body:
            self._resting = None
            if self._upstream is None or not self._upstream.unsent:
                self._go_on()

    def _go_on(self) -> None:
        """Read the agent again, first what is held of it; unless it rests, and will go on by itself."""
        if self._resting is not self._body:
            ahead, self._ahead = memoryview(self._ahead), b""
            self._agent.resume()
            self._read(ahead)

    def _send(self, upstream: TlsStream, data: bytes | memoryview) -> None:
        """Pass a further part of the request on."""
        if self._sent is not None:
            self._keep(data)
        self._write(upstream, data, further=True)

    def _write(
        self, upstream: TlsStream, data: bytes | memoryview, head: bytes = b"", *, further: bool = False
    ) -> None:
        """Send to the upstream; a slow one pauses the agent."""
        if self._body is None:
            self.deadline = self._now() + self._timeouts.answer
            answer = self._answer
            upstream.write(data, head, further)
            if answer.done:
                self._settle()
        else:
            self.deadline = self._now() + self._timeouts.body
            if not upstream.write(data, head, further) and self._upstream is not None:
                self._agent.pause()

    # -- the upstream connection

    def _connect(self) -> None:
        """Look for an upstream connection; the request waits."""
        assert self._request is not None
        self.deadline = NEVER  # a search has deadlines of its own
        self._search = self._request.backend.search(self, self._retries)
        self._search.start()

    def connected(self, stream: TlsStream) -> None:
        """A new upstream connection is ready: go on with what is waiting."""
        self._search = None
        ahead, self._ahead = memoryview(self._ahead), b""
        self._agent.resume()
        stream.resume()
        position = 0
        if self._sent is None:
            position = self._send_head(stream, ahead, 0, self._now())
        else:
            self._upstream = stream
            stream.user = self._answer
            self._send_first(stream, bytes(self._sent))
        self._read(ahead, position)

    def retrying(self, error: UpstreamError) -> None:
        """After this failure there is another try."""
        self._retries -= 1
        self._counters.retries[error.code] += 1

    def refused(self, error: UpstreamError) -> None:
        """There is no upstream connection to be had."""
        self._search = None
        self._fail(error)

    def upstream_drained(self) -> None:
        """The upstream took what was kept: read the agent again."""
        if self._body is not None:
            self.deadline = self._now() + self._timeouts.body
            self._go_on()
        else:
            self._settle()

    def upstream_gone(self) -> None:
        """It answered and left while the request was still on its way: the rest of it is thrown away."""
        self._drop_upstream()
        if self._body is not None:
            self._go_on()
        self._settle()

    def _error(self, code: str, status: int, detail: str) -> UpstreamError:
        assert self._request is not None
        assert self._upstream is not None
        return UpstreamError(code, status, self._request.backend.upstream.name, self._upstream.name, "answer", detail)

    # -- sending again

    def _keep(self, data: bytes | memoryview) -> None:
        """Keep what goes upstream, within the bound."""
        assert self._request is not None
        assert isinstance(self._sent, bytearray)
        if len(self._sent) + len(data) <= self._request.backend.upstream.retries.replay_size:
            self._sent += data
        else:
            self._sent = None

    def _may_be_sent_again(self, request: Request) -> bool:
        """Only what the upstream cannot have read, or what may arrive twice; and only while all of it is here."""
        sent, retries = self._sent, request.backend.upstream.retries
        if sent is None or not self._retries or self._answer.heard:
            return False
        if self._unsent is not None:
            self._sent = b"".join((sent, self._unsent))
            return True
        if request.method in (b"GET", b"HEAD"):
            return True
        return retries.replay and len(sent) <= retries.replay_size

    def _fail(self, error: UpstreamError) -> None:
        """The request cannot be completed: say so, if the agent has heard nothing yet."""
        self._drop_upstream()
        number = self._frontend.failed(error)
        if self._answer.head_sent:
            self._break_off()
            return
        self._discard_ahead()
        assert self._request is not None
        if self._request.http10:
            self.closing = True
        self._answer.done = True
        self.upstream_leaves()
        self._say(error, number, close=self.closing)
        self.answered()

    def _discard_ahead(self) -> None:
        """Take the failed request's body off what is held: a short one need not cost the agent its connection."""
        if self._body is None:
            return
        ahead = memoryview(self._ahead)
        try:
            _, end = self._body.feed(ahead, 0)
        except MessageError:
            return  # the connection closes, so that it does not matter where the body would have ended
        self._ahead = bytes(ahead[end:])
        if self._body.done:
            self._body = None

    # -- the answer

    def upstream_leaves(self) -> None:
        """It will not take the rest of the request: the agent must know, and cannot send another after it."""
        if self._body is not None:
            self.closing = True

    def to_agent(self, data: bytes | memoryview) -> None:
        """Send to the agent; a slow agent pauses the upstream."""
        self._counters.bytes_out += len(data)
        if not self._agent.write(data) and self._upstream is not None:
            self._upstream.pause()

    def answer_progress(self) -> None:
        """The upstream is alive."""
        if self._request is not None and self._body is None:
            self.deadline = self._now() + self._timeouts.body

    def answered(self) -> None:
        """The agent has its answer. An early one does not stop the request while the upstream goes on reading it."""
        if self._request is None:
            return  # the agent has gone meanwhile
        if self._body is None:
            self._settle()
        elif self.closing and not self._answer.reusable:
            self._drop_upstream()
            self._linger()

    def answer_failed(self, code: str, detail: str) -> None:
        """The upstream's answer is broken or cut."""
        request = self._request
        if request is None:
            return
        error = self._error(code, 502, detail)
        if code == "upstream-closed" and self._may_be_sent_again(request):
            self._drop_upstream()
            self.retrying(error)
            self._connect()
        else:
            self._fail(error)

    def _settle(self) -> None:
        """Go on to the next request if both directions are complete and the upstream has taken everything."""
        if self._request is None or self._body is not None or not self._answer.done:
            return
        stream, answer = self._upstream, self._answer
        now = self._now()
        if stream is not None:
            if stream.unsent:
                return
            self._upstream = None
            if answer.reusable:
                stream.keeper.give_back()
            else:
                stream.close()
        self._request = self._sent = None
        seconds = now - self._began
        self._took(seconds)
        if self._frontend.talks:
            self._frontend.answered(self._head, answer.status, seconds)
        answer.head_sent = False
        if not self.closing:
            self._next(now)
        elif self._ahead:
            self._linger()
        else:
            self._finish()

    def _next(self, now: float) -> None:
        """Wait for a request, but for none from an agent that does not take its answers."""
        agent = self._agent
        if agent.unsent:
            agent.pause()
            self.deadline = now + self._timeouts.body
            return
        self.deadline = now + self._timeouts.agent_keep_alive
        if self._ahead:
            # From the reactor: a long pipeline must not become a deep recursion.
            self._frontend.reactor.callLater(0, self._read_ahead)
        elif not agent.reading:
            agent.resume()

    def _read_ahead(self) -> None:
        if self._request is None and not self._over:
            ahead, self._ahead = self._ahead, b""
            self._agent.resume()
            self._read(memoryview(ahead))

    # -- refusing

    def _refuse(self, error: AgentError | MessageError) -> None:
        """Answer a request that cannot be relayed, and close."""
        error = AgentError(error.code, error.status, error.detail)  # this side's bytes: it is the agent's fault
        self._drop_upstream()
        number = self._frontend.failed(error)
        if self._answer.head_sent:
            self._break_off()
            return
        self._say(error, number, close=True)
        self._linger()

    def _say(self, error: AgentError | UpstreamError, number: str, *, close: bool) -> None:
        """Answer instead of the upstream."""
        self._counters.requests[error.status] += 1
        self._answer.status = error.status
        head_only = self._request is not None and self._request.method == b"HEAD"
        self.to_agent(local_answer(error.status, error.code, str(error), number, close=close, head_only=head_only))

    def _refuse_tls(self) -> None:
        self._frontend.greeted(*refusal(self._agent.peer()))
        self.to_agent(ALERT)
        self._linger()

    def _linger(self) -> None:
        """Send nothing more, and throw away what still arrives.

        To close a socket with unread bytes would reset it, and the agent might lose its answer.
        """
        self._over = True
        self._request = self._body = self._sent = None
        self._ahead = b""
        now = self._now()
        self._linger_until = now + _LINGER
        self.deadline = now + (self._timeouts.body if self._agent.unsent else _LINGER_PAUSE)
        self._agent.write_eof()
        self._agent.resume()
