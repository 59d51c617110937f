"""The last ten minutes of an intake: what was added to its counters, a sample every ten seconds. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

import attrs

from fipsrelay.counters import IntakeCounters

INTERVAL = 10.0
SAMPLES = 60


@attrs.frozen
class Sample:
    """What one interval has added.

    Attributes:
        requests: answered ones.
        errors: of all codes.
        bytes: in both directions.
        latencies: by class of ``counters.BOUNDS``, those without any left out.
    """

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    latencies: Mapping[int, int] = attrs.Factory(dict)


@attrs.frozen
class _Sums:
    requests: int
    errors: int
    bytes: int
    latencies: tuple[int, ...]


class History:
    """One intake's.

    Args:
        counters: the intake's.

    Attributes:
        samples: the oldest first.
    """

    def __init__(self, counters: IntakeCounters) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._counters = counters
        self._before = self._sums()
        self._latencies: Counter[int] = Counter()  # of all samples together

    def sample(self) -> None:
        """An interval has passed."""
        if len(self.samples) == SAMPLES:
            self._latencies.subtract(self.samples[0].latencies)
        sample = self._since()
        self._latencies.update(sample.latencies)
        self.samples.append(sample)
        self._before = self._sums()

    def latencies(self) -> Mapping[int, int]:
        """Of all samples, and of what has happened since, by class."""
        return self._latencies + Counter(self._since().latencies)

    def _sums(self) -> _Sums:
        counters = self._counters
        return _Sums(
            sum(counters.requests.values()),
            sum(counters.errors.values()),
            counters.bytes_in + counters.bytes_out,
            tuple(counters.latencies.counts),
        )

    def _since(self) -> Sample:
        before, now = self._before, self._sums()
        pairs = enumerate(zip(before.latencies, now.latencies, strict=True))
        return Sample(
            now.requests - before.requests,
            now.errors - before.errors,
            now.bytes - before.bytes,
            {index: after - earlier for index, (earlier, after) in pairs if after != earlier},
        )
