"""Intakes that are killed and come back while payloads are on their way: the books of both sides must agree.

A payload may arrive as often as the agent sent it, and no oftener: a distribution that is counted twice is wrong for
ever. None may be acknowledged that did not arrive. ``LEDGER_PAYLOADS`` in the environment makes the run longer.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tests.scenarios import ledger
from tests.scenarios.stage import HOST, TIMEOUT, Stage

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
PAYLOADS = int(os.environ.get("LEDGER_PAYLOADS", "1000"))
CONNECTIONS = 8
# Of an intake, seconds: one on average, and not in step with the relay, which pauses for one second.
LIVES = (0.5, 1.5)
RETRY_PAUSE = 0.05  # seconds, of an agent that tries again: at once it would only fill the log
SIZES = (200, 700, 3_000, 1_000, 20_000, 300, 200_000, 9_000)
TEMPORARY = (502, 503, 504)


class KeptIntake:
    """A ``ledger`` process that is started again whenever it ends.

    Args:
        words: of its command line.
    """

    def __init__(self, words: Sequence[object]) -> None:
        self._command = [sys.executable, "-I", ledger.__file__, *map(str, words)]
        self._changed = threading.Condition()  # what follows has
        self._stopping = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        return process

    def _keep(self) -> None:
        while True:
            self._process.wait()
            with self._changed:
                for pipe in (self._process.stdin, self._process.stdout):
                    assert pipe is not None
                    pipe.close()
                if self._stopping:
                    return
                self._process = self._start()
                self._changed.notify_all()

    def restart(self) -> None:
        """SIGKILL, and wait until it is back."""
        with self._changed:
            killed = self._process
            killed.kill()
            self._changed.wait_for(lambda: self._process is not killed, TIMEOUT)

    def stop(self) -> None:
        """SIGKILL; it does not come back."""
        with self._changed:
            self._stopping = True
            self._process.kill()
        self._thread.join(TIMEOUT)


class Agent:
    """One connection at a time, which is made again when it broke."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, message: bytes) -> int:
        """The status that it is answered with, or 0 when the connection broke."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), TIMEOUT)
            self._socket.sendall(message)
            with http.client.HTTPResponse(self._socket) as answer:
                answer.begin()
                answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return 0
        if answer.will_close:
            self.close()
        return answer.status

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def request(number: int) -> bytes:
    """A payload as a request; every third one in chunks."""
    body = ledger.payload(number, SIZES[number % len(SIZES)])
    head = f"POST /api/v2/series HTTP/1.1\r\nHost: {HOST}\r\n".encode()
    if number % 3:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = (body[start : start + 30_000] for start in range(0, len(body), 30_000))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def deliver(port: int, numbers: Iterable[int], end: float) -> Counter[int]:
    """Send payloads as the Agent does, each again until it is acknowledged.

    Returns:
        How often each was sent.

    Raises:
        AssertionError: something was answered that the relay must not make up, or the time is up.
    """
    sent: Counter[int] = Counter()
    with contextlib.closing(Agent(port)) as agent:
        for number in numbers:
            message = request(number)
            status = 0
            while status != 202:
                if status and status not in TEMPORARY:
                    raise AssertionError(f"payload {number} was answered with {status}")
                if time.monotonic() > end:
                    raise AssertionError(f"payload {number} was not acknowledged in time")
                if sent[number]:
                    time.sleep(RETRY_PAUSE)
                sent[number] += 1
                status = agent.send(message)
    return sent


class Ledgers(Stage):
    """A relay, and intakes with one ledger for all.

    Attributes:
        upstream_port: of the intakes.
    """

    def setUp(self) -> None:
        super().setUp()
        (self.upstream_port,) = self.free_ports(1)
        self.ledger = self.folder / "ledger"

    def start_intake(self, address: str, *options: object) -> KeptIntake:
        paths: tuple[Path, ...] = (self.paths.certificate, self.paths.key, self.ledger)
        intake = KeptIntake((*paths, address, self.upstream_port, *options))
        self.addCleanup(intake.stop)
        return intake

    def start(self, *addresses: str, **retries: Any) -> None:
        """The relay, which checks the intakes every second."""
        upstream = {"host": HOST, "port": self.upstream_port, "addresses": addresses, "retries": retries}
        probes = {"enabled": True, "interval": 1}
        self.start_relay(self.upstream_port, upstreams={"peer": upstream}, probes=probes)

    def deliver(self, count: int, connections: int, killed: Sequence[KeptIntake] = ()) -> Counter[int]:
        """How often each of ``count`` payloads was sent until it was acknowledged, while intakes are killed in turn."""
        end = time.monotonic() + 60 + count / 20
        with ThreadPoolExecutor(connections) as threads:
            parts = [
                threads.submit(deliver, self.http_port, range(first, count, connections), end)
                for first in range(connections)
            ]
            for intake in itertools.cycle(killed):
                if not wait(parts, random.uniform(*LIVES)).not_done:
                    break
                intake.restart()
        return sum((part.result() for part in parts), Counter())

    def arrived(self) -> Counter[int]:
        """How often each payload stands in the ledger."""
        return Counter(map(int, self.ledger.read_text().split()))


class KilledTests(Ledgers):
    """About every second an intake is killed, and comes back at once."""

    def check(self, *addresses: str) -> None:
        intakes = [self.start_intake(address) for address in addresses]
        self.start(*addresses)
        sent = self.deliver(PAYLOADS, CONNECTIONS, intakes)
        arrived = self.arrived()
        self.assertEqual(set(arrived), set(range(PAYLOADS)))  # all have been acknowledged
        self.assertEqual(arrived - sent, Counter())
        self.assertGreater(sent.total(), PAYLOADS)  # some were on their way when an intake was killed

    def test_one_address(self) -> None:
        self.check(FIRST)

    def test_two_addresses(self) -> None:
        self.check(FIRST, SECOND)


class ReplayTests(Ledgers):
    """Each of two intakes kills itself at every tenth payload, after it has read it and before it answers."""

    def deliver_all(self, **retries: Any) -> Counter[int]:
        """How much oftener payloads arrived than they were sent."""
        for address in (FIRST, SECOND):
            self.start_intake(address, "--deadly", 10)
        self.start(FIRST, SECOND, **retries)
        sent = self.deliver(60, 1)
        arrived = self.arrived()
        self.assertEqual(set(arrived), set(range(60)))
        self.assertGreater(arrived.total(), 60)
        return arrived - sent

    def test_never_by_itself(self) -> None:
        self.assertEqual(self.deliver_all(), Counter())

    def test_when_asked_to(self) -> None:
        """What ``replay`` is for, and what it costs."""
        self.assertNotEqual(self.deliver_all(replay=True), Counter())
