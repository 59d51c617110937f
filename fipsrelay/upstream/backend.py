"""Upstreams as requests see them: each has a name, a Host field and rules for retries; its servers it may share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fipsrelay.config.bypass import bypasses
from fipsrelay.config.model import Config, Upstream
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Gateway, Means
from fipsrelay.upstream.search import Caller, Search
from fipsrelay.wire.tls import TlsStream


class Backend:
    """One upstream.

    Args:
        upstream: its configuration.
        cluster: its servers.
        means: how connections are made.

    Attributes:
        host: the Host field of requests.
        take: a free connection, or None: then make a ``search``.
    """

    def __init__(self, upstream: Upstream, cluster: Cluster, means: Means) -> None:
        self.upstream = upstream
        self.cluster = cluster
        self.host = host_header(upstream)
        self.take: Callable[[], TlsStream | None] = cluster.take
        self._means = means
        cluster.upstreams.append(upstream.name)

    def search(self, caller: Caller, retries: int) -> Search:
        """The way to a new connection; ``start`` it."""
        return Search(self.cluster, self.upstream.name, self._means, caller, retries)


def backends(
    config: Config,
    means: Means,
    gateway: Gateway | None,
    chance: Callable[[], float],
    before: Iterable[Cluster] = (),
) -> dict[str, Backend]:
    """Every upstream by its name; those with the same destination share a cluster.

    Args:
        config: with the upstreams, and what is said of egress and probes.
        means: how connections are made.
        gateway: the way out, for upstreams that do not bypass it.
        chance: a number from 0 to 1, another one at each call.
        before: clusters that there are already, and that are used again where nothing has changed for them.
    """
    clusters = {cluster.key: cluster for cluster in before}
    for cluster in clusters.values():
        cluster.upstreams.clear()
    found = {}
    for name, upstream in config.upstreams.items():
        host, port, addresses, pins = upstream.host, upstream.port, upstream.addresses, frozenset(upstream.pins)
        way = None if bypasses(config.egress.no_proxy, host, addresses) else gateway
        key = (host, port, addresses, pins, way, config.probes, id(means))  # the cluster keeps these means alive
        if key not in clusters:
            clusters[key] = Cluster(host, port, addresses, way, means, config.probes, chance, pins, key)
        found[name] = Backend(upstream, clusters[key], means)
    return found


def host_header(upstream: Upstream) -> bytes:
    """The Host field for an upstream (RFC 9110 §7.2): no port where it is https's own."""
    return (upstream.host if upstream.port == 443 else f"{upstream.host}:{upstream.port}").encode("ascii")
