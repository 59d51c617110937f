"""Descriptors run out: whoever cannot be served yet waits, what is idle gives way, and nothing leaks."""

from __future__ import annotations

import os
import re
import resource
import socket
import ssl

from tests.scenarios.processes import descriptors
from tests.scenarios.stage import TIMEOUT, Stage, read_all, read_exactly, read_head

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_GET = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LAST_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


def answer_all(connection: ssl.SSLSocket) -> None:
    """Answer every request; those with a body have five bytes."""
    while head := read_head(connection):
        if head.startswith(b"POST"):
            read_exactly(connection, 5)
        connection.sendall(OK)


class FewTests(Stage):
    """``ulimit -n 64``."""

    def start(self) -> int:
        """The relay with room for the few connections that this allows; returns how many these are."""
        self.peer = self.start_peer(answer_all)
        document = self.document(self.peer.port, timeouts={"upstream_keep_alive": 1})
        self.relay = self.run_relay(document, prefix=["prlimit", "--nofile=64", "--"])
        self.before = descriptors(self.relay)
        said = self.relay.wait_for("There is room for")
        self.assertIn("the process may open only 64 files", said)
        match = re.search(r"room for (\d+) connections, not for 4096 \(limits.connections\)", said)
        assert match is not None, said
        places = int(match[1])
        self.assertTrue(4 <= places <= 24, places)
        return places

    def busy(self, count: int) -> list[socket.socket]:
        """Agents in the middle of a request."""
        agents = [self.connect(self.http_port) for _ in range(count)]
        for agent in agents:
            agent.sendall(POST + b"hel")
        return agents

    def finish(self, agent: socket.socket) -> None:
        agent.sendall(b"lo")
        self.assertEqual(read_exactly(agent, len(OK)), OK)

    def assert_nothing_leaks(self) -> None:
        self.wait_until(lambda: descriptors(self.relay) <= self.before, "descriptors to be closed")

    def test_many_at_once(self) -> None:
        """Far more than there is room for, each with a request: all are answered, in the end."""
        self.start()
        agents = [self.connect(self.http_port) for _ in range(200)]
        for agent in agents:
            agent.sendall(LAST_GET)
        for agent in agents:
            self.assertEqual(read_all(agent), LAST_OK)
            agent.close()
        self.assert_nothing_leaks()
        self.assertIn("200:200 ", self.page())

    def test_full(self) -> None:
        """Whoever comes then waits until somebody has gone, and operators can read why."""
        places = self.start()
        first, *others = self.busy(places)
        self.relay.wait_for(f"all {places} connections are taken (limits.connections): no more until one ends")
        waiting = self.connect(self.http_port)
        waiting.sendall(LAST_GET)
        self.finish(others[0])  # the relay goes on, without those that wait
        self.finish(first)
        first.close()
        self.assertEqual(read_all(waiting), LAST_OK)
        self.relay.wait_for("Connections are accepted again")
        for agent in others[1:]:
            self.finish(agent)
        for agent in others:
            agent.close()
        self.assert_nothing_leaks()

    def test_idle_ones_give_way(self) -> None:
        """Agents keep connections that they do not need: they cannot keep others out."""
        places = self.start()
        idle = self.busy(places)
        for agent in idle:
            self.finish(agent)
        agent = self.connect(self.http_port)
        agent.sendall(LAST_GET)
        self.assertEqual(read_all(agent), LAST_OK)
        said = self.relay.wait_for(f"all {places} connections are taken: those that were idle longest are closed")
        self.assertNotIn("limits.connections", said)
        self.assertEqual(idle[0].recv(1), b"")
        for agent in idle:
            agent.close()
        self.assert_nothing_leaks()


class NoneTests(Stage):
    """None left at all, although there should be: the limit is lowered while the relay runs."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_peer(answer_all)
        self.relay = self.start_relay(self.peer.port)
        self.limits = resource.prlimit(self.relay.pid, resource.RLIMIT_NOFILE)

    def leave(self, count: int) -> None:
        """Let the relay open so many more."""
        opened = {int(name) for name in os.listdir(f"/proc/{self.relay.pid}/fd")}
        free = (number for number in range(4096) if number not in opened)
        lowest = [next(free) for _ in range(count + 1)]
        resource.prlimit(self.relay.pid, resource.RLIMIT_NOFILE, (lowest[-1], self.limits[1]))

    def test_accepting(self) -> None:
        """Nobody is turned away: who waits is accepted when that can be done again."""
        self.leave(0)
        agents = [self.connect(self.http_port) for _ in range(3)]
        for agent in agents:
            agent.sendall(LAST_GET)
        said = "no connection can be accepted (Too many open files): raise LimitNOFILE, or what ulimit -n says"
        self.relay.wait_for(said)
        resource.prlimit(self.relay.pid, resource.RLIMIT_NOFILE, self.limits)
        for agent in agents:
            self.assertEqual(read_all(agent), LAST_OK)
        self.relay.wait_for("Connections are accepted again")
        self.assertEqual(self.relay.output.count(said), 1)

    def test_upstreams(self) -> None:
        """The agent is told, and the server not blamed: the next request is served."""
        before = descriptors(self.relay)
        agent = self.connect(self.http_port)
        self.wait_until(lambda: descriptors(self.relay) > before, "the agent to be accepted")
        self.leave(0)
        agent.sendall(GET)
        head = read_head(agent)
        self.assertEqual(head[:13], b"HTTP/1.1 503 ")
        self.assertIn(b"\r\nFipsrelay-Error: local\r\n", head)
        text = agent.recv(65536)
        self.assertIn(b"Too many open files", text)
        resource.prlimit(self.relay.pid, resource.RLIMIT_NOFILE, self.limits)
        agent.sendall(GET)
        self.assertEqual(read_exactly(agent, len(OK)), OK)
        self.assertNotIn(" is DOWN", self.relay.output)

    def test_free_connections_give_way(self) -> None:
        """They are closed for others: for agents, and for upstreams."""
        agents = [self.connect(self.http_port) for _ in range(3)]
        for agent in agents:
            agent.sendall(POST)
        self.wait_until(lambda: self.peer.accepted == 3, "three upstream connections")
        for agent in agents:
            agent.sendall(b"hello")
            self.assertEqual(read_exactly(agent, len(OK)), OK)
        self.leave(0)
        more = self.connect(self.http_port)
        more.settimeout(TIMEOUT)
        more.sendall(GET)
        self.assertEqual(read_exactly(more, len(OK)), OK)
        raw = self.connect(self.tcp_port)  # takes the places of the two that are left
        raw.sendall(GET)
        self.assertEqual(read_exactly(raw, len(OK)), OK)
        self.assertNotIn("no connection can be accepted", self.relay.output)
