"""slowhttptest's four attacks, 1,000 connections each: a normal client notices nothing, and nothing of them remains."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from fipsrelay.demo.peer import STOP_TIMEOUT
from tests.scenarios.crowd import Client, CrowdStage, Intake
from tests.scenarios.processes import descriptors, memory

CONNECTIONS, RATE = 1000, 400
LONGEST = 40  # seconds; it is ended as soon as everything has been seen
AFTERWARDS = 100  # requests of the client while the whole crowd is there
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
KB = 1024


class Attack:
    """A running slowhttptest.

    Args:
        mode: its option.
        url: what it attacks.
        log: a file for what it says.
    """

    def __init__(self, mode: str, url: str, log: Path) -> None:
        self._log = log
        command = ["slowhttptest", mode, "-u", url, "-c", str(CONNECTIONS), "-r", str(RATE), "-l", str(LONGEST)]
        with log.open("wb") as file:
            # Each connection goes on once a second; it calls the service unavailable after ten.
            self._process = subprocess.Popen([*command, "-i", "1", "-p", "10"], stdout=file, stderr=subprocess.STDOUT)

    def said(self) -> str:
        """Its output so far."""
        return COLOURS.sub("", self._log.read_text())

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def stop(self) -> int:
        """End it, if need be, as Ctrl-C does, and return its exit status."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_TIMEOUT)
        finally:
            self._process.kill()
            self._process.wait()


class SlowHttpTests(CrowdStage):
    """Bounds are twice what was measured, of resident memory a connection."""

    def setUp(self) -> None:
        super().setUp()
        self.intake = Intake()
        # All of the crowd is to be there at the same time, on a slow machine too; and free connections soon gone.
        timeouts = {"request_head": 2 * LONGEST, "body": 2 * LONGEST, "upstream_keep_alive": 1}
        self.relay = self.start_relay(self.start_peer(self.intake.serve).port, timeouts=timeouts)
        self.descriptors_before = descriptors(self.relay)
        self.client = Client(self.http_port)
        self.addCleanup(self.client.stop)
        self.client.check(AFTERWARDS)
        self.memory_before = memory(self.relay)

    def attack(self, mode: str, path: str = "/small") -> Attack:
        attack = Attack(mode, f"http://127.0.0.1:{self.http_port}{path}", self.folder / "slowhttptest.log")
        self.addCleanup(attack.stop)
        return attack

    def hold(self, attack: Attack, bound: int) -> None:
        """What is asked of the relay while the whole crowd is there."""
        self.wait_until(lambda: self.open_connections() > CONNECTIONS, "the crowd")
        self.client.check(AFTERWARDS)
        self.assertGreaterEqual(self.open_connections(), CONNECTIONS)
        self.assertLess(memory(self.relay) - self.memory_before, CONNECTIONS * bound)
        self.assertFalse(attack.ended())

    def end(self, attack: Attack, last_words: str) -> None:
        """What is asked of it when the crowd has gone."""
        self.assertEqual(attack.stop(), 0)
        said = attack.said()
        self.assertIn(last_words, said)
        self.assertRegex(said, r"service available: +YES")  # its own probe, on a further connection
        self.assertNotRegex(said, r"service available: +NO")
        self.client.check(AFTERWARDS)
        self.client.stop()
        self.wait_until(lambda: self.open_connections() == 0, "the relay's connections to be gone")
        self.wait_until(lambda: descriptors(self.relay) == self.descriptors_before, "the descriptors to be back")

    def test_heads(self) -> None:
        """Slowloris: a header line a second."""
        attack = self.attack("-H")
        self.hold(attack, 5 * KB)
        self.end(attack, "Cancelled by user")

    def test_bodies(self) -> None:
        """Each has an upstream connection: bodies are not gathered before they are sent on."""
        attack = self.attack("-B")
        self.hold(attack, 120 * KB)
        self.end(attack, "Cancelled by user")

    def test_answers(self) -> None:
        """Slow reading. What the kernel does not take is held, up to 128 KB."""
        attack = self.attack("-X", "/large")
        self.hold(attack, 256 * KB)
        self.end(attack, "Cancelled by user")

    def test_ranges(self) -> None:
        """Requests with 13 KB of ranges; they are whole, and answered like any other."""
        before = self.intake.ranges
        attack = self.attack("-R")
        self.wait_until(attack.ended, "its end")
        self.assertEqual(self.intake.ranges - before, CONNECTIONS)
        self.assertLess(memory(self.relay) - self.memory_before, 5 * CONNECTIONS * KB)
        self.end(attack, "No open connections left")
