"""Which server a request goes to. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Protocol, TypeVar

from fipsrelay.upstream.health import Health


class Candidate(Protocol):
    """A server, as far as it matters here.

    Attributes:
        outstanding: requests that it has not answered yet, and connections that are being made for some.
    """

    outstanding: int

    @property
    def free(self) -> Sized:
        """Connections to it that can be taken at once."""

    @property
    def health(self) -> Health:
        """What is known of it."""

    @property
    def ipv6(self) -> bool:
        """Whether its address is of that family."""


C = TypeVar("C", bound=Candidate)


def least_busy(servers: Sequence[C], turn: int) -> C:
    """The server with the fewest outstanding requests.

    Among equals, one that has a free connection, which saves a handshake; then the first from ``turn`` on.
    """
    first = turn % len(servers)
    rotated = [*servers[first:], *servers[:first]]
    return min(rotated, key=lambda server: (server.outstanding, not server.free))


def next_best(servers: Sequence[C], turn: int, ipv6: bool) -> C:
    """The server to try after one of a family failed or did not come up in time.

    The other family first (RFC 8305 §4): where one has no way out, none of its addresses has.
    """
    others = [server for server in servers if server.ipv6 != ipv6]
    return least_busy(others or servers, turn)


def least_bad(servers: Sequence[C]) -> C:
    """Of servers that are down, the one with the fewest failures in a row; then the one not checked for longest."""
    return min(servers, key=lambda server: (server.health.failures, server.health.checked or float("-inf")))
