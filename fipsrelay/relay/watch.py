"""The gate's cheap checks, repeated while the relay runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from fipsrelay.crypto import gate
from fipsrelay.crypto.gate import Evidence
from fipsrelay.errors import FipsError
from fipsrelay.relay.frontend import Frontend
from fipsrelay.upstream.cluster import Cluster

INTERVAL = 60.0

_log = Logger()


class FipsWatch(Service):
    """Repeats the gate's cheap checks. When one fails nothing is sent upstream any more, until the relay is restarted.

    Args:
        evidence: what the gate saw.
        clusters: gives those of all upstreams.
        frontends: gives those whose connections are cut then; requests on new ones are answered with 503.
        reactor: Twisted's.

    Attributes:
        lost: the check that failed, or None.
    """

    def __init__(
        self,
        evidence: Evidence,
        clusters: Callable[[], Iterable[Cluster]],
        frontends: Callable[[], Iterable[Frontend]],
        reactor: Any,
    ) -> None:
        self.setName("FIPS")
        self.lost: FipsError | None = None
        self._evidence = evidence
        self._clusters = clusters
        self._frontends = frontends
        self._reactor = reactor
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """The gate has just been passed: the first look is an interval away."""
        super().startService()
        self._next = self._reactor.callLater(INTERVAL, self._check)

    def stopService(self) -> None:
        """Nobody looks any more."""
        super().stopService()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _check(self) -> None:
        try:
            gate.check_again(self._evidence)
        except FipsError as error:
            self._give_up(error)
            return
        except Exception:
            # For want of a descriptor, say: that shows nothing, and must not be the last look.
            _log.failure("The FIPS checks could not be made, and are tried again in a minute")
        self._next = self._reactor.callLater(INTERVAL, self._check)

    def _give_up(self, error: FipsError) -> None:
        self.lost = error
        _log.critical("{error}; nothing is relayed any more until the relay is restarted", error=gate.one_line(error))
        for cluster in self._clusters():
            cluster.bar(f"FIPS check {error.code} failed, restart the relay")
        for frontend in self._frontends():
            frontend.abort()
