"""Known heads: the same meaning as reading them again."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.errors import MessageError
from fipsrelay.wire.http1 import parse_request
from fipsrelay.wire.known import Known

LINES = (
    *(b"Content-Length: 0", b"Content-Length: 7", b"content-length: 12", b"Content-Length: 07", b"Content-Length:7"),
    *(b"Content-Length: ", b"CONTENT-LENGTH: 7", b"X-Content-Length: 7", b"Transfer-Encoding: chunked"),
    *(b"Connection: close", b"X: Content-Length: 7", b"Connection: content-length", b"A: b", b"Expect: 100-continue"),
)


Meaning = tuple[bytes, bytes, bool, bool, bool]


def parse(head: bytes) -> tuple[Meaning, int, bytes]:
    found = parse_request(head)
    meaning = (found.method, found.target, found.http10, found.keep_alive, found.expects)
    return meaning, found.body, found.rebuild(b"up.example")


class Counted:
    """``parse``, with the number of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, head: bytes) -> tuple[Meaning, int, bytes]:
        self.calls += 1
        return parse(head)


def head(*lines: bytes, target: bytes = b"/") -> bytes:
    return b"\r\n".join((b"POST %b HTTP/1.1" % target, b"Host: a", *lines, b"", b""))


class KnownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counted = Counted()
        self.known = Known(self.counted)

    @given(st.lists(st.lists(st.sampled_from(LINES), max_size=3), min_size=1, max_size=12))
    @settings(derandomize=True, database=None, deadline=None, max_examples=300)
    def test_same_as_reading(self, heads: list[list[bytes]]) -> None:
        known = Known(parse)
        for lines in heads * 2:
            try:
                expected = parse(head(*lines))
            except MessageError as error:
                self.assertEqual(str(self.assertRaises(MessageError, known.read, head(*lines))), str(error))
            else:
                self.assertEqual(known.read(head(*lines)), expected)

    def test_another_length_is_known(self) -> None:
        """And means the same as if it were read: nothing else may depend on the number."""
        for calls, line in enumerate((b"A: b", b"Expect: 100-continue", b"Connection: close"), 1):
            for length in (0, 7, 12345, 7):
                lines = head(b"Content-Length: %d" % length, line)
                _, found, rebuilt = known = self.known.read(lines)
                self.assertEqual(known, parse(lines))
                self.assertEqual(found, length)
                self.assertEqual(re.findall(rb"Content-Length: (\d+)\r\n", rebuilt), [b"%d" % length])
            self.assertEqual(self.counted.calls, calls)

    def test_other_forms_of_a_number(self) -> None:
        """What is known by one form is not taken for another: http1 decides about each."""
        self.known.read(head(b"Content-Length: 7"))
        for digits in (b"07", b"+7", b" 7", b"7 ", b"", b"0", b"9" * 15, b"9" * 16, b"9" * 18, b"9" * 19, b"\xb2"):
            lines = head(b"Content-Length: " + digits)
            try:
                expected = parse(lines)
            except MessageError:
                self.assertRaises(MessageError, self.known.read, lines)
            else:
                self.assertEqual(self.known.read(lines), expected)

    def test_a_line_that_is_not_passed_on_is_not_known(self) -> None:
        read: list[bytes] = []

        def without_length(head: bytes) -> tuple[str, int, bytes]:
            read.append(head)
            return "meaning", 0, b"GET / HTTP/1.1\r\n\r\n"

        known = Known(without_length)
        for length in (7, 8):
            known.read(head(b"Content-Length: %d" % length))
        self.assertEqual(len(read), 2)

    def test_another_word_is_not(self) -> None:
        for lines in ((b"A: b",), (b"a: b",), (b"A:  b",), ()):
            self.known.read(head(b"Content-Length: 1", *lines))
        self.assertEqual(self.counted.calls, 4)

    def test_side_by_side(self) -> None:
        """As many as one agent has."""
        for _ in range(2):
            for number in range(200):
                self.known.read(head(b"Content-Length: 1", target=b"/%d" % number))
        self.assertEqual(self.counted.calls, 200)

    def test_bounds(self) -> None:
        """A client that never says the same twice costs no memory, and neither do huge heads."""
        large = head(b"Content-Length: 1", b"A: " + b"b" * 5000)
        self.known.read(large)
        self.known.read(large)
        self.assertEqual(self.counted.calls, 2)
        for number in range(600):
            self.known.read(head(b"Content-Length: 1", target=b"/%d" % number))
        self.counted.calls = 0
        for number in range(600):
            self.known.read(head(b"Content-Length: 1", target=b"/%d" % number))
        self.assertGreater(self.counted.calls, 300)
