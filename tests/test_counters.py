"""Counters: plain values."""

from __future__ import annotations

import math
from bisect import bisect_left

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.counters import BOUNDS, Counters, IntakeCounters, Latencies, Repeats, quantile


class CounterTests(SynchronousTestCase):
    def test_open_connections(self) -> None:
        counters = Counters(0.0, {"a": IntakeCounters(open_connections=2), "b": IntakeCounters(open_connections=3)})
        self.assertEqual(counters.open_connections, 5)
        self.assertEqual(Counters(0.0, {}).open_connections, 0)

    def test_nothing_is_shared(self) -> None:
        one, other = IntakeCounters(), IntakeCounters()
        one.requests[200] += 1
        one.errors["tls"] += 1
        one.retries["connect"] += 1
        one.handshakes["TLSv1.3", "AES", "P-256"] += 1
        one.latencies.count(0.5)
        self.assertEqual([other.requests, other.errors, other.retries, other.handshakes], [{}] * 4)
        self.assertEqual(sum(other.latencies.counts), 0)


class LatencyTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        """Ten to a decade, those of Prometheus's usual classes among them."""
        self.assertEqual(list(BOUNDS), sorted(set(BOUNDS)))
        self.assertEqual((BOUNDS[0], BOUNDS[-1], len(BOUNDS)), (0.0001, 100.0, 61))
        self.assertLessEqual({0.001, 0.0025, 0.005, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0}, set(BOUNDS))

    def test_count(self) -> None:
        """A class holds what is not more than its bound."""
        latencies = Latencies()
        for seconds in (0.0, 0.0001, 0.00011, 0.5, 100.0, 1000.0):
            latencies.count(seconds)
        wanted = {0: 2, 1: 1, BOUNDS.index(0.5): 1, 60: 1, 61: 1}
        self.assertEqual({index: count for index, count in enumerate(latencies.counts) if count}, wanted)
        self.assertAlmostEqual(latencies.total, 1100.50021)

    def test_quantile(self) -> None:
        self.assertIsNone(quantile({}, 0.5))
        self.assertIsNone(quantile({3: 0}, 0.5))
        at = BOUNDS.index(0.5)
        self.assertEqual(quantile({at: 1}, 0.5), (0.4 + 0.5) / 2)
        self.assertEqual(quantile({at: 100}, 0.99), 0.4 + 0.1 * 0.99)
        self.assertEqual(quantile({at: 99, 61: 1}, 0.99), 0.5)
        self.assertEqual(quantile({at: 98, 61: 2}, 0.99), 100.0)

    @given(strategies.lists(strategies.floats(0.0001, 90.0), min_size=1), strategies.sampled_from((0.5, 0.9, 0.99)))
    def test_quantile_of_any(self, times: list[float], share: float) -> None:
        """It lies in the class of the time that has this rank."""
        latencies = Latencies()
        for seconds in times:
            latencies.count(seconds)
        exact = sorted(times)[max(0, math.ceil(share * len(times)) - 1)]
        found = quantile(dict(enumerate(latencies.counts)), share)
        assert found is not None
        self.assertEqual(bisect_left(BOUNDS, found * (1 - 1e-9)), bisect_left(BOUNDS, exact))


class RepeatTests(SynchronousTestCase):
    def test_one_of_many(self) -> None:
        """And how many it stands for; each kind by itself."""
        repeats = Repeats(10.0)
        self.assertEqual([repeats.admit("a", now) for now in (0.0, 0.0, 9.9)], [0, None, None])
        self.assertEqual(repeats.admit("b", 5.0), 0)
        self.assertEqual([repeats.admit("a", now) for now in (10.0, 20.0, 25.0, 31.0)], [2, 0, None, 1])
        self.assertEqual(repeats.admit("b", 15.0), 0)
