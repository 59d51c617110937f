"""The answer of one request: read from the upstream, framed for the agent, sent on as it comes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from fipsrelay.errors import MessageError
from fipsrelay.relay.frontend import Frontend, Request
from fipsrelay.wire.heads import HEAD_END, HeadReader
from fipsrelay.wire.http1 import Body, UntilCloseBody, body_of, encode_chunk, last_chunk, parse_response

JOIN = 16384  # a head and a body up to this size leave in one write, and in one TLS record
_MESSAGE = 400  # below the 500 bytes of a body that `datadog-agent diagnose` prints


class Asker(Protocol):
    """Who waits for the answer.

    Attributes:
        closing: whether the agent's connection ends with this answer; may be set here.
    """

    closing: bool

    def upstream_leaves(self) -> None:
        """The upstream ends its connection after this answer."""

    def to_agent(self, data: bytes | memoryview) -> None:
        """Send to the agent; a slow agent pauses the upstream."""

    def answer_progress(self) -> None:
        """Some, not all of the answer has been read."""

    def answered(self) -> None:
        """All of the answer has been handed to ``to_agent``."""

    def answer_failed(self, code: str, detail: str) -> None:
        """There will be no (complete) answer."""

    def upstream_drained(self) -> None:
        """The upstream takes bytes again."""

    def upstream_gone(self) -> None:
        """The connection has ended although nothing of the answer is missing."""


class Answer:
    """Uses the upstream's stream while it is lent to an exchange; serves one request after the other.

    Args:
        asker: who is told.
        frontend: the port that the request came in by.

    Attributes:
        head_sent: the agent has got (some of) an answer.
        done: it has got all of it.
        reusable: the upstream connection can carry another request.
        status: the newest one's.
    """

    def __init__(self, asker: Asker, frontend: Frontend) -> None:
        self._asker = asker
        self._head_size = frontend.limits.head_size
        self._heads = HeadReader(self._head_size)
        self._header_lines = frontend.limits.header_lines
        self._read_answer = frontend.answers
        self._counts = frontend.counters.requests
        self.head_sent = False
        self.status = 0
        self._interim = False

    @property
    def heard(self) -> bool:
        """Something of an answer has come from the upstream."""
        return self.head_sent or self._interim or self._heads.begun

    def begin(self, request: Request) -> None:
        """Wait for the answer to ``request``."""
        if self._heads.begun:  # what is left of an answer that was cut in its head
            self._heads = HeadReader(self._head_size)
        self._method = request.method
        self._http10 = request.http10
        self._body: Body | None = None
        self._rechunk = self._interim = False
        self.head_sent = self.done = self.reusable = False

    # -- the upstream's stream

    def stream_data(self, view: memoryview) -> None:
        """Bytes from the upstream."""
        if self.done:
            self.reusable = False  # nothing was asked that these could belong to
            self._asker.upstream_gone()
            return
        position, length = 0, len(view)
        try:
            while position < length and not self.done:
                if self._body is None:
                    head, position = self._heads.feed(view, position)
                    if head is not None:
                        position = self._read_head(head, view, position)
                else:
                    position = self._read_body(self._body, view, position)
        except MessageError as error:
            self._asker.answer_failed("upstream-http", f"broken HTTP: {error}")
            return
        if not self.done:
            self._asker.answer_progress()
            return
        if position < length:
            self.reusable = False
        self._asker.answered()

    def stream_drained(self) -> None:
        """The upstream takes bytes again."""
        self._asker.upstream_drained()

    def stream_eof(self) -> None:
        """close_notify: the end of an answer without a length, and of nothing else."""
        if self.done:
            self._asker.upstream_gone()
        elif isinstance(self._body, UntilCloseBody):
            self._end(self._body)
            self._asker.answered()
        else:
            self._lost("the upstream closed the connection")

    def stream_lost(self, reason: Exception | None) -> None:
        """The upstream's connection broke."""
        if self.done:
            self._asker.upstream_gone()
        else:
            self._lost("the upstream's connection broke")

    def _lost(self, what: str) -> None:
        when = "in the middle of its answer" if self.head_sent else "before it answered"
        self._asker.answer_failed("upstream-closed", f"{what} {when}")

    # -- reading

    def _read_head(self, data: bytes, view: memoryview, position: int) -> int:
        if self._method == b"HEAD":
            head = parse_response(data, self._method, self._header_lines)
            answer = head.rebuild()
        else:
            head, answer = self._read_answer(data)
        if head.status < 200:
            self._pass_interim(head.status, answer)
            return position
        asker, length = self._asker, head.body
        self._counts[head.status] += 1
        self.status = head.status
        self.reusable = head.keep_alive
        if not head.keep_alive:
            asker.upstream_leaves()
        if length < 0 or asker.closing or self._http10:
            answer = answer[: -len(HEAD_END)] + self._framing(length) + HEAD_END
        self.head_sent = True
        if 0 <= length <= JOIN and position + length <= len(view):
            asker.to_agent(answer + view[position : position + length] if length else answer)
            self.done = True
            return position + length
        asker.to_agent(answer)
        self._body = body_of(length)
        return position

    def _framing(self, length: int) -> bytes:
        """What the agent must be told about this answer's end and the connection's: header lines, CRLF in front."""
        self._rechunk = length < 0 and not self._http10
        if length < 0 and self._http10:
            self._asker.closing = True  # HTTP/1.0 knows no other end of such a body
        framing = b"\r\nTransfer-Encoding: chunked" if self._rechunk else b""
        if self._asker.closing:
            return framing + b"\r\nConnection: close"
        return framing + b"\r\nConnection: keep-alive" if self._http10 else framing

    def _pass_interim(self, status: int, answer: bytes) -> None:
        self._interim = True
        if status == 101:
            raise MessageError("bad-head", 400, "an upgrade that nobody asked for")
        if not self._http10:  # RFC 9110 §15.2: not for HTTP/1.0
            self._asker.to_agent(answer)

    def _read_body(self, body: Body, view: memoryview, position: int) -> int:
        pieces, position = body.feed(view, position)
        if self._rechunk:
            data = encode_chunk(pieces)
            if data:
                self._asker.to_agent(data)
        else:
            self._asker.to_agent(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if body.done:
            self._end(body)
        return position

    def _end(self, body: Body) -> None:
        if self._rechunk:
            self._asker.to_agent(last_chunk(body.trailers))
        self._body = None
        self.done = True


def local_answer(status: int, code: str, text: str, number: str, *, close: bool, head_only: bool) -> bytes:
    """An answer of the relay's own: one line that fits what the Agent's diagnosis prints, and where the log has it."""
    message = " ".join(text.split()).encode("ascii", "replace")[:_MESSAGE] + b"\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(message)}\r\n"
        f"Fipsrelay-Error: {code}\r\nFipsrelay-Request: {number}\r\n"
        + ("Connection: close\r\n" if close else "")
        + "\r\n"
    ).encode("ascii")
    return head if head_only else head + message
