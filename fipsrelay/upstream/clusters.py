"""The service that keeps the clusters of all upstreams going, also while the configuration changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

from fipsrelay.upstream.backend import Backend
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Gateway
from fipsrelay.upstream.names import Names, is_address

# Seconds that an upstream has which the configuration no longer knows: more than a request takes.
_LEAVE = 90.0


class Upstreams(Service):
    """Looks names up and checks servers; closes the free upstream connections in the end.

    Args:
        backends: by name; the mapping's content changes with the configuration.
        names: of hosts.
        way: the egress proxy, if there is one.
        reactor: Twisted's.
    """

    def __init__(self, backends: Mapping[str, Backend], names: Names, way: Gateway | None, reactor: Any) -> None:
        self.setName("upstreams")
        self._backends = backends
        self._names = names
        self._way = way
        self._reactor = reactor
        self._leaving: dict[Cluster, IDelayedCall] = {}

    def clusters(self) -> list[Cluster]:
        """All that may send anything."""
        return [*dict.fromkeys(backend.cluster for backend in self._backends.values()), *self._leaving]

    def startService(self) -> None:
        """Names are looked up and servers checked from now on."""
        super().startService()
        for cluster in self.clusters():
            cluster.start()
        self._follow()

    def stopService(self) -> None:
        """All connections are closed, and nothing is looked up or checked any more."""
        super().stopService()
        self._names.stop()
        for call in self._leaving.values():
            call.cancel()
        for cluster in self.clusters():
            cluster.close()
        self._leaving.clear()

    def change(self, before: Collection[Cluster], way: Gateway | None) -> None:
        """The backends are others now. Clusters that are not theirs any more finish what has begun.

        Args:
            before: the clusters that they had.
            way: the egress proxy, if there is one now.
        """
        now = {backend.cluster for backend in self._backends.values()}
        # In this order, so that a name of both stays known.
        for cluster in now.difference(before):
            cluster.start()
        for cluster in set(before).difference(now):
            cluster.leave()
            self._leaving[cluster] = self._reactor.callLater(_LEAVE, self._let_go, cluster)
        if way != self._way:
            gone, self._way = self._way, way
            self._follow()
            if gone is not None and not is_address(gone.host):
                self._names.forget(gone.host, _nothing)

    def _follow(self) -> None:
        if self._way is not None and not is_address(self._way.host):
            self._names.follow(self._way.host, _nothing)

    def _let_go(self, cluster: Cluster) -> None:
        del self._leaving[cluster]
        cluster.close()


def _nothing(addresses: tuple[str, ...]) -> None:
    """Nothing is to be done at an answer, but attempts are to find the newest one."""
