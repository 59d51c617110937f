"""Counters: plain values."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.counters import Counters, IntakeCounters


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
