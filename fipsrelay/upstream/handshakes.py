"""The TLS handshakes with one destination since the start: what was negotiated, and what was refused. Pure."""

from __future__ import annotations

from collections import Counter

import attrs

from fipsrelay.crypto.policy import HandshakeFacts
from fipsrelay.errors import UpstreamError

_REASONS = 50
_STEPS = frozenset(("handshake", "identity", "policy"))


@attrs.define
class Handshakes:
    """An account of them.

    Attributes:
        finished: that were judged good, by version, suite and group.
        refused: by code and reason: ``tls: wrong cipher returned``.
        newest: what the last good one came to.
    """

    finished: Counter[tuple[str, str, str]] = attrs.Factory(Counter)
    refused: Counter[str] = attrs.Factory(Counter)
    newest: HandshakeFacts | None = None

    def count(self, facts: HandshakeFacts) -> None:
        """One more was good."""
        self.finished[facts.parameters] += 1
        self.newest = facts

    def count_failure(self, error: UpstreamError) -> None:
        """An attempt failed; what failed before TLS is not counted here."""
        if error.step not in _STEPS:
            return
        reason = error.detail.partition(', info: "')[2].removesuffix('"') or error.detail
        key = f"{error.code}: {reason}"
        # Certificates' names stand in some: a server that changes its own all the time must not fill the memory.
        self.refused[key if key in self.refused or len(self.refused) < _REASONS else f"{error.code}: others"] += 1
