"""Factories and ports: what serves a connection, and on which kind of stream."""

from __future__ import annotations

import resource
import socket
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.demo.peer import free_ports
from fipsrelay.relay.bridge import Bridge
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.factory import IntakePort, ProxyFactory, listen
from fipsrelay.wire.streams import Buffers, PlainStream
from tests.doubles import Port

NO_CONTEXT: Any = object()


class Gone:
    """A listening socket whose first client has gone before it is accepted.

    Args:
        sock: with the others.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._errors: list[OSError] = [ConnectionAbortedError()]

    def accept(self) -> tuple[socket.socket, Any]:
        if self._errors:
            raise self._errors.pop()
        return self._sock.accept()


class FactoryTests(SynchronousTestCase):
    def test_protocols(self) -> None:
        for protocol, kind in (("http", Exchange), ("tcp", Bridge)):
            self.assertIsInstance(ProxyFactory(Port(protocol).frontend).buildProtocol(None), kind)


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = Port("tcp")
        # Linux gives up a number that it has chosen by itself, when the socket stops listening.
        with socket.create_server(("127.0.0.1", *free_ports(1))) as sock:
            sock.setblocking(False)
            self.address = sock.getsockname()
            self.listening = listen(
                self.port.reactor, sock, ProxyFactory(self.port.frontend), Buffers(16), self.port.room
            )
        self.addCleanup(self.listening.connectionLost, None)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, 10)
        self.addCleanup(sock.close)
        return sock

    def test_connections_are_our_streams(self) -> None:
        self.connect()
        self.port.reactor.run(lambda: self.port.backend.searches)
        stream: Any = self.port.backend.searches[0].caller._agent
        self.addCleanup(stream.abort)
        self.assertIs(type(stream), PlainStream)
        self.assertFalse(stream.socket.getblocking())
        self.assertTrue(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def test_no_more_than_there_is_room_for(self) -> None:
        """A burst in one event of the port, too."""
        self.addCleanup(self.port.frontend.abort)
        for _ in range(12):
            self.connect()
        for _ in range(3):
            self.listening.doRead()
        self.assertEqual((self.port.counters.connections, self.port.room.left), (10, 0))
        self.assertNotIn(self.listening, self.port.reactor.readers)
        self.port.frontend.abort()
        self.assertIn(self.listening, self.port.reactor.readers)
        self.listening.doRead()
        self.assertEqual(self.port.counters.connections, 12)

    def test_no_descriptor_left(self) -> None:
        """What waits is not lost: it is accepted later. Where nothing waits there is no reason to stop."""
        self.addCleanup(self.port.frontend.abort)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for waiting in (False, True):
            if waiting:
                self.connect()
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.listening.socket.fileno(), limits[1]))
            self.listening.doRead()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            self.assertEqual(self.port.counters.connections, 0)
            self.assertEqual(self.listening in self.port.reactor.readers, not waiting)
        self.port.reactor.advance(1)
        self.port.reactor.run(lambda: self.port.counters.connections)

    def test_client_that_has_gone(self) -> None:
        """Others behind it are accepted all the same, whether the kernel still gives it or says what became of it."""
        self.addCleanup(self.port.frontend.abort)
        gone = self.connect()
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        self.connect()
        self.listening.doRead()
        self.assertEqual(self.port.counters.connections, 2)
        self.patch(self.listening, "socket", Gone(self.listening.socket))
        self.connect()
        self.listening.doRead()
        self.assertEqual(self.port.counters.connections, 3)
        self.assertIn(self.listening, self.port.reactor.readers)

    def test_error_of_one_connection(self) -> None:
        """It is closed and logged, and the port goes on."""
        self.addCleanup(self.port.frontend.abort)
        good = self.port.backend.search
        self.port.backend.search = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
        agent = self.connect()
        self.listening.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.port.counters.open_connections, self.port.room.left), (0, 10))
        agent.settimeout(10)
        self.assertRaises(ConnectionResetError, agent.recv, 1)
        self.port.backend.search = good  # type: ignore[method-assign]
        self.connect()
        self.listening.doRead()
        self.assertEqual(self.port.counters.open_connections, 1)

    def test_stream_that_cannot_be_made(self) -> None:
        """As one of TLS for which OpenSSL has no memory."""
        self.addCleanup(self.port.frontend.abort)
        self.port.frontend.tls = NO_CONTEXT
        agent = self.connect()
        self.listening.doRead()
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        agent.settimeout(10)
        self.assertEqual(agent.recv(1), b"")
        self.port.frontend.tls = None
        self.connect()
        self.listening.doRead()
        self.assertEqual(self.port.counters.connections, 1)

    def test_refuse(self) -> None:
        """Also when the room has had enough meanwhile, and no longer has: a port that refuses has nothing to accept."""
        self.addCleanup(self.port.frontend.abort)
        self.listening.refuse()
        self.assertNotIn(self.listening, self.port.reactor.readers)
        self.assertRaises(ConnectionRefusedError, self.connect)
        self.port.room.exhausted("a test")
        self.port.reactor.advance(1)
        self.assertNotIn(self.listening, self.port.reactor.readers)
        self.assertRaises(ConnectionRefusedError, self.connect)
        self.listening.accept()
        self.assertIn(self.listening, self.port.reactor.readers)
        self.connect()
        self.listening.doRead()
        self.assertEqual(self.port.counters.connections, 1)

    def test_accept_again_while_all_places_are_taken(self) -> None:
        """What comes waits in the kernel's queue, until the room says more."""
        self.listening.refuse()
        self.port.room.exhausted("a test")
        self.listening.accept()
        self.connect()
        self.assertNotIn(self.listening, self.port.reactor.readers)
        self.port.reactor.advance(1)
        self.assertIn(self.listening, self.port.reactor.readers)

    def test_is_a_port_of_the_room(self) -> None:
        self.assertEqual(self.port.room.ports, [self.listening])
        self.assertIsInstance(self.listening, IntakePort)
