"""Whether a server can be used, by what probes and traffic tell. Pure: time is passed in.

A server counts as up until something says otherwise: a relay that has just started must not refuse what it could carry.
"""

from __future__ import annotations

import attrs

_APART = 1.0  # seconds from a failure that counts to the try whose failure counts next


@attrs.define
class Health:
    """One server's.

    Attributes:
        fall: failures in a row that take it down.
        rise: successes in a row that bring it up again.
        since: when the present state began, in the clock's seconds.
        up: the state.
        reason: of the last failure; empty after a success.
        checked: when something was last heard; None before that.
        failures: in a row, up to now.
    """

    fall: int
    rise: int
    since: float
    up: bool = True
    reason: str = ""
    checked: float | None = None
    failures: int = 0
    _successes: int = 0
    _counted: float = float("-inf")  # when the last failure that counts was known

    def passed(self, now: float) -> bool:
        """It could be used; True when this brings the server up."""
        self.checked = now
        self.reason = ""
        self.failures = 0
        self._successes += 1
        return not self.up and self._successes >= self.rise and self._turn(now)

    def failed(self, now: float, reason: str, began: float) -> bool:
        """It could not be used; True when this takes the server down.

        Args:
            now: when that was known.
            reason: in the words of the log.
            began: when it was tried. Tries within a second are one piece of evidence: a burst of requests in the moment
                of an intake's restart must not take it down.
        """
        self.checked = now
        self.reason = reason
        self._successes = 0
        if began < self._counted + _APART:
            return False
        self._counted = now
        self.failures += 1
        return self.up and self.failures >= self.fall and self._turn(now)

    def _turn(self, now: float) -> bool:
        self.up = not self.up
        self.since = now
        return True
