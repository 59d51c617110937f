"""Raw TCP through the real program: both ways, and every end of a conversation."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import socket
import ssl
from concurrent import futures

from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.stage import TIMEOUT, PlayedPeer, Stage, half_close, read_all, read_exactly, reset_at_close

SIZE = 24_000_000


class BridgeTests(Stage):
    peer: PlayedPeer
    relay: RelayProcess

    def begin(self) -> tuple[socket.socket, ssl.SSLSocket]:
        """A relay, an agent, and the upstream's connection that belongs to it."""
        self.peer = self.start_played_peer()
        self.relay = self.start_relay(self.peer.port)
        return self.connect(self.tcp_port), self.peer.accept()

    def assert_reset(self, agent: socket.socket) -> None:
        with self.assertRaises(ConnectionResetError):
            agent.recv(1)

    def test_half_close_by_the_agent(self) -> None:
        """The upstream speaks first, and goes on when the agent has nothing more to say."""
        agent, upstream = self.begin()
        upstream.sendall(b"greeting")
        self.assertEqual(read_exactly(agent, 8), b"greeting")
        agent.sendall(b"all that there is")
        agent.shutdown(socket.SHUT_WR)
        self.assertEqual(read_all(upstream), b"all that there is")
        for answer in (b"one", b"two"):
            upstream.sendall(answer)
            self.assertEqual(read_exactly(agent, 3), answer)
        half_close(upstream)
        self.assertEqual(agent.recv(1), b"")

    def test_half_close_by_the_upstream(self) -> None:
        agent, upstream = self.begin()
        upstream.sendall(b"all that there is")
        half_close(upstream)
        self.assertEqual(read_all(agent), b"all that there is")
        for word in (b"one", b"two"):
            agent.sendall(word)
            self.assertEqual(read_exactly(upstream, 3), word)
        agent.shutdown(socket.SHUT_WR)
        upstream.unwrap()  # the agent's end has come as a close_notify
        self.assertIn("raw     0", self.page())

    def test_both_ways_at_once(self) -> None:
        """Much in either direction."""
        agent, upstream = self.begin()
        up, down = os.urandom(SIZE), os.urandom(SIZE)

        def play_upstream() -> bytes:
            """In turns, because a TLS connection is not for two threads; the agent's side does both at once."""
            digest = hashlib.sha256()
            for start in range(0, SIZE, 100_000):
                upstream.sendall(down[start : start + 100_000])
                digest.update(read_exactly(upstream, 100_000))
            return digest.digest()

        with futures.ThreadPoolExecutor() as threads:
            sent = threads.submit(agent.sendall, up)
            at_upstream = threads.submit(play_upstream)
            self.assertEqual(hashlib.sha256(read_exactly(agent, SIZE)).digest(), hashlib.sha256(down).digest())
            self.assertEqual(at_upstream.result(TIMEOUT), hashlib.sha256(up).digest())
            sent.result(TIMEOUT)
        self.assertRegex(self.page(), rf"raw +1 +1 +{SIZE} +{SIZE} ")

    def test_idle(self) -> None:
        """Silence within timeouts.tunnel ends nothing, also when it is longer than the timeouts of HTTP."""
        self.peer = self.start_played_peer()
        self.start_relay(
            self.peer.port, timeouts=dict.fromkeys(("body", "answer", "request_head", "agent_keep_alive"), 0.5)
        )
        agent = self.connect(self.tcp_port)
        upstream = self.peer.accept()
        other = self.connect(self.http_port)
        self.assertEqual(other.recv(1), b"")  # closed after the keep-alive of HTTP
        agent.sendall(b"still here")
        self.assertEqual(read_exactly(upstream, 10), b"still here")
        upstream.sendall(b"here, too")
        self.assertEqual(read_exactly(agent, 9), b"here, too")

    def test_silence_for_too_long(self) -> None:
        self.peer = self.start_played_peer()
        self.start_relay(self.peer.port, timeouts={"tunnel": 0.5})
        agent = self.connect(self.tcp_port)
        self.peer.accept()
        self.assert_reset(agent)
        self.assertIn("tunnel-timeout:1", self.page())

    def test_broken_upstream(self) -> None:
        """An agent must not take a broken conversation for one that has ended.

        A TCP end that TLS did not announce may be an attacker's (RFC 8446 §6.1), so it counts as broken, too.
        """
        agent, upstream = self.begin()
        for is_reset in (False, True):
            upstream.sendall(b"half of it")
            self.assertEqual(read_exactly(agent, 10), b"half of it")
            if is_reset:
                reset_at_close(upstream)
            upstream.close()
            self.assert_reset(agent)
            agent, upstream = self.connect(self.tcp_port), self.peer.accept()
        self.assertIn(f":{self.peer.port}) failed at answer: ", self.relay.wait_for("[upstream-closed]"))
        self.assertIn("upstream-closed:2", self.page())

    def test_reset_by_the_agent(self) -> None:
        agent, upstream = self.begin()
        upstream.sendall(b"half of it")
        self.assertEqual(read_exactly(agent, 10), b"half of it")
        reset_at_close(agent)
        agent.close()
        self.assertEqual(select.select([upstream], [], [], TIMEOUT)[0], [upstream])
        self.assertEqual(upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNRESET)

    def test_nobody_listens(self) -> None:
        (nobody,) = self.free_ports(1)
        relay = self.start_relay(nobody)
        for _ in range(2):
            with self.assertRaises(ConnectionResetError):
                self.connect(self.tcp_port).recv(1)  # the reset can be faster than the call that connects
        relay.wait_for("[connect-refused]")
        self.assertIn("connect-refused:2", self.page())
        lines = [line for line in relay.output.splitlines() if "connect-refused" in line]
        self.assertEqual(len(lines), 1)  # the same again within ten seconds is only counted
        self.assertIn(f"raw: upstream peer (127.0.0.1:{nobody}) failed at connect: ", lines[0])
