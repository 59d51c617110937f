"""The samples of an intake's counters."""

from __future__ import annotations

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.counters import IntakeCounters
from fipsrelay.observe.history import SAMPLES, History, Sample


class HistoryTests(SynchronousTestCase):
    def test_samples(self) -> None:
        """What was counted before the beginning is none of it."""
        counters = IntakeCounters(bytes_in=5)
        counters.requests[200] = 9
        history = History(counters)
        counters.requests.update({200: 2, 503: 1})
        counters.errors["tls"] += 1
        counters.bytes_in += 10
        counters.bytes_out += 20
        counters.latencies.count(0.5)
        history.sample()
        history.sample()
        at = counters.latencies.counts.index(1)
        self.assertEqual(list(history.samples), [Sample(3, 1, 30, {at: 1}), Sample()])

    def test_latencies(self) -> None:
        """What is not in a sample yet counts, and goes with its sample at the end."""
        counters = IntakeCounters()
        history = History(counters)
        counters.latencies.count(0.5)
        at = counters.latencies.counts.index(1)
        for _ in range(SAMPLES):
            self.assertEqual(history.latencies(), {at: 1})
            history.sample()
        self.assertEqual((history.latencies(), len(history.samples)), ({at: 1}, SAMPLES))
        history.sample()
        self.assertEqual((history.latencies(), len(history.samples)), ({}, SAMPLES))

    @given(strategies.lists(strategies.lists(strategies.floats(0.0001, 99.0), max_size=3), max_size=2 * SAMPLES))
    def test_the_sum_of_its_samples(self, intervals: list[list[float]]) -> None:
        counters = IntakeCounters()
        history = History(counters)
        for times in intervals:
            for seconds in times:
                counters.latencies.count(seconds)
            history.sample()
        kept = IntakeCounters()
        for seconds in (seconds for times in intervals[-SAMPLES:] for seconds in times):
            kept.latencies.count(seconds)
        wanted = {index: count for index, count in enumerate(kept.latencies.counts) if count}
        self.assertEqual(history.latencies(), wanted)
