"""HTTP messages for tests: written, drawn at random, and read from a stream as the relay reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import attrs
from hypothesis import strategies as st

from fipsrelay.errors import MessageError
from fipsrelay.wire.heads import HeadReader
from fipsrelay.wire.http1 import Body, RequestHead, ResponseHead, body_of, last_chunk

HEAD_LIMIT = 65536
Head = TypeVar("Head", RequestHead, ResponseHead)


def request(*lines: bytes, first: bytes = b"POST / HTTP/1.1", host: bytes | None = b"a") -> bytes:
    """A request head with a Host, unless it shall have none."""
    return b"\r\n".join((first, *(() if host is None else (b"Host: " + host,)), *lines)) + b"\r\n\r\n"


def answer(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


# -- reading a stream


@attrs.define
class Message(Generic[Head]):
    """One message as it was read.

    Attributes:
        head: as parsed.
        content: the body so far.
        trailers: trailer lines, once it is complete.
        end: position in the stream after its last byte, once it is complete.
    """

    head: Head
    content: bytes = b""
    trailers: bytes = b""
    end: int | None = None


class Reader(Generic[Head]):
    """Reads messages one after the other, as the relay does, and keeps them.

    Args:
        parse: reads a head.
        head_size: largest head, in bytes.

    Attributes:
        messages: the last one may be incomplete.
        error: code of what ended the reading.
    """

    def __init__(self, parse: Callable[[bytes], Head], head_size: int = HEAD_LIMIT) -> None:
        self.messages: list[Message[Head]] = []
        self.error: str | None = None
        self._parse: Callable[[bytes], Head] = parse
        self._heads = HeadReader(head_size)
        self._body: Body | None = None
        self._before = 0

    def feed(self, data: bytes) -> None:
        if self.error is not None:
            return
        try:
            self._read(memoryview(data))
        except MessageError as error:
            self.error = error.code
        self._before += len(data)

    def _read(self, view: memoryview) -> None:
        position = 0
        while position < len(view):
            if self._body is None:
                data, position = self._heads.feed(view, position)
                if data is None:
                    return
                head = self._parse(data)
                self.messages.append(Message(head))
                self._body = body_of(head.body)
            else:
                pieces, position = self._body.feed(view, position)
                self.messages[-1].content += b"".join(pieces)
            if self._body.done:
                self.messages[-1].trailers = self._body.trailers
                self.messages[-1].end = self._before + position
                self._body = None

    def events(self) -> list[object]:
        """What was read, to be compared; how much of a broken body came before the error depends on the cuts."""
        events: list[object] = []
        for message in self.messages:
            broken = self.error is not None and message.end is None
            names = [name for kind in type(message.head).__mro__ for name in getattr(kind, "__slots__", ())]
            head = [(name, getattr(message.head, name)) for name in names]
            events.append((head, None if broken else message.content, message.trailers, message.end))
        return [*events, self.error]

    def first(self, wanted: Callable[[Head], bool] = lambda head: True) -> Message[Head] | None:
        """The first message with a wanted head, unless its body is broken."""
        for message in self.messages:
            if wanted(message.head):
                return message if message.end is not None or self.error is None else None
        return None


def read(parse: Callable[[bytes], Head], pieces: Iterable[bytes]) -> Reader[Head]:
    reader = Reader(parse)
    for piece in pieces:
        reader.feed(piece)
    return reader


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


# -- messages that are good, and what may go wrong with them

LINES = st.lists(
    st.sampled_from(
        (
            *(b"X:", b"X:a", b"X-One: a, b", b"x-one:\t a:b\t", b"X: \xe9", b"!#$%&'*+-.^_`|~0Az: odd"),
            *(b"Date: Tue, 01 Oct 2024 10:00:00 GMT", b'Accept: */*; q="a\\"b"', b"Content-Type:application/json "),
            *(b"Expect: 100-continue", b"Keep-Alive: timeout=5", b"Proxy-Connection: close", b"TE: trailers"),
            *(b"Trailer: X-Sum", b"Upgrade: websocket", b"Connection: close", b"Connection: keep-alive"),
            *(b"connection:Close, X", b"Connection: x-one,,Expect", b"Connection: upgrade"),
            *(b"Connection: content-length", b"Connection: transfer-encoding, date"),
        )
    ),
    max_size=6,
).filter(lambda lines: lines.count(b"Expect: 100-continue") < 2)  # twice is refused
NASTY = st.sampled_from(
    (
        *(b"", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"\r\n ", b"\0", b"\t", b" ", b":", b",", b";", b"+", b"0", b"1"),
        *(b"/", b"#", b"\xb2", b"\xff", b"chunked", b", chunked", b"0\r\n\r\n", b"HTTP/1.0", b"http://b", b"CONNECT "),
        *(b"\r\nContent-Length: 3", b"\r\nContent-Length: +3", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b"),
        *(b"\r\nTransfer-Encoding:\tchunked ", b"\r\nTransfer-Encoding: gzip, chunked", b"\r\nConnection: close"),
        *(b"\nX: a", b"\rX: a", b"\n\n", b"\r\n X: a"),
    )
)


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    chunks = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    extension = draw(st.sampled_from((b"", b"", b";a", b'; a="b"')))
    trailers = draw(st.sampled_from((b"", b"", b"X-Sum: a\r\n", b"A:b\r\nC: \xe9\r\n")))
    return b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + last_chunk(trailers)


@st.composite
def framed(draw: st.DrawFn, version: bytes, first: bytes, lines: list[bytes], bodies: bool = True) -> bytes:
    """A message with a length, chunked, or with neither; its framing stands anywhere among its header lines."""
    kinds = ("length", "neither", "chunked") if version == b"1.1" else ("length", "neither")
    kind = draw(st.sampled_from(kinds))
    body = b""
    if kind == "length":
        body = draw(st.binary(max_size=40))
        framing = [
            draw(st.sampled_from((b"Content-Length: %d", b"content-length:\t%d ", b"CONTENT-LENGTH:0%d"))) % len(body)
        ]
    elif kind == "chunked":
        body = draw(chunked())
        framing = [draw(st.sampled_from((b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked\t")))]
    else:
        framing = []
    place = draw(st.integers(0, len(lines)))
    head = b"\r\n".join((first, *lines[:place], *framing, *lines[place:])) + b"\r\n\r\n"
    return head + (body if bodies else b"")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from((b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"OPTIONS")))
    target = draw(st.sampled_from((b"/", b"/api/v2/series?a=b", b"/%2F//..", b"http://b/c?d", b"http://b")))
    version = draw(st.sampled_from((b"1.1", b"1.1", b"1.1", b"1.0")))
    lines = draw(LINES)
    lines.insert(draw(st.integers(0, len(lines))), b"Host:" + draw(st.sampled_from((b" a", b"127.0.0.1:80", b""))))
    return draw(framed(version, b"%b %b HTTP/%b" % (method, target, version), lines))


@st.composite
def answers(draw: st.DrawFn, method: bytes) -> bytes:
    interim = draw(
        st.sampled_from((b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n"))
    )
    version = draw(st.sampled_from((b"1.1", b"1.1", b"1.1", b"1.0")))
    status = draw(st.sampled_from((200, 202, 204, 304, 307, 404, 503)))
    reason = draw(st.sampled_from((b"", b" ", b" OK", b" Not \xe9")))
    bodies = method != b"HEAD" and status not in (204, 304)
    return interim + draw(framed(version, b"HTTP/%b %d%b" % (version, status, reason), draw(LINES), bodies))


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Up to three insertions, deletions or replacements, half of them at the end of a line."""
    for _ in range(draw(st.integers(0, 3))):
        ends = [end.start() for end in re.finditer(b"\r\n", data)]
        start = draw(st.sampled_from(ends) if draw(st.booleans()) and ends else st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 0, 1, 2, 10))))
        data = data[:start] + draw(NASTY) + data[end:]
    return data


@st.composite
def request_streams(draw: st.DrawFn) -> bytes:
    return draw(mutated(b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))))


@st.composite
def answer_streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The request's method and what the upstream sends for one request, with something after it."""
    method = draw(st.sampled_from((b"GET", b"POST", b"HEAD")))
    return method, draw(
        mutated(draw(answers(method)) + draw(st.sampled_from((b"", b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n"))))
    )
