"""The answer of one request: read from the upstream, framed for the agent, sent on as it comes."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fipsrelay.errors import MessageError
from fipsrelay.wire.http1 import (
    CHUNKED,
    HEAD_END,
    UNTIL_CLOSE,
    Body,
    RequestHead,
    ResponseHead,
    body_of,
    encode_chunk,
    last_chunk,
    parse_response,
)

if TYPE_CHECKING:
    from fipsrelay.relay.exchange import Exchange

_WINDOW = 8192
_JOIN = 16384
_MESSAGE = 400


class Answer:
    """Uses the upstream's stream while it is lent to an exchange.

    Attributes:
        head_sent: the agent has got (some of) an answer.
        done: the agent has got all of it.
        reusable: the upstream connection can carry another request.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.head_sent = False
        self.done = False
        self.reusable = False
        self._exchange = exchange
        self._method = b""
        self._http10 = False
        self._partial = b""
        self._body: Body | None = None
        self._rechunk = False

    def begin(self, request: RequestHead) -> None:
        """Wait for the answer to ``request``."""
        self._method = request.method
        self._http10 = request.http10
        self._partial = b""
        self._body = None
        self.head_sent = self.done = self.reusable = False

    # -- the upstream's stream

    def stream_data(self, view: memoryview) -> None:
        """Bytes from the upstream."""
        try:
            self._read(view)
        except MessageError as error:
            self._exchange.upstream_failed("upstream-http", 502, "answer", f"broken HTTP: {error}")

    def stream_drained(self) -> None:
        """The upstream takes bytes again."""
        self._exchange.upstream_drained()

    def stream_eof(self) -> None:
        """close_notify: the end of an answer without a length, and of nothing else."""
        body = self._body
        if body is not None and not body.done and not hasattr(body, "remaining") and self._until_close:
            self.reusable = False
            self._end(body)
        elif not self.done:
            self._exchange.upstream_lost(None)
        else:
            self._early_end()

    def stream_lost(self, reason: Exception | None) -> None:
        """The upstream's connection broke."""
        if self.done:
            self._early_end()
        else:
            self._exchange.upstream_lost(reason)

    def _early_end(self) -> None:
        """The upstream answered and closed while the request's body is still coming: the rest is thrown away."""
        self._exchange.discard_rest()

    # -- reading

    _until_close = False

    def _read(self, view: memoryview) -> None:
        position, length = 0, len(view)
        exchange = self._exchange
        while position < length:
            if self.done:
                self.reusable = False  # bytes after the answer: whatever they are, they are not another request's
                exchange.discard_rest()
                return
            if self._body is None:
                position = self._read_head(view, position)
            else:
                position = self._read_body(view, position)
        if not self.done:
            exchange.progress()

    def _read_head(self, view: memoryview, position: int) -> int:
        limit = self._exchange.factory.limits.head_size
        begun = len(self._partial)
        window = bytes(view[position : position + (limit if begun else _WINDOW)])
        if begun:
            window = self._partial + window
        end = window.find(HEAD_END)
        if end < 0 and not begun and len(window) < len(view) - position:
            window = bytes(view[position : position + limit])
            end = window.find(HEAD_END)
        if end < 0 or end + 4 > limit:
            if len(window) >= limit:
                raise MessageError("head-too-large", 502, "the answer's head is too large")
            self._partial = window
            return len(view)
        self._partial = b""
        end += 4
        head = parse_response(window[:end], self._method, self._exchange.factory.limits.header_lines)
        position += end - begun
        if head.status < 200:
            self._pass_interim(head)
            return position
        return self._begin(head, view, position)

    def _pass_interim(self, head: ResponseHead) -> None:
        if head.status == 101:
            raise MessageError("bad-head", 502, "an upgrade that nobody asked for")
        if not self._http10:  # RFC 9110 §15.2: not for HTTP/1.0
            self._exchange.write_agent(head.rebuild())

    def _begin(self, head: ResponseHead, view: memoryview, position: int) -> int:
        exchange = self._exchange
        length = head.body
        assert length is not None
        self.reusable = head.keep_alive
        self._until_close = length == UNTIL_CLOSE
        self._rechunk = length < 0 and not self._http10
        if length < 0 and self._http10:
            exchange.closing = True
        framing = b"\r\nTransfer-Encoding: chunked" if self._rechunk else b""
        if exchange.closing:
            framing += b"\r\nConnection: close"
        elif self._http10:
            framing += b"\r\nConnection: keep-alive"
        data = head.rebuild(framing)
        exchange.counters.requests[head.status] += 1
        self.head_sent = True
        if 0 <= length <= min(_JOIN, len(view) - position):
            if length:
                data += view[position : position + length]
            exchange.write_agent(data)
            self.done = True
            exchange.maybe_finished()
            return position + length
        exchange.write_agent(data)
        self._body = body_of(length)
        return position

    def _read_body(self, view: memoryview, position: int) -> int:
        body = self._body
        assert body is not None
        pieces, position = body.feed(view, position)
        if self._rechunk:
            data = encode_chunk(pieces)
            if data:
                self._exchange.write_agent(data)
        else:
            for piece in pieces:
                self._exchange.write_agent(piece)
        if body.done:
            self._end(body)
        return position

    def _end(self, body: Body) -> None:
        if self._rechunk:
            self._exchange.write_agent(last_chunk(body.trailers))
        self.done = True
        self._body = None
        self._exchange.answered()


def local_answer(status: int, code: str, text: str, close: bool, head_only: bool) -> bytes:
    """An answer of the relay's own: one line that fits what the Agent's diagnosis prints (500 bytes)."""
    message = text.replace("\n", " ").encode("ascii", "replace")[:_MESSAGE] + b"\n"
    phrase = HTTPStatus(status).phrase
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(message)}\r\n"
        f"Fipsrelay-Error: {code}\r\n" + ("Connection: close\r\n" if close else "") + "\r\n"
    ).encode("ascii")
    return head if head_only else head + message


__all__ = ["CHUNKED", "Answer", "local_answer"]
