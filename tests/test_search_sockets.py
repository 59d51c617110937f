"""Searches with real attempts: sockets that refuse, stay silent or come too late, and what is left of them."""

from __future__ import annotations

import socket

from fipsrelay.config.model import Probes
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.search import RETRIES, Search
from tests.searches import STAGGER, Caller
from tests.test_connect import HOST, Attempts
from tests.test_streams import reset

FIRST, SECOND, NOBODY = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class SocketTests(Attempts):
    """Two servers on one port."""

    def setUp(self) -> None:
        super().setUp()
        self.listen(SECOND, self.port)
        self.caller = Caller()

    def search(self, *addresses: str) -> Search:
        means = self.means()
        self.cluster = Cluster(HOST, self.port, addresses, None, means, Probes(enabled=False), lambda: 0.5)
        self.cluster.start()
        search = Search(self.cluster, "up", means, self.caller, RETRIES)
        search.start()
        return search

    def play_until_connected(self) -> None:
        self.play(lambda: self.caller.stream)

    def assert_only(self, address: str) -> None:
        """One connection, to that server, and nothing else: what has been given up is closed and not counted."""
        stream = self.caller.stream
        self.assertEqual(stream.socket.getpeername(), (address, self.port))
        outstanding = {server.place.address: server.outstanding for server in self.cluster.servers}
        self.assertEqual(outstanding.pop(address), 1)
        self.assertEqual(set(outstanding.values()), {0})
        stream.close()
        self.assertEqual([server.outstanding for server in self.cluster.servers], [0] * len(self.cluster.servers))
        for server in self.cluster.servers:
            self.deadlines.forget(server)
        self.assert_nothing_left()
        self.reactor.run(lambda: all(self.has_ended(peer.raw) for peer in self.peers))

    @staticmethod
    def has_ended(raw: socket.socket) -> bool:
        try:
            return not raw.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:  # session tickets were not read
            return True

    def test_refused(self) -> None:
        self.search(NOBODY, FIRST)
        self.play_until_connected()
        self.assertEqual(self.caller.heard, ["retrying connect-refused", "connected"])
        self.assert_only(FIRST)

    def test_handshake_broken_off(self) -> None:
        self.search(FIRST, SECOND)
        self.reactor.run(lambda: self.peers and self.reactor.readers, self.accept)
        reset(self.peers.pop().raw)
        self.play_until_connected()
        self.assertEqual(self.caller.heard, ["retrying tls", "connected"])
        self.assert_only(SECOND)

    def test_silent(self) -> None:
        """Nobody accepts: the other server does, long before the first one's time is up."""
        self.listener.listen(0)
        for _ in range(2):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex((FIRST, self.port))
        self.search(FIRST, SECOND)
        self.reactor.advance(STAGGER)
        self.listeners.remove(self.listener)
        self.play_until_connected()
        self.assertEqual((self.caller.heard, len(self.peers)), (["connected"], 1))
        self.assert_only(SECOND)

    def test_both_at_once(self) -> None:
        """In the same turn of the reactor; the one that is second is given up before it says a word."""
        self.search(FIRST, SECOND)
        self.reactor.advance(STAGGER)
        self.play_until_connected()
        self.reactor.run(lambda: len(self.peers) == 2, self.accept)
        self.assert_only(self.caller.stream.socket.getpeername()[0])

    def test_cancelled_with_both_under_way(self) -> None:
        search = self.search(FIRST, SECOND)
        self.reactor.advance(STAGGER)
        search.cancel()
        self.assertEqual([server.outstanding for server in self.cluster.servers], [0, 0])
        for server in self.cluster.servers:
            self.deadlines.forget(server)
        self.assert_nothing_left()
        self.assertEqual(self.caller.heard, [])
        self.reactor.run(lambda: len(self.peers) == 2, self.accept)
        self.reactor.run(lambda: all(self.has_ended(peer.raw) for peer in self.peers))
