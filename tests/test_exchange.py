"""Exchanges step by step: one agent connection between a played agent and played upstreams."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Limits, Retries
from fipsrelay.relay.exchange import Exchange
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.http1 import parse_request
from tests.doubles import REFUSED, FakeStream, Port
from tests.messages import Reader

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SENT_GET = b"GET /x HTTP/1.1\r\nHost: up.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


def post(body: bytes, length: int | None = None, *lines: bytes) -> bytes:
    announced = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join((b"POST /x HTTP/1.1", b"Host: a", announced, *lines, b"", body))


class Exchanges(SynchronousTestCase):
    retries = Retries()

    def setUp(self) -> None:
        self.port = Port(limits=Limits(head_size=1000), retries=self.retries)
        self.exchange, self.agent = self.open()

    def open(self) -> tuple[Exchange, Any]:
        agent: Any = FakeStream()
        exchange = Exchange(self.port.frontend)
        exchange.makeConnection(agent)
        return exchange, agent

    def connect(self) -> FakeStream:
        """The attempt that is waited for comes up."""
        return self.port.backend.searches[-1].connect(FakeStream())

    def asked(self, request: bytes = GET) -> FakeStream:
        """The agent asks, and an upstream has it."""
        self.agent.give(request)
        return self.connect()

    def assert_local(self, status: int, code: str) -> bytes:
        """The last answer is the relay's own; returns its text."""
        head, _, text = bytes(self.agent.sent).rpartition(b"HTTP/1.1 %d " % status)[2].partition(b"\r\n\r\n")
        self.assertIn(b"\r\nFipsrelay-Error: %b" % code.encode(), head)
        self.assertEqual((self.port.counters.errors[code], self.port.counters.requests[status]), (1, 1))
        return text

    def assert_over(self, how: str) -> None:
        self.assertEqual(self.agent.how, how)
        self.assertEqual((self.port.counters.open_connections, self.port.room.left), (0, 10))
        self.assertEqual((self.exchange.deadline, self.port.deadlines._watched), (NEVER, set()))


class ExpectTests(Exchanges):
    """100 Continue comes from the relay, when there is an upstream for the body, and not oftener than it is of use."""

    CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

    def test_when_the_upstream_is_there(self) -> None:
        self.agent.give(post(b"", 5, b"Expect: 100-continue"))
        self.assertEqual(bytes(self.agent.sent), b"")
        upstream = self.connect()
        self.assertEqual(bytes(self.agent.sent), self.CONTINUE)
        self.agent.give(b"hello")
        upstream.give(OK)
        self.assertEqual(bytes(self.agent.sent), self.CONTINUE + OK)
        self.assertTrue(upstream.sent.endswith(b"\r\n\r\nhello"))
        self.agent.give(post(b"", 5, b"Expect: 100-continue"))  # on the connection that came back
        self.assertEqual(bytes(self.agent.sent), self.CONTINUE + OK + self.CONTINUE)

    def test_not_when_there_is_none(self) -> None:
        """The final answer instead, and the end: whether the body follows, nobody knows."""
        self.agent.give(post(b"", 5, b"Expect: 100-continue"))
        self.port.backend.searches[-1].refuse(REFUSED)
        self.assert_local(503, REFUSED.code)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assertNotIn(self.CONTINUE, self.agent.sent)

    def test_not_for_a_body_that_is_here(self) -> None:
        self.asked(post(b"hello", 5, b"Expect: 100-continue"))
        self.assertEqual(bytes(self.agent.sent), b"")

    def test_not_for_no_body(self) -> None:
        """And for the next one of the same head, again: only the number differs."""
        upstream = self.asked(post(b"", 0, b"Expect: 100-continue"))
        upstream.give(OK)
        self.agent.give(post(b"", 5, b"Expect: 100-continue"))
        self.assertEqual(bytes(self.agent.sent), OK + self.CONTINUE)
        self.agent.give(b"hello")
        upstream.give(OK)
        self.agent.give(post(b"", 0, b"Expect: 100-continue"))
        upstream.give(OK)
        self.assertEqual(bytes(self.agent.sent), OK + self.CONTINUE + OK + OK)

    def test_an_upstream_that_fails_at_once(self) -> None:
        """The next one takes the body."""
        self.agent.give(post(b"", 5, b"Expect: 100-continue"))
        broken = FakeStream()
        broken.breaks = True
        self.port.backend.searches[-1].connect(broken)
        self.assertEqual(bytes(self.agent.sent), b"")
        self.connect()
        self.assertEqual(bytes(self.agent.sent), self.CONTINUE)

    def test_an_early_answer(self) -> None:
        upstream = self.asked(post(b"", 5, b"Expect: 100-continue"))
        upstream.give(OK)
        self.assertEqual(bytes(self.agent.sent), self.CONTINUE + OK)


class RequestTests(Exchanges):
    def test_one_after_the_other_on_one_upstream_connection(self) -> None:
        upstream = self.asked()
        self.assertEqual(bytes(upstream.sent), SENT_GET)
        upstream.give(OK)
        self.assertEqual((bytes(self.agent.sent), self.port.backend.returned), (OK, [upstream]))
        self.agent.give(GET)
        upstream.give(OK)
        self.assertEqual((bytes(upstream.sent), bytes(self.agent.sent)), (SENT_GET * 2, OK * 2))
        self.assertEqual(len(self.port.backend.searches), 1)
        self.assertEqual(self.port.counters.requests, {200: 2})
        self.assertEqual((self.port.counters.bytes_in, self.port.counters.bytes_out), (2 * len(GET), 2 * len(OK)))

    def test_latency(self) -> None:
        """From the whole head to the last byte of the answer; the relay's own answers count too."""
        latencies = self.port.counters.latencies
        self.agent.give(GET[:10])
        self.port.wait(1.0)
        self.agent.give(GET[10:])
        upstream = self.connect()
        self.port.wait(2.0)
        upstream.give(OK[:-1])
        self.port.wait(0.5)
        self.assertEqual(sum(latencies.counts), 0)
        upstream.give(OK[-1:])
        self.assertEqual((sum(latencies.counts), latencies.total), (1, 2.5))
        self.port.backend.free.clear()
        self.agent.give(GET)
        self.port.wait(0.5)
        self.port.backend.searches[-1].refuse(REFUSED)
        self.assertEqual((sum(latencies.counts), latencies.total), (2, 3.0))

    def test_changed_while_it_is_open(self) -> None:
        """A request that has begun goes on; the next one is routed anew, whatever was remembered of its like."""
        upstream = self.asked(post(b"hello"))
        frontend = self.port.frontend
        frontend.change(
            attrs.evolve(frontend.intake, upstream="other", routes=()),
            frontend.timeouts,
            frontend.limits,
            frontend.policy,
            None,
        )
        upstream.give(OK)
        self.agent.give(post(b"again"))
        self.assertEqual([len(self.port.backends[name].searches) for name in ("up", "other")], [1, 1])

    def test_routes(self) -> None:
        self.agent.give(GET.replace(b"/x", b"/other/x"))
        self.assertEqual([len(self.port.backends[name].searches) for name in ("up", "other")], [0, 1])

    def test_short_body_leaves_with_its_head(self) -> None:
        """In one TLS record, whether the upstream was there or had to be waited for."""
        upstream = self.asked(post(b"hello"))
        self.assertTrue(upstream.sent.endswith(b"\r\n\r\nhello"))
        upstream.give(OK)
        self.agent.give(post(b"again"))
        self.assertTrue(upstream.sent.endswith(b"\r\n\r\nagain"))

    def test_nothing_is_read_while_connecting(self) -> None:
        self.agent.give(post(b"he", 5))
        self.assertFalse(self.agent.reading)
        self.assertEqual(self.exchange.deadline, NEVER)
        upstream = self.connect()
        self.agent.give(b"llo")
        self.assertTrue(upstream.sent.endswith(b"\r\n\r\nhello"))

    def test_slow_upstream_pauses_the_agent(self) -> None:
        upstream = self.asked(post(b"", 300_000))
        upstream.blocked = True
        self.agent.give(bytes(100_000))
        self.assertEqual((self.agent.reading, upstream.unsent), (False, 100_000))
        upstream.drain()
        self.assertTrue(self.agent.reading)
        self.agent.give(bytes(200_000))
        upstream.give(OK)
        self.assertEqual(self.port.backend.returned, [upstream])

    def test_slow_agent_pauses_the_upstream(self) -> None:
        upstream = self.asked()
        self.agent.blocked = True
        upstream.give(LARGE + bytes(1000))
        self.assertFalse(upstream.reading)
        self.agent.drain()
        self.assertTrue(upstream.reading)

    def test_not_back_before_the_request_is_out(self) -> None:
        """The answer is there, and the upstream has yet to take the end of the request."""
        upstream = self.asked(post(b"", 40_000))
        upstream.blocked = True
        self.agent.give(bytes(40_000))
        upstream.give(OK)
        self.assertEqual(self.port.backend.returned, [])
        upstream.drain()
        self.assertEqual(self.port.backend.returned, [upstream])

    def test_bytes_after_the_answer(self) -> None:
        """Nobody asked for them, so the connection is not used again."""
        upstream = self.asked()
        upstream.give(OK + b"H")
        self.assertEqual((bytes(self.agent.sent), self.port.backend.returned, upstream.how), (OK, [], "closed"))
        self.assertTrue(self.agent.reading)

    def test_connection_close(self) -> None:
        upstream = self.asked(post(b"", 0, b"Connection: close"))
        upstream.give(OK)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assertEqual(self.port.backend.returned, [upstream])
        self.assert_over("closed")

    def test_http10(self) -> None:
        upstream = self.asked(b"GET /x HTTP/1.0\r\n\r\n")
        upstream.give(OK)
        self.assert_over("closed")

    def test_http10_refused(self) -> None:
        self.agent.give(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.port.backend.searches[0].refuse()
        self.assert_local(503, "connect-refused")
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assert_over("closed")


class PipelineTests(Exchanges):
    def test_in_order(self) -> None:
        upstream = self.asked(GET + GET + post(b"hello") + GET)
        self.assertEqual((bytes(upstream.sent), self.agent.reading), (SENT_GET, False))
        for number in range(4):
            upstream.give(OK)
            self.port.reactor.turn()
            self.assertEqual(bytes(self.agent.sent), OK * (number + 1))
        self.assertEqual(self.port.counters.requests, {200: 4})
        self.assertTrue(self.agent.reading)

    def test_an_agent_that_reads_no_answers(self) -> None:
        """Kept is at most one answer, whatever it asks: the rest waits."""
        upstream = self.asked(GET * 20)
        self.agent.blocked = True
        upstream.give(OK)
        for _ in range(5):
            self.port.reactor.turn()
        self.assertEqual((bytes(upstream.sent), self.agent.unsent), (SENT_GET, len(OK)))
        self.assertFalse(self.agent.reading)
        self.agent.drain()
        self.port.reactor.turn()
        self.assertEqual(bytes(upstream.sent), SENT_GET * 2)

    def test_an_agent_that_reads_no_answer(self) -> None:
        """Its next request is not read, although it has sent none ahead."""
        upstream = self.asked()
        self.agent.blocked = True
        upstream.give(OK)
        self.assertFalse(self.agent.reading)
        self.agent.drain()
        self.assertTrue(self.agent.reading)

    def test_all_of_them_refused(self) -> None:
        """Each in a turn of the reactor, so that a long pipeline is no deep recursion."""
        self.port.backend.refusal = REFUSED
        self.agent.give(GET * 300)
        for _ in range(300):
            self.port.reactor.turn()
        self.assertEqual(self.port.counters.requests, {503: 300})
        self.assertEqual(self.agent.sent.count(b"HTTP/1.1 503 "), 300)

    def test_after_the_last_request(self) -> None:
        """The agent asked to close, and sends more: its answer must not be lost to a reset."""
        upstream = self.asked(post(b"", 0, b"Connection: close") + GET)
        upstream.give(OK)
        self.port.reactor.turn()
        self.assertEqual((len(self.port.backend.searches), self.agent.ended, self.agent.how), (1, True, None))
        self.agent.eof()
        self.assert_over("closed")


class EarlyAnswerTests(Exchanges):
    def test_the_upstream_goes_on_reading(self) -> None:
        """So does the relay, and the connection comes back only when the request is out."""
        upstream = self.asked(post(b"", 40_000))
        upstream.give(OK)
        self.assertEqual((bytes(self.agent.sent), self.port.backend.returned), (OK, []))
        self.agent.give(bytes(40_000))
        self.assertEqual(self.port.backend.returned, [upstream])
        self.agent.give(GET)
        self.assertTrue(upstream.sent.endswith(SENT_GET))

    def test_of_the_last_request(self) -> None:
        """That the agent closes then changes nothing."""
        upstream = self.asked(post(b"", 40_000, b"Connection: close"))
        upstream.give(OK)
        self.agent.give(bytes(40_000))
        self.assertEqual(self.port.backend.returned, [upstream])
        self.assert_over("closed")

    def test_the_upstream_says_that_it_leaves(self) -> None:
        """The agent is told, and what it still sends is thrown away for a while."""
        upstream = self.asked(post(b"", 40_000))
        upstream.give(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assertEqual((upstream.how, self.agent.ended, self.agent.how), ("aborted", True, None))
        self.agent.give(bytes(20_000))
        self.agent.eof()
        self.assert_over("closed")

    def test_the_upstream_leaves_without_a_word(self) -> None:
        for leave in ("eof", "lose"):
            self.setUp()
            upstream = self.asked(post(b"", 40_000))
            upstream.give(OK)
            getattr(upstream, leave)()
            self.agent.give(bytes(40_000))
            self.assertEqual((bytes(self.agent.sent), self.agent.reading), (OK, True))
            self.agent.give(GET)
            self.assertEqual(len(self.port.backend.searches), 2)
            self.assertEqual(self.port.counters.errors, {})

    def test_the_upstream_has_left_at_the_next_part(self) -> None:
        """What it said before counts, whether that had been read or not."""
        for sizes in ((10, 39_990), (40_000,)):
            self.setUp()
            upstream = self.asked(post(b"", 40_000))
            upstream.breaks, upstream.words = True, lambda: OK
            for size in sizes:
                self.agent.give(bytes(size))
            self.assertEqual((bytes(self.agent.sent), self.agent.reading, upstream.how), (OK, True, "lost"))
            self.assertEqual((self.port.counters.errors, self.port.counters.requests), ({}, {200: 1}))
            self.agent.give(GET)
            self.assertEqual(len(self.port.backend.searches), 2)

    def test_the_upstream_has_said_that_it_leaves_before_the_next_part(self) -> None:
        upstream = self.asked(post(b"", 40_000))
        sent = bytes(upstream.sent)
        upstream.breaks = True
        upstream.words = lambda: OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.agent.give(bytes(10))
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assertEqual((upstream.sent, upstream.late), (sent, b""))
        self.assertEqual((self.port.counters.errors, self.agent.ended, self.agent.how), ({}, True, None))
        self.port.wait(5)
        self.assert_over("closed")

    def test_the_upstream_leaves_without_having_taken_it(self) -> None:
        """What has not gone out, be it the end of the request or more, keeps nobody waiting."""
        for first, rest in ((40_000, 0), (10_000, 30_000)):
            self.setUp()
            upstream = self.asked(post(b"", 40_000))
            upstream.blocked = True
            self.agent.give(bytes(first))
            upstream.give(OK)
            upstream.eof()
            self.assertEqual((self.agent.reading, upstream.how), (True, "aborted"))
            if rest:
                self.agent.give(bytes(rest))
            self.agent.give(GET)
            self.assertEqual(len(self.port.backend.searches), 2)
            self.assertEqual((bytes(self.agent.sent), self.port.counters.errors), (OK, {}))

    def test_the_agent_breaks_off(self) -> None:
        upstream = self.asked(post(b"", 40_000))
        upstream.give(OK)
        self.agent.lose()
        self.assertEqual((upstream.how, self.port.counters.errors), ("aborted", {"agent-closed": 1}))
        self.assert_over("lost")

    def test_a_complete_answer_is_not_cut(self) -> None:
        """What goes wrong with the rest of the request must not cost the agent the answer it was given."""
        chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for name, happens in (
            ("body is broken", lambda: self.agent.give(b"nonsense\r\n")),
            ("body stops", lambda: self.port.wait(31)),
            ("agent ends", self.agent_ends),
        ):
            self.setUp()
            upstream = self.asked(chunked)
            upstream.give(OK)
            happens()
            self.assertEqual((bytes(self.agent.sent), upstream.how), (OK, "aborted"), name)
            self.assertNotEqual(self.agent.how, "reset", name)
            self.port.wait(40)
            self.assert_over("closed")

    def agent_ends(self) -> None:
        self.agent.eof()
        if self.agent.reading:
            self.agent.eof()


class TinyChunkTests(Exchanges):
    """An agent whose chunks are so small that reading them takes all the time does not get all the time."""

    HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    CHUNKS = b"1\r\nx\r\n" * 1000

    def content(self, upstream: FakeStream) -> bytes:
        """What the upstream has of the body."""
        reader = Reader(lambda data: parse_request(data, 100))
        reader.feed(bytes(upstream.sent))
        return bytes(reader.messages[0].content)

    def turns(self) -> int:
        """How many it takes until the agent is read again."""
        for turn in range(100):
            if self.agent.reading:
                return turn
            self.port.reactor.advance(0.01)
        raise AssertionError("the agent is not read again")

    def test_turns(self) -> None:
        """A part at once, and the rest after a while, in order; the agent is not read meanwhile."""
        upstream = self.asked(self.HEAD)
        self.agent.give(self.CHUNKS + b"3\r\nend\r\n0\r\n\r\n")
        seen = []
        while not self.agent.reading:
            seen.append(len(self.content(upstream)))
            self.assertGreater(len(self.port.reactor.getDelayedCalls()), 1)
            self.port.reactor.advance(0.01)
        self.assertEqual(self.content(upstream), b"x" * 1000 + b"end")
        self.assertEqual(seen, sorted(set(seen)))
        self.assertGreater(len(seen), 4)
        upstream.give(OK)
        self.assertEqual(bytes(self.agent.sent), OK)
        self.agent.give(GET)
        self.assertEqual(len(self.port.backend.searches), 1)

    def test_larger_ones(self) -> None:
        """They are read as they come."""
        upstream = self.asked(self.HEAD)
        self.agent.give((b"%x\r\n%b\r\n" % (2048, bytes(2048))) * 60)
        self.assertEqual(len(self.content(upstream)), 2048 * 60)
        self.assertTrue(self.agent.reading)

    def test_upstream_that_takes_nothing(self) -> None:
        """It is waited for, whichever of the two takes longer."""
        upstream = self.asked(self.HEAD)
        upstream.blocked = True
        self.agent.give(self.CHUNKS)
        for _ in range(10):
            self.port.reactor.advance(0.01)
        self.assertLess(upstream.unsent, 200)
        self.assertFalse(self.agent.reading)
        upstream.drain()
        upstream.blocked = True
        upstream.drain()
        self.turns()
        self.assertEqual(self.content(upstream), b"x" * 1000)

    def test_upstream_that_answers_and_says_that_it_leaves(self) -> None:
        """The rest is thrown away, and the agent has its answer."""
        upstream = self.asked(self.HEAD)
        self.agent.give(self.CHUNKS + b"0\r\n\r\n")
        upstream.give(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.port.wait(1)
        self.assertTrue(bytes(self.agent.sent).startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual((self.agent.ended, upstream.how), (True, "aborted"))

    def test_upstream_that_answers_and_leaves_without_a_word(self) -> None:
        """The rest is thrown away, as slowly, and the next request counts."""
        upstream = self.asked(self.HEAD)
        self.agent.give(self.CHUNKS + b"0\r\n\r\n")
        upstream.give(OK)
        upstream.eof()
        self.assertGreater(self.turns(), 4)
        self.assertEqual((bytes(self.agent.sent), upstream.how), (OK, "aborted"))
        self.agent.give(GET)
        self.assertEqual(len(self.port.backend.searches), 2)

    def test_no_upstream(self) -> None:
        """All of a body that is here already is thrown away at once, and the next request counts."""
        self.agent.give(self.HEAD + self.CHUNKS + b"0\r\n\r\n")
        self.port.backend.searches[0].refuse()
        self.assert_local(503, "connect-refused")
        self.port.reactor.turn()
        self.agent.give(GET)
        self.assertEqual(len(self.port.backend.searches), 2)

    def test_agent_that_leaves(self) -> None:
        self.asked(self.HEAD)
        self.agent.give(self.CHUNKS)
        self.agent.lose()
        self.port.wait(1)
        self.assertEqual(self.port.counters.open_connections, 0)


class FailureTests(Exchanges):
    def test_no_connection(self) -> None:
        """The agent keeps its own, when its request is here."""
        self.agent.give(post(b"hello"))
        self.port.backend.searches[0].refuse()
        text = self.assert_local(503, "connect-refused")
        self.assertEqual(text, b"upstream up (192.0.2.1:443) failed at connect: no\n")
        self.port.reactor.turn()
        self.assertTrue(self.agent.reading)
        self.agent.give(GET)
        self.assertEqual(len(self.port.backend.searches), 2)

    def test_no_connection_at_once(self) -> None:
        self.port.backend.refusal = REFUSED
        self.agent.give(GET)
        self.assert_local(503, "connect-refused")
        self.assertTrue(self.agent.reading)

    def test_no_connection_while_the_request_arrives(self) -> None:
        for request in (
            post(b"he", 5),
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        ):
            self.setUp()
            self.agent.give(request)
            self.port.backend.searches[0].refuse()
            self.assert_local(503, "connect-refused")
            self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
            self.assertEqual((self.agent.ended, self.agent.reading), (True, True))
            self.agent.eof()
            self.assert_over("closed")

    def test_head(self) -> None:
        """An answer to HEAD has no body, whoever gives it."""
        self.agent.give(GET.replace(b"GET", b"HEAD"))
        self.port.backend.searches[0].refuse()
        self.assertEqual(self.assert_local(503, "connect-refused"), b"")
        self.setUp()
        self.asked(post(b"he", 5).replace(b"POST", b"HEAD"))
        self.port.wait(31)
        self.assertEqual(self.assert_local(408, "body-timeout"), b"")

    def test_upstream_ends_before_its_answer(self) -> None:
        for leave in ("eof", "lose"):
            self.setUp()
            upstream = self.asked(post(b"hello"))
            getattr(upstream, leave)()
            self.assertIn(b"before it answered", self.assert_local(502, "upstream-closed"))
            self.assertTrue(self.agent.reading)

    def test_upstream_ends_in_its_answer(self) -> None:
        """A cut body must look cut."""
        for leave in ("eof", "lose"):
            self.setUp()
            upstream = self.asked()
            upstream.give(LARGE + bytes(10))
            getattr(upstream, leave)()
            self.assertEqual(self.port.counters.errors, {"upstream-closed": 1})
            self.assert_over("reset")

    def test_upstream_is_gone_at_the_write(self) -> None:
        """Noticed inside of write, whatever further part of the request it is."""
        for first, second in ((post(b"", 40_000), bytes(10)), (post(b"", 4), b"four")):
            self.setUp()
            self.agent.give(first)
            self.connect().breaks = True
            self.agent.give(second)
            self.assert_local(502, "upstream-closed")
            self.assertEqual(len(self.port.backend.searches), 1)

    def test_broken_answer(self) -> None:
        upstream = self.asked()
        upstream.give(b"SMTP ready\r\n\r\n")
        self.assertIn(b"broken HTTP", self.assert_local(502, "upstream-http"))
        self.assertEqual(upstream.how, "aborted")

    def test_agent_leaves(self) -> None:
        """At each step: before and while it asks, while there is an attempt, and while it waits."""
        for steps, counted in (((), 0), ((GET[:9],), 1), ((GET,), 1), ((post(b"he", 5), "connect"), 1)):
            self.setUp()
            for step in steps:
                self.connect() if step == "connect" else self.agent.give(step)
            self.agent.lose()
            self.assertEqual(self.port.counters.errors["agent-closed"], counted)
            self.assertTrue(all(attempt.over for attempt in self.port.backend.searches))
            self.assert_over("lost")

    def test_agent_half_closes(self) -> None:
        """A complete request gets its answer, an incomplete one goes nowhere."""
        upstream = self.asked()
        self.agent.eof()
        upstream.give(OK)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assert_over("closed")
        for request in (GET[:9], post(b"he", 5)):
            self.setUp()
            self.agent.give(request)
            if request != GET[:9]:
                upstream = self.connect()
            self.agent.eof()
            self.assertEqual((self.port.counters.errors, bytes(self.agent.sent)), ({"agent-closed": 1}, b""))
            self.assert_over("reset")
        self.setUp()
        self.agent.eof()
        self.assertEqual(self.port.counters.errors, {})
        self.assert_over("closed")

    def test_agent_half_closes_and_does_not_read(self) -> None:
        """Its end is not asked for again and again until it reads, and the time it has runs."""
        for reads in (True, False):
            self.setUp()
            upstream = self.asked()
            self.agent.eof()
            self.agent.blocked = True
            upstream.give(OK)
            self.assertTrue(self.agent.reading)
            self.agent.eof()
            self.assertEqual((self.agent.reading, self.agent.how), (False, None))
            if reads:
                self.agent.drain()
                self.assertTrue(self.agent.sent.endswith(b"ok"))
                self.agent.eof()
                self.assert_over("closed")
            else:
                self.port.wait(31)
                self.assertEqual(self.port.counters.errors, {"agent-timeout": 1})
                self.assert_over("reset")


class RetryTests(Exchanges):
    """What is sent again, and what is not."""

    def test_nothing_of_it_was_sent(self) -> None:
        """The first write finds the connection broken: whatever the request, on a new connection and on a free one."""
        requests = (
            (GET, b""),
            (post(b"hello"), b""),
            (post(b"x" * 10, 40_000), bytes(39_990)),
            (post(bytes(40_000)), b""),
            (post(bytes(30_000), 40_000), bytes(10_000)),
        )
        for first, rest in requests:
            for free, paced in ((False, False), (False, True), (True, False), (True, True)):
                if paced and len(first) > 16_384:
                    continue  # the next test's
                self.setUp()
                stream = FakeStream()
                stream.breaks = True
                stream.paced = paced
                if free:
                    self.port.backend.free.append(stream)
                    self.agent.give(first)
                else:
                    self.agent.give(first)
                    self.port.backend.searches[0].connect(stream)
                again = self.connect()
                if rest:
                    self.assertTrue(self.agent.reading)
                    self.agent.give(rest)
                body = (first + rest).partition(b"\r\n\r\n")[2]
                self.assertTrue(again.sent.endswith(b"\r\n\r\n" + body))
                self.assertEqual(again.sent.count(b"HTTP/1.1"), 1)
                again.give(OK)
                self.assertEqual((bytes(self.agent.sent), stream.sent), (OK, b""))
                self.assertEqual(self.port.counters.retries, {"upstream-closed": 1})

    def test_some_of_it_may_have_been_sent(self) -> None:
        """Where the kernel paces, a write of two records that fails may have failed at the second."""
        self.agent.give(post(bytes(16_384)))
        stream = FakeStream()
        stream.breaks = stream.paced = True
        self.port.backend.searches[0].connect(stream)
        self.assert_local(502, "upstream-closed")

    def test_get_and_head(self) -> None:
        """They ask for the same however often they are read (RFC 9110 §9.2.2)."""
        for request in (GET, GET.replace(b"GET", b"HEAD")):
            for leave in ("eof", "lose"):
                self.setUp()
                getattr(self.asked(request), leave)()
                again = self.connect()
                self.assertTrue(again.sent.startswith(request[:5]))
                again.give(b"HTTP/1.1 204 No Content\r\n\r\n")
                self.assertEqual(bytes(self.agent.sent), b"HTTP/1.1 204 No Content\r\n\r\n")

    def test_three_times(self) -> None:
        self.agent.give(GET)
        for number in range(4):
            self.assertEqual(self.port.backend.searches[number].retries, 3 - number)
            self.connect().lose()
        self.assert_local(502, "upstream-closed")
        self.assertEqual(self.port.counters.retries, {"upstream-closed": 3})

    def test_tries_of_a_search_count(self) -> None:
        self.agent.give(GET)
        self.port.backend.searches[0].retry()
        self.port.backend.searches[0].retry()
        self.connect().lose()
        self.assertEqual(self.port.backend.searches[1].retries, 0)
        self.connect().lose()
        self.assert_local(502, "upstream-closed")

    def test_the_next_request_has_its_own(self) -> None:
        self.agent.give(GET)
        for _ in range(3):
            self.connect().lose()
        self.connect().give(OK)
        self.agent.give(GET)
        self.port.backend.returned[-1].lose()
        self.assertEqual(self.port.backend.searches[-1].retries, 2)

    def test_not_once_something_was_answered(self) -> None:
        for begun in (b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n", OK[:-1]):
            self.setUp()
            upstream = self.asked()
            upstream.give(begun)
            upstream.lose()
            self.assertEqual(len(self.port.backend.searches), 1, begun)

    def test_not_a_broken_answer(self) -> None:
        self.asked().give(b"SMTP ready\r\n\r\n")
        self.assert_local(502, "upstream-http")

    def test_not_a_post(self) -> None:
        self.asked(post(b"hello")).lose()
        self.assertEqual(len(self.port.backend.searches), 1)

    def test_no_memory_for_what_is_not_sent_again(self) -> None:
        self.asked(post(b"x", 20_000))
        self.agent.give(bytes(15_000))
        self.assertIsNone(self.exchange._sent)

    def test_held_while_it_is_sent_again(self) -> None:
        """What the agent pipelines meanwhile has its turn afterwards."""
        upstream = self.asked()
        self.agent.give(post(b"next"))
        upstream.lose()
        again = self.connect()
        self.assertEqual(again.sent.count(b"HTTP/1.1"), 1)
        again.give(OK)
        self.port.reactor.turn()
        self.assertTrue(again.sent.endswith(b"\r\n\r\nnext"))

    def test_the_agent_leaves_meanwhile(self) -> None:
        self.asked().lose()
        self.agent.lose()
        self.assertTrue(self.port.backend.searches[1].cancelled)
        self.assert_over("lost")

    def test_refused_in_the_end(self) -> None:
        self.asked().lose()
        self.port.backend.searches[1].refuse()
        self.assert_local(503, "connect-refused")


class ReplayTests(RetryTests):
    """With the operator's word that a request may arrive twice."""

    retries = Retries(replay=True, replay_size=10_000)

    def test_not_a_post(self) -> None:
        """It is sent again here: whole, or as far as it had come."""
        for first, rest in (
            (post(b"hello"), b""),
            (post(b"x" * 10, 5_000), b"y" * 4_990),
            (post(b"", 9), b"in pieces"),
        ):
            for part in {0, len(rest) // 2, len(rest)}:
                self.setUp()
                upstream = self.asked(first)
                if part:
                    self.agent.give(rest[:part])
                upstream.lose()
                again = self.connect()
                if rest[part:]:
                    self.assertTrue(self.agent.reading)
                    self.agent.give(rest[part:])
                body = (first + rest).partition(b"\r\n\r\n")[2]
                self.assertTrue(again.sent.endswith(b"\r\n\r\n" + body))
                again.give(OK)
                self.assertEqual(bytes(self.agent.sent), OK)

    def test_not_a_large_one(self) -> None:
        for first, rest in ((post(b"x" * 9_990), b""), (post(b"x", 20_000), bytes(15_000))):
            self.setUp()
            upstream = self.asked(first)
            if rest:
                self.agent.give(rest)
            upstream.lose()
            self.assertEqual(len(self.port.backend.searches), 1)

    def test_chunked(self) -> None:
        """As it went upstream, byte for byte."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        upstream = self.asked(head + b"5\r\nhello\r\n")
        upstream.lose()
        again = self.connect()
        self.assertEqual(again.sent, upstream.sent)
        self.agent.give(b"0\r\n\r\n")
        self.assertTrue(again.sent.endswith(b"hello\r\n0\r\n\r\n"))

    def test_not_after_a_timeout(self) -> None:
        """The agent has given up by then, or is about to."""
        self.asked(post(b"hello"))
        self.port.wait(61)
        self.assert_local(504, "answer-timeout")


class RefusalTests(Exchanges):
    def test_broken_requests(self) -> None:
        for request, status, code in (
            (b"nonsense\r\n\r\n", 400, "bad-head"),
            (b"x" * 1000, 431, "head-too-large"),
            (GET.replace(b"1.1", b"2.0"), 505, "bad-version"),
            (GET.replace(b"GET", b"CONNECT"), 501, "bad-method"),
        ):
            self.setUp()
            self.agent.give(request)
            self.assert_local(status, code)
            self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
            self.assertEqual((self.agent.ended, self.port.backend.searches), (True, []))
            self.agent.eof()
            self.assert_over("closed")

    def test_broken_request_after_a_good_one(self) -> None:
        self.asked().give(OK)
        self.agent.give(b"nonsense\r\n\r\n")
        self.assert_local(400, "bad-head")

    def test_broken_body(self) -> None:
        chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        upstream = self.asked(chunked)
        self.agent.give(b"5\r\nhello\r\nnonsense\r\n")
        self.assert_local(400, "bad-chunk")
        self.assertEqual(upstream.how, "aborted")

    def test_broken_body_after_some_of_the_answer(self) -> None:
        chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        upstream = self.asked(chunked)
        upstream.give(LARGE + b"some")
        self.agent.give(b"nonsense\r\n")
        self.assert_over("reset")

    def test_tls(self) -> None:
        self.agent.give(b"\x16\x03\x01\x02\x00" + bytes(512))
        self.assertEqual(bytes(self.agent.sent), b"\x15\x03\x01\x00\x02\x02\x28")
        self.assertEqual(self.port.counters.errors, {"tls-to-plaintext": 1})
        self.assertTrue(self.agent.ended)
        self.agent.lose()
        self.assert_over("lost")

    def test_tls_in_place_of_a_later_request(self) -> None:
        self.asked().give(OK)
        self.agent.give(b"\x16")
        self.assertEqual(bytes(self.agent.sent), OK + b"\x15\x03\x01\x00\x02\x02\x28")
        self.assertTrue(self.agent.ended)


class IdleTests(Exchanges):
    """Which connections may be closed when others need their places."""

    def test_since_when(self) -> None:
        self.assertEqual(self.exchange.idle_since(), 0)
        self.port.wait(7)
        self.assertEqual(self.exchange.idle_since(), 0)
        self.agent.give(GET[:5])
        self.assertEqual(self.exchange.idle_since(), NEVER)

    def test_between_requests(self) -> None:
        upstream = self.asked()
        self.assertEqual(self.exchange.idle_since(), NEVER)
        self.port.wait(7)
        upstream.give(OK)
        self.assertEqual(self.exchange.idle_since(), 7)

    def test_not_before_the_answer_is_out(self) -> None:
        self.agent.blocked = True
        self.asked().give(OK)
        self.assertEqual(self.exchange.idle_since(), NEVER)
        self.agent.drain()
        self.assertEqual(self.exchange.idle_since(), 0)

    def test_not_while_it_is_closed(self) -> None:
        self.agent.give(b"nonsense\r\n\r\n")
        self.assertEqual(self.exchange.idle_since(), NEVER)

    def test_not_with_a_request_in_hand(self) -> None:
        self.asked(GET + GET).give(OK)
        self.assertEqual(self.exchange.idle_since(), NEVER)

    def test_give_way(self) -> None:
        self.agent.quiet = False  # a request is in the kernel's buffer
        self.assertFalse(self.exchange.give_way())
        self.assertIsNone(self.agent.how)
        self.agent.quiet = True
        self.assertTrue(self.exchange.give_way())
        self.assert_over("closed")


class LingerTests(Exchanges):
    def setUp(self) -> None:
        super().setUp()
        self.agent.give(b"nonsense\r\n\r\n")

    def test_silence(self) -> None:
        self.port.wait(4)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assert_over("closed")

    def test_pause(self) -> None:
        """Every piece gives it five seconds more."""
        for _ in range(4):
            self.port.wait(4)
            self.agent.give(b"more")
        self.port.wait(6)
        self.assert_over("closed")

    def test_limit(self) -> None:
        """Not for ever, though."""
        for _ in range(29):
            self.agent.give(b"more")
            self.port.wait(1)
        self.assertTrue(self.agent.is_open)
        self.agent.give(b"more")
        self.port.wait(2)
        self.assert_over("closed")

    def test_only_one_answer(self) -> None:
        self.agent.give(b"more nonsense\r\n\r\n")
        self.assertEqual(self.agent.sent.count(b"HTTP/1.1"), 1)

    def test_agent_does_not_take_its_answer(self) -> None:
        self.exchange, self.agent = self.open()
        self.agent.blocked = True
        self.agent.give(b"nonsense\r\n\r\n")
        self.port.wait(29)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assertEqual((self.agent.how, self.port.counters.errors["agent-timeout"]), ("reset", 1))


class DeadlineTests(Exchanges):
    def test_idle(self) -> None:
        self.port.wait(119)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assertEqual((bytes(self.agent.sent), self.port.counters.errors), (b"", {}))
        self.assert_over("closed")

    def test_idle_between_requests(self) -> None:
        self.asked().give(OK)
        self.port.wait(119)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assert_over("closed")

    def test_head(self) -> None:
        """From its first byte on; more bytes do not move it."""
        self.port.wait(100)
        for byte in (b"G", b"E", b"T"):
            self.agent.give(byte)
            self.port.wait(3)
        self.assertEqual(bytes(self.agent.sent), b"")
        self.port.wait(2)
        self.assert_local(408, "head-timeout")

    def test_body_stops(self) -> None:
        upstream = self.asked(post(b"", 40_000))
        for _ in range(3):
            self.port.wait(29)
            self.agent.give(b"x")
        self.assertEqual(bytes(self.agent.sent), b"")
        self.port.wait(31)
        self.assert_local(408, "body-timeout")
        self.assertEqual(upstream.how, "aborted")

    def test_upstream_does_not_take_the_request(self) -> None:
        upstream = self.asked(post(b"", 40_000))
        upstream.blocked = True
        self.agent.give(bytes(10_000))
        self.port.wait(31)
        self.assertIn(b"stopped taking", self.assert_local(504, "answer-timeout"))

    def test_upstream_does_not_answer(self) -> None:
        upstream = self.asked()
        self.port.wait(59)
        self.assertEqual(bytes(self.agent.sent), b"")
        self.port.wait(2)
        self.assertIn(b"in time", self.assert_local(504, "answer-timeout"))
        self.assertEqual((upstream.how, self.agent.reading), ("aborted", True))

    def test_upstream_does_not_answer_a_body(self) -> None:
        """It has all of its time from the end of the request on."""
        self.asked(post(b"", 4))
        self.port.wait(29)
        self.agent.give(b"four")
        self.port.wait(59)
        self.assertEqual(bytes(self.agent.sent), b"")
        self.port.wait(2)
        self.assertIn(b"in time", self.assert_local(504, "answer-timeout"))

    def test_whoever_was_waited_for_hands_over_a_new_time(self) -> None:
        """A slow upstream to the agent, for the rest of the request; a slow agent to the upstream, for its answer's."""
        upstream = self.asked(post(b"", 40_000))
        upstream.blocked = True
        self.agent.give(bytes(10_000))
        self.port.wait(29)
        upstream.drain()
        self.port.wait(29)
        self.assertEqual(bytes(self.agent.sent), b"")
        self.port.wait(2)
        self.assert_local(408, "body-timeout")
        self.setUp()
        upstream = self.asked()
        self.agent.blocked = True
        upstream.give(LARGE + bytes(1000))
        self.port.wait(29)
        self.agent.drain()
        self.port.wait(29)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assertEqual(self.port.counters.errors, {"answer-timeout": 1})

    def test_rest_of_a_request_whose_upstream_has_gone(self) -> None:
        upstream = self.asked(post(b"", 40_000))
        upstream.give(OK)
        upstream.eof()
        for _ in range(3):
            self.port.wait(29)
            self.agent.give(b"x")
        self.assertEqual(self.port.counters.errors, {})
        self.port.wait(31)
        self.assertEqual(self.port.counters.errors, {"body-timeout": 1})

    def test_body_stops_during_its_answer(self) -> None:
        """An upstream that goes on does not make up for the agent."""
        upstream = self.asked(post(b"", 40_000))
        upstream.give(LARGE)
        for _ in range(2):
            self.port.wait(14)
            upstream.give(b"x")
        self.assertTrue(self.agent.is_open)
        self.port.wait(3)
        self.assertEqual(self.port.counters.errors, {"body-timeout": 1})
        self.assert_over("reset")

    def test_upstream_stops_in_its_answer(self) -> None:
        upstream = self.asked()
        upstream.give(LARGE)
        for _ in range(3):
            self.port.wait(29)
            upstream.give(b"x")
        self.assertTrue(self.agent.is_open)
        self.port.wait(31)
        self.assertEqual(self.port.counters.errors, {"answer-timeout": 1})
        self.assert_over("reset")

    def test_agent_does_not_take_its_answer(self) -> None:
        upstream = self.asked()
        self.agent.blocked = True
        upstream.give(LARGE + bytes(1000))
        self.port.wait(29)
        self.agent.drain()
        self.agent.blocked = True
        upstream.give(bytes(1000))
        self.port.wait(29)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assertEqual((self.port.counters.errors, upstream.how), ({"agent-timeout": 1}, "aborted"))
        self.assert_over("reset")

    def test_agent_does_not_take_the_end_of_its_answer(self) -> None:
        upstream = self.asked()
        self.agent.blocked = True
        upstream.give(OK)
        self.assertEqual(self.port.backend.returned, [upstream])
        self.port.wait(31)
        self.assertEqual(self.port.counters.errors, {"agent-timeout": 1})
        self.assert_over("reset")

    def test_connecting_has_its_own(self) -> None:
        self.agent.give(GET)
        self.port.wait(1000)
        self.assertTrue(self.agent.is_open)


class DrainTests(Exchanges):
    def drained(self) -> bool:
        return self.port.frontend.drain().called

    def test_idle(self) -> None:
        self.port.wait(1)
        self.asked().give(OK)
        self.assertTrue(self.drained())
        self.assert_over("closed")

    def test_never_used(self) -> None:
        """Agents connect ahead of their needs."""
        self.port.wait(1)
        self.assertTrue(self.drained())
        self.assert_over("closed")

    def test_just_connected(self) -> None:
        """Its request is on its way."""
        self.port.wait(0.5)
        self.assertFalse(self.drained())
        self.agent.give(GET)
        self.connect().give(OK)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assert_over("closed")

    def test_just_connected_for_nothing(self) -> None:
        self.port.wait(0.5)
        self.assertFalse(self.drained())
        self.port.wait(1)
        self.assert_over("closed")

    def test_arrived(self) -> None:
        """A request of which the reactor has not told yet."""
        self.port.wait(1)
        upstream = self.asked()
        upstream.give(OK)
        before = len(self.agent.sent)
        self.agent.quiet = False
        self.assertFalse(self.drained())
        self.agent.give(GET)
        upstream.give(OK)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent[before:])
        self.assert_over("closed")

    def test_in_a_head(self) -> None:
        """It is a request under way."""
        self.agent.give(GET[:9])
        self.assertFalse(self.drained())
        self.agent.give(GET[9:])
        self.connect().give(OK)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assert_over("closed")

    def test_connecting(self) -> None:
        self.agent.give(GET)
        self.assertFalse(self.drained())
        self.connect().give(OK)
        self.assertIn(b"\r\nConnection: close\r\n", self.agent.sent)
        self.assert_over("closed")

    def test_in_a_body(self) -> None:
        upstream = self.asked(post(b"", 4))
        self.assertFalse(self.drained())
        self.agent.give(b"four")
        upstream.give(OK)
        self.assert_over("closed")

    def test_in_an_answer(self) -> None:
        """It is too late to say that the connection closes, but close it does."""
        upstream = self.asked()
        upstream.give(OK[:-1])
        self.assertFalse(self.drained())
        upstream.give(OK[-1:])
        self.assertEqual(bytes(self.agent.sent), OK)
        self.assert_over("closed")

    def test_in_a_pipeline(self) -> None:
        """The rest has not begun; the agent sends it again elsewhere."""
        upstream = self.asked(GET * 3)
        self.assertFalse(self.drained())
        upstream.give(OK)
        self.assertEqual(bytes(upstream.sent), SENT_GET)
        self.agent.eof()
        self.assert_over("closed")

    def test_between_two_of_a_pipeline(self) -> None:
        upstream = self.asked(GET * 2)
        upstream.give(OK)
        self.assertTrue(self.drained())
        self.port.reactor.turn()
        self.assertEqual(bytes(upstream.sent), SENT_GET)
        self.assert_over("closed")

    def test_while_the_agent_takes_its_answer(self) -> None:
        upstream = self.asked()
        self.agent.blocked = True
        upstream.give(OK)
        self.assertFalse(self.drained())
        self.agent.drain()
        self.assertEqual((bytes(self.agent.sent), self.agent.ended), (OK, True))
        self.agent.eof()
        self.assert_over("closed")

    def test_while_it_lingers(self) -> None:
        self.agent.give(b"nonsense\r\n\r\n")
        self.assertFalse(self.drained())
        self.agent.eof()
        self.assert_over("closed")

    def test_cut_in_the_end(self) -> None:
        upstream = self.asked()
        drained = self.port.frontend.drain()
        self.port.frontend.abort()
        self.assertTrue(drained.called)
        self.assertEqual(upstream.how, "aborted")
        self.assert_over("reset")
        self.assertEqual(self.port.counters.requests, {})
