"""Answers: how each kind of framing goes on to each kind of agent, and where an answer ends."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.answer import Answer, local_answer
from fipsrelay.relay.frontend import Request
from fipsrelay.wire.http1 import parse_response
from tests.doubles import Port

LENGTH = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
REST = b"\r\n\r\nhello"


class Asker:
    """Writes down what it hears.

    Attributes:
        closing: as of an exchange.
    """

    def __init__(self) -> None:
        self.closing = False
        self.events: list[Any] = []
        self.sent = b""

    def upstream_leaves(self) -> None:
        self.events.append("leaves")

    def to_agent(self, data: bytes | memoryview) -> None:
        self.sent += data

    def answer_progress(self) -> None:
        self.events.append("progress")

    def answered(self) -> None:
        self.events.append("answered")

    def answer_failed(self, code: str, detail: str) -> None:
        self.events.append((code, detail))

    def upstream_drained(self) -> None:
        self.events.append("drained")

    def upstream_gone(self) -> None:
        self.events.append("gone")


class Answers(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = Port()
        self.begin()

    def begin(self, method: bytes = b"GET", http10: bool = False, closing: bool = False) -> None:
        self.asker = Asker()
        self.asker.closing = closing
        self.answer = Answer(self.asker, self.port.frontend)
        self.answer.begin(Request(method, http10, not closing, False, self.port.backends["up"]))

    def give(self, data: bytes, cuts: list[int] | None = None) -> None:
        ends = sorted({cut for cut in cuts or () if 0 < cut < len(data)} | {len(data)})
        for start, end in zip([0, *ends], ends, strict=False):
            if not self.answer.done:
                self.answer.stream_data(memoryview(data[start:end]))


class FramingTests(Answers):
    def test_known_length(self) -> None:
        self.give(LENGTH)
        self.assertEqual(self.asker.sent, LENGTH)
        self.assertEqual((self.asker.events, self.answer.reusable), (["answered"], True))
        self.assertEqual(self.port.counters.requests, {200: 1})

    def test_chunked(self) -> None:
        """Framed anew, trailers kept, extensions dropped."""
        self.give(CHUNKED)
        body = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
        self.assertEqual(self.asker.sent, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        self.assertTrue(self.answer.reusable)

    def test_until_close(self) -> None:
        """The agent's connection need not end for it; the upstream's does."""
        self.give(UNTIL_CLOSE)
        self.assertEqual(self.asker.events, ["leaves", "progress"])
        self.answer.stream_eof()
        self.assertEqual(
            self.asker.sent, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        self.assertEqual((self.asker.events[-1], self.answer.reusable), ("answered", False))

    def test_http10_agents(self) -> None:
        """No chunked framing for them: such an answer ends with the connection, and the agent is told so."""
        for answer in (CHUNKED, UNTIL_CLOSE):
            self.begin(http10=True)
            self.give(answer)
            self.answer.stream_eof()
            self.assertEqual(self.asker.sent, b"HTTP/1.1 200 OK\r\nConnection: close" + REST)
            self.assertTrue(self.asker.closing)
        self.begin(http10=True)
        self.give(LENGTH)
        self.assertEqual(
            self.asker.sent, b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\nConnection: keep-alive" + REST
        )
        self.assertFalse(self.asker.closing)

    def test_closing(self) -> None:
        self.begin(closing=True)
        self.give(LENGTH)
        self.assertEqual(self.asker.sent, b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\nConnection: close" + REST)

    def test_upstream_that_closes(self) -> None:
        """That is between the upstream and us."""
        self.give(LENGTH.replace(b"A: b", b"Connection: close"))
        self.assertEqual(self.asker.sent, LENGTH.replace(b"A: b\r\n", b""))
        self.assertEqual((self.asker.events, self.answer.reusable), (["leaves", "answered"], False))

    def test_no_body(self) -> None:
        for method, head in (
            (b"HEAD", LENGTH.removesuffix(b"hello")),
            (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
            (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ):
            self.begin(method)
            self.give(head)
            self.assertEqual((self.asker.sent, self.asker.events, self.answer.reusable), (head, ["answered"], True))

    def test_interim(self) -> None:
        """Any number of them, passed on, counted nowhere; not to HTTP/1.0."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 2
        self.give(interim)
        self.assertEqual((self.asker.sent, self.asker.events, self.answer.head_sent), (interim, ["progress"], False))
        self.give(LENGTH)
        self.assertEqual((self.asker.sent, self.port.counters.requests), (interim + LENGTH, {200: 1}))
        self.begin(http10=True)
        self.give(interim)
        self.assertEqual(self.asker.sent, b"")

    def test_one_after_the_other(self) -> None:
        for answer in (CHUNKED, LENGTH):
            self.asker.sent = b""
            self.answer.begin(Request(b"GET", False, True, False, self.port.backends["up"]))
            self.give(answer)
        self.assertEqual(self.asker.sent, LENGTH)

    def test_after_one_that_was_cut_in_its_head(self) -> None:
        """The next request's upstream has nothing to do with it."""
        self.give(LENGTH[:20])
        self.answer.stream_lost(None)
        self.answer.begin(Request(b"GET", False, True, False, self.port.backends["up"]))
        self.give(LENGTH)
        self.assertEqual((self.asker.sent, self.asker.events[-1]), (LENGTH, "answered"))

    @given(
        st.sampled_from((LENGTH, CHUNKED, UNTIL_CLOSE, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED)),
        st.lists(st.integers(1, 120), max_size=8),
        st.booleans(),
        st.booleans(),
    )
    @settings(derandomize=True, database=None, deadline=None, max_examples=300)
    def test_any_chunking(self, answer: bytes, cuts: list[int], http10: bool, closing: bool) -> None:
        """The agent reads the same message, wherever the upstream's bytes were cut."""
        read = []
        for places in ([], cuts):
            self.begin(http10=http10, closing=closing)
            self.give(answer, places)
            if not self.answer.done:
                self.answer.stream_eof()
            head, _, body = self.asker.sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").partition(b"\r\n\r\n")
            if b"chunked" in head:
                pieces = body.split(b"\r\n")
                body = b"".join(pieces[1 : pieces.index(b"0") : 2]) + b"|" + b"|".join(pieces[pieces.index(b"0") :])
            read.append((head, body, self.asker.events[-1], self.answer.reusable))
        self.assertEqual(read[0], read[1])


class FaultTests(Answers):
    def test_broken(self) -> None:
        for answer in (
            b"SMTP ready\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            CHUNKED[:47] + b"nonsense\r\n",
            b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000,
        ):
            self.begin()
            self.give(answer)
            ((code, detail),) = self.asker.events[-1:]
            self.assertEqual(code, "upstream-http")
            self.assertTrue(detail.startswith("broken HTTP: "))

    def test_cut(self) -> None:
        for end in ("stream_eof", "stream_lost"):
            for answer, when in (
                (b"", "before it answered"),
                (LENGTH[:20], "before it answered"),
                (b"HTTP/1.1 100 Continue\r\n\r\n", "before it answered"),
                (LENGTH[:-1], "in the middle of its answer"),
                (CHUNKED[:-2], "in the middle of its answer"),
            ):
                self.begin()
                if answer:
                    self.give(answer)
                self.end(end)
                code, detail = self.asker.events[-1]
                self.assertEqual((code, detail.endswith(when)), ("upstream-closed", True), detail)

    def end(self, how: str) -> None:
        self.answer.stream_eof() if how == "stream_eof" else self.answer.stream_lost(None)

    def test_a_break_ends_no_body(self) -> None:
        """Only close_notify ends a body without a length: anybody on the way could cut it."""
        self.give(UNTIL_CLOSE)
        self.answer.stream_lost(None)
        self.assertEqual(self.asker.events[-1][0], "upstream-closed")

    def test_after_the_answer(self) -> None:
        """While the request is still on its way."""
        for happens in (lambda: self.end("stream_eof"), lambda: self.end("stream_lost"), self.more):
            self.begin()
            self.give(LENGTH)
            happens()
            self.assertEqual(self.asker.events, ["answered", "gone"])

    def more(self) -> None:
        self.answer.stream_data(memoryview(b"x"))
        self.assertFalse(self.answer.reusable)

    def test_bytes_too_many(self) -> None:
        self.give(LENGTH + b"x")
        self.assertEqual((self.asker.events, self.answer.reusable), (["answered"], False))

    def test_drained(self) -> None:
        self.answer.stream_drained()
        self.assertEqual(self.asker.events, ["drained"])


class LocalAnswerTests(SynchronousTestCase):
    def test_text(self) -> None:
        answer = local_answer(503, "connect", "no\r\n  way: ä", "f00-1-2", close=True, head_only=False)
        head, _, text = answer.partition(b"\r\n\r\n")
        self.assertEqual(text, b"no way: ?\n")
        self.assertEqual(
            head.split(b"\r\n"),
            [
                *(b"HTTP/1.1 503 Service Unavailable", b"Content-Type: text/plain", b"Content-Length: 10"),
                *(b"Fipsrelay-Error: connect", b"Fipsrelay-Request: f00-1-2", b"Connection: close"),
            ],
        )

    def test_fits_what_the_diagnosis_prints(self) -> None:
        """The first 500 bytes of a body."""
        answer = local_answer(503, "connect-refused", "x" * 1000, "f00-1-2", close=True, head_only=False)
        self.assertLess(len(answer.partition(b"\r\n\r\n")[2]), 500)

    def test_whole_messages(self) -> None:
        for status in (400, 408, 431, 501, 502, 503, 504, 505):
            for close in (True, False):
                answer = local_answer(status, "code", "text", "f00-1-2", close=close, head_only=True)
                head = parse_response(answer, b"HEAD")
                self.assertEqual((head.status, head.keep_alive), (status, not close))
