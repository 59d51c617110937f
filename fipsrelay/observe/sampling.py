"""Services that look at the intakes' counters from time to time: for the charts, and for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from fipsrelay.counters import IntakeCounters, quantile
from fipsrelay.observe.history import INTERVAL, History, Sample
from fipsrelay.observe.text import duration

SUMMARY_INTERVAL = 60.0

_log = Logger()


class Sampling(Service):
    """Takes samples of the intakes' counters."""

    def __init__(self, histories: Mapping[str, History], reactor: Any) -> None:
        self.setName("sampling")
        self._histories = histories
        self._loop = LoopingCall(self._sample)
        self._loop.clock = reactor

    def startService(self) -> None:
        """The first sample is an interval away."""
        super().startService()
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        """No sample is taken any more."""
        super().stopService()
        self._loop.stop()

    def _sample(self) -> None:
        for history in self._histories.values():
            history.sample()


class Summaries(Service):
    """Says once a minute what each intake has done, if anything."""

    def __init__(self, counters: Mapping[str, IntakeCounters], reactor: Any) -> None:
        self.setName("summaries")
        self._counters = counters
        self._histories: dict[str, History] = {}
        self._loop = LoopingCall(self._say)
        self._loop.clock = reactor

    def startService(self) -> None:
        """What has been done before does not count."""
        super().startService()
        self._begin()
        self._loop.start(SUMMARY_INTERVAL, now=False)

    def stopService(self) -> None:
        """Nothing more is said."""
        super().stopService()
        self._loop.stop()

    def _begin(self) -> None:
        """The configuration may have brought other intakes since the last time."""
        known = {name: self._histories.get(name) for name in self._counters}
        self._histories = {name: found or History(self._counters[name]) for name, found in known.items()}

    def _say(self) -> None:
        self._begin()
        for name, history in self._histories.items():
            history.sample()
            sample = history.samples[-1]
            if sample != Sample():
                _log.info(
                    "{intake}: {requests} requests, {errors} errors, {bytes} bytes in {interval:.0f} s, "
                    "p50 {p50}, p99 {p99}",
                    intake=name,
                    requests=sample.requests,
                    errors=sample.errors,
                    bytes=sample.bytes,
                    interval=SUMMARY_INTERVAL,
                    p50=duration(quantile(sample.latencies, 0.5)),
                    p99=duration(quantile(sample.latencies, 0.99)),
                )
