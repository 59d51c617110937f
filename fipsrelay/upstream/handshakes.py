"""The TLS handshakes with one destination since the start: what was negotiated, and what was refused. Pure."""

from __future__ import annotations

from collections import Counter

import attrs

from fipsrelay.crypto.policy import HandshakeFacts
from fipsrelay.errors import UpstreamError

_STEPS = frozenset(("handshake", "identity", "policy"))


@attrs.define
class Handshakes:
    """An account of them.

    Attributes:
        finished: that were judged good, by version, suite and group.
        refused: by the code of the failure.
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
        if error.step in _STEPS:
            self.refused[error.code] += 1
