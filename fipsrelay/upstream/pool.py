"""Connections to one upstream that are verified, judged and free.

A connection comes back only when its request and its answer are both complete; whoever lends it decides that.
"""

from __future__ import annotations

from fipsrelay.config.model import Upstream
from fipsrelay.upstream.connect import Attempt, Caller, Means
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.tls import TlsStream


class _Idle:
    """Watches a connection that nobody uses: anything that happens to it ends it."""

    __slots__ = ("__weakref__", "deadline", "pool", "stream")

    def __init__(self, pool: Pool, stream: TlsStream) -> None:
        self.pool = pool
        self.stream = stream
        self.deadline = NEVER

    def stream_data(self, view: memoryview) -> None:
        self.expired()  # an answer nobody asked for

    def stream_drained(self) -> None:
        pass

    def stream_eof(self) -> None:
        self.expired()

    def stream_lost(self, reason: Exception | None) -> None:
        self.pool.remove(self)

    def expired(self) -> None:
        self.pool.remove(self)
        self.stream.close()


class Pool:
    """Lends connections to one upstream, the most recently used first."""

    def __init__(self, upstream: Upstream, means: Means) -> None:
        self.upstream = upstream
        self.host = host_header(upstream)
        self._means = means
        self._idle: list[_Idle] = []
        self._keep_alive = means.timeouts.upstream_keep_alive
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that are free now."""
        return len(self._idle)

    def take(self) -> TlsStream | None:
        """A free connection, or None: then make an ``attempt``."""
        if not self._idle:
            return None
        idle = self._idle.pop()
        self._means.deadlines.forget(idle)
        idle.stream.user = None
        return idle.stream

    def attempt(self, caller: Caller) -> Attempt:
        """A new connection to be; ``start`` it."""
        return Attempt(self.upstream, self._means, caller)

    def give_back(self, stream: TlsStream) -> None:
        """Take back a connection on which nothing is under way."""
        if self._closed or not stream.is_open:
            stream.close()
            return
        idle = _Idle(self, stream)
        idle.deadline = self._means.deadlines.now() + self._keep_alive
        stream.user = idle
        self._means.deadlines.watch(idle)
        self._idle.append(idle)
        stream.resume()

    def remove(self, idle: _Idle) -> None:
        """Forget a connection that has ended."""
        if idle in self._idle:
            self._idle.remove(idle)
        self._means.deadlines.forget(idle)

    def close(self) -> None:
        """Close what is free, and whatever comes back later."""
        self._closed = True
        for idle in list(self._idle):
            idle.expired()


def host_header(upstream: Upstream) -> bytes:
    """The Host field for an upstream (RFC 9110 §7.2): no port where it is https's own."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return (host if upstream.port == 443 else f"{host}:{upstream.port}").encode("ascii")
