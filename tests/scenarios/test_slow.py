"""Clients that are slow or never stop, each kind by itself: what they get, and that their cost in memory is bounded.

Those that simply stand still are in ``test_failures``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable

from tests.scenarios.crowd import Client, CrowdStage, Intake
from tests.scenarios.processes import memory
from tests.scenarios.stage import HOST, TIMEOUT, read_all, read_exactly, read_head

START = b"POST /small HTTP/1.1\r\nHost: %b\r\n" % HOST.encode()
LENGTH, CHUNKED = START + b"Content-Length: %d\r\n\r\n", START + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
SHORT = 2  # seconds: long enough for a busy machine to do what is not meant to be late
DRIP = 0.25
ENDLESS = 32 << 20  # bytes; the relay could go on for ever
GROWTH = 8 << 20  # what a client may cost at most, whatever it does
IDLE, IDLE_SIZE = 2000, 5000  # connections, and bytes of each: twice what was measured
REQUESTS = 50

# What begins a message, what then comes without end, and the answer.
WITHOUT_END = {
    "target": (b"GET /", b"x", "431 head-too-large"),
    "header line": (START + b"X: ", b"x", "431 head-too-large"),
    "header lines": (START, b"X: 1\r\n", "431 head-too-large"),
    "empty lines": (b"", b"\r\n", "400 bad-head"),
    "chunk size": (CHUNKED, b"0", "400 bad-chunk"),
    "chunk extension": (CHUNKED + b"1;", b"x", "400 bad-chunk"),
    "chunk extensions": (CHUNKED + b"1", b";x=y", "400 bad-chunk"),
    "trailer line": (CHUNKED + b"0\r\nX: ", b"x", "400 bad-chunk"),
    "trailers": (CHUNKED + b"0\r\n", b"X: 1\r\n", "431 head-too-large"),
    "garbage after a request": (LENGTH % 2 + b"hi", b"\0\r\n\r\n", "400 bad-head"),
}


class SlowTests(CrowdStage):
    def start(self, serve: Callable[[ssl.SSLSocket], None] | None = None, **timeouts: float) -> None:
        """The relay, with an intake if not something else behind it; memory is counted from now on."""
        self.intake = Intake()
        self.relay = self.start_relay(self.start_peer(serve or self.intake.serve).port, timeouts=timeouts)
        self.before = memory(self.relay, "VmHWM")

    def assert_bounded(self) -> None:
        self.assertLess(memory(self.relay, "VmHWM") - self.before, GROWTH)

    def narrow(self) -> socket.socket:
        """An agent's connection that takes little before it is read."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.settimeout(TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.http_port))
        return sock

    def test_dripping_bodies(self) -> None:
        """Each byte gives a body more time, in either framing; one that comes too late does not."""
        self.start(body=SHORT)
        pieces = [b"%x" % (number % 16) for number in range(int(2.5 * SHORT / DRIP))]
        by_length, in_chunks, too_slow = (self.connect(self.http_port) for _ in range(3))
        by_length.sendall(LENGTH % len(pieces))
        in_chunks.sendall(CHUNKED)
        too_slow.sendall(LENGTH % 2 + b"h")
        for piece in pieces:
            time.sleep(DRIP)
            by_length.sendall(piece)
            in_chunks.sendall(b"1\r\n%b\r\n" % piece)
        in_chunks.sendall(b"0\r\n\r\n")
        answer = OK % len(pieces) + b"".join(pieces)
        for agent in (by_length, in_chunks):
            self.assertEqual(read_exactly(agent, len(answer)), answer)
        self.assertIn(b" 408 ", read_all(too_slow)[:16])
        self.assertEqual(self.intake.requests, 2)
        self.assertIn("200:2 408:1", self.page())

    def test_without_end(self) -> None:
        """The answer comes although the agent goes on sending, and nothing of it is kept."""
        self.start()
        for what, (start, more, wanted) in WITHOUT_END.items():
            agent = self.connect(self.http_port)
            agent.sendall(start)
            piece = more * (65536 // len(more))
            for _ in range(ENDLESS // len(piece)):
                agent.sendall(piece)
            answers = read_all(agent)
            status, code = wanted.split()
            self.assertEqual(answers.count(b"HTTP/1.1 200 OK"), what == "garbage after a request", what)
            self.assertEqual(answers.count(b"HTTP/1.1 "), 1 + answers.count(b"HTTP/1.1 200 "), what)
            refusal = answers[answers.rindex(b"HTTP/1.1 ") :]
            self.assertRegex(refusal, rf"^HTTP/1\.1 {status} [^~]*\r\nFipsrelay-Error: {code}\r\n".encode(), what)
            agent.close()
            self.assert_bounded()
        self.assertEqual(self.intake.requests, 1)
        self.wait_until(lambda: self.open_connections() == 0, "the relay's connections to be gone")

    def test_tiny_chunks(self) -> None:
        """All of it arrives, for a fraction of what a list of so many pieces would take."""
        self.start()
        data = os.urandom(50_000)
        agent = self.connect(self.http_port)
        agent.sendall(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n")
        answer = OK % len(data) + data
        self.assertEqual(read_exactly(agent, len(answer)), answer)
        self.assert_bounded()

    def test_pipeline_that_is_not_read(self) -> None:
        """No further requests are taken from an agent that does not take its answers; in the end it is cut."""
        self.start(body=SHORT)
        agent = self.narrow()
        request = LENGTH % 1024 + bytes(1024)
        with self.assertRaises(OSError):
            for _ in range(ENDLESS // len(request)):  # more than any buffer
                agent.sendall(request)
        self.assertIn("agent-timeout:1", self.page())
        self.assert_bounded()

    def test_interim_answers_that_are_not_read(self) -> None:
        """The upstream is paused whatever it sends; the agent that does not read is cut, and the upstream with it."""
        flooded = threading.Event()

        def flood(connection: ssl.SSLSocket) -> None:
            read_head(connection)
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4096)
            flooded.set()

        self.start(flood, body=SHORT)
        agent = self.narrow()
        agent.sendall(LENGTH % 0)
        self.assertTrue(flooded.wait(TIMEOUT))
        self.assertRaises(ConnectionResetError, read_all, agent)
        self.assertIn("agent-timeout:1", self.page())
        self.assert_bounded()

    def test_idle(self) -> None:
        """A client is served beside them as if they were not there, and they end when their time is over."""
        self.start(agent_keep_alive=5)
        client = Client(self.http_port)
        self.addCleanup(client.stop)
        client.check(REQUESTS)
        before = memory(self.relay)
        idle = [self.connect(self.http_port) for _ in range(IDLE)]
        self.wait_until(lambda: self.open_connections() > IDLE, "the idle connections")
        client.check(REQUESTS)
        self.assertLess(memory(self.relay) - before, IDLE * IDLE_SIZE)
        self.assertEqual([sock for sock in idle if sock.recv(1)], [])
        client.check(REQUESTS)
        client.stop()
        self.wait_until(lambda: self.open_connections() == 0, "the relay's connections to be gone")
