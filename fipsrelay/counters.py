"""What happened so far, in plain integers. Renders nothing; ``observe`` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import attrs


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
        bytes_in: bytes read from agents.
        bytes_out: bytes handed over for agents.
    """

    connections: int = 0
    open_connections: int = 0
    requests: Counter[int] = attrs.Factory(Counter)
    errors: Counter[str] = attrs.Factory(Counter)
    retries: Counter[str] = attrs.Factory(Counter)
    handshakes: Counter[tuple[str, str, str]] = attrs.Factory(Counter)
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
