"""One server of an upstream: its health, and its connections that are verified, judged and free.

A connection comes back only when its request and its answer are both complete; whoever lends it decides that.
"""

from __future__ import annotations

from collections.abc import Callable

from fipsrelay.upstream.connect import Means, Place
from fipsrelay.upstream.health import Health
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.tls import TlsStream


class Keeper:
    """Belongs to one connection, and uses it while nobody else does: anything that happens to it then ends it.

    Attributes:
        stream: the connection.
        since: when it became free; NEVER while it is lent.
    """

    __slots__ = ("_server", "since", "stream")

    def __init__(self, server: Server, stream: TlsStream) -> None:
        self._server = server
        self.stream = stream
        self.since = NEVER

    def give_back(self) -> None:
        """Nothing is under way on the connection."""
        self._server.give_back(self)

    def stream_closed(self) -> None:
        """The connection has ended, by whomever."""
        self._server.forget(self)

    def stream_data(self, view: memoryview) -> None:
        """An answer that nobody asked for."""
        self.stream.close()

    def stream_drained(self) -> None:
        """A connection with unsent bytes is not free."""

    def stream_eof(self) -> None:
        """The intake has had enough of it."""
        self.stream.close()

    def stream_lost(self, reason: Exception | None) -> None:
        """It broke; ``stream_closed`` has said so."""


class Server:
    """Lends the connections to one address, the most recently used first.

    Args:
        number: makes its name, as operators of the Agent FIPS Proxy know it.
        place: where it is.
        health: what is known of it.
        means: how connections are made.
        answered: called when an answer shows that it works although something has failed, or it counts as down.

    Attributes:
        deadline: see ``wire.deadlines``; when to look for connections that have been free for too long.
        outstanding: connections that are lent or being made.
        free: those that can be taken, in the order of their return.
        used: when the last one came back.
        retired: it is no longer one of the upstream's servers.
    """

    def __init__(
        self, number: int, place: Place, health: Health, means: Means, answered: Callable[[Server], None]
    ) -> None:
        self.number = number
        self.name = f"mothership{number}"
        self.place = place
        self.health = health
        self.ipv6 = ":" in place.address
        self.deadline = NEVER
        self.outstanding = 0
        self.free: list[Keeper] = []
        self.used = float("-inf")
        self.retired = False
        self._now = means.deadlines.now
        self._deadlines = means.deadlines
        self._keep_alive = means.timeouts.upstream_keep_alive
        self._answered = answered
        self._reserve = means.reserve
        means.deadlines.watch(self)
        means.reserve.holders.add(self)

    @property
    def heard(self) -> float:
        """When something was last known of it, by a check or by traffic."""
        return max(self.used, float("-inf") if self.health.checked is None else self.health.checked)

    def adopt(self, stream: TlsStream) -> None:
        """A new connection, lent to whoever made it, who counts in ``outstanding`` already."""
        stream.name = str(self.place)
        stream.keeper = Keeper(self, stream)

    def take(self) -> TlsStream | None:
        """A free connection, or None.

        One on which something has arrived is not lent: that is its end, or nothing that anybody asked for, and what was
        sent on it would be lost.
        """
        while self.free:
            keeper = self.free[-1]
            if keeper.stream.is_quiet():
                self.free.pop()
                keeper.since = NEVER
                self.outstanding += 1
                return keeper.stream
            keeper.stream.close()
        return None

    def give_back(self, keeper: Keeper) -> None:
        """Take back a connection on which nothing is under way."""
        stream = keeper.stream
        self.used = now = self._now()
        if self.health.failures or not self.health.up:
            self._answered(self)
        if self.retired:
            stream.close()
            return
        stream.user = keeper
        keeper.since = now
        if not self.free:
            self.deadline = now + self._keep_alive
        self.free.append(keeper)
        self.outstanding -= 1
        if not stream.reading:
            stream.resume()

    def forget(self, keeper: Keeper) -> None:
        """A connection has ended."""
        if keeper.since == NEVER:
            self.outstanding -= 1
        else:
            self.free.remove(keeper)

    def expired(self) -> None:
        """Close what has been free for too long."""
        oldest_allowed = self._now() - self._keep_alive
        for keeper in [keeper for keeper in self.free if keeper.since <= oldest_allowed]:
            keeper.stream.close()
        if self.free:
            self.deadline = self.free[0].since + self._keep_alive

    def close_free(self) -> None:
        """Close what is free."""
        for keeper in list(self.free):
            keeper.stream.close()

    def free_since(self) -> float:
        """When the oldest of the free connections became so; NEVER without one."""
        return self.free[0].since if self.free else NEVER

    def close_oldest(self) -> None:
        """Close the one that has been free longest."""
        self.free[0].stream.close()

    def retire(self) -> None:
        """Close what is free, and later whatever comes back."""
        self.retired = True
        self._reserve.holders.discard(self)
        self._deadlines.forget(self)
        self.close_free()
