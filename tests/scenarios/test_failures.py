"""Upstreams that are not there, and sides that stand still: which answer the agent gets, and that it gets all of it."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.intakes import full_listener, silent_listener
from tests.scenarios.stage import HOST, Stage, read_all, read_exactly, read_head

GET = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode()
POST = b"POST / HTTP/1.1\r\nHost: %b\r\n" % HOST.encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
LINE = re.compile(r"upstream (\S+) \((\S+)\) failed at (\w+): [^\n]+\n|request refused: [^\n]+\n")
# Long enough for a busy machine to do what is not meant to be late; those that wait do so at the same time.
SHORT = 2


class Failures(Stage):
    """A relay with an intake, http and tcp, for each upstream of the test's making, and the default ones.

    Attributes:
        ports: by upstream, of its http intake.
        raw_ports: by upstream, of its tcp intake.
    """

    def start(self, upstreams: Mapping[str, Mapping[str, Any]], port: int = 9, **sections: Any) -> RelayProcess:
        """The relay; ``port`` is the default upstream's."""
        ports = self.free_ports(2 * len(upstreams))
        self.ports = dict(zip(upstreams, ports[::2], strict=True))
        self.raw_ports = dict(zip(upstreams, ports[1::2], strict=True))
        intakes: dict[str, Any] = {}
        for name in upstreams:
            intakes[name] = {"port": self.ports[name], "upstream": name}
            intakes[f"{name}-raw"] = {"port": self.raw_ports[name], "upstream": name, "protocol": "tcp"}
        defaults = {"host": HOST, "addresses": ["127.0.0.1"]}
        filled = {name: {**defaults, **upstream} for name, upstream in upstreams.items()}
        return self.start_relay(port, upstreams=filled, intakes=intakes, **sections)

    def ask(self, request: bytes, port: int = 0) -> socket.socket:
        """An agent that has sent a request."""
        agent = self.connect(port or self.http_port)
        agent.sendall(request)
        return agent

    def refusal(self, agent: socket.socket) -> str:
        """An error answer as it has to be, as ``STATUS CODE UPSTREAM ADDRESS STEP``."""
        with http.client.HTTPResponse(agent) as answer:
            answer.begin()
            code = f"{answer.status} {answer.headers['Fipsrelay-Error']}"
            self.assertEqual(answer.headers["Content-Type"], "text/plain", code)
            text = answer.read().decode()
        self.assertLess(len(text), 500, code)
        match = LINE.fullmatch(text)
        assert match is not None, text
        return " ".join((code, *(word for word in match.groups() if word)))

    def assert_reset(self, agent: socket.socket) -> None:
        self.assertRaises(ConnectionResetError, read_all, agent)

    def read_raw(self, name: str) -> bytes:
        """Connect by raw TCP; a reset can come as fast as the connection."""
        return read_all(self.connect(self.raw_ports[name]))


class UpstreamTests(Failures):
    """Nobody there."""

    def test_refused(self) -> None:
        [port] = self.free_ports(1)
        relay = self.start({"gone": {"port": port}})
        wanted = f"503 connect-refused gone 127.0.0.1:{port} connect"
        agent = self.ask(GET, self.ports["gone"])
        self.assertEqual(self.refusal(agent), wanted)
        # The request was complete, so its connection can carry the next one.
        agent.sendall(POST + b"Content-Length: 5\r\n\r\nhello")
        self.assertEqual(self.refusal(agent), wanted)
        agent.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        self.assertEqual(self.refusal(agent), wanted)
        agent.sendall(GET.replace(b"GET", b"HEAD"))
        self.assertIn(
            b"\r\nFipsrelay-Error: connect-refused\r\n", read_head(agent)
        )  # and no body before the next answer
        agent.sendall(GET)
        self.assertEqual(self.refusal(agent), wanted)
        self.assertRaises(ConnectionResetError, self.read_raw, "gone")
        relay.wait_for("gone-raw: upstream gone")
        self.assertIn("connect-refused:5", self.page())

    def test_number(self) -> None:
        """Of a failed request, in its answer and in the log; each has its own."""
        [port] = self.free_ports(1)
        relay = self.start({"gone": {"port": port}})
        numbers = []
        for request in (GET, b"nonsense\r\n\r\n"):
            with http.client.HTTPResponse(self.ask(request, self.ports["gone"])) as answer:
                answer.begin()
                numbers.append(answer.headers["Fipsrelay-Request"])
        self.assertRegex(" ".join(numbers), rf"^([0-9a-f]{{8}}-{self.ports['gone']})-1 \1-2$")
        relay.wait_for(f"[connect-refused] request {numbers[0]}")
        relay.wait_for(f"[bad-head] request {numbers[1]}")

    def test_large_body(self) -> None:
        """The agent gets all of the answer although it is still sending, whatever the framing."""
        [port] = self.free_ports(1)
        self.start({"gone": {"port": port}})
        data = bytes(1 << 20)
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        for framing, piece in ((b"Transfer-Encoding: chunked", chunk), (b"Content-Length: 20971520", data)):
            agent = self.ask(POST + framing + b"\r\n\r\n", self.ports["gone"])
            for _ in range(20):
                agent.sendall(piece)
            self.assertEqual(self.refusal(agent), f"503 connect-refused gone 127.0.0.1:{port} connect")
            self.assertEqual(agent.recv(1), b"")

    def test_no_such_name(self) -> None:
        """Whether the resolver says so, or says nothing."""
        nowhere = {"host": "nowhere.invalid", "port": 443, "addresses": [], "outside_site": True}
        self.start({"nowhere": nowhere}, timeouts={"connect": SHORT})
        agent = self.ask(GET, self.ports["nowhere"])
        self.assertEqual(self.refusal(agent), "503 resolve nowhere nowhere.invalid:443 resolve")
        self.assertRaises(ConnectionResetError, self.read_raw, "nowhere")

    def test_next_address(self) -> None:
        """An address that cannot be used is no reason to fail while there is another."""
        peer = self.start_played_peer()
        with socket.create_server(("127.0.0.4", peer.port)):  # connects, and says nothing
            addresses = {"refused": "127.0.0.3", "silent": "127.0.0.4"}
            upstreams = {
                name: {"port": peer.port, "addresses": [address, "127.0.0.1"]} for name, address in addresses.items()
            }
            [port] = self.free_ports(1)
            upstreams["none"] = {"port": port, "addresses": ["127.0.0.3", "127.0.0.2"]}
            self.start(upstreams, timeouts={"handshake": SHORT})
            for name in addresses:
                agent = self.ask(GET, self.ports[name])
                upstream = peer.accept()
                self.assertTrue(read_head(upstream), name)
                upstream.sendall(OK)
                self.assertEqual(read_exactly(agent, len(OK)), OK, name)
            agent = self.ask(GET, self.ports["none"])
            self.assertRegex(self.refusal(agent), rf"^503 connect-refused none 127\.0\.0\.[23]:{port} connect$")


class SlowUpstreamTests(Failures):
    """All of them wait at the same time."""

    def test_before_the_request(self) -> None:
        full, silent = (make(self.addCleanup).getsockname()[1] for make in (full_listener, silent_listener))
        limits = {"connect": SHORT, "handshake": SHORT}
        self.start({"full": {"port": full}, "silent": {"port": silent}}, timeouts=limits)
        agents = [self.ask(GET, self.ports[name]) for name in self.ports]
        raw_agents = [self.connect(port) for port in self.raw_ports.values()]
        agents.append(self.ask(POST + b"Content-Length: 20971520\r\n\r\n", self.ports["silent"]))
        agents[-1].sendall(bytes(20971520))  # blocks until the relay has given up, and takes the rest
        not_up, mute = f"full 127.0.0.1:{full} connect", f"silent 127.0.0.1:{silent} handshake"
        self.assertEqual(
            [self.refusal(agent) for agent in agents],
            [f"503 connect-timeout {not_up}", f"502 tls-timeout {mute}", f"502 tls-timeout {mute}"],
        )
        for agent in raw_agents:
            self.assert_reset(agent)

    def test_after_the_request(self) -> None:
        peer = self.start_played_peer()
        self.start({}, peer.port, timeouts={"answer": SHORT, "body": SHORT})
        upstreams = []

        def ask(request: bytes) -> socket.socket:
            agent = self.ask(request)
            upstreams.append(peer.accept())
            read_head(upstreams[-1])
            return agent

        mute = ask(GET)
        half_a_head = ask(GET)
        upstreams[-1].sendall(OK[:20])
        half_an_answer = ask(GET)
        upstreams[-1].sendall(OK[:-1])
        not_reading = ask(POST + b"Content-Length: 20971520\r\n\r\n")
        not_reading.sendall(bytes(20971520))  # blocks until the relay has given up, and takes the rest
        wanted = f"504 answer-timeout peer 127.0.0.1:{peer.port} answer"
        for agent in (mute, half_a_head, not_reading):
            self.assertEqual(self.refusal(agent), wanted)
        self.assertEqual(not_reading.recv(1), b"")
        self.assert_reset(half_an_answer)
        for upstream in upstreams:
            self.assertRaises(OSError, self.exhaust, upstream)  # none of them is used again
        mute.sendall(GET)
        upstream = peer.accept()
        read_head(upstream)
        upstream.sendall(OK)
        self.assertEqual(read_exactly(mute, len(OK)), OK)

    def exhaust(self, upstream: ssl.SSLSocket) -> None:
        """Raises when the other side ends without close_notify."""
        upstream.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        read_all(upstream)


class SlowAgentTests(Failures):
    """All of them wait at the same time."""

    def test_all(self) -> None:
        peer = self.start_played_peer()
        limits = {"request_head": SHORT, "body": SHORT, "agent_keep_alive": SHORT}
        relay = self.start({}, peer.port, timeouts=limits)
        idle = self.connect(self.http_port)
        half_a_head = self.ask(GET[:-2])
        half_a_body = self.ask(POST + b"Content-Length: 10\r\n\r\nhello")
        cut = peer.accept()
        not_reading = self.ask(GET)
        endless = peer.accept()
        trickling = self.trickle()
        read_head(endless)
        endless.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with self.assertRaises(OSError):
            for _ in range(10_000):  # 650 MB, more than any buffer
                endless.sendall(bytes(65536))
        self.assertEqual(self.refusal(half_a_head), "408 head-timeout")
        self.assertEqual(self.refusal(trickling), "408 head-timeout")
        self.assertEqual(self.refusal(half_a_body), "408 body-timeout")
        for agent in (half_a_head, trickling, half_a_body, idle):
            self.assertEqual(agent.recv(1), b"")
        self.assert_reset(not_reading)
        read_head(cut)
        self.assertEqual(read_exactly(cut, 10), b"hello")
        relay.wait_for("[head-timeout]")
        page = self.page()
        for words in ("agent-timeout:1", "body-timeout:1", "head-timeout:2"):
            self.assertIn(words, page)

    def trickle(self) -> socket.socket:
        """An agent that sends its head byte by byte, and never gets to its end: no byte gives it more time."""
        agent = self.connect(self.http_port)
        limit = agent.gettimeout()
        agent.settimeout(0.1)
        for byte in POST + b"X: " + bytes(1000).replace(b"\0", b"x"):
            agent.sendall(bytes([byte]))
            try:
                agent.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                continue
        agent.settimeout(limit)
        return agent

    def test_idle_upstream(self) -> None:
        """A free connection is closed in order when its time is over."""
        peer = self.start_played_peer()
        self.start({}, peer.port, timeouts={"upstream_keep_alive": SHORT})
        agent = self.ask(GET)
        upstream = peer.accept()
        read_head(upstream)
        upstream.sendall(OK)
        self.assertEqual(read_exactly(agent, len(OK)), OK)
        upstream.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        self.assertEqual(upstream.recv(1), b"")
