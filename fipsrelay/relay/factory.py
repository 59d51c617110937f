"""One ProxyFactory per intake port: what the port's connections share, and how they begin and end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IAddress, IListeningPort, IReactorFDSet
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.logger import Logger

from fipsrelay.config.model import Intake, Limits, Timeouts
from fipsrelay.counters import IntakeCounters
from fipsrelay.errors import FipsrelayError, UpstreamError
from fipsrelay.relay.bridge import Bridge
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.routes import Routes
from fipsrelay.upstream.pool import Pool
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import PlainStream, ReadBuffer

_log = Logger()


class ProxyFactory(Factory):
    """Builds an exchange (http) or a bridge (tcp) for each agent connection of one intake."""

    noisy = False

    def __init__(
        self,
        intake: Intake,
        pools: Mapping[str, Pool],
        counters: IntakeCounters,
        timeouts: Timeouts,
        limits: Limits,
        deadlines: Deadlines,
        on_change: Callable[[], None],
    ) -> None:
        self.intake = intake
        self.pools = pools
        self.routes = Routes(intake)
        self.counters = counters
        self.timeouts = timeouts
        self.limits = limits
        self.deadlines = deadlines
        self.draining = False
        self.connections: set[Exchange | Bridge] = set()
        self._on_change = on_change

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted's ``Port`` asks for what serves a new connection."""
        return Bridge(self) if self.intake.protocol == "tcp" else Exchange(self)

    def opened(self, connection: Exchange | Bridge) -> None:
        """An agent connection begins."""
        self.connections.add(connection)
        self.counters.connections += 1
        self.counters.open_connections += 1
        self._on_change()

    def closed(self, connection: Exchange | Bridge) -> None:
        """An agent connection has ended."""
        if connection in self.connections:
            self.connections.remove(connection)
            self.counters.open_connections -= 1
            self._on_change()

    def failed(self, error: FipsrelayError, code: str) -> None:
        """Count and log a failure; the one place where it is logged."""
        self.counters.errors[code] += 1
        if isinstance(error, UpstreamError):
            _log.warn("{intake}: {error} [{code}]", intake=self.intake.name, error=str(error), code=code)
        else:
            _log.info("{intake}: {error} [{code}]", intake=self.intake.name, error=str(error), code=code)

    def drain(self) -> None:
        """Let requests finish and take no further ones."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """Cut what is left."""
        for connection in list(self.connections):
            connection.abort()


class IntakePort(Port):
    """A listening socket whose connections are our streams instead of Twisted's transports."""

    buffer: ReadBuffer

    def transport(  # type: ignore[override]
        self, skt: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: IReactorFDSet
    ) -> PlainStream:
        """Twisted calls this for each accepted socket, then ``protocol.makeConnection`` with what it returns."""
        skt.setblocking(False)
        skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return PlainStream(skt, reactor, self.buffer)


def listen(reactor: Any, sock: socket.socket, factory: ProxyFactory, buffer: ReadBuffer) -> IListeningPort:
    """Serve an intake on a socket that is bound and listening; the socket is duplicated."""
    port: IntakePort = IntakePort._fromListeningDescriptor(reactor, sock.fileno(), sock.family, factory)
    port.buffer = buffer
    port.startListening()
    return port
