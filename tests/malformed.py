"""Malformed and borderline HTTP, as bytes, and what ``docs/strictness.md`` says of each case.

The tables of that document are the data: what HAProxy, nginx and the relay do with a case was observed, and
``scenarios/test_malformed.py`` observes it again.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from tests.messages import answer, request

DOCUMENT = Path(__file__).parents[1] / "docs" / "strictness.md"
COLUMNS = ("case", "HAProxy 2.6", "nginx 1.22", "fipsrelay", "why")
BODY = b"hello"
_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
_LENGTH, _CHUNKED = b"Content-Length: 5", b"Transfer-Encoding: chunked"


@attrs.frozen
class Row:
    """One line of the document's tables.

    Attributes:
        case: its name.
        haproxy, nginx, relay: what each does with it; the document explains the words.
        why: what the rule is, and who has read it otherwise.
    """

    case: str
    haproxy: str
    nginx: str
    relay: str
    why: str


def rows(chapter: str) -> list[Row]:
    """The lines of all tables below one of the document's headings ``## chapter``, in order."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = text.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines() if line[:1] == "|"]
    return [Row(*cells) for cells in lines if cells != list(COLUMNS) and set("".join(cells)) != {"-"}]


def get(*lines: bytes, first: bytes = b"GET /x HTTP/1.1", host: bytes | None = b"a") -> bytes:
    return request(*lines, first=first, host=host)


def post(*lines: bytes, body: bytes = BODY, first: bytes = b"POST /x HTTP/1.1") -> bytes:
    return request(*lines, first=first) + body


def chunks(body: bytes) -> bytes:
    return post(_CHUNKED, body=body)


def got(*lines: bytes, body: bytes = BODY, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return answer(*lines, first=first) + body


def got_chunks(body: bytes) -> bytes:
    return got(_CHUNKED, body=body)


# Name: the message, and the part of it that is odd.
REQUESTS: dict[str, tuple[bytes, bytes]] = {
    "two equal lengths": (post(_LENGTH, _LENGTH), b"5\r\nContent-Length: 5"),
    "two unequal lengths": (post(_LENGTH, b"Content-Length: 0"), b"Content-Length: 0"),
    "list of equal lengths": (post(b"Content-Length: 5, 5"), b"5, 5"),
    "length with a sign": (post(b"Content-Length: +5"), b"+5"),
    "hexadecimal length": (post(b"Content-Length: 0x5"), b"0x5"),
    "empty length": (post(b"Content-Length:", body=b""), b"Content-Length:"),
    "length with leading zeros": (post(b"Content-Length: 0005"), b"0005"),
    "length of more than 64 bits": (post(b"Content-Length: 18446744073709551621"), b"18446744073709551621"),
    "space before the colon of a length": (post(b"Content-Length : 5"), b"Content-Length :"),
    "body without a length": (post(body=b"x"), b"POST /x"),
    "Content_Length": (post(b"Content_Length: 5", body=b""), b"Content_Length"),
    "length and chunked": (post(_LENGTH, _CHUNKED, body=_CHUNKS), b"Content-Length"),
    "chunked in HTTP/1.0": (
        post(b"Connection: keep-alive", _CHUNKED, body=_CHUNKS, first=b"POST /x HTTP/1.0"),
        b"HTTP/1.0",
    ),
    "chunked twice in a list": (post(b"Transfer-Encoding: chunked, chunked", body=_CHUNKS), b"chunked, chunked"),
    "chunked on two lines": (post(_CHUNKED, _CHUNKED, body=_CHUNKS), b"chunked\r\nTransfer-Encoding: chunked"),
    "chunked, then identity": (post(_CHUNKED, b"Transfer-Encoding: identity", body=_CHUNKS), b"identity"),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=_CHUNKS), b"gzip"),
    "xchunked and a length": (post(b"Transfer-Encoding: xchunked", _LENGTH), b"xchunked"),
    "tab before chunked": (post(b"Transfer-Encoding:\tchunked", body=_CHUNKS), b"\tchunked"),
    "vertical tab before chunked": (post(b"Transfer-Encoding: \x0bchunked", _LENGTH), b"\x0bchunked"),
    "empty element after chunked": (post(b"Transfer-Encoding: chunked,", body=_CHUNKS), b"chunked,"),
    "space before the colon of a coding": (post(b"Transfer-Encoding : chunked", _LENGTH), b"Transfer-Encoding :"),
    "chunked on a folded line": (post(b"Transfer-Encoding:\r\n chunked", _LENGTH), b"\r\n chunked"),
    "Transfer_Encoding": (post(b"Transfer_Encoding: chunked", _LENGTH), b"Transfer_Encoding"),
    "coding that Connection names": (
        post(b"Connection: transfer-encoding", _CHUNKED, body=_CHUNKS),
        b"Connection: transfer-encoding",
    ),
    "chunk size with 0x": (chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), b"0x5"),
    "chunk size with a sign": (chunks(b"+5\r\nhello\r\n0\r\n\r\n"), b"+5"),
    "chunk size of more than 64 bits": (chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), b"10000000000000005"),
    "chunk size with 40 leading zeros": (chunks(b"0" * 40 + _CHUNKS), b"05\r\nhello"),
    "space after a chunk size": (chunks(b"5 \r\nhello\r\n0\r\n\r\n"), b"5 \r"),
    "bare LF after a chunk size": (chunks(b"5\nhello\r\n0\r\n\r\n"), b"5\nhello"),
    "chunk extension": (chunks(b"5;a=b\r\nhello\r\n0\r\n\r\n"), b";a=b"),
    "bare LF in a chunk extension": (chunks(b"5;a\nhello\r\n0\r\n\r\n"), b";a\n"),
    "data longer than its chunk size": (chunks(b"5\r\nhello!\r\n0\r\n\r\n"), b"hello!"),
    "bare LF after a chunk": (chunks(b"5\r\nhello\n0\r\n\r\n"), b"hello\n"),
    "trailer field": (chunks(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), b"X-Sum: 1"),
    "Content-Length in the trailer": (
        chunks(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
        b"0\r\nContent-Length: 5",
    ),
    "trailer line without a colon": (chunks(b"5\r\nhello\r\n0\r\nX-Sum\r\n\r\n"), b"X-Sum"),
    "trailer that ends with a bare LF": (chunks(b"5\r\nhello\r\n0\r\n\n"), b"0\r\n\n"),
    "bare LFs for all line ends": (get(b"X: a").replace(b"\r\n", b"\n"), b"X: a\n"),
    "bare LF between two lines": (get(b"X: a\nY: b"), b"a\nY"),
    "head that ends with CRLF LF": (get(b"X: a\r\n\nGET /smuggled HTTP/1.1\r\nHost: a"), b"\r\n\n"),
    "bare CR in a value": (get(b"X: a\rY: b"), b"a\rY"),
    "CR before the CRLF": (get(b"X: a\r"), b"a\r\r"),
    "NUL in a value": (get(b"X: a\0b"), b"a\0b"),
    "control character in a value": (get(b"X: a\x01b"), b"a\x01b"),
    "byte above 127 in a name": (get(b"X\xe9: a"), b"X\xe9"),
    "space in a name": (get(b"X Y: a"), b"X Y"),
    "space before a colon": (get(b"X : a"), b"X :"),
    "empty name": (get(b": a"), b"\r\n: a"),
    "line without a colon": (get(b"X"), b"\r\nX\r\n"),
    "folded line": (get(b"X: a\r\n b"), b"a\r\n b"),
    "space before the name after Host": (get(b" Y: a"), b"\r\n Y"),
    "empty line before": (b"\r\n" + get(), b"\r\nGET"),
    "bare LF before": (b"\n" + get(), b"\nGET"),
    "two spaces before the target": (get(first=b"GET  /x HTTP/1.1"), b"GET  "),
    "tab after the method": (get(first=b"GET\t/x HTTP/1.1"), b"GET\t"),
    "space after the version": (get(first=b"GET /x HTTP/1.1 "), b"1.1 "),
    "method in small letters": (get(first=b"head /x HTTP/1.1"), b"head"),
    "CONNECT": (get(first=b"CONNECT a:443 HTTP/1.1"), b"CONNECT"),
    "HTTP/0.9": (b"GET /x\r\n", b"GET /x\r"),
    "HTTP/0.9 by name": (get(first=b"GET /x HTTP/0.9"), b"HTTP/0.9"),
    "HTTP/1.0 without Host": (get(b"Connection: keep-alive", first=b"GET /x HTTP/1.0", host=None), b"HTTP/1.0"),
    "HTTP/1.2": (get(first=b"GET /x HTTP/1.2"), b"HTTP/1.2"),
    "HTTP/1.10": (get(first=b"GET /x HTTP/1.10"), b"HTTP/1.10"),
    "HTTP/2.0": (get(first=b"GET /x HTTP/2.0"), b"HTTP/2.0"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI"),
    "URL of another host": (get(first=b"GET http://b/x HTTP/1.1"), b"http://b"),
    "https URL": (get(first=b"GET https://a/x HTTP/1.1"), b"https:"),
    "asterisk with GET": (get(first=b"GET * HTTP/1.1"), b"GET *"),
    "fragment": (get(first=b"GET /x#b HTTP/1.1"), b"#b"),
    "byte above 127 in the target": (get(first=b"GET /x\xe9 HTTP/1.1"), b"/x\xe9"),
    "path above the root": (get(first=b"GET /../x HTTP/1.1"), b"/../x"),
    "no Host": (get(host=None), b"HTTP/1.1\r\n\r\n"),
    "two equal Hosts": (get(b"Host: a"), b"a\r\nHost: a"),
    "list of Hosts": (get(host=b"a, b"), b"a, b"),
    "user in Host": (get(host=b"u@a"), b"u@a"),
    "head of 70 KB": (get(*[b"X: " + b"a" * 995] * 70), b"aaaaa"),
    "200 header lines": (get(*[b"X: a"] * 200), b"X: a"),
    "upgrade to h2c": (get(b"Connection: Upgrade", b"Upgrade: h2c"), b"Upgrade: h2c"),
    "unknown expectation": (post(_LENGTH, b"Expect: more"), b"Expect: more"),
    "field that Connection names": (get(b"Connection: X-Key", b"X-Key: a"), b"X-Key: a"),
    "Host that Connection names": (get(b"Connection: Host"), b"Connection: Host"),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(40), b"\x16\x03"),
}

# The same for answers.
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "two equal lengths": (got(_LENGTH, _LENGTH), b"5\r\nContent-Length: 5"),
    "two unequal lengths": (got(_LENGTH, b"Content-Length: 0"), b"Content-Length: 0"),
    "list of equal lengths": (got(b"Content-Length: 5, 5"), b"5, 5"),
    "length with a sign": (got(b"Content-Length: +5"), b"+5"),
    "length and chunked": (got(_LENGTH, _CHUNKED, body=_CHUNKS), b"Content-Length"),
    "gzip, chunked": (got(b"Transfer-Encoding: gzip, chunked", body=_CHUNKS), b"gzip"),
    "chunked in HTTP/1.0": (got(_CHUNKED, body=_CHUNKS, first=b"HTTP/1.0 200 OK"), b"HTTP/1.0"),
    "space before the colon of a length": (got(b"Content-Length : 5"), b"Content-Length :"),
    "folded line": (got(b"X: a\r\n b", _LENGTH), b"a\r\n b"),
    "NUL in a value": (got(b"X: a\0b", _LENGTH), b"a\0b"),
    "bare LF between two lines": (got(b"X: a\nY: b", _LENGTH), b"a\nY"),
    "bare LFs for all line ends": (answer(b"X: a", _LENGTH).replace(b"\r\n", b"\n") + BODY, b"X: a\n"),
    "line without a colon": (got(b"X", _LENGTH), b"\r\nX\r\n"),
    "chunk size of more than 64 bits": (got_chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), b"10000000000000005"),
    "bare LF after a chunk size": (got_chunks(b"5\nhello\r\n0\r\n\r\n"), b"5\nhello"),
    "Content-Length in the trailer": (
        got_chunks(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
        b"0\r\nContent-Length: 5",
    ),
    "chunks without an end": (got_chunks(b"5\r\nhello\r\n"), b"hello"),
    "length that is not reached": (got(b"Content-Length: 50"), b"hello"),
    "another answer behind it": (got(_LENGTH) + got(b"Content-Length: 6", body=b"forged"), b"forged"),
    "length with 204": (got(_LENGTH, body=b"", first=b"HTTP/1.1 204 No Content"), b"Content-Length"),
    "body with 304": (got(_LENGTH, first=b"HTTP/1.1 304 Not Modified"), b"hello"),
    "101 that nobody asked for": (
        got(b"Connection: Upgrade", b"Upgrade: x", body=b"raw", first=b"HTTP/1.1 101 Switching Protocols"),
        b"Upgrade: x",
    ),
    "HTTP/2.0": (got(_LENGTH, first=b"HTTP/2.0 200 OK"), b"HTTP/2.0"),
    "HTTP/0.9": (BODY, BODY),
    "ICY": (got(_LENGTH, first=b"ICY 200 OK"), b"ICY"),
    "status of two digits": (got(_LENGTH, first=b"HTTP/1.1 20 OK"), b" 20 "),
}
# The upstream closes its connection behind these.
CLOSED = frozenset(
    (
        *("list of equal lengths", "length with a sign", "space before the colon of a length", "HTTP/0.9", "ICY"),
        *("bare LFs for all line ends", "chunks without an end", "length that is not reached", "status of two digits"),
        "101 that nobody asked for",
    )
)
