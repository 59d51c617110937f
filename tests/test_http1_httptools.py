"""httptools (llhttp, the parser of Node.js) reads the same messages wherever the relay's reader accepts them.

In the forms that this file lists and shows, llhttp refuses what arrives, or reads it otherwise. None of them is left in
what the relay sends on: that it must read alike, without exception.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httptools
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.wire.http1 import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead, parse_request
from tests.messages import Message, Reader, answer, answer_streams, read, request, request_streams
from tests.test_http1_streams import HOST, answer_parser, many, wire_body

EXAMPLES = 300

# -- where llhttp differs

# How its words begin when it refuses a message, and the form that this then must have. What one of two readers refuses
# has one reading. Beside these, it knows some methods only; tests give it a known one instead, since an end does not
# depend on the method of a request.
CODING, SPACE, EXTENSION = (
    "Request has invalid `Transfer-Encoding`",
    "Invalid character in chunk size",
    "Invalid character in chunk extensions",
)
STRICTER = {
    # A tab behind `chunked`, which RFC 9110 §5.5 takes off the value as it does a space, makes it another coding.
    CODING: re.compile(rb"(?is).*\r\ntransfer-encoding:[\t ]*chunked *\t[\t ]*\r\n"),
    # White space behind a chunk's size; that before an extension is in RFC 9112 §7.1.1, as "bad".
    SPACE: re.compile(rb"(?s).*\r\n[0-9A-Fa-f]+[\t ]+[;\r]"),
    # White space in an extension, and whatever is not `;name` or `;name=value`. The relay drops extensions.
    EXTENSION: re.compile(rb"(?s).*\r\n[0-9A-Fa-f]+;[\t -~\x80-\xff]*\r\n"),
}
UNKNOWN_METHOD = frozenset(("Invalid method encountered", "Expected space after method"))
# The same tab in an answer: for llhttp it then goes on until the connection ends. The relay writes that line anew, so
# its agent sees a chunked answer.
CODING_WITH_TAB = STRICTER[CODING]
# A request for another protocol: llhttp takes all behind its head for that. The relay drops both lines.
UPGRADE = re.compile(rb"(?is)(?=.*\r\nupgrade:)(?=.*\r\nconnection:[^\r]*upgrade)")


def has_no_body_by_method(method: bytes, head: ResponseHead) -> bool:
    """httptools cannot be told that an answer is one to HEAD, and waits for its body."""
    return method == b"HEAD" and head.status >= 200


# -- what llhttp sees


class Seen:
    """One message, through a parser's callbacks.

    Args:
        kind: the parser's class.
        data: the message.

    Attributes:
        url, content: of the message; an answer has no ``url``.
        early: it was complete before its last byte.
        done: it is complete.
        refusal: what is wrong with it; None when nothing is.
        upgraded: another protocol begins behind its head.
        method: of a request.
    """

    def __init__(self, kind: Any, data: bytes) -> None:
        self.url = self.content = b""
        self.early = self.done = self.upgraded = False
        self.refusal: str | None = None
        self.parser = kind(self)
        try:
            self.parser.feed_data(data[:-1])
            self.early = self.done
            self.parser.feed_data(data[-1:])
        except httptools.HttpParserUpgrade:
            self.upgraded = True
        except httptools.HttpParserError as error:
            self.refusal = str(error)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.content += body

    def on_message_complete(self) -> None:
        self.done = True

    @property
    def method(self) -> bytes:
        method: bytes = self.parser.get_method()
        return method

    @property
    def origin_form(self) -> bytes:
        """RFC 9112 §3.2.2, for what llhttp gives as it stands there."""
        rest = re.sub(rb"(?i)^http://[^/?]*", b"", self.url)
        if rest[:1] == b"?":
            return b"/" + rest
        return rest or (b"*" if self.method == b"OPTIONS" else b"/")


def server_sees(method: bytes, data: bytes) -> tuple[Seen, bytes]:
    """A request, and its method; both with PUT for one that llhttp does not know."""
    seen = Seen(httptools.HttpRequestParser, data)
    if seen.refusal in UNKNOWN_METHOD:
        return Seen(httptools.HttpRequestParser, data.replace(method, b"PUT", 1)), b"PUT"
    return seen, method


def client_sees(data: bytes) -> Seen:
    return Seen(httptools.HttpResponseParser, data)


def whole(reader: Reader[Any], data: bytes) -> Iterator[tuple[Message[Any], bytes]]:
    """The messages that were read to their ends, with their bytes."""
    start = 0
    for message in reader.messages:
        if message.head.body == UNTIL_CLOSE and reader.error is None:
            message.end = len(data)
        if message.end is not None:
            yield message, data[start : message.end]
            start = message.end


# -- combinations: odd forms where they matter, each with each

FIRST_LINES = (
    b"POST /x HTTP/1.1|POST /x HTTP/1.0|POST /x HTTP/1.2|POST /x HTTP/0.9|POST /x http/1.1|POST /x|"
    b"\r\nPOST /x HTTP/1.1|\nPOST /x HTTP/1.1|POST  /x HTTP/1.1|POST /x HTTP/1.1 |POST\t/x HTTP/1.1|post /x HTTP/1.1|"
    b"CONNECT a:80 HTTP/1.1|OPTIONS * HTTP/1.1|POST http://b HTTP/1.1|POST http://b?c HTTP/1.1|"
    b"POST http:///x HTTP/1.1|POST /x#b HTTP/1.1"
).split(b"|")
STATUS_LINES = (
    b"HTTP/1.1 200 OK|HTTP/1.0 200 OK|HTTP/1.2 200 OK|HTTP/2.0 200 OK|HTTP/1.1 200|HTTP/1.1 20 OK|HTTP/1.1 204 |"
    b"HTTP/1.1 304 OK|HTTP/1.1 100 OK|HTTP/1.1 999 \xe9|HTTP/1.1 2000 OK|HTTP/1.1  200 OK|\r\nHTTP/1.1 200 OK|"
    b"HTTP/1.1 200OK|HTTP/1.1 200 O\0K|ICY 200 OK|HTTP/1.1 000 OK"
).split(b"|")
LINES = (
    b"X: a|X:|X : a|X\t: a| X: a|X|: a|X Y: a|X(: a|X\xe9: a|X\0: a|X: \xe9|X: a\0|X: a\x01|X: a\x7f|"
    b"X: a\nY: b|X: a\rY: b|X: a\r|X: a\n|X: a\r\n b|Upgrade: x|Connection: upgrade\r\nUpgrade: x|"
    b"Connection: content-length|Connection: close|Content-Length: 0|Content-Length: 5|"
    b"Transfer-Encoding: chunked|Transfer-Encoding: identity"
).split(b"|")
LENGTHS = (
    b"Content-Length: 5|content-length:5\t|Content-Length: 005|Content-Length: +5|Content-Length: 5,5|"
    b"Content-Length: 0x5|Content-Length: 5 5|Content-Length: |Content-Length: -5|Content-Length : 5|"
    b"Content-Length: \x0b5|Content_Length: 5|Content-Length: 18446744073709551621|"
    b"Content-Length: 5\r\nContent-Length: 5|X: a"
).split(b"|")
CODINGS = (
    b"chunked|Chunked |\tchunked|chunked\t|xchunked|chunked,|,chunked|chunked, chunked|gzip, chunked|chunked, gzip|"
    b'chunked;q=1|\x0bchunked|\r\n chunked|"chunked"'
).split(b"|")
# `~` is CRLF here.
CHUNKS = (
    b"5~hello~0~~|5;a=b~hello~0~~|5;a\nhello~0~~|5 ~hello~0~~|5\nhello~0~~|5\rhello~0~~|"
    b"0x5~hello~0~~|+5~hello~0~~| 5~hello~0~~|~0~~|05~hello~00~~|10000000000000005~hello~0~~|5~hello!~0~~|"
    b"5~hello\n0~~|5~hello0~~|"
    b"5~hello~0\n~|5~hello~0~\n|0~~|5~hello~0~X: a~~|5~hello~0~X~~|5~hello~0~X : a~~|5~hello~0~X: a\n~|"
    b"5~hello~0~Content-Length: 5~~"
).split(b"|")
FRAMINGS = (
    *((line, b"hello") for line in LENGTHS),
    *((b"Transfer-Encoding:" + coding, b"5\r\nhello\r\n0\r\n\r\n") for coding in CODINGS),
    *((b"Transfer-Encoding: chunked", chunks.replace(b"~", b"\r\n")) for chunks in CHUNKS),
)


def combined(first_lines: Iterable[bytes], host: bytes) -> Iterator[bytes]:
    """Messages of all combinations."""
    for first, odd, (framing, body) in itertools.product(first_lines, LINES, FRAMINGS):
        yield b"%b\r\n%b%b\r\n%b\r\n\r\n%b" % (first, host, odd, framing, body)


class AgreementTests(SynchronousTestCase):
    """Every message that is read whole, as it arrives and as it is sent on."""

    def setUp(self) -> None:
        self.alike = 0

    def test_random_requests(self) -> None:
        many(EXAMPLES)(given(request_streams())(self.check_requests))()
        self.assertGreater(self.alike, EXAMPLES / 2)  # an oracle that is seldom asked says nothing

    def test_random_answers(self) -> None:
        many(EXAMPLES)(given(answer_streams())(self.check_answers))()
        self.assertGreater(self.alike, EXAMPLES / 2)

    def test_combined_requests(self) -> None:
        for data in combined(FIRST_LINES, b"Host: a\r\n"):
            self.check_requests(data)
        self.assertGreater(self.alike, 400)

    def test_combined_answers(self) -> None:
        for data in combined(STATUS_LINES, b""):
            self.check_answers((b"GET", data))
        self.assertGreater(self.alike, 400)

    def check_requests(self, data: bytes) -> None:
        for message, raw in whole(read(parse_request, [data]), data):
            seen, method = server_sees(message.head.method, raw)
            if self.reads_alike(seen, raw):
                self.assertEqual((seen.method, seen.origin_form), (method, message.head.target), raw)
                self.check(seen, message, raw)
            self.check_sent_request(message)

    def check_answers(self, stream: tuple[bytes, bytes]) -> None:
        method, data = stream
        for message, raw in whole(read(answer_parser(method), [data]), data):
            if message.head.status == 101:
                continue  # the relay takes it for a broken answer
            seen = client_sees(raw)
            if self.reads_alike(seen, raw):
                self.check_answer(seen, message, method, raw)
            self.check_sent_answer(message, method)

    def reads_alike(self, seen: Seen, raw: bytes) -> bool:
        """Whether the message has none of the forms above; another disagreement fails."""
        if seen.refusal is not None:
            forms = [form for words, form in STRICTER.items() if seen.refusal.startswith(words)]
            self.assertTrue(any(form.match(raw) for form in forms), (seen.refusal, raw))
            return False
        if seen.upgraded:
            self.assertRegex(raw, UPGRADE)
            return False
        if CODING_WITH_TAB.match(raw.partition(b"\r\n\r\n")[0] + b"\r\n"):
            return False
        self.alike += 1
        return True

    def check(self, seen: Seen, message: Message[Any], raw: bytes) -> None:
        """Its body, and that it ends where it should."""
        ends = message.head.body != UNTIL_CLOSE
        self.assertEqual((seen.content, seen.early, seen.done), (message.content, False, ends), raw)

    def check_answer(self, seen: Seen, message: Message[ResponseHead], method: bytes, raw: bytes) -> None:
        self.assertEqual(seen.parser.get_status_code(), message.head.status, raw)
        if not has_no_body_by_method(method, message.head):
            self.check(seen, message, raw)

    def check_sent_request(self, message: Message[RequestHead]) -> None:
        head = message.head
        sent = head.rebuild(HOST) + wire_body(message)
        seen, method = server_sees(head.method, sent)
        self.assertEqual((seen.refusal, seen.upgraded), (None, False), sent)
        self.assertEqual((seen.method, seen.url), (method, head.target), sent)
        self.check(seen, message, sent)
        self.assertTrue(seen.parser.should_keep_alive(), sent)

    def check_sent_answer(self, message: Message[ResponseHead], method: bytes) -> None:
        head = message.head.rebuild()
        if message.head.body == CHUNKED:
            head = head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        sent = head + wire_body(message)
        seen = client_sees(sent)
        self.assertEqual((seen.refusal, seen.upgraded), (None, False), sent)
        self.check_answer(seen, message, method, sent)


class FormsTests(SynchronousTestCase):
    """Each form above is one: the relay's reader takes it, and llhttp does what is said there."""

    def read_one(self, parse: Callable[[bytes], Any], data: bytes) -> Message[Any]:
        ((message, raw),) = whole(read(parse, [data]), data)
        self.assertEqual(raw, data)
        return message

    def test_refused_requests(self) -> None:
        chunks = b"5\r\nhello\r\n0\r\n\r\n"
        coded = request(b"Transfer-Encoding: chunked")
        odd = (b";", b"; a", b";a\t", b";\xe9", b";a=\xe9", b';a="', b';a="b"c')
        examples = {
            CODING: (request(b"Transfer-Encoding: chunked\t") + chunks,),
            SPACE: (coded + chunks.replace(b"5", b"5 "), coded + chunks.replace(b"5", b"5\t;a")),
            EXTENSION: tuple(coded + chunks.replace(b"5", b"5" + bad) for bad in odd),
        }
        for words, messages in examples.items():
            for data in messages:
                self.assertEqual(self.read_one(parse_request, data).content, b"hello")
                self.assertEqual(str(Seen(httptools.HttpRequestParser, data).refusal)[: len(words)], words, data)
                self.assertRegex(data, STRICTER[words])
        self.assertEqual(examples.keys(), STRICTER.keys())

    def test_unknown_method(self) -> None:
        for method in (b"FETCH", b"GETS"):
            data = request(first=b"%b / HTTP/1.1" % method)
            self.assertEqual(self.read_one(parse_request, data).head.method, method)
            self.assertIn(Seen(httptools.HttpRequestParser, data).refusal, UNKNOWN_METHOD)
            self.assertTrue(server_sees(method, data)[0].done)

    def test_upgrade(self) -> None:
        data = request(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 5") + b"hello"
        seen = Seen(httptools.HttpRequestParser, data)
        self.assertEqual((self.read_one(parse_request, data).content, seen.content), (b"hello", b""))
        self.assertTrue(seen.upgraded)
        self.assertRegex(data, UPGRADE)

    def test_tab_behind_the_coding_of_an_answer(self) -> None:
        data = answer(b"Transfer-Encoding: chunked\t") + b"5\r\nhello\r\n0\r\n\r\n"
        seen = client_sees(data)
        self.assertEqual(self.read_one(answer_parser(b"GET"), data).content, b"hello")
        self.assertEqual((seen.content, seen.done), (b"5\r\nhello\r\n0\r\n\r\n", False))
        self.assertRegex(data, CODING_WITH_TAB)

    def test_answer_to_head(self) -> None:
        data = answer(b"Content-Length: 5")
        message = self.read_one(answer_parser(b"HEAD"), data)
        self.assertEqual((message.end, client_sees(data).done), (len(data), False))
        self.assertTrue(has_no_body_by_method(b"HEAD", message.head))
