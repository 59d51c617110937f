"""One ProxyFactory per intake port, and the port whose connections are our streams."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.logger import Logger

from fipsrelay.relay.bridge import Bridge
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.room import Room
from fipsrelay.relay.sockets import BACKLOG
from fipsrelay.relay.welcome import Welcome
from fipsrelay.upstream.reserve import EXHAUSTED
from fipsrelay.wire.streams import Buffers, PlainStream, Stream
from fipsrelay.wire.tls import TlsStream

_ACCEPTS = 100  # at most, before other events have their turn

_log = Logger()


class ProxyFactory(Factory):
    """Builds an exchange (http) or a bridge (tcp) for each agent connection of one intake, in TLS if it has that."""

    noisy = False

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend

    # Factory's own signature promises a Protocol; ours take the stream that IntakePort makes, and nothing else.
    def buildProtocol(self, addr: IAddress | None) -> Any:
        """What serves a new connection."""
        frontend = self.frontend
        served = Bridge(frontend) if frontend.intake.protocol == "tcp" else Exchange(frontend)
        return served if frontend.tls is None else Welcome(frontend, served)

    def stream(self, sock: socket.socket, reactor: Any, buffers: Buffers) -> Stream:
        """The kind of stream that this takes."""
        tls = self.frontend.tls
        return PlainStream(sock, reactor, buffers) if tls is None else TlsStream(sock, reactor, buffers, tls, None)


class IntakePort(Port):
    """A listening socket whose connections are our streams instead of Twisted's transports.

    Attributes:
        buffers: of its streams.
        room: of the process.
    """

    buffers: Buffers
    factory: Any
    room: Room
    _refuses = False

    def startReading(self) -> None:
        """Take connections out of the kernel's queue, unless there is none."""
        if not self._refuses:
            super().startReading()

    def refuse(self) -> None:
        """Refuse connections from now on, but keep the port: as HAProxy's listeners do while they are paused."""
        self._refuses = True
        self.stopReading()
        # With it anybody who also sets it could listen here meanwhile, and read what agents send.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self.socket.shutdown(socket.SHUT_RD)

    def accept(self) -> None:
        """Accept them again, if they are refused.

        Raises:
            OSError: somebody else listens here.
        """
        if not self._refuses:
            return
        # Without it the connections that there are would be in the way.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.listen(BACKLOG)
        self._refuses = False
        if not self.room.is_full:
            self.startReading()

    def doRead(self) -> None:
        """Accept, but never more than there is room for.

        Not Twisted's way, which at the end of the descriptors accepts only to close: what waits in the kernel's queue
        can be served when there is room again.
        """
        for _ in range(_ACCEPTS):
            if not self.room.left or self.disconnecting:
                return
            try:
                sock, _ = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED and not (
                    self._is_wanted() and self.room.exhausted(os.strerror(error.errno))
                ):
                    return
                continue  # that client has gone, or a packet filter has had its say
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._serve(sock)
            except Exception:
                # Raised from here, it would close the port.
                _log.failure("Unexpected error at the beginning of a connection; it is closed")
                sock.close()

    def _serve(self, sock: socket.socket) -> None:
        stream = self.factory.stream(sock, self.reactor, self.buffers)
        connection = self.factory.buildProtocol(None)
        try:
            connection.makeConnection(stream)
        except Exception:
            connection.abort()
            raise

    def _is_wanted(self) -> bool:
        """Whether anybody waits: Linux looks for a descriptor first, and complains before it looks into the queue."""
        queue = select.poll()
        queue.register(self.socket, select.POLLIN)
        return bool(queue.poll(0))


def listen(reactor: Any, sock: socket.socket, factory: ProxyFactory, buffers: Buffers, room: Room) -> IntakePort:
    """Serve an intake on a socket that is bound and listening; the socket is duplicated."""
    port: IntakePort = IntakePort._fromListeningDescriptor(reactor, sock.fileno(), sock.family, factory)
    port.buffers = buffers
    port.room = room
    room.ports.append(port)
    port.startListening()
    return port
