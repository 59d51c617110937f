"""What happened so far, in plain integers. Renders nothing; ``observe`` does."""

from __future__ import annotations

from collections import Counter

import attrs


@attrs.define
class IntakeCounters:
    """What one intake port has done since the start.

    Attributes:
        connections: agent connections accepted.
        open_connections: of these, still open.
        requests: by HTTP status of the answer that the agent got, or began to get.
        errors: failures by stable code (``Fipsrelay-Error``).
        bytes_in: bytes read from agents.
        bytes_out: bytes handed over for agents.
    """

    connections: int = 0
    open_connections: int = 0
    requests: Counter[int] = attrs.Factory(Counter)
    errors: Counter[str] = attrs.Factory(Counter)
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
