"""Pools: what is free, for how long, and who gets it."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Timeouts, Tls, Upstream
from fipsrelay.upstream.connect import Attempt, Means
from fipsrelay.upstream.pool import Pool, host_header
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import ReadBuffer
from tests.doubles import FakeStream, Reactor


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        deadlines = Deadlines(self.reactor, 0.5)
        deadlines.start()
        means = Means(self.reactor, ReadBuffer(16), deadlines, cast(Any, None), Tls(), Timeouts(), cast(Any, None))
        self.pool = Pool(Upstream("up", "up.example"), means)

    def give_back(self, count: int = 1) -> list[Any]:
        streams: list[Any] = [FakeStream() for _ in range(count)]
        for stream in streams:
            self.pool.give_back(stream)
        return streams

    def wait(self, seconds: int) -> None:
        self.reactor.pump([0.5] * 2 * seconds)

    def test_empty(self) -> None:
        self.assertIsNone(self.pool.take())
        self.assertIsInstance(self.pool.attempt(cast(Any, None)), Attempt)

    def test_most_recently_used_first(self) -> None:
        """So that the others age and go."""
        first, second, third = self.give_back(3)
        self.assertEqual(self.pool.free, 3)
        self.assertIs(self.pool.take(), third)
        self.assertIs(self.pool.take(), second)
        self.pool.give_back(second)
        self.assertIs(self.pool.take(), second)
        self.assertIs(self.pool.take(), first)
        self.assertEqual(self.pool.free, 0)

    def test_arrivals_are_looked_for(self) -> None:
        """Before the reactor has told of them."""
        first, second, third = self.give_back(3)
        second.quiet = third.quiet = False
        self.assertIs(self.pool.take(), first)
        self.assertEqual((second.how, third.how, self.pool.free), ("closed", "closed", 0))

    def test_free_connections_are_watched(self) -> None:
        """A stream that an agent's slowness had paused, too."""
        (stream,) = self.give_back()
        self.assertTrue(stream.reading)

    def test_age(self) -> None:
        """Each by its own time, also when it was used in between."""
        first, second = self.give_back(2)
        self.wait(40)
        self.assertIs(self.pool.take(), second)
        self.pool.give_back(second)
        self.wait(6)
        self.assertEqual((first.how, second.how, self.pool.free), ("closed", None, 1))
        self.wait(38)
        self.assertIsNone(second.how)
        self.wait(3)
        self.assertEqual((second.how, self.pool.free), ("closed", 0))
        (third,) = self.give_back()
        self.wait(44)
        self.assertIsNone(third.how)
        self.wait(2)
        self.assertEqual(third.how, "closed")

    def test_age_when_the_oldest_was_taken(self) -> None:
        (first,) = self.give_back()
        self.pool.take()
        self.wait(40)
        self.pool.give_back(first)
        self.wait(44)
        self.assertIsNone(first.how)
        self.wait(2)
        self.assertEqual(first.how, "closed")

    def test_a_lent_connection_does_not_age(self) -> None:
        (stream,) = self.give_back()
        self.pool.take()
        self.wait(100)
        self.assertIsNone(stream.how)

    def test_anything_that_happens_ends_it(self) -> None:
        for event, how in (("bytes", "closed"), ("eof", "closed"), ("lose", "lost")):
            stream, other = self.give_back(2)
            stream.give(b"HTTP/1.1 408\r\n") if event == "bytes" else getattr(stream, event)()
            self.assertEqual(stream.how, how)
            self.assertIs(self.pool.take(), other)
            self.assertIsNone(self.pool.take())

    def test_a_lent_connection_is_not_the_pools(self) -> None:
        """What its user does with it is no event of the pool."""
        (stream,) = self.give_back()
        self.pool.take()
        stream.lose()
        self.assertEqual(self.pool.free, 0)

    def test_what_comes_back_closed(self) -> None:
        stream: Any = FakeStream()
        stream.abort()
        self.pool.give_back(stream)
        self.assertIsNone(self.pool.take())

    def test_closed(self) -> None:
        """What is free, and what comes back later; not what is lent."""
        first, lent = self.give_back(2)
        self.pool.take()
        self.pool.close()
        self.assertEqual((first.how, lent.how), ("closed", None))
        self.pool.give_back(lent)
        self.assertEqual((lent.how, self.pool.free), ("closed", 0))


class HostTests(SynchronousTestCase):
    def test_host_header(self) -> None:
        for host, port, expected in (
            ("a.example", 443, b"a.example"),
            ("a.example", 8443, b"a.example:8443"),
            ("192.0.2.1", 443, b"192.0.2.1"),
            ("2001:db8::1", 443, b"[2001:db8::1]"),
            ("2001:db8::1", 8443, b"[2001:db8::1]:8443"),
        ):
            self.assertEqual(host_header(Upstream("up", host, port)), expected)
