"""Which upstreams are reached without the proxy. Asks no DNS: what a name resolves to is not judged."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network


def bypasses(no_proxy: tuple[str, ...], host: str, addresses: tuple[str, ...]) -> bool:
    """Whether ``no_proxy`` exempts an upstream; its names follow curl's rule.

    Args:
        no_proxy: ``*`` for every upstream; ``example.com`` or ``.example.com`` for the host and all below it; IP
            addresses and networks for an upstream whose configured addresses all lie inside them.
        host: the upstream's, in lower case.
        addresses: the upstream's in the configuration; those that DNS gives do not count.
    """
    names = [entry.removeprefix(".") for entry in no_proxy]
    if "*" in names or any(f".{host}".endswith(f".{name}") for name in names):
        return True
    networks = []
    for entry in no_proxy:
        with suppress(ValueError):
            networks.append(ip_network(entry))
    return bool(addresses) and all(any(ip_address(each) in network for network in networks) for each in addresses)
