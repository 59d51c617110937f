"""Names: when they are asked for, and which addresses count, with a resolver that the test plays and its own clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.upstream.names import Names
from tests.test_resolve import Resolver

HOST = "intake.example"
REFRESH = 30.0


class NamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = Resolver()
        clock: Any = Clock()
        clock.nameResolver = self.resolver
        self.clock = clock
        self.chance = 0.5
        self.names = Names(self.clock, REFRESH, lambda: self.chance)

    @property
    def asked(self) -> list[str]:
        return [host for _, host in self.resolver.asked]

    def answer(self, *addresses: str) -> None:
        """To the last question."""
        receiver, _ = self.resolver.asked[-1]
        for address in addresses:
            receiver.addressResolved(IPv4Address("TCP", address, 0))
        receiver.resolutionComplete()

    def found(self) -> tuple[str, ...]:
        return self.successResultOf(self.names.find(HOST))

    def test_first_answer_is_waited_for(self) -> None:
        """By everyone, with one question."""
        waiting: list[Deferred[tuple[str, ...]]] = [self.names.find(HOST) for _ in range(3)]
        self.assertEqual(self.asked, [HOST])
        for each in waiting:
            self.assertNoResult(each)
        self.answer("192.0.2.1", "192.0.2.2")
        for each in waiting:
            self.assertEqual(self.successResultOf(each), ("192.0.2.1", "192.0.2.2"))

    def test_later_ones_are_not(self) -> None:
        self.names.start([HOST])
        self.answer("192.0.2.1")
        self.clock.advance(REFRESH)
        self.assertEqual(self.asked, [HOST] * 2)
        self.assertEqual(self.found(), ("192.0.2.1",))
        self.assertEqual(self.asked, [HOST] * 2)
        self.answer("192.0.2.9")
        self.assertEqual(self.found(), ("192.0.2.9",))

    def test_last_good_answer_is_kept(self) -> None:
        self.names.start([HOST])
        self.answer("192.0.2.1")
        for _ in range(5):
            self.clock.advance(REFRESH)
            self.answer()
            self.assertEqual(self.found(), ("192.0.2.1",))
        self.assertEqual(len(self.asked), 6)

    def test_start_without_dns(self) -> None:
        """Requests are told so at once, each asks again, and the first good answer ends it."""
        self.names.start([HOST])
        self.answer()
        first = self.names.find(HOST)
        self.assertEqual(len(self.asked), 2)
        self.answer()
        self.assertEqual(self.successResultOf(first), ())
        second = self.names.find(HOST)
        self.answer("192.0.2.1")
        self.assertEqual(self.successResultOf(second), ("192.0.2.1",))

    def test_spread(self) -> None:
        for chance, wait in ((0.0, 27.0), (0.5, 30.0), (1.0, 33.0)):
            self.setUp()
            self.chance = chance
            self.names.start([HOST])
            self.answer("192.0.2.1")
            [call] = self.clock.getDelayedCalls()
            self.assertAlmostEqual(call.getTime(), wait)

    def test_one_timer_a_name(self) -> None:
        """However many requests asked in between."""
        self.names.start([HOST])
        self.answer()
        for _ in range(3):
            self.names.find(HOST)
            self.answer()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_question_without_answer_is_not_repeated(self) -> None:
        self.names.start([HOST])
        self.clock.advance(10 * REFRESH)
        self.names.find(HOST)
        self.assertEqual(self.asked, [HOST])

    def test_names_are_apart(self) -> None:
        self.names.start([HOST, "other.example"])
        self.answer("192.0.2.7")
        self.assertNoResult(self.names.find(HOST))
        self.assertEqual(self.successResultOf(self.names.find("other.example")), ("192.0.2.7",))

    def test_stop(self) -> None:
        self.names.start([HOST, "other.example"])
        self.answer("192.0.2.1")
        self.names.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.resolver.asked[0][0].resolutionComplete()
        self.assertEqual(self.clock.getDelayedCalls(), [])
