"""HTTP/1.1 message boundaries, without any I/O.

One strict grammar (RFC 9110 §5, RFC 9112) decides whether bytes are a head: what matches has one reading, everything
else is refused. What a head says about its body, and chunked framing, are read here too, so that every byte of a
message has one reader and its end an exact position. Host, framing and the fields of one connection are written anew;
other header lines pass in order and unchanged, and so do bodies. Both directions stand in one module, because they are
one grammar.
"""

from __future__ import annotations

import re

from fipsrelay.errors import MessageError

CHUNKED = -1
UNTIL_CLOSE = -2

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# No control character but the tab (RFC 9110 §5.5), so no bare CR or LF. A folded line (RFC 9112 §5.2) lacks a name.
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD = _TOKEN + rb":" + _TEXT
_FIELDS = rb"((?:\r\n" + _FIELD + rb")*)\r\n\r\n"
# Capital letters: were `head` taken for HEAD upstream, its answer would end elsewhere. CONNECT asks for a tunnel.
_METHOD = rb"(?!CONNECT )[A-Z]+"
_TARGET = rb"[!-\"$-~]+"  # no fragment
_STATUS_LINE = rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + _TEXT + rb"))?"
# One empty line may come before a request (RFC 9112 §2.2).
_REQUEST = re.compile(rb"(?:\r\n)?(" + _METHOD + rb") (" + _TARGET + rb") HTTP/1\.([01])" + _FIELDS)
_ANSWER = re.compile(_STATUS_LINE + _FIELDS)
# What is not passed on as it came: Host, framing, the fields of one connection (RFC 9110 §7.6.1), and Expect, which is
# met here: an upstream that does not know it would let the agent wait, and readers differ over its odder forms.
_ONE_HOP = rb"connection|content-length|keep-alive|proxy-connection|te|transfer-encoding|upgrade"
_NOTED_IN_REQUESTS = re.compile(rb"\r\n((?i:host|expect|" + _ONE_HOP + rb")):([^\r]*)")
_NOTED_IN_ANSWERS = re.compile(rb"\r\n((?i:" + _ONE_HOP + rb")):([^\r]*)")
# Options of Connection that drop no field. Nominating Content-Length would take the body's end away.
_NOT_NOMINATED = frozenset((b"", b"close", b"keep-alive", b"content-length"))
_LENGTH_DIGITS = 18  # fits the 64 bits of any peer
_AUTHORITY = rb"[0-9A-Za-z\-._~%!$&'()*+,;=:\[\]]"  # no userinfo (RFC 9110 §4.2.4)
_HOST = re.compile(_AUTHORITY + rb"*")
_ABSOLUTE = re.compile(rb"(?i:http)://" + _AUTHORITY + rb"+(/.*|\?.*)?")

# What is wrong with a first line: each pattern narrows the one before; the first that does not match names the fault.
_Faults = tuple[tuple[re.Pattern[bytes], str, int, str], ...]
_UNSPOKEN = ("bad-version", 505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
_REQUEST_FAULTS: _Faults = (
    (re.compile(_TOKEN + rb" [^ \r\n]+ HTTP/[0-9]\.[0-9]\r\n"), "bad-head", 400, "not a request line"),
    (re.compile(_TOKEN + rb" [^ ]+ HTTP/1\.[01]\r\n"), *_UNSPOKEN),
    (re.compile(_METHOD + rb" "), "bad-method", 501, "CONNECT, or a method that is not all capital letters"),
    (re.compile(_METHOD + rb" " + _TARGET + rb" "), "bad-target", 400, "a character that cannot stand in a target"),
)
_ANSWER_FAULTS: _Faults = (
    (re.compile(rb"HTTP/[0-9]\.[0-9] "), "bad-head", 400, "not a status line"),
    (re.compile(rb"HTTP/1\.[01] "), *_UNSPOKEN),
    (re.compile(_STATUS_LINE + rb"\r\n"), "bad-head", 400, "not a status line"),
)
_FIELD_LINE = re.compile(_FIELD)

_SIZE = rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;" + _TEXT + rb")?\r\n"
_CHUNK_SIZE = re.compile(_SIZE)
_NEXT_CHUNK_SIZE = re.compile(rb"\r\n" + _SIZE)
_NO_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer"))
_CHUNK_LINE = 4096
_ALL = 1 << 62
_CHUNK_WINDOW = 64  # nearly every line fits; a larger copy of what is mostly data would only cost
_TRAILERS = 16384


class _Head:
    """What heads of both directions have.

    Attributes:
        http10: whether the sender speaks HTTP/1.0.
        fields: the header lines to pass on, each with its CRLF in front.
        body: bytes that follow, CHUNKED or UNTIL_CLOSE.
        keep_alive: whether the sender keeps the connection.
    """

    __slots__ = ("body", "fields", "http10", "keep_alive")

    body: int
    fields: bytes
    http10: bool
    keep_alive: bool

    def _read(self, fields: bytes, noted: re.Pattern[bytes], header_lines: int) -> tuple[list[bytes], list[bytes]]:
        """Fill in the attributes after ``http10``; returns the values of Host and of Expect where these are noted."""
        if fields.count(b"\n") > header_lines:
            raise MessageError("head-too-large", 431, f"more than {header_lines} header lines")
        self.body = UNTIL_CLOSE
        self.keep_alive = not self.http10
        hosts: list[bytes] = []
        expectations: list[bytes] = []
        connection = coding = None
        parts = noted.split(fields)  # text to keep, a name, its value, text to keep ...
        for at in range(1, len(parts), 3):
            name, value = parts[at], parts[at + 1]
            parts[at] = parts[at + 1] = b""
            key = name.lower()
            if key == b"content-length":
                parts[at] = b"\r\n%b: %d" % (name, self._read_length(value.strip()))
            elif key == b"host":
                hosts.append(value.strip())
            elif key == b"expect":
                expectations.append(value.strip().lower())
            elif key == b"connection":
                connection = value if connection is None else connection + b"," + value
            elif key == b"transfer-encoding":
                coding = value if coding is None else coding + b"," + value
        self.fields = b"".join(parts)
        if coding is not None:
            self._read_coding(coding)
        if connection is not None:
            self._read_connection(connection)
        return hosts, expectations

    def _read_length(self, value: bytes) -> int:
        if self.body != UNTIL_CLOSE:
            raise MessageError("bad-head", 400, "more than one Content-Length")
        if not value.isdigit() or len(value) > _LENGTH_DIGITS:
            raise MessageError("bad-head", 400, f"Content-Length is not a number of at most {_LENGTH_DIGITS} digits")
        self.body = length = int(value)
        return length

    def _read_connection(self, value: bytes) -> None:
        options = {option.strip() for option in value.lower().split(b",")}
        self.keep_alive = b"close" not in options and (not self.http10 or b"keep-alive" in options)
        nominated = options - _NOT_NOMINATED
        if nominated:
            self._drop(nominated)

    def _read_coding(self, value: bytes) -> None:
        """RFC 9112 §6.1: only what has one framing; a length beside it, or in HTTP/1.0, would be another."""
        if self.body != UNTIL_CLOSE:
            raise MessageError("bad-head", 400, "Content-Length and Transfer-Encoding together")
        if self.http10:
            raise MessageError("bad-head", 400, "Transfer-Encoding in HTTP/1.0")
        codings = [coding.strip() for coding in value.lower().split(b",")]
        if codings != [b"chunked"]:
            if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
                raise MessageError("bad-head", 400, "chunked is not the last Transfer-Encoding, once")
            raise MessageError("bad-head", 501, "a Transfer-Encoding other than chunked")
        self.body = CHUNKED

    def _drop(self, names: set[bytes]) -> None:
        lines = self.fields.split(b"\r\n")
        self.fields = b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in names])


class RequestHead(_Head):
    """A request's head; ``body`` is never UNTIL_CLOSE.

    Attributes:
        expects: the sender waits for 100 Continue before it sends the body, if there is one; ``known`` wants this to be
            the same whatever the length.
        method: as sent.
        target: in origin form (or ``*``).
    """

    __slots__ = ("expects", "method", "target")

    expects: bool
    method: bytes
    target: bytes

    def rebuild(self, host: bytes) -> bytes:
        """The head as it goes upstream, in HTTP/1.1, with ``host`` as its Host."""
        framing = b"\r\nTransfer-Encoding: chunked" if self.body == CHUNKED else b""
        return b"%b %b HTTP/1.1\r\nHost: %b%b%b\r\n\r\n" % (self.method, self.target, host, self.fields, framing)


class ResponseHead(_Head):
    """An answer's head.

    Attributes:
        status: the code.
        reason: the phrase, may be empty.
    """

    __slots__ = ("reason", "status")

    reason: bytes
    status: int

    def rebuild(self) -> bytes:
        """The head as it goes to the agent, but for framing."""
        return b"HTTP/1.1 %d %b%b\r\n\r\n" % (self.status, self.reason, self.fields)


def parse_request(data: bytes, header_lines: int = 128) -> RequestHead:
    """Read one whole request head, up to and with its empty line.

    Raises:
        MessageError: it is not one unambiguous head.
    """
    match = _REQUEST.fullmatch(data)
    if match is None:
        raise _fault(data.removeprefix(b"\r\n"), _REQUEST_FAULTS)
    head = RequestHead()
    head.method, head.target, minor, fields = match.groups()
    head.http10 = minor == b"0"
    hosts, expectations = head._read(fields, _NOTED_IN_REQUESTS, header_lines)
    if len(hosts) > 1 or not (hosts or head.http10):
        raise MessageError("bad-head", 400, "not exactly one Host")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise MessageError("bad-head", 400, "Host is not a host")
    if head.body == UNTIL_CLOSE:
        head.body = 0
    if expectations not in ([], [b"100-continue"]):
        raise MessageError("bad-expect", 417, "an expectation other than 100-continue, once")
    head.expects = bool(expectations) and not head.http10  # RFC 9110 §10.1.1: of HTTP/1.0 it is ignored
    if head.target[:1] != b"/":
        head.target = _origin_form(head)
    return head


def parse_response(data: bytes, request_method: bytes, header_lines: int = 128) -> ResponseHead:
    """Read one whole answer head; what follows it depends on the request's method (RFC 9112 §6.3).

    Raises:
        MessageError: it is not one unambiguous head. Its status is for requests; a broken answer is the caller's 502.
    """
    match = _ANSWER.fullmatch(data)
    if match is None:
        raise _fault(data, _ANSWER_FAULTS)
    head = ResponseHead()
    minor, status, reason, fields = match.groups()
    head.http10 = minor == b"0"
    head.status = int(status)
    head.reason = reason or b""
    head._read(fields, _NOTED_IN_ANSWERS, header_lines)
    if head.status < 200 or head.status == 204:
        head.body = 0
        head._drop({b"content-length"})  # RFC 9110 §8.6 forbids it here; not every agent may know that it means nothing
    elif request_method == b"HEAD" or head.status == 304:
        head.body = 0
    elif head.body == UNTIL_CLOSE:
        head.keep_alive = False
    return head


def _origin_form(head: RequestHead) -> bytes:
    """RFC 9112 §3.2: an absolute form is made origin form; the authority form is for CONNECT, which is not relayed."""
    if head.method == b"OPTIONS" and head.target == b"*":
        return b"*"
    match = _ABSOLUTE.fullmatch(head.target)
    if match is None:
        raise MessageError("bad-target", 400, "the target is neither a path nor an absolute http URL")
    path: bytes | None = match[1]
    if path is None:
        return b"*" if head.method == b"OPTIONS" else b"/"
    return path if path[:1] == b"/" else b"/" + path


def _fault(data: bytes, first_line: _Faults) -> MessageError:
    """What is wrong with a head that the grammar refused."""
    for pattern, code, status, detail in first_line:
        if pattern.match(data) is None:
            return MessageError(code, status, detail)
    for number, line in enumerate(data.split(b"\r\n")[1:-2], 1):
        if _FIELD_LINE.fullmatch(line) is None:
            return MessageError("bad-head", 400, f"header line {number} is not a name, a colon and text")
    return MessageError("bad-head", 400, "the head does not end where it should")


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

    def feed(self, view: memoryview, start: int, most: int = _ALL) -> tuple[list[memoryview], int]:
        """Take what belongs to the body from ``view[start:]``.

        Args:
            view: bytes that have arrived.
            start: where to begin.
            most: data pieces to take in this call.

        Returns:
            The data pieces, and the position after what was taken: the message's end, or that of ``view``, unless there
            was more than the most.

        Raises:
            MessageError: the framing is broken.
        """
        pieces: list[memoryview] = []
        length = len(view)
        while start < length and not self.done:
            if self._remaining:
                if len(pieces) == most:
                    break
                end = min(length, start + self._remaining)
                pieces.append(view[start:end])
                self._remaining -= end - start
                self._after_data = not self._remaining
                start = end
            elif self._line or self._trailing:
                start = self._take_line(view, start)
            else:
                start = self._take_size(view, start)
        return pieces, start

    def _take_size(self, view: memoryview, start: int) -> int:
        """Move past a whole chunk size, as nearly always, together with the end of the data before it."""
        pattern = _NEXT_CHUNK_SIZE if self._after_data else _CHUNK_SIZE
        match = pattern.match(view, start, start + _CHUNK_WINDOW)
        if match is None:
            return self._take_line(view, start)
        self._after_data = False
        self._remaining = int(match[1], 16)
        self._trailing = not self._remaining
        return match.end()

    def _take_line(self, view: memoryview, start: int) -> int:
        """Move past one line, or keep a part of it for the next call."""
        window = bytes(view[start : start + _CHUNK_WINDOW])
        cut = window.find(b"\n") + 1
        taken = cut or len(window)
        line = self._line + window[:taken]
        if len(line) > _CHUNK_LINE:
            raise MessageError("bad-chunk", 400, "a chunk line is too long")
        self._line = b"" if cut else line
        if cut:
            self._accept(line)
        return start + taken

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
        if line[-2:] != b"\r\n" or _FIELD_LINE.fullmatch(line, 0, len(line) - 2) is None:
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
