"""What happened so far, in plain integers. Renders nothing; ``observe`` does."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Mapping

import attrs

_STEPS = (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)  # ten to a decade, of which the usual 1, 2.5 and 5 are three
#: Upper bounds of the classes of ``Latencies``, in seconds, from 100 µs to 100 s; above them there is one more.
BOUNDS = (*(round(step * 10.0**decade, 6) for decade in range(-4, 2) for step in _STEPS), 100.0)


@attrs.define
class Latencies:
    """A histogram of times.

    Attributes:
        counts: by class of ``BOUNDS``.
        total: seconds, of all of them.
    """

    counts: list[int] = attrs.Factory(lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def count(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


def quantile(classes: Mapping[int, int], share: float) -> float | None:
    """The time that this share of all does not exceed, to within a class; None without any.

    Args:
        classes: how many there are, by the index of their class.
        share: 0.99 and the like.
    """
    wanted = share * sum(classes.values())
    below = 0
    for index, count in sorted(classes.items()):
        if count and below + count >= wanted:
            low = BOUNDS[index - 1] if index else 0.0
            high = BOUNDS[index] if index < len(BOUNDS) else low
            return low + (high - low) * (wanted - below) / count
        below += count
    return None


@attrs.define
class IntakeCounters:
    """What one intake port has done since the start.

    Attributes:
        connections: agent connections accepted.
        open_connections: of these, still open.
        requests: by HTTP status of the answer that the agent got, or began to get.
        errors: failures by stable code (``Fipsrelay-Error``).
        retries: further tries, by the code of the failure before them.
        handshakes: with agents, where there is TLS with them, by version, suite and group.
        latencies: from a request's whole head to the last byte of its answer.
        bytes_in: bytes read from agents.
        bytes_out: bytes handed over for agents.
    """

    connections: int = 0
    open_connections: int = 0
    requests: Counter[int] = attrs.Factory(Counter)
    errors: Counter[str] = attrs.Factory(Counter)
    retries: Counter[str] = attrs.Factory(Counter)
    handshakes: Counter[tuple[str, str, str]] = attrs.Factory(Counter)
    latencies: Latencies = attrs.Factory(Latencies)
    bytes_in: int = 0
    bytes_out: int = 0


@attrs.define
class Counters:
    """All counters of the process.

    Attributes:
        started: seconds of the wall clock at the start.
        intakes: by intake name, in the order of the configuration.
    """

    started: float
    intakes: dict[str, IntakeCounters]

    @property
    def open_connections(self) -> int:
        """Of all intakes together."""
        return sum(intake.open_connections for intake in self.intakes.values())


class Repeats:
    """Lets one of many equal events through, so that what goes wrong a thousand times is said once.

    Args:
        interval: seconds after an event that went through in which its like are held back.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: dict[Hashable, float] = {}
        self._held: Counter[Hashable] = Counter()

    def admit(self, kind: Hashable, now: float) -> int | None:
        """One more of a kind.

        Returns:
            None when it is to be held back, else how many were since the last one that went through.
        """
        if now - self._last.get(kind, float("-inf")) < self._interval:
            self._held[kind] += 1
            return None
        self._last[kind] = now
        return self._held.pop(kind, 0)
