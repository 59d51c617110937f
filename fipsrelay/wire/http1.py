"""HTTP/1.1 message boundaries, without any I/O.

``httptools`` (llhttp) reads heads; what a head says about its body, and chunked framing, are decided here so that every byte
of a message has one reader and its end an exact position. Heads are rebuilt from what was understood (RFC 9112 §11.2:
nothing that was not understood is passed on); bodies are never changed.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from fipsrelay.errors import MessageError

CHUNKED = -1
UNTIL_CLOSE = -2
HEAD_END = b"\r\n\r\n"

# RFC 9110 §7.6.1. Host and framing are written anew.
_DROPPED = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"host", b"trailer")
)
_SPECIAL = _DROPPED | {b"content-length", b"expect"}
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\x00]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\x00]*")
_NO_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer"))
_CHUNK_LINE = 4096
_TRAILERS = 16384


class _Head:
    """Collects one head from llhttp's callbacks; header lines are rebuilt while they arrive."""

    __slots__ = ("body", "complete", "connection", "hosts", "lines", "transfer_encoding")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.body: int | None = None
        self.transfer_encoding: bytes | None = None
        self.connection: list[bytes] = []
        self.hosts = 0
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key in _SPECIAL:
            self._special(key, value)
            if key in _DROPPED:
                return
        self.lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        self.complete = True

    def _special(self, key: bytes, value: bytes) -> None:
        if key == b"content-length":
            if self.body is not None:
                raise MessageError("bad-head", 400, "more than one Content-Length")
            if not value.isdigit():
                raise MessageError("bad-head", 400, "Content-Length is not a number")
            self.body = int(value)
        elif key == b"transfer-encoding":
            if self.transfer_encoding is not None:
                raise MessageError("bad-head", 400, "more than one Transfer-Encoding")
            self.transfer_encoding = value.lower()
        elif key == b"connection":
            self.connection += (token.strip().lower() for token in value.split(b","))
        elif key == b"host":
            self.hosts += 1

    def _check(self, header_lines: int) -> None:
        if len(self.lines) > header_lines:
            raise MessageError("head-too-large", 431, f"more than {header_lines} header lines")
        if self.transfer_encoding is not None:
            if self.body is not None:
                raise MessageError("bad-head", 400, "Content-Length and Transfer-Encoding together")
            if self.transfer_encoding != b"chunked":
                raise MessageError("bad-head", 501, "a Transfer-Encoding other than chunked")
            self.body = CHUNKED
        nominated = set(self.connection) - {b"close", b"keep-alive", b"content-length"}
        if nominated:
            self.lines = [line for line in self.lines if line.split(b":", 1)[0].lower() not in nominated]


class RequestHead(_Head):
    """A request's head.

    Attributes:
        method: as sent.
        target: in origin form (or ``*``).
        http10: whether the client speaks HTTP/1.0.
        body: bytes that follow, or CHUNKED.
        keep_alive: whether the client wants the connection kept.
    """

    __slots__ = ("http10", "keep_alive", "method", "target")

    def __init__(self) -> None:
        super().__init__()
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def rebuild(self, host: bytes) -> bytes:
        """The head as it goes upstream, in HTTP/1.1, with ``host`` as its Host."""
        lines = [b"%b %b HTTP/1.1\r\nHost: %b" % (self.method, self.target, host), *self.lines]
        if self.body == CHUNKED:
            lines.append(b"Transfer-Encoding: chunked")
        lines.append(HEAD_END[2:])
        return b"\r\n".join(lines)


class ResponseHead(_Head):
    """An answer's head.

    Attributes:
        status: the code.
        reason: the phrase, may be empty.
        body: bytes that follow, CHUNKED or UNTIL_CLOSE.
        keep_alive: whether the server keeps the connection.
    """

    __slots__ = ("http10", "keep_alive", "reason", "status")

    def __init__(self) -> None:
        super().__init__()
        self.reason = b""

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def rebuild(self, framing: bytes = b"") -> bytes:
        """The head as it goes to the agent; ``framing`` holds further header lines, each with its CRLF in front."""
        lines = [b"HTTP/1.1 %d %b" % (self.status, self.reason), *self.lines]
        return b"\r\n".join(lines) + framing + HEAD_END


def parse_request(data: bytes, header_lines: int = 128) -> RequestHead:
    """Read one whole request head, up to and with its empty line.

    Raises:
        MessageError: it is not one unambiguous head.
    """
    head = RequestHead()
    parser = HttpRequestParser(head)
    _feed(parser, head, data)
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise MessageError("bad-version", 505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    head.http10 = version == "1.0"
    head.method = parser.get_method()
    head._check(header_lines)
    if head.body is None:
        head.body = 0
    if head.http10:
        if head.body == CHUNKED:
            raise MessageError("bad-head", 400, "Transfer-Encoding in HTTP/1.0")
        head.keep_alive = b"keep-alive" in head.connection
    else:
        head.keep_alive = b"close" not in head.connection
        if head.hosts != 1:
            raise MessageError("bad-head", 400, "not exactly one Host")
    if head.target[:1] != b"/":
        head.target = _origin_form(head)
    return head


def parse_response(data: bytes, request_method: bytes, header_lines: int = 128) -> ResponseHead:
    """Read one whole answer head; what follows it depends on the request's method (RFC 9112 §6.3).

    Raises:
        MessageError: it is not one unambiguous head.
    """
    head = ResponseHead()
    parser = HttpResponseParser(head)
    _feed(parser, head, data)
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise MessageError("bad-version", 502, "the answer is neither HTTP/1.1 nor HTTP/1.0")
    head.http10 = version == "1.0"
    head.status = parser.get_status_code()
    if not 100 <= head.status <= 999:
        raise MessageError("bad-head", 502, "a status code out of range")
    head._check(header_lines)
    head.keep_alive = b"keep-alive" in head.connection if head.http10 else b"close" not in head.connection
    if request_method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        head.body = 0
    elif head.body is None:
        head.body = UNTIL_CLOSE
        head.keep_alive = False
    return head


def _feed(parser: HttpRequestParser | HttpResponseParser, head: _Head, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass  # Upgrade is hop-by-hop and dropped, so the peer is never asked to switch
    except HttpParserInvalidMethodError as error:
        raise MessageError("bad-method", 501, "unknown method") from error
    except HttpParserError as error:
        if isinstance(error.__context__, MessageError):
            raise error.__context__ from None
        raise MessageError("bad-head", 400, str(error)) from error
    if not head.complete:
        raise MessageError("bad-head", 400, "the head does not end where it should")


def _origin_form(head: RequestHead) -> bytes:
    """RFC 9112 §3.2: absolute form is made origin form; authority form is for CONNECT, which is not relayed."""
    if head.target == b"*" and head.method == b"OPTIONS":
        return head.target
    if head.target[:7].lower() == b"http://":
        slash = head.target.find(b"/", 7)
        return head.target[slash:] if slash >= 0 else b"/"
    raise MessageError("bad-target", 400, "the target is neither a path nor an absolute http URL")


class LengthBody:
    """A body of known length."""

    __slots__ = ("done", "remaining")

    trailers = b""

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = not length

    def feed(self, view: memoryview, start: int) -> tuple[list[memoryview], int]:
        """Take what belongs to the body from ``view[start:]``; returns the pieces and where they end."""
        end = min(len(view), start + self.remaining)
        self.remaining -= end - start
        self.done = not self.remaining
        return [view[start:end]], end


class UntilCloseBody:
    """A body that ends with its connection; ``done`` is never true."""

    __slots__ = ()

    done = False
    trailers = b""

    def feed(self, view: memoryview, start: int) -> tuple[list[memoryview], int]:
        """Take everything."""
        return [view[start:]], len(view)


class ChunkedBody:
    """Decodes chunked framing (RFC 9112 §7.1), strictly; extensions are dropped, trailer fields kept.

    Attributes:
        done: the last chunk and the trailer section have been read.
        trailers: the trailer field lines, each with its CRLF.
    """

    __slots__ = ("_after_data", "_line", "_remaining", "_trailing", "done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers = b""
        self._remaining = 0
        self._after_data = False
        self._trailing = False
        self._line = b""

    def feed(self, view: memoryview, start: int) -> tuple[list[memoryview], int]:
        """Take what belongs to the body from ``view[start:]``; returns the data pieces and where the message's bytes end.

        Raises:
            MessageError: the framing is broken.
        """
        pieces: list[memoryview] = []
        length = len(view)
        while start < length and not self.done:
            if self._remaining:
                end = min(length, start + self._remaining)
                pieces.append(view[start:end])
                self._remaining -= end - start
                self._after_data = not self._remaining
                start = end
            else:
                start = self._take_line(view, start)
        return pieces, start

    def _take_line(self, view: memoryview, start: int) -> int:
        """Move past one line, or keep its beginning for the next call."""
        window = bytes(view[start : start + 64])
        cut = window.find(b"\n")
        if cut < 0:
            window = bytes(view[start : start + _CHUNK_LINE])
            cut = window.find(b"\n")
        if cut < 0:
            self._line += window
            if len(self._line) >= _CHUNK_LINE:
                raise MessageError("bad-chunk", 400, "a chunk line is too long")
            return start + len(window)
        line = self._line + window[: cut + 1]
        self._line = b""
        self._accept(line)
        return start + cut + 1

    def _accept(self, line: bytes) -> None:
        if self._after_data:
            if line != b"\r\n":
                raise MessageError("bad-chunk", 400, "chunk data does not end with CRLF")
            self._after_data = False
        elif self._trailing:
            self._accept_trailer(line)
        else:
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise MessageError("bad-chunk", 400, "a chunk size is not a hexadecimal number")
            self._remaining = int(match[1], 16)
            self._trailing = not self._remaining

    def _accept_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        if line[-2:] != b"\r\n" or _TRAILER.fullmatch(line, 0, len(line) - 2) is None:
            raise MessageError("bad-chunk", 400, "a trailer field is malformed")
        if line.split(b":", 1)[0].lower() in _NO_TRAILERS:
            raise MessageError("bad-chunk", 400, "a trailer field that changes the framing")
        self.trailers += line
        if len(self.trailers) > _TRAILERS:
            raise MessageError("head-too-large", 431, "the trailer section is too large")


Body = LengthBody | UntilCloseBody | ChunkedBody


def body_of(length: int) -> Body:
    """The reader for what a head announced."""
    if length == CHUNKED:
        return ChunkedBody()
    return UntilCloseBody() if length == UNTIL_CLOSE else LengthBody(length)


def encode_chunk(pieces: list[memoryview]) -> bytes:
    """One chunk that holds all pieces; nothing for no data, since an empty chunk would end the body."""
    size = sum(map(len, pieces))
    return b"".join((b"%x\r\n" % size, *pieces, b"\r\n")) if size else b""


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n%b\r\n" % trailers
