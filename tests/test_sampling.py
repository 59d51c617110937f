"""What is looked at from time to time: for the charts, and for the log."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.counters import IntakeCounters
from fipsrelay.observe.history import INTERVAL, History
from fipsrelay.observe.sampling import SUMMARY_INTERVAL, Sampling, Summaries


class SamplingTests(SynchronousTestCase):
    def test_samples(self) -> None:
        """Of whatever intakes there are at the time."""
        clock = Clock()
        histories = {"one": History(IntakeCounters())}
        sampling = Sampling(histories, clock)
        sampling.startService()
        clock.advance(INTERVAL)
        histories["two"] = History(IntakeCounters())
        clock.advance(INTERVAL)
        self.assertEqual([len(history.samples) for history in histories.values()], [2, 1])
        sampling.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])


class SummaryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = {"web": IntakeCounters(), "raw": IntakeCounters()}
        self.summaries = Summaries(self.counters, self.clock)
        self.summaries.startService()

    def minute(self) -> list[str]:
        """What is said at the end of one."""
        with capturedLogs() as logs:
            self.clock.advance(SUMMARY_INTERVAL)
        return [formatEvent(event) for event in logs]

    def test_what_has_been_done(self) -> None:
        """Since the last time, and nothing of those that did nothing."""
        web, raw = self.counters.values()
        web.requests.update({200: 3, 503: 1})
        web.errors["connect"] += 1
        web.bytes_in += 1000
        web.latencies.count(0.0009)
        self.assertEqual(self.minute(), ["web: 4 requests, 1 errors, 1000 bytes in 60 s, p50 900 us, p99 998 us"])
        self.assertEqual(self.minute(), [])
        raw.bytes_out += 7
        self.assertEqual(self.minute(), ["raw: 0 requests, 0 errors, 7 bytes in 60 s, p50 -, p99 -"])

    def test_intakes_that_come_and_go(self) -> None:
        self.counters["new"] = IntakeCounters()
        del self.counters["raw"]
        self.minute()
        self.counters["new"].requests[200] += 1
        self.assertEqual(self.minute(), ["new: 1 requests, 0 errors, 0 bytes in 60 s, p50 -, p99 -"])
        self.summaries.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
