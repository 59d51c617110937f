"""Reaches every server of a destination once, as a check does, and reports what came of each: for people who ask."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, gatherResults

from fipsrelay.crypto.policy import HandshakeFacts
from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Attempt, Means, Place
from fipsrelay.wire.tls import TlsStream


@attrs.frozen
class Visit:
    """What came of one server.

    Attributes:
        place: where it is.
        connected: seconds until TCP was up, or the gateway had connected; None if it never was.
        finished: seconds until the outcome.
        facts: what the handshake came to, if it was finished, also if it was not good enough.
        error: why no payload could be sent there, or None.
    """

    place: Place
    connected: float | None
    finished: float
    facts: HandshakeFacts | None
    error: UpstreamError | None


def visit(cluster: Cluster, means: Means) -> Deferred[list[Visit]]:
    """Visit every address that a cluster's name has now; fires with none where it has none.

    Args:
        cluster: not started: nothing is counted for it, and its state does not change.
        means: how connections are made.
    """
    return cluster.find().addCallback(
        lambda addresses: gatherResults([_Visitor(cluster.place(address), means).start() for address in addresses])
    )


class _Visitor:
    def __init__(self, place: Place, means: Means) -> None:
        self._place = place
        self._means = means
        self._connected: float | None = None
        self._done: Deferred[Visit] = Deferred()

    def start(self) -> Deferred[Visit]:
        self._means.attempt(self._place, self._place.host, self).start()
        return self._done

    def attempt_reached(self, attempt: Attempt) -> None:
        self._connected = self._since(attempt)

    def attempt_ready(self, attempt: Attempt, stream: TlsStream) -> None:
        stream.close()
        self._end(attempt, None)

    def attempt_failed(self, attempt: Attempt, error: UpstreamError) -> None:
        self._end(attempt, error)

    def _end(self, attempt: Attempt, error: UpstreamError | None) -> None:
        self._done.callback(Visit(self._place, self._connected, self._since(attempt), attempt.facts, error))

    def _since(self, attempt: Attempt) -> float:
        return self._means.deadlines.now() - attempt.began
