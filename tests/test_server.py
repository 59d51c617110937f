"""Servers: what is free, for how long, who gets it, and what counts as outstanding."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Timeouts
from fipsrelay.crypto.policy import SP800_52
from fipsrelay.upstream.connect import Means, Place
from fipsrelay.upstream.health import Health
from fipsrelay.upstream.reserve import Reserve
from fipsrelay.upstream.server import Server
from fipsrelay.wire.deadlines import NEVER, Deadlines
from fipsrelay.wire.streams import Buffers
from tests.doubles import FakeStream, Reactor

ADDRESS = "192.0.2.7"
KEEP_ALIVE = 45
SWEEP = 0.5


class Servers(SynchronousTestCase):
    """One server.

    Attributes:
        answered: those of which it said that they work although they count as down.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.deadlines = Deadlines(self.reactor, SWEEP)
        self.deadlines.start()
        self.answered: list[Server] = []
        self.reserve = Reserve()
        self.server = self.make(ADDRESS)

    def make(self, address: str) -> Server:
        none = cast(Any, None)
        timeouts = Timeouts(upstream_keep_alive=KEEP_ALIVE)
        means = Means(self.reactor, Buffers(16), self.deadlines, none, SP800_52, timeouts, none, self.reserve)
        place = Place("intake.example", 443, address)
        return Server(2, place, Health(3, 1, self.reactor.seconds()), means, self.answered.append)

    def connect(self) -> Any:
        """What a search does."""
        self.server.outstanding += 1
        stream: Any = FakeStream()
        self.server.adopt(stream)
        return stream

    def lend(self, count: int) -> list[Any]:
        return [self.connect() for _ in range(count)]

    def give_back(self, count: int = 1) -> list[Any]:
        """So many connections that were lent and have come back, in this order."""
        streams = self.lend(count)
        for stream in streams:
            stream.keeper.give_back()
        return streams

    @property
    def free(self) -> list[Any]:
        return [keeper.stream for keeper in self.server.free]

    def wait(self, seconds: int) -> None:
        self.reactor.pump([SWEEP] * 2 * seconds)

    def assert_counts(self, outstanding: int, *free: Any) -> None:
        self.assertEqual((self.server.outstanding, self.free), (outstanding, list(free)))


class LendingTests(Servers):
    def test_new(self) -> None:
        server = self.server
        self.assertIsNone(server.take())
        self.assert_counts(0)
        self.assertEqual((server.name, server.ipv6, server.retired), ("mothership2", False, False))
        self.assertTrue(self.make("2001:db8::1").ipv6)
        self.assertEqual(server.heard, float("-inf"))

    def test_adopted(self) -> None:
        """It is lent, and says where it leads."""
        stream = self.connect()
        self.assertEqual(stream.name, f"{ADDRESS}:443")
        self.assert_counts(1)
        self.assertIsNone(self.server.take())

    def test_most_recently_used_first(self) -> None:
        """So that the others age and go."""
        first, second, third = self.give_back(3)
        self.assert_counts(0, first, second, third)
        self.assertIs(self.server.take(), third)
        self.assertIs(self.server.take(), second)
        second.keeper.give_back()
        self.assert_counts(1, first, second)
        self.assertIs(self.server.take(), second)
        self.assertIs(self.server.take(), first)
        self.assert_counts(3)

    def test_arrivals_are_looked_for(self) -> None:
        """Before the reactor has told of them."""
        first, second, third = self.give_back(3)
        second.quiet = third.quiet = False
        self.assertIs(self.server.take(), first)
        self.assertEqual((second.how, third.how), ("closed", "closed"))
        self.assert_counts(1)

    def test_free_connections_are_watched(self) -> None:
        """A stream that an agent's slowness had paused, too."""
        (stream,) = self.give_back()
        self.assertTrue(stream.reading)

    def test_anything_that_happens_ends_it(self) -> None:
        for event, how in (("bytes", "closed"), ("eof", "closed"), ("lose", "lost")):
            with self.subTest(event=event):
                other, stream = self.give_back(2)
                stream.give(b"HTTP/1.1 408\r\n") if event == "bytes" else getattr(stream, event)()
                self.assertEqual(stream.how, how)
                self.assert_counts(0, other)
                self.assertIs(self.server.take(), other)
                self.assertIsNone(self.server.take())
                other.close()

    def test_a_lent_connection_is_not_the_servers(self) -> None:
        """What its user does with it closes no other, and it does not come back."""
        other, lost, closed, aborted = self.give_back(4)
        for _ in range(3):
            self.server.take()
        for outstanding, end in ((2, lost.lose), (1, closed.close), (0, aborted.abort)):
            end()
            self.assert_counts(outstanding, other)
        aborted.abort()
        self.assert_counts(0, other)

    def test_close_free(self) -> None:
        """Not what is lent."""
        first, second, lent = self.give_back(3)
        self.server.take()
        self.server.close_free()
        self.assertEqual((first.how, second.how, lent.how), ("closed", "closed", None))
        self.assert_counts(1)
        lent.keeper.give_back()
        self.assert_counts(0, lent)


class AgeTests(Servers):
    def test_age(self) -> None:
        """Each by its own time, also when it was used in between."""
        first, second = self.give_back(2)
        self.wait(40)
        self.assertIs(self.server.take(), second)
        second.keeper.give_back()
        self.wait(6)
        self.assertEqual((first.how, second.how), ("closed", None))
        self.assert_counts(0, second)
        self.wait(38)
        self.assertIsNone(second.how)
        self.wait(3)
        self.assertEqual(second.how, "closed")
        self.assert_counts(0)
        (third,) = self.give_back()
        self.wait(44)
        self.assertIsNone(third.how)
        self.wait(2)
        self.assertEqual(third.how, "closed")

    def test_to_the_second(self) -> None:
        """Which are due next is looked up anew each time."""
        streams = []
        for _ in range(3):
            streams += self.give_back()
            self.wait(10)
        self.wait(5)
        for stream in streams:
            self.wait(9)
            self.assertIsNone(stream.how)
            self.wait(1)
            self.assertEqual(stream.how, "closed")

    def test_age_when_the_oldest_was_taken(self) -> None:
        (first,) = self.give_back()
        self.server.take()
        self.wait(40)
        first.keeper.give_back()
        self.wait(44)
        self.assertIsNone(first.how)
        self.wait(2)
        self.assertEqual(first.how, "closed")

    def test_a_lent_connection_does_not_age(self) -> None:
        (stream,) = self.give_back()
        self.server.take()
        self.wait(100)
        self.assertIsNone(stream.how)
        self.assert_counts(1)


class RetiredTests(Servers):
    def test_retired(self) -> None:
        """What is free closes, and what comes back later; not what is lent."""
        first, lent = self.give_back(2)
        self.server.take()
        self.server.retire()
        self.assertEqual((first.how, lent.how), ("closed", None))
        self.assert_counts(1)
        lent.keeper.give_back()
        self.assertEqual(lent.how, "closed")
        self.assert_counts(0)
        self.assertIsNone(self.server.take())

    def test_connection_that_was_on_its_way(self) -> None:
        self.server.retire()
        stream = self.connect()
        self.assert_counts(1)
        stream.keeper.give_back()
        self.assertEqual(stream.how, "closed")
        self.assert_counts(0)

    def test_no_longer_watched(self) -> None:
        self.give_back()
        self.server.retire()
        self.assertEqual(self.deadlines._watched, set())


class ReserveTests(Servers):
    """Free connections can be closed for new ones."""

    def test_oldest_first(self) -> None:
        self.assertEqual(self.server.free_since(), NEVER)
        first, second = self.lend(2)
        self.assertFalse(self.reserve.give_up())
        for stream in (first, second):
            self.wait(1)
            stream.keeper.give_back()
        self.assertEqual(self.server.free_since(), 1)
        self.assertTrue(self.reserve.give_up())
        self.assert_counts(0, second)
        self.assertEqual((first.how, second.how, self.server.free_since()), ("closed", None, 2))

    def test_retired(self) -> None:
        self.assertEqual(self.reserve.holders, {self.server})
        self.server.retire()
        self.assertEqual(self.reserve.holders, set())


class HeardTests(Servers):
    """What traffic says of a server."""

    def take_down(self) -> None:
        for began in (0, 10, 20):
            self.server.health.failed(began, "why", began)
        self.assertFalse(self.server.health.up)

    def test_answer_of_a_server_that_is_down(self) -> None:
        (stream,) = self.lend(1)
        self.take_down()
        stream.keeper.give_back()
        self.assertEqual(self.answered, [self.server])
        self.assert_counts(0, stream)

    def test_answer_after_failures(self) -> None:
        """It ends their row, or one failure an hour would take a busy server down."""
        (stream,) = self.lend(1)
        self.server.health.failed(self.reactor.seconds(), "why", self.reactor.seconds())
        stream.keeper.give_back()
        self.assertEqual(self.answered, [self.server])

    def test_answer_of_a_server_without_failures(self) -> None:
        """That is no news, and comes ten thousand times a second."""
        self.give_back()
        self.assertEqual(self.answered, [])

    def test_answer_while_it_must_rise(self) -> None:
        """A success has ended the row of failures, and more are needed."""
        self.server.health.rise = 2
        (stream,) = self.lend(1)
        self.take_down()
        self.server.health.passed(self.reactor.seconds())
        stream.keeper.give_back()
        self.assertEqual(self.answered, [self.server])

    def test_heard(self) -> None:
        """The last of answers and checks."""
        (stream,) = self.lend(1)
        self.wait(1)
        stream.keeper.give_back()
        self.assertEqual(self.server.heard, 1)
        self.server.health.passed(3)
        self.assertEqual(self.server.heard, 3)
        self.wait(4)
        self.server.take()
        self.assertEqual(self.server.heard, 3)
        stream.keeper.give_back()
        self.assertEqual(self.server.heard, 5)

    def test_cut_connection_says_nothing(self) -> None:
        (stream,) = self.lend(1)
        self.wait(1)
        stream.lose()
        self.assertEqual(self.server.heard, float("-inf"))
