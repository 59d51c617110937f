"""The HTTP requests of one agent connection, one after the other, each with its upstream connection.

This half reads requests and owns the state; ``answer`` reads what comes back. Hot path: no Deferred, no log call, no event
objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fipsrelay.errors import AgentError, FipsrelayError, MessageError, UpstreamError
from fipsrelay.relay.answer import Answer, local_answer
from fipsrelay.upstream.connect import Attempt, describe
from fipsrelay.upstream.pool import Pool
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.http1 import CHUNKED, HEAD_END, Body, RequestHead, body_of, encode_chunk, last_chunk, parse_request
from fipsrelay.wire.streams import PlainStream, TlsStream

if TYPE_CHECKING:
    from fipsrelay.relay.factory import ProxyFactory

_WINDOW = 8192
_JOIN = 16384
# RFC 8446 §6: a fatal handshake_failure alert, in the record version every TLS client accepts.
_TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x28"
_TLS_HANDSHAKE = 0x16
_LINGER = 5.0


class Exchange:
    """Relays the requests of one agent connection.

    Attributes:
        deadline: see ``wire.deadlines``.
        request: the head under way, or None between requests.
        request_done: its body has been read to the end.
        answer: the other direction.
    """

    def __init__(self, factory: ProxyFactory) -> None:
        self.deadline = NEVER
        self.factory = factory
        self.counters = factory.counters
        self.request: RequestHead | None = None
        self.request_done = False
        self.closing = False
        self.answer = Answer(self)
        self.upstream: TlsStream | None = None
        self.pool: Pool | None = None
        self._agent: PlainStream | None = None
        self._attempt: Attempt | None = None
        self._body: Body | None = None
        self._partial = b""
        self._ahead = b""
        self._discarding = False
        self._lingering = False
        self._agent_ended = False
        self._now = factory.deadlines.now
        self._timeouts = factory.timeouts

    @property
    def agent(self) -> PlainStream:
        assert self._agent is not None
        return self._agent

    # -- beginning and end

    def makeConnection(self, stream: PlainStream) -> None:
        """Twisted's ``Port`` hands over the accepted connection."""
        self._agent = stream
        stream.user = self
        self.factory.opened(self)
        self.factory.deadlines.watch(self)
        self.deadline = self._now() + self._timeouts.agent_keep_alive
        stream.resume()

    def drain(self) -> None:
        """Finish the request under way, if any, and close."""
        self.closing = True
        if self.request is None and not self._partial:
            self.finish()

    def abort(self) -> None:
        """Cut everything now."""
        self._cut(reset=True)

    def finish(self) -> None:
        """Close in order: what is written still goes out."""
        self._gone()
        self.agent.close()

    def _cut(self, reset: bool) -> None:
        self._gone()
        self.agent.abort(reset)

    def _gone(self) -> None:
        """Let go of everything but the agent's socket."""
        self.deadline = NEVER
        self.factory.deadlines.forget(self)
        self.drop_upstream()
        self.factory.closed(self)

    def drop_upstream(self) -> None:
        """The upstream connection is not fit for another request, or not needed."""
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None

    # -- the agent's stream

    def stream_data(self, view: memoryview) -> None:
        """Bytes from the agent."""
        self.counters.bytes_in += len(view)
        self._read(view)

    def stream_drained(self) -> None:
        """The agent took what was kept: read the upstream again."""
        self.deadline = self._now() + self._timeouts.body
        if self.upstream is not None:
            self.upstream.resume()

    def stream_eof(self) -> None:
        """The agent sends no more. A finished request still gets its answer; an unfinished one is cut."""
        self._agent_ended = True
        if self.request is None or not self.request_done:
            if self.request is not None or self._partial:
                self.factory.counters.errors["agent-closed"] += 1
            self._cut(reset=False)
        else:
            self.closing = True

    def stream_lost(self, reason: Exception | None) -> None:
        """The agent's connection broke; its answer has nowhere to go."""
        if self.request is not None:
            self.factory.counters.errors["agent-closed"] += 1
        self._gone()

    def expired(self) -> None:
        """Nothing happened for too long."""
        if self._lingering or (self.request is None and not self._partial):
            self.finish()
        elif self.request is None:
            self._refuse(AgentError("head-timeout", 408, "the request head did not arrive in time"))
        elif self._discarding:
            self._cut(reset=False)
        elif not self.request_done and self.agent.reading:
            self._refuse(AgentError("body-timeout", 408, "the request body stopped arriving"))
        else:
            what = "took no more of the request" if not self.request_done else "did not answer in time"
            self.upstream_failed("answer-timeout", 504, "answer", f"the upstream {what}")

    # -- requests

    def _read(self, view: memoryview) -> None:
        position, length = 0, len(view)
        if self._lingering:
            return
        while position < length:
            if self.request is None:
                position = self._read_head(view, position)
            elif not self.request_done:
                position = self._read_body(view, position)
            else:
                self._ahead += view[position:]
                self.agent.pause()
                return
            if position < 0 or self._lingering or not self.agent.is_open:
                return

    def _read_head(self, view: memoryview, position: int) -> int:
        """Read a head that begins (or goes on) at ``position``; returns where it ends, or -1 to stop."""
        window = bytes(view[position : position + _WINDOW])
        limit = self.factory.limits.head_size
        if self._partial:
            begun = len(self._partial)
            window = self._partial + bytes(view[position : position + limit])
            end = window.find(HEAD_END, max(0, begun - 3))
        else:
            begun = 0
            if window[0] == _TLS_HANDSHAKE:
                self._refuse_tls()
                return -1
            end = window.find(HEAD_END)
            if end < 0 and len(window) < len(view) - position:
                window = bytes(view[position : position + limit])
                end = window.find(HEAD_END)
        if end < 0 or end + 4 > limit:
            if len(window) >= limit:
                self._refuse(MessageError("head-too-large", 431, f"the request head is larger than {limit} bytes"))
                return -1
            if not begun:
                self.deadline = self._now() + self._timeouts.request_head
            self._partial = window
            return len(view)
        self._partial = b""
        end += 4
        try:
            head = parse_request(window[:end], self.factory.limits.header_lines)
        except MessageError as error:
            self._refuse(error)
            return -1
        return self._begin(head, view, position + end - begun)

    def _begin(self, head: RequestHead, view: memoryview, position: int) -> int:
        self.request = head
        assert head.body is not None
        self._body = body_of(head.body)
        self.request_done = self._body.done
        if not head.keep_alive or self.factory.draining:
            self.closing = True
        self.answer.begin(head)
        self.pool = pool = self.factory.pools[self.factory.routes.choose(head.target)]
        stream = pool.take()
        if stream is None:
            self._ahead = bytes(view[position:])
            self.agent.pause()
            self.deadline = NEVER  # connecting has deadlines of its own
            self._attempt = pool.attempt(self)
            self._attempt.start()
            return -1
        self.upstream = stream
        stream.user = self.answer
        return self._send_head(view, position)

    def _send_head(self, view: memoryview, position: int) -> int:
        """Send the head, together with a short body that is already here."""
        assert self.request is not None
        assert self.pool is not None
        assert self.upstream is not None
        self.deadline = self._now() + (self._timeouts.answer if self.request_done else self._timeouts.body)
        data = self.request.rebuild(self.pool.host)
        length = self.request.body
        if length and 0 < length <= min(_JOIN, len(view) - position):
            end = position + length
            data += view[position:end]
            position = end
            self.request_done = True
            self._body = None
            self.deadline = self._now() + self._timeouts.answer
        if not self.upstream.write(data) and self.upstream is not None and not self.request_done:
            self.agent.pause()
        elif self.upstream is not None:
            self.upstream.resume()
        return position

    def _read_body(self, view: memoryview, position: int) -> int:
        body = self._body
        assert body is not None
        try:
            pieces, position = body.feed(view, position)
        except MessageError as error:
            self._refuse(error)
            return -1
        done = body.done
        if self.upstream is not None and not self._discarding:
            if self.request is not None and self.request.body == CHUNKED:
                data: bytes | memoryview = encode_chunk(pieces)
                if done:
                    data = bytes(data) + last_chunk(body.trailers)
            else:
                data = pieces[0]
            self.deadline = self._now() + self._timeouts.body
            if len(data) and not self.upstream.write(data) and not done and self.agent.is_open:
                self.agent.pause()
        if done:
            self._body = None
            self.request_done = True
            if self.request is not None:
                self.deadline = self._now() + self._timeouts.answer
                self.maybe_finished()
        return position

    # -- the upstream connection

    def connected(self, stream: TlsStream) -> None:
        """A new upstream connection is ready: go on with what is waiting."""
        self._attempt = None
        self.upstream = stream
        stream.user = self.answer
        ahead, self._ahead = memoryview(self._ahead), b""
        self.agent.resume()
        stream.resume()
        position = self._send_head(ahead, 0)
        if position < len(ahead) and self.agent.is_open:
            self._read(ahead[position:])

    def refused(self, error: UpstreamError) -> None:
        """There is no upstream connection to be had."""
        self._attempt = None
        self._answer_locally(error, error.code, error.status)

    def upstream_drained(self) -> None:
        """The upstream took what was kept: read the agent again."""
        self.deadline = self._now() + (self._timeouts.answer if self.request_done else self._timeouts.body)
        if not self._agent_ended and not self._ahead:
            self.agent.resume()

    def upstream_lost(self, reason: Exception | None) -> None:
        """The upstream connection ended before its answer was complete."""
        self.upstream_failed("upstream-closed", 502, "answer", f"the answer was cut short: {describe(reason)}")

    def upstream_failed(self, code: str, status: int, step: str, detail: str) -> None:
        """The request cannot be completed."""
        assert self.pool is not None
        upstream = self.pool.upstream
        self.drop_upstream()
        where = f"{upstream.host}:{upstream.port}"
        self._answer_locally(UpstreamError(code, status, upstream.name, where, step, detail), code, status)

    def _answer_locally(self, error: FipsrelayError, code: str, status: int) -> None:
        """Say it ourselves if the agent has heard nothing yet; else a cut answer must look cut."""
        self.factory.failed(error, code)
        if self.answer.head_sent:
            self._cut(reset=True)
            return
        if self.closing is False and self.request is not None and self.request.http10:
            self.closing = True
        head_only = self.request is not None and self.request.method == b"HEAD"
        self.answer.done = True
        self._discarding = True
        self.agent.resume()
        self.counters.requests[status] += 1
        self.write_agent(local_answer(status, code, str(error), self.closing, head_only))
        self.deadline = self._now() + self._timeouts.body
        ahead, self._ahead = self._ahead, b""
        if ahead and not self.request_done:
            self._read(memoryview(ahead))
        else:
            self._ahead = ahead
            self.maybe_finished()

    def _refuse(self, error: AgentError | MessageError) -> None:
        """Answer a request that cannot be relayed and close; what still arrives is thrown away for a moment, because closing
        a socket with unread bytes resets it and the agent would lose the answer."""
        self.drop_upstream()
        self.factory.failed(error, error.code)
        if self.answer.head_sent:
            self._cut(reset=True)
            return
        self.counters.requests[error.status] += 1
        self.write_agent(local_answer(error.status, error.code, str(error), True, False))
        self._linger()

    def _refuse_tls(self) -> None:
        self.factory.failed(
            AgentError("tls-to-plaintext", 400, "TLS on a plaintext port; set fips.https: false in the Agent"),
            "tls-to-plaintext",
        )
        self.write_agent(_TLS_ALERT)
        self._linger()

    def _linger(self) -> None:
        self._lingering = True
        if self.agent.is_open:
            self.agent.write_eof()
            self.agent.resume()
        self.deadline = self._now() + _LINGER

    # -- the end of a request

    def write_agent(self, data: bytes | memoryview) -> None:
        """Send to the agent; a slow agent stops the upstream."""
        self.counters.bytes_out += len(data)
        if not self.agent.write(data) and self.upstream is not None:
            self.upstream.pause()

    def maybe_finished(self) -> None:
        """Go on to the next request when both directions are complete."""
        if not (self.answer.done and self.request_done) or self.request is None:
            return
        stream, self.upstream = self.upstream, None
        if stream is not None:
            if self.answer.reusable and self.pool is not None:
                self.pool.give_back(stream)
            else:
                stream.close()
        self.request = None
        self.answer.head_sent = False
        self._discarding = False
        if self.closing:
            self.finish()
            return
        self.deadline = self._now() + self._timeouts.agent_keep_alive
        if self._ahead:
            self._next()

    def _next(self) -> None:
        """A pipelined request is waiting; from the reactor, so that a long pipeline is no deep recursion."""
        self.factory.deadlines.soon(self._read_ahead)

    def _read_ahead(self) -> None:
        ahead, self._ahead = self._ahead, b""
        if self.agent.is_open and ahead:
            self.agent.resume()
            self._read(memoryview(ahead))


