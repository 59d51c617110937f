"""Messages made to be read in two ways, as data: what an agent or an upstream sends, and the one reading of it.

The names of published techniques say which of two readers goes by what: CL.TE is a front that goes by Content-Length
before a back that goes by Transfer-Encoding; 0 is a reader that sees no body.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

Fault = tuple[str, int]  # the code in Fipsrelay-Error, and the status

HEAD = ("bad-head", 400)
TARGET = ("bad-target", 400)
CHUNK = ("bad-chunk", 400)
LARGE = ("head-too-large", 431)
EXPECT = ("bad-expect", 417)
CODING = ("bad-head", 501)
METHOD = ("bad-method", 501)
VERSION = ("bad-version", 505)

POST = b"POST /v HTTP/1.1"
CODED = b"Transfer-Encoding: chunked"
# What must never be read as a request of its own.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@attrs.frozen
class Passed:
    """A request as the upstream must get it: its first line, and all header lines after Host."""

    first: bytes
    lines: tuple[bytes, ...]
    body: bytes
    trailers: bytes

    def head(self, host: bytes) -> bytes:
        return b"\r\n".join((self.first, b"Host: " + host, *self.lines)) + b"\r\n\r\n"


@attrs.frozen
class RequestVariant:
    """What an agent sends before a good request.

    Attributes:
        passed: requests that reach the upstream whole, in order.
        fault: how what follows them is refused.
        ends: the connection is closed after the answers to ``passed``.
        waits: the rest is the beginning of a request; what comes after it belongs to it.
    """

    name: str
    data: bytes
    passed: tuple[Passed, ...] = ()
    fault: Fault | None = None
    ends: bool = False
    waits: bool = False


def passed(*lines: bytes, first: bytes = POST, body: bytes = b"", trailers: bytes = b"") -> Passed:
    return Passed(first, lines, body, trailers)


def whole(*lines: bytes, body: bytes = b"", first: bytes = POST, host: bytes | None = b"Host: a") -> bytes:
    """A request as an agent may write it."""
    return b"\r\n".join((first, *(() if host is None else (host,)), *lines, b"", body))


def coded(body: bytes) -> bytes:
    return whole(CODED, body=body)


# -- Content-Length and Transfer-Encoding

# By its chunks the first is an empty body and a request, by its length one body; the second is the other way round.
_BY_LENGTH = (b"Content-Length: %d" % (5 + len(SMUGGLED)), b"0\r\n\r\n" + SMUGGLED)
_BY_CHUNKS = (b"Content-Length: 4", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED))

_CODINGS: dict[str, tuple[bytes, Fault]] = {
    "nothing": (b"", HEAD),
    "identity": (b"identity", HEAD),
    "xchunked": (b"xchunked", HEAD),
    "chunkedx": (b"chunkedx", HEAD),
    "chunke": (b"chunke", HEAD),
    "chunked with a parameter": (b"chunked;q=1", HEAD),
    "chunked with an empty parameter": (b"chunked;", HEAD),
    "chunked in double quotes": (b'"chunked"', HEAD),
    "chunked in single quotes": (b"'chunked'", HEAD),
    "chunked in brackets": (b"[chunked]", HEAD),
    "chunked after a colon": (b": chunked", HEAD),
    "chunked twice": (b"chunked, chunked", HEAD),
    "chunked twice with a space": (b"chunked chunked", HEAD),
    "chunked, identity": (b"chunked, identity", HEAD),
    "identity, chunked": (b"identity, chunked", CODING),
    "chunked, gzip": (b"chunked, gzip", HEAD),
    "gzip, chunked": (b"gzip, chunked", CODING),
    "empty element, chunked": (b", chunked", CODING),
    "chunked, empty element": (b"chunked,", HEAD),
    "chunked; chunked": (b"chunked; chunked", HEAD),
    "chunked after a non-breaking space": (b"\xa0chunked", HEAD),
    "Kelvin sign for k": (b"chun\xe2\x84\xaaed", HEAD),
    "escaped": (b"%63hunked", HEAD),
    "gzip": (b"gzip", HEAD),
}


def _framing() -> Iterator[RequestVariant]:
    spellings = (
        *(CODED, b"transfer-encoding:Chunked", b"TRANSFER-ENCODING:\tCHUNKED\t", b"Transfer-Encoding: x"),
        *(b"Transfer-Encoding:", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
    )
    for number, coding in enumerate(spellings):
        for technique, (length, body) in {"CL.TE": _BY_LENGTH, "TE.CL": _BY_CHUNKS}.items():
            name = f"{technique}, spelling {number}"
            yield RequestVariant(f"{name}, length first", whole(length, coding, body=body), fault=HEAD)
            yield RequestVariant(f"{name}, coding first", whole(coding, length, body=body), fault=HEAD)
    for name, lines in {
        "0.CL by a zero length": (b"Content-Length: 0", CODED),
        "length between two codings": (CODED, b"Content-Length: 4", CODED),
        "length far from the coding": (CODED, *(b"X: %d" % number for number in range(50)), b"Content-Length: 4"),
        "length that Connection nominates, and a coding": (b"Connection: content-length", b"Content-Length: 4", CODED),
        "length and a coding that Connection nominates": (
            *(b"Connection: transfer-encoding", b"Content-Length: 4", CODED),
        ),
        "coding, bad length": (CODED, b"Content-Length: x"),
    }.items():
        yield RequestVariant(name, whole(*lines, body=_BY_CHUNKS[1]), fault=HEAD)
    for name, (value, fault) in _CODINGS.items():
        data = whole(b"Transfer-Encoding: " + value, body=_BY_CHUNKS[1])
        yield RequestVariant(f"TE.TE or TE.0, {name}", data, fault=fault)
    for name, data in {
        "chunked on two lines": whole(CODED, CODED, body=_BY_CHUNKS[1]),
        "chunked, then identity on another line": whole(CODED, b"Transfer-Encoding: identity", body=_BY_CHUNKS[1]),
        "chunked in HTTP/1.0": whole(CODED, body=_BY_CHUNKS[1], first=b"POST /v HTTP/1.0"),
        "chunked in HTTP/1.0, kept": whole(b"Connection: keep-alive", CODED, first=b"POST /v HTTP/1.0"),
    }.items():
        yield RequestVariant(name, data, fault=HEAD)


# Each stands over a body that begins with five bytes and goes on like a request.
_LENGTHS: tuple[bytes, ...] = (
    *(b"+5", b"-5", b"-0", b"", b"0x5", b"a", b"1_0", b"1 0", b"5\t5", b"5.0", b"5e0", b"5 (five)", b"five", b'"5"'),
    *(b"5, 5", b"5,5", b"5, 40", b"0, 40", b", 5", b"5,", b"5;5", b"\xa05", b"\xb2", b"\xd9\xa5", b"\xef\xbc\x95"),
    *(b"9" * 19, b"%d" % (2**64 + 5), b"%030d" % (2**32 + 5), b"5".zfill(30), b"5" * 5000),
)
_SEVERAL_LENGTHS: dict[str, tuple[bytes, ...]] = {
    "equal": (b"Content-Length: 5", b"Content-Length: 5"),
    "equal in other letters": (b"Content-Length: 5", b"content-length: 5"),
    "zero, then more": (b"Content-Length: 0", b"Content-Length: 40"),
    "more, then zero": (b"Content-Length: 40", b"Content-Length: 0"),
    "zeros": (b"Content-Length: 0", b"Content-Length: 0"),
    "with a field between": (b"Content-Length: 5", b"X: a", b"Content-Length: 40"),
    "the second empty": (b"Content-Length: 5", b"Content-Length:"),
    "one that Connection nominates": (b"Content-Length: 5", b"Connection: content-length", b"Content-Length: 40"),
    "three": (b"Content-Length: 5",) * 3,
}


def _lengths() -> Iterator[RequestVariant]:
    for value in _LENGTHS:
        data = whole(b"Content-Length: " + value, body=b"hello" + SMUGGLED)
        yield RequestVariant(f"length {value[:30]!r} of {len(value)} bytes", data, fault=HEAD)
    for name, lines in _SEVERAL_LENGTHS.items():
        yield RequestVariant(f"lengths: {name}", whole(*lines, body=b"hello" + SMUGGLED), fault=HEAD)
    for name, line, wanted in (
        ("leading zeros", b"Content-Length: 0005", b"Content-Length: 5"),
        ("white space around", b"content-length:\t 5 \t", b"content-length: 5"),
        ("18 digits", b"Content-Length: 000000000000000005", b"Content-Length: 5"),
        ("nominated", b"Connection: Content-Length\r\nContent-Length: 5", b"Content-Length: 5"),
    ):
        yield RequestVariant(f"length: {name}", whole(line, body=b"hello"), (passed(wanted, body=b"hello"),))


# -- bytes that end or hide something

CONTROLS = {"NUL": b"\0", "SOH": b"\1", "VT": b"\x0b", "FF": b"\x0c", "CR": b"\r", "LF": b"\n", "DEL": b"\x7f"}
FOLDS = {"fold": b"\r\n ", "tab fold": b"\r\n\t", "bare LF fold": b"\n ", "bare CR fold": b"\r "}
# `@` is where the byte stands.
_PLACES: dict[str, bytes] = {
    "before the method": b"@POST /v HTTP/1.1\r\nHost: a\r\n\r\n",
    "in the method": b"PO@ST /v HTTP/1.1\r\nHost: a\r\n\r\n",
    "after the method": b"POST@/v HTTP/1.1\r\nHost: a\r\n\r\n",
    "in the target": b"POST /v@w HTTP/1.1\r\nHost: a\r\n\r\n",
    "in the version": b"POST /v HTTP/1@.1\r\nHost: a\r\n\r\n",
    "after the version": b"POST /v HTTP/1.1@\r\nHost: a\r\n\r\n",
    "in Host": b"POST /v HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "before a name": b"POST /v HTTP/1.1\r\nHost: a\r\n@X: a\r\n\r\n",
    "in a value": b"POST /v HTTP/1.1\r\nHost: a\r\nX: a@Content-Length: 41\r\n\r\n" + SMUGGLED,
    "after a value": b"POST /v HTTP/1.1\r\nHost: a\r\nX: a@\r\n\r\n",
    "after a length": b"POST /v HTTP/1.1\r\nHost: a\r\nContent-Length: 35@\r\n\r\n" + SMUGGLED,
    "before a length": b"POST /v HTTP/1.1\r\nHost: a\r\nContent-Length: @35\r\n\r\n" + SMUGGLED,
    "after the name of the length": b"POST /v HTTP/1.1\r\nHost: a\r\nContent-Length@: 35\r\n\r\n" + SMUGGLED,
    "before a coding": b"POST /v HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: @chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "after a coding": b"POST /v HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked@\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "after the name of the coding": b"POST /v HTTP/1.1\r\nHost: a\r\nTransfer-Encoding@: chunked\r\n\r\n0\r\n\r\n",
    "in the name of the coding": b"POST /v HTTP/1.1\r\nHost: a\r\nTransfer@Encoding: chunked\r\n\r\n0\r\n\r\n",
    "at the end of the head": b"POST /v HTTP/1.1\r\nHost: a\r\n@\r\n\r\n",
}
_CHUNK_PLACES: dict[str, bytes] = {
    "before a chunk size": b"@5\r\nhello\r\n0\r\n\r\n",
    "after a chunk size": b"5@\r\nhello\r\n0\r\n\r\n",
    "in a chunk extension": b"5;a@b\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "after chunk data": b"5\r\nhello@\r\n0\r\n\r\n" + SMUGGLED,
    "after the last chunk's size": b"0@\r\n\r\n" + SMUGGLED,
    "in a trailer's name": b"0\r\nX@Y: a\r\n\r\n" + SMUGGLED,
    "in a trailer's value": b"0\r\nX: a@b\r\n\r\n" + SMUGGLED,
}


def _bytes() -> Iterator[RequestVariant]:
    for kind, byte in CONTROLS.items():
        for place, template in _PLACES.items():
            fault = TARGET if place == "in the target" and byte not in b"\r\n" else HEAD
            yield RequestVariant(f"{kind} {place}", template.replace(b"@", byte), fault=fault)
        for place, template in _CHUNK_PLACES.items():
            yield RequestVariant(f"{kind} {place}", coded(template.replace(b"@", byte)), fault=CHUNK)
    for kind, fold in FOLDS.items():
        for place in ("in a value", "before a length", "before a coding", "after a coding", "in Host"):
            yield RequestVariant(f"{kind} {place}", _PLACES[place].replace(b"@", fold), fault=HEAD)
        yield RequestVariant(f"{kind} in a trailer", coded(b"0\r\nX: a%bb\r\n\r\n" % fold), fault=CHUNK)
    for place in ("before the method", "before a name", "after the name of the length", "after the name of the coding"):
        for kind, byte in {"space": b" ", "tab": b"\t"}.items():
            yield RequestVariant(f"{kind} {place}", _PLACES[place].replace(b"@", byte), fault=HEAD)


_LINE_ENDS: dict[str, bytes] = {
    "bare LFs all over": b"POST /v HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
    "bare CRs all over": b"POST /v HTTP/1.1\rHost: a\rContent-Length: 0\r\r",
    "LF CR for CRLF": b"POST /v HTTP/1.1\n\rHost: a\n\r\n\r",
    "CR CR LF": b"POST /v HTTP/1.1\r\r\nHost: a\r\r\n\r\r\n",
    "head that ends with LF LF": b"POST /v HTTP/1.1\r\nHost: a\n\n" + SMUGGLED,
    "head that ends with CRLF LF": b"POST /v HTTP/1.1\r\nHost: a\r\n\n" + SMUGGLED,
    "head that ends with LF CRLF": b"POST /v HTTP/1.1\r\nHost: a\n\r\n" + SMUGGLED,
    "head that ends with CRLF CR": b"POST /v HTTP/1.1\r\nHost: a\r\n\r" + SMUGGLED,
    "head that ends with CR CR": b"POST /v HTTP/1.1\r\nHost: a\r\r" + SMUGGLED,
    "head that ends with CRLF CR CRLF": b"POST /v HTTP/1.1\r\nHost: a\r\n\r\r\n" + SMUGGLED,
    "head that ends with CRLF space CRLF": b"POST /v HTTP/1.1\r\nHost: a\r\n \r\n" + SMUGGLED,
    "head that ends in a value": b"POST /v HTTP/1.1\r\nHost: a\r\nX: ",
    "head that ends in the first line": b"POST /v",
    "bare LF before the method, then a request": b"\n\n" + SMUGGLED,
    "two empty lines before": b"\r\n\r\n" + SMUGGLED,
    "three empty lines before": b"\r\n\r\n\r\n" + SMUGGLED,
}


# -- first lines and Host

_FIRST_LINES: dict[str, tuple[bytes, Fault]] = {
    "HTTP/0.9": (b"GET /v", HEAD),
    "named HTTP/0.9": (b"GET /v HTTP/0.9", VERSION),
    "HTTP/1.2": (b"GET /v HTTP/1.2", VERSION),
    "HTTP/2.0": (b"GET /v HTTP/2.0", VERSION),
    "HTTP/2": (b"GET /v HTTP/2", HEAD),
    "HTTP/1.10": (b"GET /v HTTP/1.10", HEAD),
    "HTTP/01.1": (b"GET /v HTTP/01.1", HEAD),
    "HTTP/1,1": (b"GET /v HTTP/1,1", HEAD),
    "http/1.1": (b"GET /v http/1.1", HEAD),
    "RTSP": (b"GET /v RTSP/1.1", HEAD),
    "two versions": (b"GET /v HTTP/1.1 HTTP/1.0", HEAD),
    "space after the version": (b"GET /v HTTP/1.1 ", HEAD),
    "two spaces before the target": (b"GET  /v HTTP/1.1", HEAD),
    "two spaces before the version": (b"GET /v  HTTP/1.1", HEAD),
    "no target": (b"GET HTTP/1.1", HEAD),
    "two targets": (b"GET /v /smuggled HTTP/1.1", HEAD),
    "small letters": (b"head /v HTTP/1.1", METHOD),
    "mixed letters": (b"Post /v HTTP/1.1", METHOD),
    "digits in the method": (b"GET2 /v HTTP/1.1", METHOD),
    "method with a hyphen": (b"M-SEARCH /v HTTP/1.1", METHOD),
    "method in quotes": (b'"GET" /v HTTP/1.1', HEAD),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1", METHOD),
    "CONNECT with a path": (b"CONNECT /v HTTP/1.1", METHOD),
    "CONNECT of HTTP/1.0": (b"CONNECT a:443 HTTP/1.0", METHOD),
    "authority form": (b"GET a:80 HTTP/1.1", TARGET),
    "relative path": (b"GET v HTTP/1.1", TARGET),
    "asterisk": (b"GET * HTTP/1.1", TARGET),
    "asterisk and a path": (b"OPTIONS */v HTTP/1.1", TARGET),
    "fragment": (b"GET /v#/../smuggled HTTP/1.1", TARGET),
    "non-ASCII target": (b"GET /\xc3\xa9 HTTP/1.1", TARGET),
    "https URL": (b"GET https://a/v HTTP/1.1", TARGET),
    "URL without a host": (b"GET http:///v HTTP/1.1", TARGET),
    "URL with one slash": (b"GET http:/a/v HTTP/1.1", TARGET),
    "URL with a user": (b"GET http://a@b/v HTTP/1.1", TARGET),
    "URL with a backslash": (b"GET http://a\\b/v HTTP/1.1", TARGET),
    "URL of another scheme": (b"GET file:///etc/passwd HTTP/1.1", TARGET),
    "preface target in HTTP/1.1": (b"PRI * HTTP/1.1", TARGET),
}
_HOSTS: dict[str, tuple[bytes, ...]] = {
    "none": (),
    "two": (b"Host: a", b"Host: b"),
    "two equal": (b"Host: a", b"Host: a"),
    "two, one empty": (b"Host:", b"Host: a"),
    "list": (b"Host: a, b",),
    "path": (b"Host: a/smuggled",),
    "user": (b"Host: u@a",),
    "space": (b"Host: a b",),
    "query": (b"Host: a?b",),
    "fragment": (b"Host: a#b",),
    "non-ASCII": (b"Host: \xe9",),
    "space before the colon": (b"Host : a",),
    "nominated, two": (b"Connection: host", b"Host: a", b"Host: b"),
}


def _first_lines() -> Iterator[RequestVariant]:
    for name, (first, fault) in _FIRST_LINES.items():
        yield RequestVariant(f"first line: {name}", whole(b"Content-Length: 0", first=first), fault=fault)
    for name, hosts in _HOSTS.items():
        yield RequestVariant(f"Host: {name}", whole(*hosts, first=b"GET /v HTTP/1.1", host=None), fault=HEAD)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield RequestVariant("HTTP/2 preface", preface + b"\0\0\0\4\0\0\0\0\0", fault=VERSION)
    yield RequestVariant("HTTP/2 preface after an empty line", b"\r\n" + preface, fault=VERSION)
    yield RequestVariant("two Hosts in HTTP/1.0", whole(b"Host: b", first=b"GET /v HTTP/1.0"), fault=HEAD)
    for name, target, wanted in (
        ("absolute form", b"http://b/v?c", b"/v?c"),
        ("absolute form with a port", b"HTTP://b:80/v", b"/v"),
        ("absolute form without a path", b"http://b", b"/"),
        ("absolute form of a query", b"http://b?c", b"/?c"),
        ("two slashes", b"//b/v", b"//b/v"),
        ("URL in a path", b"/http://b/", b"/http://b/"),
        ("escaped line ends", b"/v%0d%0a%20HTTP/1.1", b"/v%0d%0a%20HTTP/1.1"),
        ("dots", b"/v/../smuggled%2f..", b"/v/../smuggled%2f.."),
    ):
        data = whole(b"Content-Length: 0", first=b"GET %b HTTP/1.1" % target)
        form = passed(b"Content-Length: 0", first=b"GET %b HTTP/1.1" % wanted)
        yield RequestVariant(f"target: {name}", data, (form,))
    for name, data, first in (
        ("OPTIONS *", whole(first=b"OPTIONS * HTTP/1.1"), b"OPTIONS * HTTP/1.1"),
        ("OPTIONS of a host", whole(first=b"OPTIONS http://b HTTP/1.1"), b"OPTIONS * HTTP/1.1"),
        ("empty Host", whole(first=b"GET /v HTTP/1.1", host=b"Host:"), b"GET /v HTTP/1.1"),
        ("Host in capitals", whole(first=b"GET /v HTTP/1.1", host=b"HOST:\tb\t"), b"GET /v HTTP/1.1"),
        ("Host last", whole(b"Host: a", first=b"GET /v HTTP/1.1", host=None), b"GET /v HTTP/1.1"),
        ("empty line before", b"\r\n" + whole(first=b"GET /v HTTP/1.1"), b"GET /v HTTP/1.1"),
        ("nominated Host", whole(b"Connection: Host", first=b"GET /v HTTP/1.1"), b"GET /v HTTP/1.1"),
        ("HTTP/1.0, kept", whole(b"Connection: Keep-Alive", first=b"GET /v HTTP/1.0"), b"GET /v HTTP/1.1"),
    ):
        yield RequestVariant(name, data, (passed(first=first),))
    for name, data, form in (
        ("HTTP/1.0", whole(first=b"GET /v HTTP/1.0"), passed(first=b"GET /v HTTP/1.1")),
        (
            "HTTP/1.0 without Host, with a body",
            whole(b"Content-Length: 35", body=SMUGGLED, first=b"POST /v HTTP/1.0", host=None),
            passed(b"Content-Length: 35", body=SMUGGLED),
        ),
        ("close", whole(b"Connection: close"), passed()),
        ("keep-alive and close", whole(b"Connection: keep-alive", b"Connection: x,Close"), passed()),
    ):
        yield RequestVariant(f"last request: {name}", data, (form,), ends=True)


# -- chunks

_HELLO = b"5\r\nhello\r\n"
_LAST = b"0\r\n\r\n"
_BAD_CHUNKS: dict[str, bytes] = {
    "size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with a minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "size -0": b"-0\r\n\r\n",
    "size 0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size 0x0": b"0x0\r\n\r\n",
    "size 5h": b"5h\r\nhello\r\n0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "size with a space within": b"0 5\r\nhello\r\n0\r\n\r\n",
    "size after a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "size in quotes": b'"5"\r\nhello\r\n0\r\n\r\n',
    "size with a full-width digit": b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n",
    "size and a comma": b"5,5\r\nhello\r\n0\r\n\r\n",
    "size that is a fraction": b"5.0\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no size, an extension": b";a\r\nhello\r\n0\r\n\r\n",
    "size of 16 digits": b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    "size of 2^64 + 5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size of 2^32 + 5 in 17 digits": b"00000000100000005\r\nhello\r\n0\r\n\r\n",
    "size of 5,000 digits": b"0" * 4999 + b"5\r\nhello\r\n0\r\n\r\n",
    "extension after a space only": b"5 a\r\nhello\r\n0\r\n\r\n",
    "extension after a colon": b"5:a\r\nhello\r\n0\r\n\r\n",
    "extension after a bare LF": b"5\n;a\r\nhello\r\n0\r\n\r\n",
    "TERM.EXT": b"2;\nxx\r\n2d\r\n0\r\n\r\n" + SMUGGLED + b"0\r\n\r\n",
    "EXT.TERM": b"2;\nxx\r\n0\r\n\r\n" + SMUGGLED,
    "EXT.TERM with a bare CR": b"2;\rxx\r\n0\r\n\r\n" + SMUGGLED,
    "extension with a quoted line end": b'5;a="\r\nhello"\r\nhello\r\n0\r\n\r\n' + SMUGGLED,
    "extension of 5,000 bytes": b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    "no CRLF after data": b"5\r\nhello0\r\n\r\n" + SMUGGLED,
    "bare LF after data": b"5\r\nhello\n0\r\n\r\n" + SMUGGLED,
    "bare CR after data": b"5\r\nhello\r0\r\n\r\n" + SMUGGLED,
    "LF CR after data": b"5\r\nhello\n\r0\r\n\r\n" + SMUGGLED,
    "two CRLF after data": b"5\r\nhello\r\n\r\n0\r\n\r\n",
    "SPILL.TERM": b"5\r\nhelloXX\r\n0\r\n\r\n" + SMUGGLED,
    "SPILL.TERM of two bytes": b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED,
    "data one too short": b"6\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "data two too short": b"7\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "data one too long": b"4\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "bare LFs all over": b"5\nhello\n0\n\n" + SMUGGLED,
    "last chunk with a bare LF": b"5\r\nhello\r\n0\n\r\n" + SMUGGLED,
    "trailers that end with a bare LF": b"0\r\nX: a\r\n\n" + SMUGGLED,
    "no trailers, a bare LF": b"0\r\n\n" + SMUGGLED,
    "no trailers, a bare CR": b"0\r\n\r" + SMUGGLED,
    "last chunk without its empty line": b"0\r\n",
    "last chunk and a request": b"0\r\n" + SMUGGLED,
    "no last chunk": _HELLO,
    "no chunks": b"hello",
    "trailer that is a Content-Length": b"0\r\nContent-Length: 35\r\n\r\n" + SMUGGLED,
    "trailer that is a Transfer-Encoding": b"0\r\ntransfer-encoding: chunked\r\n\r\n" + SMUGGLED,
    "trailer that is a Host": b"0\r\nHOST: b\r\n\r\n",
    "trailer that is a Connection": b"0\r\nConnection: close\r\n\r\n",
    "trailer that is a Trailer": b"0\r\nTrailer: x\r\n\r\n",
    "trailer without a colon": b"0\r\nx\r\n\r\n",
    "trailer without a name": b"0\r\n: x\r\n\r\n",
    "trailer with a space before the colon": b"0\r\nX : x\r\n\r\n",
    "trailer that begins with a space": b"0\r\n X: x\r\n\r\n",
    "trailer of 5,000 bytes": b"0\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
    "trailer with a NUL in a framing name": b"0\r\nContent-Length\0: 35\r\n\r\n" + SMUGGLED,
}
_GOOD_CHUNKS: dict[str, tuple[bytes, bytes, bytes]] = {  # with the data and the trailers
    "one": (_HELLO + _LAST, b"hello", b""),
    "none": (_LAST, b"", b""),
    "leading zeros": (b"000000000000005\r\nhello\r\n000\r\n\r\n", b"hello", b""),
    "capital digits": (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
    "extension": (b'5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n', b"hello", b""),
    "extension with white space": (b"5 ;\ta = b\r\nhello\r\n0\t;f\r\n\r\n", b"hello", b""),
    "extension with an open quote": (b'5;a="\r\nhello\r\n0\r\n\r\n', b"hello", b""),
    "extension that looks like a size": (b"5;23\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    "data of line ends": (b"6\r\n\r\n\r\n\n\n\r\n0\r\n\r\n", b"\r\n\r\n\n\n", b""),
    "data like a last chunk": (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", _LAST, b""),
    "data like a request": (_BY_CHUNKS[1], SMUGGLED, b""),
    "trailers": (b"0\r\nX-Sum: a\r\nx-sum:\r\n\r\n", b"", b"X-Sum: a\r\nx-sum:\r\n"),
    "trailer like a request": (b"0\r\nGET: /smuggled HTTP/1.1\r\n\r\n", b"", b"GET: /smuggled HTTP/1.1\r\n"),
}


def _chunks() -> Iterator[RequestVariant]:
    for name, body in _BAD_CHUNKS.items():
        yield RequestVariant(f"chunks: {name}", coded(body), fault=CHUNK)
    for name, (body, data, trailers) in _GOOD_CHUNKS.items():
        yield RequestVariant(f"chunks: {name}", coded(body), (passed(CODED, body=data, trailers=trailers),))
    trailers = b"0\r\n" + b"X: %b\r\n" % (b"x" * 2000) * 9 + b"\r\n"
    yield RequestVariant("chunks: trailers of 18,000 bytes", coded(trailers), fault=LARGE)
    yield RequestVariant("chunks: more data than comes", coded(b"ffff\r\nhello"), waits=True)
    yield RequestVariant("chunks: 2^60 - 1 bytes of data", coded(b"f" * 15 + b"\r\n" + SMUGGLED), waits=True)


# -- fields

_PASSED_FIELDS: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {  # as they come, and as they go
    "X-Content-Length": ((b"X-Content-Length: 35",),) * 2,
    "Content-Length-X": ((b"Content-Length-X: 35",),) * 2,
    "Content-Len": ((b"Content-Len: 35",),) * 2,
    "framing in a value": ((b"X: Transfer-Encoding: chunked",),) * 2,
    "escaped line end in a value": ((b"X: a%0d%0aContent-Length: 35",),) * 2,
    "obs-text": ((b"X: \x85\xa0\xc4\x8a\xc4\x8d\xff",),) * 2,  # what some decoders make line ends of
    "same field twice": ((b"X: a", b"X: b"),) * 2,
    "empty value": ((b"X:", b"Y: \t"),) * 2,
    "nominated field": ((b"X: a", b"Connection: x, y", b"Y: b", b"Z: c"), (b"Z: c",)),
    "nominated on two lines": ((b"Connection: x", b"X: a", b"connection:Y", b"Y: b"), ()),
    "Connection with empty elements": ((b"Connection: ,, ,", b"X: a"), (b"X: a",)),
    "Connection that names itself": ((b"Connection: connection", b"X: a"), (b"X: a",)),
    "Connection twice": ((b"Connection: keep-alive", b"Connection: keep-alive"), ()),
    "nominated Transfer-Encoding without one": ((b"Connection: transfer-encoding", b"X: a"), (b"X: a",)),
    "h2c": ((b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"), ()),
    "WebSocket": ((b"Connection: upgrade", b"Upgrade: websocket", b"X: a"), (b"X: a",)),
    "Upgrade that is not nominated": ((b"Upgrade: h2c", b"X: a"), (b"X: a",)),
    "TE": ((b"TE: trailers, chunked", b"X: a"), (b"X: a",)),
    "Trailer": ((b"Trailer: Content-Length",),) * 2,
    "100 lines of one name": ((b"X-One: a",) * 100,) * 2,
    "Keep-Alive and Proxy-Connection": ((b"Keep-Alive: 5", b"Proxy-Connection: close", b"X: a"), (b"X: a",)),
    "127 more lines": ((b"X: a",) * 127,) * 2,
}
_REFUSED_FIELDS: dict[str, tuple[tuple[bytes, ...], Fault]] = {
    "no colon": ((b"X",), HEAD),
    "no name": ((b": a",), HEAD),
    "space in the name": ((b"Transfer Encoding: chunked",), HEAD),
    "space in the name of the length": ((b"Content Length: 35",), HEAD),
    "name in quotes": ((b'"Transfer-Encoding": chunked',), HEAD),
    "name in brackets": ((b"[Content-Length]: 35",), HEAD),
    "semicolon for the colon": ((b"Content-Length; 35",), HEAD),
    "equals sign for the colon": ((b"Transfer-Encoding= chunked",), HEAD),
    "en dash in the name": ((b"Content\xe2\x80\x93Length: 35",), HEAD),
    "long s in the name": ((b"Tran\xc5\xbffer-Encoding: chunked",), HEAD),
    "non-breaking space after the name": ((b"Content-Length\xa0: 35",), HEAD),
    "slash in the name": ((b"Content/Length: 35",), HEAD),
    "128 more lines": ((b"X: a",) * 128, LARGE),
    "128 more lines that are dropped": ((b"TE: a",) * 128, LARGE),
    "1,000 lines that Connection nominates": ((b"Connection: x", *(b"X: a",) * 1000), LARGE),
    "expectation 0.CL": ((b"Expect: y 100-continue", b"Content-Length: 35"), EXPECT),
    "expectation CL.0": ((b"Expect:\t100-continue, y", b"Content-Length: 35"), EXPECT),
    "expectation in parts": ((b"Expect: 100", b"Content-Length: 35"), EXPECT),
    "expectation twice": ((b"Expect: 100-continue", b"expect: 100-continue", b"Content-Length: 35"), EXPECT),
    "empty expectation": ((b"Expect:", b"Content-Length: 35"), EXPECT),
    "expectation, nominated": ((b"Connection: expect", b"Expect: y", b"Content-Length: 35"), EXPECT),
    "expectation over lines": ((b"Expect:\r\n 100-continue", b"Content-Length: 35"), HEAD),
}


def _fields() -> Iterator[RequestVariant]:
    for name, (lines, wanted) in _PASSED_FIELDS.items():
        yield RequestVariant(f"field: {name}", whole(*lines), (passed(*wanted),))
    for name, (lines, fault) in _REFUSED_FIELDS.items():
        yield RequestVariant(f"field: {name}", whole(*lines, body=SMUGGLED), fault=fault)
    length = b"Content-Length: 35"
    for name, line in {"": b"Expect: 100-continue", " in other letters": b"EXPECT:\t100-Continue\t"}.items():
        form = passed(length, body=SMUGGLED)
        yield RequestVariant(f"expectation{name}", whole(line, length, body=SMUGGLED), (form,))
    yield RequestVariant("expectation without a body", whole(b"Expect: 100-continue"), (passed(),))
    data = whole(b"Expect: 100-continue", CODED, body=_BY_CHUNKS[1])
    yield RequestVariant("expectation of chunks", data, (passed(CODED, body=SMUGGLED),))


# -- sizes


def _sizes() -> Iterator[RequestVariant]:
    for name, data in {
        "target of 70,000 bytes": b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"v" * 70_000),
        "method of 70,000 bytes": b"G" * 70_000 + b" /v HTTP/1.1\r\nHost: a\r\n\r\n",
        "name of 70,000 bytes": whole(b"%b: a" % (b"X" * 70_000)),
        "value of 70,000 bytes": whole(b"X: %b" % (b"x" * 70_000)),
        "white space of 70,000 bytes": whole(b"X:%ba" % (b" " * 70_000)),
        "70,000 bytes of many fields": whole(*(b"X: %b" % (b"x" * 700),) * 100),
        "70,000 bytes that are no head": b"x" * 70_000,
        "70,000 line ends": b"\n" * 70_000,
        "length behind 70,000 bytes": whole(b"X: %b" % (b"x" * 70_000), b"Content-Length: 35", body=SMUGGLED),
        "head of 65,537 bytes": whole(b"X: " + b"x" * (65_537 - len(whole(b"X: ")))),
    }.items():
        yield RequestVariant(f"size: {name}", data, fault=LARGE)
    line = b"X: " + b"x" * (65_536 - len(whole(b"X: ")))
    yield RequestVariant("size: head of 65,536 bytes", whole(line), (passed(line),))


# -- bodies, and one request after another


def _bodies() -> Iterator[RequestVariant]:
    length = b"Content-Length: 35"
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PURGE"):
        first = b"%b /v HTTP/1.1" % method
        name = method.decode()
        form = passed(length, first=first, body=SMUGGLED)
        yield RequestVariant(f"CL.0, {name}", whole(length, body=SMUGGLED, first=first), (form,))
        form = passed(CODED, first=first, body=SMUGGLED)
        yield RequestVariant(f"TE.0, {name}", whole(CODED, body=_BY_CHUNKS[1], first=first), (form,))
        form = passed(b"X: a", first=first)
        yield RequestVariant(f"{name} without a body", whole(b"X: a", first=first), (form,))
    good, bad = whole(b"Content-Length: 5", body=b"hello"), whole(b"Content-Length: 5,5", body=b"hello")
    form, empty = passed(b"Content-Length: 5", body=b"hello"), passed(b"Content-Length: 0")
    short, chunks = whole(b"Content-Length: 4", body=b"hell"), coded(_HELLO + _LAST)
    good_streams: tuple[tuple[str, bytes, tuple[Passed, ...]], ...] = (
        ("two requests", good + good, (form, form)),
        ("two requests, an empty line between", good + b"\r\n" + good, (form, form)),
        ("lengths and chunks in turn", good + chunks + good, (form, passed(CODED, body=b"hello"), form)),
        ("length zero, then a request", whole(b"Content-Length: 0") + good, (empty, form)),
        ("no body, then a request", whole() + good, (passed(), form)),
        ("0.CL, both in a body", whole(length, body=SMUGGLED) + good, (passed(length, body=SMUGGLED), form)),
        ("empty line at the end", good + b"\r\n", (form,)),
        (
            "request in a body in a request's body",
            whole(b"Content-Length: %d" % (len(good) + 35), body=good + SMUGGLED),
            (passed(b"Content-Length: %d" % (len(good) + 35), body=good + SMUGGLED),),
        ),
    )
    for name, data, forms in good_streams:
        yield RequestVariant(name, data, forms)
    for name, data, forms, fault in (
        ("good, then bad", good + bad, (form,), HEAD),
        ("good, then bytes too many", good + b"x" + good, (form,), METHOD),
        ("good, then two empty lines", good + b"\r\n\r\n" + SMUGGLED, (form,), HEAD),
        ("good, then bare LFs", good + b"\n\n" + SMUGGLED, (form,), HEAD),
        ("good, then bare CR", good + b"\r" + SMUGGLED, (form,), HEAD),
        ("good, then NUL", good + b"\0" + SMUGGLED, (form,), HEAD),
        ("no length, but a body", whole() + b"hello" + SMUGGLED, (passed(),), METHOD),
        ("length one too short", short + b"o" + SMUGGLED, (passed(b"Content-Length: 4", body=b"hell"),), METHOD),
        ("chunks, then bytes too many", chunks + b"0\r\n\r\n" + SMUGGLED, (passed(CODED, body=b"hello"),), HEAD),
        ("chunks, then a bad chunk", chunks + coded(b"+5\r\nhello\r\n"), (passed(CODED, body=b"hello"),), CHUNK),
        ("good, then a preface", good + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (form,), VERSION),
        ("good, then HTTP/0.9", good + b"GET /smuggled\r\n\r\n", (form,), HEAD),
        ("good, then CONNECT", good + whole(first=b"CONNECT a:1 HTTP/1.1") + SMUGGLED, (form,), METHOD),
    ):
        yield RequestVariant(name, data, forms, fault)
    unfinished = whole(b"Content-Length: 9999", body=SMUGGLED)
    yield RequestVariant("length of more than comes", unfinished, waits=True)
    yield RequestVariant("good, then a length of more than comes", good + unfinished, (form,), waits=True)
    yield RequestVariant("largest length", whole(b"Content-Length: " + b"9" * 18, body=SMUGGLED), waits=True)
    yield RequestVariant("close, then a request", whole(b"Connection: close") + SMUGGLED, (passed(),), ends=True)


REQUESTS: tuple[RequestVariant, ...] = (
    *(*_framing(), *_lengths(), *_bytes(), *_first_lines(), *_chunks(), *_fields(), *_sizes(), *_bodies()),
    *(RequestVariant(name, data, fault=HEAD) for name, data in _LINE_ENDS.items()),
)


# -- answers


@attrs.frozen
class AnswerVariant:
    """What an upstream sends for one request.

    Attributes:
        sent: up to where the answer ends, or breaks.
        head: what the agent gets, and ``body`` and ``trailers``; interim answers are in ``interim``, as bytes.
        code: instead, the code of the relay's own 502.
        cut: instead, the agent's connection is reset.
        method: of the request.
        more: bytes behind the answer, in one write with its end.
        end: how the upstream ends the connection, if it does: ``close_notify``, ``FIN`` or ``reset``.
        kept: the connection serves the next request.
    """

    name: str
    sent: bytes
    head: bytes = b""
    body: bytes = b""
    trailers: bytes = b""
    interim: bytes = b""
    code: str = ""
    cut: bool = False
    method: bytes = b"POST"
    more: bytes = b""
    end: str = ""
    kept: bool = False


OK = b"HTTP/1.1 200 OK"
LENGTH = b"Content-Length: 2"
CHUNKED_HEAD = OK + b"\r\n" + CODED + b"\r\n\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer(*lines: bytes, first: bytes = OK, body: bytes = b"OK") -> bytes:
    return b"\r\n".join((first, *lines, b"", body))


_BAD_STATUS_LINES: tuple[bytes, ...] = (
    *(b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.10 200 OK", b"ICY 200 OK"),
    *(b"http/1.1 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK", b"200 OK"),
    *(b"HTTP/1.1 +20 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 20\xb2 OK", b"HTTP/1.1 0xc8 OK", b"HTTP/1.1 2.0 OK", b"OK"),
    *(
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1",
    ),
    *(b"HTTP/1.1 OK", b"HTTP/1.1 200;OK", b"HTTP/1.1: 200 OK", b"GET / HTTP/1.1", b"\r\nHTTP/1.1 200 OK"),
    *(b"\nHTTP/1.1 200 OK", b"HTTP/1.1 200 OK\nX: a", b"HTTP/1.1 200 OK\rX: a", b"HTTP/1.1 200 OK\r\n X: a"),
)
_BAD_ANSWER_LINES: dict[str, tuple[bytes, ...]] = {
    "length and coding": (LENGTH, CODED),
    "coding and length": (CODED, LENGTH),
    "length zero and coding": (b"Content-Length: 0", CODED),
    "equal lengths": (LENGTH, LENGTH),
    "unequal lengths": (LENGTH, b"Content-Length: 8"),
    "list of lengths": (b"Content-Length: 2, 2",),
    "length with a plus": (b"Content-Length: +2",),
    "negative length": (b"Content-Length: -2",),
    "no length": (b"Content-Length:",),
    "length in hexadecimal": (b"Content-Length: 0x2",),
    "length of 19 digits": (b"Content-Length: " + b"9" * 19,),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked",),
    "chunked, gzip": (b"Transfer-Encoding: chunked, gzip",),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked",),
    "chunked on two lines": (CODED, CODED),
    "xchunked": (b"Transfer-Encoding: xchunked",),
    "identity": (b"Transfer-Encoding: identity",),
    "empty coding": (b"Transfer-Encoding:",),
    "space before the colon": (b"Content-Length : 2",),
    "space in a name": (b"Content Length: 2",),
    "no colon": (b"X", LENGTH),
    "no name": (b": a", LENGTH),
    "fold": (b"X: a\r\n Content-Length: 8", LENGTH),
    "tab fold": (b"X: a\r\n\tb", LENGTH),
    "folded coding": (b"Transfer-Encoding:\r\n chunked",),
    "129 lines": (b"X: a",) * 129,
    "head of 70,000 bytes": (b"X: " + b"x" * 70_000, LENGTH),
}
_CUT_CHUNKS: dict[str, bytes] = {
    **{
        f"chunks: {name}": _BAD_CHUNKS[name]
        for name in (
            *("size with a plus", "size with a minus", "size 0x5", "size 5h", "size after a space", "no size"),
            *("size of 16 digits", "size of 2^64 + 5", "TERM.EXT", "EXT.TERM", "SPILL.TERM", "no CRLF after data"),
            *("bare LF after data", "data one too short", "data one too long", "bare LFs all over"),
            *("last chunk with a bare LF", "no trailers, a bare LF", "trailer that is a Content-Length"),
            *("trailer that is a Transfer-Encoding", "trailer without a colon", "extension of 5,000 bytes"),
        )
    },
    "chunks: trailers of 18,000 bytes": b"0\r\n" + b"X: %b\r\n" % (b"x" * 2000) * 9 + b"\r\n",
    "chunks: fold in a trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "chunks: NUL in a trailer": b"0\r\nX: a\0b\r\n\r\n",
}


def _broken_answers() -> Iterator[AnswerVariant]:
    broken = "upstream-http"
    for first in _BAD_STATUS_LINES:
        yield AnswerVariant(f"status line {first!r}", answer(LENGTH, first=first), code=broken)
    for name, lines in _BAD_ANSWER_LINES.items():
        yield AnswerVariant(name, answer(*lines), code=broken)
    for kind, byte in CONTROLS.items():
        for place, data in {
            "in the reason": b"HTTP/1.1 200 O@K\r\nContent-Length: 2\r\n\r\nOK",
            "in a name": b"HTTP/1.1 200 OK\r\nX@Y: a\r\nContent-Length: 2\r\n\r\nOK",
            "in a value": b"HTTP/1.1 200 OK\r\nX: a@Content-Length: 8\r\nContent-Length: 2\r\n\r\nOK",
            "after a coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked@\r\n\r\n0\r\n\r\n",
            "at the end of the head": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n@\r\n\r\n",
        }.items():
            yield AnswerVariant(f"{kind} {place} of an answer", data.replace(b"@", byte), code=broken)
    for name, data, method in (
        ("coding in HTTP/1.0", answer(CODED, first=b"HTTP/1.0 200 OK", body=_LAST), b"POST"),
        ("unasked 101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", b"POST"),
        ("bare LFs and a second answer", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + POISON, b"POST"),
        ("HEAD, length and coding", answer(LENGTH, CODED, body=b""), b"HEAD"),
        ("HEAD, unequal lengths", answer(LENGTH, b"Content-Length: 8", body=b""), b"HEAD"),
        ("204, length and coding", answer(LENGTH, CODED, first=b"HTTP/1.1 204 No", body=b""), b"POST"),
        ("304, unequal lengths", answer(LENGTH, b"Content-Length: 8", first=b"HTTP/1.1 304 No", body=b""), b"GET"),
        ("TLS in TLS", b"\x16\x03\x01\x02\x00\r\n\r\n", b"POST"),
        ("HTTP/2 settings", b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64\r\n\r\n", b"POST"),
        ("70,000 bytes that are no head", b"x" * 70_000, b"POST"),
    ):
        yield AnswerVariant(name, data, code=broken, method=method)
    interim = AnswerVariant("bad answer after 100", _CONTINUE + answer(LENGTH, LENGTH), code=broken, interim=_CONTINUE)
    yield interim
    for end in ("close_notify", "FIN", "reset"):
        for name, data in {
            "before": b"",
            "in": b"HTTP/1.1 200 OK\r\nContent-Le",
            "after 100, before": _CONTINUE,
        }.items():
            interims = _CONTINUE if data == _CONTINUE else b""
            name = f"{end} {name} the head"
            yield AnswerVariant(name, data, code="upstream-closed", end=end, interim=interims)


def _cut_answers() -> Iterator[AnswerVariant]:
    for name, body in _CUT_CHUNKS.items():
        yield AnswerVariant(f"answer's {name}", CHUNKED_HEAD + body, cut=True)
    for end in ("close_notify", "FIN", "reset"):
        for name, data in {
            "before a body": answer(LENGTH, body=b""),
            "in a body": answer(LENGTH, body=b"O"),
            "before chunks": CHUNKED_HEAD,
            "in a chunk's size": CHUNKED_HEAD + b"5",
            "in a chunk": CHUNKED_HEAD + b"5\r\nhel",
            "after a chunk": CHUNKED_HEAD + _HELLO,
            "after the last chunk's size": CHUNKED_HEAD + _HELLO + b"0\r\n",
            "in trailers": CHUNKED_HEAD + _HELLO + b"0\r\nX: a\r\n",
        }.items():
            yield AnswerVariant(f"{end} {name}", data, cut=True, end=end)
    for end in ("FIN", "reset"):
        yield AnswerVariant(f"{end} after an answer without a length", answer(), cut=True, end=end)


def _good_answers() -> Iterator[AnswerVariant]:
    plain = answer(LENGTH, body=b"")
    for name, data, head, body in (
        ("length", answer(LENGTH), plain, b"OK"),
        ("length with zeros", answer(b"content-length:\t002 "), answer(b"content-length: 2", body=b""), b"OK"),
        ("length zero", answer(b"Content-Length: 0", body=b""), answer(b"Content-Length: 0", body=b""), b""),
        (
            "body like an answer",
            answer(b"Content-Length: 46", body=POISON),
            answer(b"Content-Length: 46", body=b""),
            POISON,
        ),
        ("no reason", answer(LENGTH, first=b"HTTP/1.1 200"), answer(LENGTH, first=b"HTTP/1.1 200 ", body=b""), b"OK"),
        ("status 599", answer(LENGTH, first=b"HTTP/1.1 599 "), answer(LENGTH, first=b"HTTP/1.1 599 ", body=b""), b"OK"),
        ("nominated field", answer(b"Connection: x", b"X: a", LENGTH), plain, b"OK"),
        ("hop fields", answer(b"Keep-Alive: 5", b"TE: a", b"Upgrade: h2c", LENGTH), plain, b"OK"),
        (
            "205 with a body",
            answer(LENGTH, first=b"HTTP/1.1 205 R"),
            answer(LENGTH, first=b"HTTP/1.1 205 R", body=b""),
            b"OK",
        ),
    ):
        yield AnswerVariant(f"answer: {name}", data, head, body, kept=True)
    for name, (data, body, trailers) in _GOOD_CHUNKS.items():
        yield AnswerVariant(f"answer's chunks: {name}", CHUNKED_HEAD + data, CHUNKED_HEAD, body, trailers, kept=True)
    for name, data, head, method in (
        ("HEAD with a length", plain, plain, b"HEAD"),
        ("HEAD with chunked", CHUNKED_HEAD, answer(body=b""), b"HEAD"),
        ("HEAD with neither", answer(body=b""), answer(body=b""), b"HEAD"),
        ("204 with a length", b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n", b"POST"),
        ("204 with chunked", b"HTTP/1.1 204 No\r\n" + CODED + b"\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n", b"POST"),
        ("304 with a length", *(b"HTTP/1.1 304 Same\r\nContent-Length: 2\r\n\r\n",) * 2, b"GET"),
        ("304 with chunked", b"HTTP/1.1 304 Same\r\n" + CODED + b"\r\n\r\n", b"HTTP/1.1 304 Same\r\n\r\n", b"GET"),
    ):
        yield AnswerVariant(f"answer: {name}", data, head, method=method, kept=True)
        body = b"2\r\nOK\r\n0\r\n\r\n" if CODED in data else b"OK"
        yield AnswerVariant(f"answer: {name}, and a body", data, head, method=method, more=body)
        yield AnswerVariant(f"answer: {name}, and an answer", data, head, method=method, more=POISON)
    for name, more in {"a byte": b"x", "CRLF": b"\r\n", "an answer": POISON, "100": _CONTINUE, "NUL": b"\0"}.items():
        yield AnswerVariant(f"answer: {name} behind a length", answer(LENGTH), plain, b"OK", more=more)
        yield AnswerVariant(f"answer: {name} behind chunks", CHUNKED_HEAD + _LAST, CHUNKED_HEAD, more=more)
    yield AnswerVariant("answer: close", answer(b"Connection: close", LENGTH), plain, b"OK")
    yield AnswerVariant("answer: HTTP/1.0", answer(LENGTH, first=b"HTTP/1.0 200 OK"), plain, b"OK")
    data = answer(b"Connection: keep-alive", LENGTH, first=b"HTTP/1.0 200 OK")
    yield AnswerVariant("answer: HTTP/1.0, kept", data, plain, b"OK", kept=True)
    end = "close_notify"
    yield AnswerVariant("answer: no length", answer(body=POISON), CHUNKED_HEAD, POISON, end=end)
    yield AnswerVariant("answer: no length, no body", answer(body=b""), CHUNKED_HEAD, end=end)
    data = answer(body=_HELLO, first=b"HTTP/1.0 200 OK")
    yield AnswerVariant("answer: no length in HTTP/1.0", data, CHUNKED_HEAD, _HELLO, end=end)
    for name, interims, wanted in (
        ("100", _CONTINUE, _CONTINUE),
        ("103", b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n"),
        ("102 with a length", b"HTTP/1.1 102 Wait\r\nContent-Length: 46\r\n\r\n", b"HTTP/1.1 102 Wait\r\n\r\n"),
        ("102 with chunked", b"HTTP/1.1 102 Wait\r\n" + CODED + b"\r\n\r\n", b"HTTP/1.1 102 Wait\r\n\r\n"),
        ("flood of 100", *(_CONTINUE * 300,) * 2),
        ("flood of 100 and 103", *((_CONTINUE + b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n") * 150,) * 2),
    ):
        yield AnswerVariant(f"interim: {name}", interims + answer(LENGTH), plain, b"OK", interim=wanted, kept=True)


ANSWERS: tuple[AnswerVariant, ...] = (*_broken_answers(), *_cut_answers(), *_good_answers())
