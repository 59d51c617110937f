"""Counters: plain values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.counters import Counters, IntakeCounters, Repeats


class CounterTests(SynchronousTestCase):
    def test_open_connections(self) -> None:
        counters = Counters(0.0, {"a": IntakeCounters(open_connections=2), "b": IntakeCounters(open_connections=3)})
        self.assertEqual(counters.open_connections, 5)
        self.assertEqual(Counters(0.0, {}).open_connections, 0)

    def test_nothing_is_shared(self) -> None:
        one, other = IntakeCounters(), IntakeCounters()
        one.requests[200] += 1
        one.errors["tls"] += 1
        self.assertEqual((other.requests, other.errors), ({}, {}))


class RepeatTests(SynchronousTestCase):
    def test_one_of_many(self) -> None:
        """And how many it stands for; each kind by itself."""
        repeats = Repeats(10.0)
        self.assertEqual([repeats.admit("a", now) for now in (0.0, 0.0, 9.9)], [0, None, None])
        self.assertEqual(repeats.admit("b", 5.0), 0)
        self.assertEqual([repeats.admit("a", now) for now in (10.0, 20.0, 25.0, 31.0)], [2, 0, None, 1])
        self.assertEqual(repeats.admit("b", 15.0), 0)
