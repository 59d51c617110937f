"""The work of one exchange, counted in calls and not timed: what makes the relay cheap stays so."""

from __future__ import annotations

import json
import os
import signal
import ssl
from collections import Counter
from pathlib import Path

from tests.scenarios.stage import Stage, read_exactly, read_head

HEAD = b"POST /api/v2/series HTTP/1.1\r\nHost: h\r\nDD-API-KEY: k\r\nContent-Length: %d\r\n\r\n"
SMALL, LARGE = 1024, 40_000  # the second is more than a record, and arrives in one read
ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
TIMES = 500
# Calls that touch a socket, for each request. None of epoll's that change what it waits for.
INPUT_OUTPUT = {"recv_into": 1, "send": 1, "SSL_read": 1, "SSL_write": 1, "register": 0, "modify": 0, "unregister": 0}
OTHERS = 0.5  # calls, for each request, of the relay's timers and of the counting


class WorkTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.counts = self.folder / "counts.json"
        peer = self.start_peer(self.answer)
        environ = {"PYTHONPATH": str(Path(__file__).with_name("counted")), "CALL_COUNTS": str(self.counts)}
        self.relay = self.run_relay(self.document(peer.port, probes={"enabled": False}), environ)

    def answer(self, connection: ssl.SSLSocket) -> None:
        while head := read_head(connection):
            read_exactly(connection, int(head.partition(b"Content-Length: ")[2].split()[0]))
            connection.sendall(ANSWER)

    def counted(self) -> Counter[str]:
        """All calls of the relay so far."""
        self.counts.unlink(missing_ok=True)
        os.kill(self.relay.pid, signal.SIGUSR2)
        self.wait_until(self.counts.exists, "the counts")
        return Counter(json.loads(self.counts.read_text()))

    def check(self, port: int, bounds: dict[str, float], size: int = SMALL) -> None:
        """That a request on a connection that is kept, to an upstream connection that is kept, takes no more calls."""
        agent = self.connect(port)
        request = HEAD % size + b"x" * size

        def ask(times: int) -> Counter[str]:
            for _ in range(times):
                agent.sendall(request)
                self.assertEqual(read_head(agent) + read_exactly(agent, 2), ANSWER)
            return self.counted()

        before = ask(50)
        after = ask(TIMES)
        for name, bound in {**INPUT_OUTPUT, **bounds}.items():
            number = (after[name] - before[name]) / TIMES
            self.assertLessEqual(number, bound + OTHERS, f"{name} for each request")
            if bound:
                self.assertGreater(number, OTHERS, f"{name} has another name now")

    def test_http(self) -> None:
        self.check(self.http_port, {"PYTHON": 43, "poll": 3})

    def test_large(self) -> None:
        """The head and the body leave in one call, where the kernel does not pace."""
        self.check(self.http_port, {"PYTHON": 51, "poll": 3, "send": 2, "SSL_write": 2}, LARGE)

    def test_raw_tcp(self) -> None:
        self.check(self.tcp_port, {"PYTHON": 26.5, "poll": 2})
