"""Upstreams as requests see them: each has a name, a Host field and rules for retries; its servers it may share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    config: Config, means: Means, gateway: Gateway | None, chance: Callable[[], float]
) -> Mapping[str, Backend]:
    """Every upstream by its name; those with the same destination share a cluster.

    Args:
        config: with the upstreams, and what is said of egress and probes.
        means: how connections are made.
        gateway: the way out, for upstreams that do not bypass it.
        chance: a number from 0 to 1, another one at each call.
    """
    clusters: dict[tuple[str, int, tuple[str, ...], frozenset[str]], Cluster] = {}
    found = {}
    for name, upstream in config.upstreams.items():
        destination = (upstream.host, upstream.port, upstream.addresses, frozenset(upstream.pins))
        host, port, addresses, pins = destination
        if destination not in clusters:
            way = None if bypasses(config.egress.no_proxy, host, addresses) else gateway
            clusters[destination] = Cluster(host, port, addresses, way, means, config.probes, chance, pins)
        found[name] = Backend(upstream, clusters[destination], means)
    return found


def host_header(upstream: Upstream) -> bytes:
    """The Host field for an upstream (RFC 9110 §7.2): no port where it is https's own."""
    return (upstream.host if upstream.port == 443 else f"{upstream.host}:{upstream.port}").encode("ascii")
