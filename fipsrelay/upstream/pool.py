"""Connections to one upstream that are verified, judged and free.

A connection comes back only when its request and its answer are both complete; whoever lends it decides that.
"""

from __future__ import annotations

from fipsrelay.config.model import Upstream
from fipsrelay.upstream.connect import Attempt, Caller, Means
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.tls import TlsStream


class Keeper:
    """Uses a connection while nobody else does: anything that happens to it ends it.

    Attributes:
        since: when the connection became free.
    """

    __slots__ = ("_pool", "since", "stream")

    def __init__(self, pool: Pool, stream: TlsStream) -> None:
        self._pool = pool
        self.stream = stream
        self.since = NEVER

    def stream_data(self, view: memoryview) -> None:
        """An answer that nobody asked for."""
        self.end()

    def stream_drained(self) -> None:
        """A connection with unsent bytes is not free."""

    def stream_eof(self) -> None:
        """The intake has had enough of it."""
        self.end()

    def stream_lost(self, reason: Exception | None) -> None:
        """It broke."""
        self._pool.forget(self)

    def end(self) -> None:
        """Close it."""
        self._pool.forget(self)
        self.stream.close()


class Pool:
    """Lends connections to one upstream, the most recently used first.

    Args:
        upstream: where they lead.
        means: how they are made.

    Attributes:
        host: the Host field of requests.
        deadline: see ``wire.deadlines``; when to look for connections that have been free for too long.
    """

    def __init__(self, upstream: Upstream, means: Means) -> None:
        self.upstream = upstream
        self.host = host_header(upstream)
        self.deadline = NEVER
        self._means = means
        self._now = means.deadlines.now
        self._keep_alive = means.timeouts.upstream_keep_alive
        self._free: list[Keeper] = []  # in the order of their return
        self._closed = False
        means.deadlines.watch(self)

    @property
    def free(self) -> int:
        """Connections that can be taken now."""
        return len(self._free)

    def take(self) -> TlsStream | None:
        """A free connection, or None: then make an ``attempt``.

        One on which something has arrived is not lent: that is its end, or nothing that anybody asked for, and what was
        sent on it would be lost.
        """
        while self._free:
            keeper = self._free[-1]
            if keeper.stream.is_quiet():
                self._free.pop()
                return keeper.stream
            keeper.end()
        return None

    def attempt(self, caller: Caller) -> Attempt:
        """A new connection to be; ``start`` it."""
        return Attempt(self.upstream, self._means, caller)

    def give_back(self, stream: TlsStream) -> None:
        """Take back a connection on which nothing is under way."""
        if self._closed or not stream.is_open:
            stream.close()
            return
        keeper = stream.keeper
        if keeper is None:
            keeper = stream.keeper = Keeper(self, stream)
        stream.user = keeper
        keeper.since = self._now()
        if not self._free:
            self.deadline = keeper.since + self._keep_alive
        self._free.append(keeper)
        if not stream.reading:
            stream.resume()

    def expired(self) -> None:
        """Close what has been free for too long."""
        oldest_allowed = self._now() - self._keep_alive
        for keeper in [keeper for keeper in self._free if keeper.since <= oldest_allowed]:
            keeper.end()
        if self._free:
            self.deadline = self._free[0].since + self._keep_alive

    def forget(self, keeper: Keeper) -> None:
        """A free connection has ended."""
        if keeper in self._free:
            self._free.remove(keeper)

    def close(self) -> None:
        """Close what is free, and whatever comes back later."""
        self._closed = True
        for keeper in list(self._free):
            keeper.end()


def host_header(upstream: Upstream) -> bytes:
    """The Host field for an upstream (RFC 9110 §7.2): no port where it is https's own."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return (host if upstream.port == 443 else f"{host}:{upstream.port}").encode("ascii")
