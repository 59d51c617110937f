"""What those see who run it: start, stop, limits, the statistics page."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import time

from fipsrelay.demo.peer import RelayProcess, executable
from tests.scenarios.daemons import daemon
from tests.scenarios.stage import EMPTY, GET, TIMEOUT, PlayedPeer, Stage, read_all, read_head

LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class StopTests(Stage):
    """SIGTERM."""

    peer: PlayedPeer
    relay: RelayProcess

    def start(self, drain: float) -> None:
        self.peer = self.start_played_peer()
        self.relay = self.start_relay(self.peer.port, timeouts={"drain": drain})

    def wait_until_closed(self, port: int) -> None:
        """Nobody listens there any more."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # it was in the queue of a socket that was just being closed
        self.fail(f"port {port} still takes connections")

    def test_idle(self) -> None:
        """Nothing is under way, so nothing is waited for; free connections end in order."""
        self.start(drain=600)
        agent, upstream = self.answered(self.peer)
        self.relay.terminate()
        self.assertEqual(agent.recv(1), b"")
        upstream.unwrap()  # raises unless close_notify has come
        self.assertEqual(self.relay.wait(), 0)

    def test_request_under_way(self) -> None:
        """It is finished, and its agent told that the connection ends; new connections are refused meanwhile."""
        self.start(drain=600)
        idle = self.connect(self.http_port)
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        upstream = self.peer.accept()
        read_head(upstream)
        self.relay.terminate()
        self.assertEqual(idle.recv(1), b"")
        for port in (self.http_port, self.tcp_port):
            self.wait_until_closed(port)
        upstream.sendall(EMPTY)
        self.assertEqual(read_all(agent), LAST)
        self.assertEqual(self.relay.wait(), 0)

    def test_upload_under_way(self) -> None:
        """The rest of a request is taken, too."""
        self.start(drain=600)
        agent = self.connect(self.http_port)
        agent.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nthr")
        upstream = self.peer.accept()
        read_head(upstream)
        self.relay.terminate()
        self.wait_until_closed(self.http_port)
        agent.sendall(b"ee!")
        self.assertEqual(upstream.recv(3) + upstream.recv(3), b"three!")
        upstream.sendall(EMPTY)
        self.assertEqual(read_all(agent), LAST)
        self.assertEqual(self.relay.wait(), 0)

    def test_what_never_ends(self) -> None:
        """It is cut when the time is up, and looks cut; that is no failure of the relay."""
        self.start(drain=1)
        agents = [self.connect(self.http_port), self.connect(self.tcp_port)]
        for agent in agents:
            agent.sendall(GET)
        for _ in agents:
            read_head(self.peer.accept())
        self.relay.terminate()
        for agent in agents:
            with self.assertRaises(ConnectionResetError):
                agent.recv(1)
        self.assertEqual(self.relay.wait(), 0)
        for name in ("web", "raw"):
            self.assertIn(f"{name}: 1 connections cut", self.relay.output)


class StartTests(Stage):
    """``twistd fipsrelay``, in the foreground and as a daemon."""

    def twistd(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it up to its exit, which for a daemon is its parent's."""
        command = [str(executable("twistd")), *words]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    def both(self, config: str) -> list[subprocess.CompletedProcess[str]]:
        """A start that fails, in the foreground and as a daemon: both fail before the fork."""
        ways = ("-n", "--pidfile="), ("--pidfile=relay.pid", "--logfile=relay.log")
        done = [self.twistd(*way, "fipsrelay", "-c", config) for way in ways]
        self.assertFalse((self.folder / "relay.pid").exists())
        return done

    def test_taken_ports(self) -> None:
        """All are named at once, in the words that operators of the Agent's FIPS proxy search for."""
        config = str(self.write_config(self.document(1)))
        ports = {"statistics": self.page_port, "web": self.http_port, "raw": self.tcp_port}
        with contextlib.ExitStack() as held:
            for port in ports.values():
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            for done in self.both(config):
                self.assertEqual(done.returncode, 4, done.stderr)
                for name, port in ports.items():
                    words = f"{name}: cannot bind socket (Address already in use) [127.0.0.1:{port}]\n"
                    self.assertEqual(done.stderr.count(words), 1, done.stderr)
                self.assertEqual(done.stderr.count("\n"), len(ports), done.stderr)

    def test_one_taken_port(self) -> None:
        """The others are free again at once."""
        config = str(self.write_config(self.document(1)))
        with socket.create_server(("127.0.0.1", self.http_port)):
            for done in self.both(config):
                self.assertEqual(done.returncode, 4)
                self.assertEqual(done.stderr.count("cannot bind socket"), 1)
        for port in (self.page_port, self.tcp_port):
            socket.create_server(("127.0.0.1", port)).close()

    def test_wrong_configuration(self) -> None:
        """Every problem at once."""
        document = self.document(1)
        document["nonsense"] = 1
        document["intakes"]["web"]["upstream"] = "nobody"
        document["upstreams"]["elsewhere"] = {"host": "intake.example.com"}
        for done in self.both(str(self.write_config(document))):
            self.assertEqual(done.returncode, 2, done.stderr)
            for words in ("nonsense", "intakes.web.upstream", "upstreams.elsewhere.host"):
                self.assertIn(words, done.stderr)

    def test_daemon(self) -> None:
        """Started in another folder, with a name relative to that one."""
        peer = self.start_played_peer()
        config = self.write_config(self.document(peer.port))
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        with daemon(elsewhere, os.path.join("..", config.name)):
            self.answered(peer)
        self.assertIn("fipsrelay is ready: 2 intakes", (elsewhere / "relay.log").read_text())


class RunTests(Stage):
    def exchange(self, agent: socket.socket) -> None:
        """One request over the upstream connection that is there."""
        agent.sendall(GET)
        read_head(self.upstream)
        self.upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)

    def begin(self) -> socket.socket:
        """A relay, and an agent that has had its first answer."""
        self.peer = self.start_played_peer()
        self.start_relay(self.peer.port)
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        self.upstream = self.peer.accept()
        read_head(self.upstream)
        self.upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)
        return agent

    def counts(self, name: str) -> list[str]:
        """An intake's row without its times."""
        columns = self.row(name)
        return columns[:4] + columns[7:]

    def test_statistics(self) -> None:
        agent = self.begin()
        size = [str(len(GET)), str(len(EMPTY))]
        self.assertEqual(self.counts("web"), ["1", "1", *size, "200:1", "-", "-"])
        self.assertEqual(self.counts("raw"), ["0", "0", "0", "0", "-", "-", "-"])
        self.exchange(agent)
        bad = self.connect(self.http_port)
        bad.sendall(b"nonsense\r\n\r\n")
        refusal = read_all(bad)
        self.assertEqual(refusal[:13], b"HTTP/1.1 400 ")
        bad.close()
        size = [str(2 * len(GET) + len(b"nonsense\r\n\r\n")), str(2 * len(EMPTY) + len(refusal))]
        self.assertEqual(self.counts("web"), ["1", "2", *size, "200:2 400:1", "bad-head:1", "-"])
        agent.shutdown(socket.SHUT_WR)
        self.assertEqual(agent.recv(1), b"")
        self.assertEqual(self.row("web")[:2], ["0", "2"])
        raw = self.connect(self.tcp_port)
        raw.sendall(b"abc")
        self.assertEqual(self.peer.accept().recv(3), b"abc")
        self.assertEqual(self.counts("raw"), ["1", "1", "3", "0", "-", "-", "-"])

    def test_looks_at_the_page_are_not_logged(self) -> None:
        relay = self.start_relay(self.start_played_peer().port)
        self.page()
        relay.terminate()
        self.assertEqual(relay.wait(), 0)
        self.assertNotIn("GET /", relay.output)

    def test_limit_of_connections(self) -> None:
        """Those above it wait in the kernel's queue until one ends; the statistics page does not count."""
        relay = self.start_relay(self.start_peer(answer_all).port, limits={"connections": 3})
        with self.stopped(relay):  # the relay must not accept what it finds in its queue without counting
            agents = [self.connect(self.http_port) for _ in range(8)]
            for agent in agents:
                agent.sendall(GET)
            raw = self.connect(self.tcp_port)
            raw.sendall(GET)
        served, waiting = agents[:3], agents[3:]
        for agent in served:
            self.assertEqual(read_head(agent), EMPTY)
        self.assertEqual((self.row("web")[:2], self.row("raw")[:2]), (["3", "3"], ["0", "0"]))
        served[0].sendall(GET)
        self.assertEqual(read_head(served[0]), EMPTY)
        for number, agent in enumerate(waiting, 1):
            served.pop(0).close()
            self.assertEqual(read_head(agent), EMPTY)
            served.append(agent)
            self.assertEqual(self.row("web")[:2], ["3", str(3 + number)])
        served.pop(0).close()
        self.assertEqual(read_head(raw), EMPTY)
        self.assertEqual((self.row("web")[:2], self.row("raw")[:2]), (["2", "8"], ["1", "1"]))


def answer_all(connection: ssl.SSLSocket) -> None:
    """Answer every request."""
    while read_head(connection):
        connection.sendall(EMPTY)
