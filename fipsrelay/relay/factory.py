"""One ProxyFactory per intake port, and the port whose connections are our streams."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port

from fipsrelay.relay.bridge import Bridge
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.room import Room
from fipsrelay.wire.streams import PlainStream, ReadBuffer


class ProxyFactory(Factory):
    """Builds an exchange (http) or a bridge (tcp) for each agent connection of one intake."""

    noisy = False

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend

    # Factory's own signature promises a Protocol; ours take the stream that IntakePort makes, and nothing else.
    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted's ``Port`` asks for what serves a new connection."""
        return Bridge(self.frontend) if self.frontend.intake.protocol == "tcp" else Exchange(self.frontend)


class IntakePort(Port):
    """A listening socket whose connections are our streams instead of Twisted's transports.

    Attributes:
        buffer: what its streams read into.
        room: of the process.
    """

    buffer: ReadBuffer
    room: Room

    def doRead(self) -> None:
        """Accept, but never more than there is room for."""
        self.numberAccepts = min(self.numberAccepts, self.room.left)
        super().doRead()

    def transport(  # type: ignore[override]
        self, skt: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> PlainStream:
        """Twisted calls this for each accepted socket, then ``protocol.makeConnection`` with what it returns."""
        skt.setblocking(False)
        skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return PlainStream(skt, reactor, self.buffer)


def listen(reactor: Any, sock: socket.socket, factory: ProxyFactory, buffer: ReadBuffer, room: Room) -> IntakePort:
    """Serve an intake on a socket that is bound and listening; the socket is duplicated."""
    port: IntakePort = IntakePort._fromListeningDescriptor(reactor, sock.fileno(), sock.family, factory)
    port.buffer = buffer
    port.room = room
    room.ports.append(port)
    port.startListening()
    return port
