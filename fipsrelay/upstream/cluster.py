"""The servers of one host and port: who they are, which of them can be used, and what the log says of that.

Upstreams with the same host and port share them, their connections and their checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from fipsrelay.config.model import Probes
from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.balance import least_busy
from fipsrelay.upstream.connect import Attempt, Gateway, Means, Place
from fipsrelay.upstream.handshakes import Handshakes
from fipsrelay.upstream.health import Health
from fipsrelay.upstream.probe import Probe
from fipsrelay.upstream.server import Server
from fipsrelay.wire.tls import TlsStream

# Answers in a row without an address until its server is drained: a name with many addresses gives some at a time.
_ABSENCES = 2

_NONE = "backend '{upstream}' has no server available!"
_AGAIN = "backend '{upstream}' has a server available again."

_log = Logger()


class Cluster:
    """The servers of one destination.

    Args:
        host, port: of the destination.
        addresses: that replace DNS; empty to resolve the host.
        gateway: to go through, or None. It looks the host up by itself then.
        means: how connections are made.
        probes: how servers are checked.
        chance: a number from 0 to 1, another one at each call.
        pins: see ``Place``.
        key: see below.

    Attributes:
        upstreams: names of those that lead here, for the log.
        servers: all of them.
        usable: those that are up.
        turn: grows with each request, so that equal servers take turns.
        trial: who tries a server while all are down; one at a time.
        handshakes: with all of them.
        barred: why nothing may be sent here any more, or None.
        key: all that it was made by; one with the same key is as good.
    """

    def __init__(
        self,
        host: str,
        port: int,
        addresses: tuple[str, ...],
        gateway: Gateway | None,
        means: Means,
        probes: Probes,
        chance: Callable[[], float],
        pins: frozenset[str] = frozenset(),
        key: object = None,
    ) -> None:
        self.host = host
        self.port = port
        self.upstreams: list[str] = []
        self.servers: list[Server] = []
        self.usable: list[Server] = []
        self.turn = 0
        self.trial: object = None
        self.handshakes = Handshakes()
        self.barred: str | None = None
        self.key = key
        self._fixed = addresses or ((host,) if gateway else ())
        self._gateway = gateway
        self._pins = pins
        self._means = means
        self._probes = probes
        self._chance = chance
        self._checks: dict[Server, Probe] = {}
        self._absences: dict[Server, int] = {}

    @property
    def is_away(self) -> bool:
        """Nothing can be sent here, and this is known; where that may change, it is looked for without requests."""
        if self.barred is not None:
            return True
        if self.servers:
            return self._probes.enabled and not self.usable
        return self.host in self._means.names.failing()

    def start(self) -> None:
        """Learn the addresses, and begin to check them."""
        if self._fixed:
            self.learn(self._fixed)
        else:
            self._means.names.follow(self.host, self.learn)

    def bar(self, reason: str) -> None:
        """Send nothing more from now on."""
        self.barred = reason
        self.close()

    def leave(self) -> None:
        """No new request comes here: check no more, hear of no more addresses. Searches go on; ``close`` it later."""
        if not self._fixed:
            self._means.names.forget(self.host, self.learn)
        for check in self._checks.values():
            check.stop()
        self._checks.clear()
        for server in self.servers:
            server.retire()

    def close(self) -> None:
        """Check no more; close what is free, and whatever comes back later."""
        for server in list(self.servers):
            self._remove(server)

    def find(self) -> Deferred[tuple[str, ...]]:
        """The addresses; fires with none when there are none."""
        return succeed(self._fixed) if self._fixed else self._means.names.find(self.host)

    def place(self, address: str) -> Place:
        """A server at this address."""
        return Place(self.host, self.port, address, self._gateway, self._pins)

    # -- members

    def learn(self, addresses: Iterable[str]) -> None:
        """An answer of DNS."""
        if self.barred is not None:
            return
        wanted = list(dict.fromkeys(addresses))
        known = {server.place.address for server in self.servers}
        for address in wanted:
            if address not in known:
                self._add(address)
        for server in list(self.servers):
            absences = 0 if server.place.address in wanted else self._absences[server] + 1
            self._absences[server] = absences
            if absences >= _ABSENCES:
                self._remove(server)
                self._say_drained(server)

    def _add(self, address: str) -> None:
        taken = {server.number for server in self.servers}
        number = next(number for number in count(1) if number not in taken)
        place = self.place(address)
        probes = self._probes
        health = Health(probes.fall, probes.rise, self._means.deadlines.now())
        server = Server(number, place, health, self._means, self._answered)
        self.servers.append(server)
        self.usable.append(server)
        self._absences[server] = 0
        for upstream in self.upstreams:
            _log.info("Server {upstream}/{server} is {place}", upstream=upstream, server=server.name, place=str(place))
            if len(self.usable) == 1 < len(self.servers):
                _log.info(_AGAIN, upstream=upstream)
        if probes.enabled:
            check = self._checks[server] = Probe(server, self.host, probes.interval, self._means, self._chance, self)
            check.start()

    def _remove(self, server: Server) -> None:
        self.servers.remove(server)
        self._count_usable()
        del self._absences[server]
        check = self._checks.pop(server, None)
        if check is not None:
            check.stop()
        server.retire()

    def _count_usable(self) -> None:
        self.usable = [server for server in self.servers if server.health.up]

    # -- for requests

    def take(self) -> TlsStream | None:
        """A free connection to the server whose turn it is, or None."""
        usable = self.usable
        if len(usable) > 1:
            self.turn += 1
            return least_busy(usable, self.turn).take()
        return usable[0].take() if usable else None

    def overdue(self) -> list[Server]:
        """Servers that are down and that a request has to check, for where there are no probes nothing else does."""
        if self._probes.enabled:
            return []
        limit = self._means.deadlines.now() - self._probes.interval
        return [server for server in self.servers if not server.health.up and server.heard < limit]

    # -- what is known of them

    def passed(self, server: Server, attempt: Attempt) -> None:
        """An attempt came through."""
        assert attempt.facts is not None
        self.handshakes.count(attempt.facts)
        if server.health.passed(self._means.deadlines.now()) and not server.retired:
            self._came_up(server, f"Layer6 check passed, check duration: {self._duration(attempt)}ms")

    def failed(self, server: Server, attempt: Attempt, error: UpstreamError) -> None:
        """An attempt did not; unless that was the fault of this host."""
        self.handshakes.count_failure(error)
        if error.code == "local" or server.retired:
            return
        if server.health.failed(self._means.deadlines.now(), error.detail, attempt.began):
            self._went_down(server, f"{error.detail}, check duration: {self._duration(attempt)}ms")

    def _answered(self, server: Server) -> None:
        if server.health.passed(self._means.deadlines.now()) and not server.retired:
            self._came_up(server, "a request was answered")

    def _duration(self, attempt: Attempt) -> int:
        return round((self._means.deadlines.now() - attempt.began) * 1000)

    # -- the log, in the words that operators of HAProxy search for

    def _went_down(self, server: Server, reason: str) -> None:
        self._count_usable()
        server.close_free()
        left = len(self.usable)
        for upstream in self.upstreams:
            _log.warn(
                "Server {upstream}/{server} is DOWN, reason: {reason}. {left} active and 0 backup servers left.",
                upstream=upstream,
                server=server.name,
                reason=reason,
                left=left,
            )
            if not left:
                _log.error(_NONE, upstream=upstream)

    def _came_up(self, server: Server, reason: str) -> None:
        self._count_usable()
        online = len(self.usable)
        for upstream in self.upstreams:
            _log.info(
                "Server {upstream}/{server} is UP, reason: {reason}. {online} active and 0 backup servers online.",
                upstream=upstream,
                server=server.name,
                reason=reason,
                online=online,
            )
            if online == 1:
                _log.info(_AGAIN, upstream=upstream)

    def _say_drained(self, server: Server) -> None:
        for upstream in self.upstreams:
            _log.info(
                "Server {upstream}/{server} is going DOWN for maintenance, {place} is no longer an address of {host}. "
                "{left} active and 0 backup servers left.",
                upstream=upstream,
                server=server.name,
                place=str(server.place),
                host=self.host,
                left=len(self.usable),
            )
            if server.health.up and not self.usable:
                _log.error(_NONE, upstream=upstream)
