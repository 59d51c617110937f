"""Factories and ports: what serves a connection, and on which kind of stream."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.bridge import Bridge
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.factory import IntakePort, ProxyFactory, listen
from fipsrelay.wire.streams import PlainStream, ReadBuffer
from tests.doubles import Port


class FactoryTests(SynchronousTestCase):
    def test_protocols(self) -> None:
        for protocol, kind in (("http", Exchange), ("tcp", Bridge)):
            self.assertIsInstance(ProxyFactory(Port(protocol).frontend).buildProtocol(None), kind)


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = Port("tcp")
        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            self.address = sock.getsockname()
            self.listening = listen(
                self.port.reactor, sock, ProxyFactory(self.port.frontend), ReadBuffer(16), self.port.room
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

    def test_is_a_port_of_the_room(self) -> None:
        self.assertEqual(self.port.room.ports, [self.listening])
        self.assertIsInstance(self.listening, IntakePort)
