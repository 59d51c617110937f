"""Mixed traffic with random faults of clients and intake, for as long as one wants: no byte is lost, altered or
delivered to somebody else, and nothing is left behind.

``SOAK_SECONDS`` in the environment sets the time, ``SOAK_SEED`` draws again what a run has drawn.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter

from tests.scenarios.clients import LATE, Client, RawClient, Traffic
from tests.scenarios.plays import CUTS, Mix
from tests.scenarios.processes import descriptors, memory
from tests.scenarios.traffic import ANSWERED

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
# What is rare has to happen for the first time: the memory of any Python process grows until it has.
WARM_UP = min(120.0, SECONDS / 2)
GROWTH = 5 << 20
HTTP_CLIENTS, RAW_CLIENTS = 20, 6
MIX = Mix(
    sizes=(0, 100, 1000, 1000, 5000, 5000, 20_000, 200_000, 3_000_000),
    client_faults=0.1,
    faults=(*CUTS * 5, *("head", "chunk", "stray") * 2, "stall"),
    fault_rate=0.05,
    ends=("keep",) * 17 + ("close", "leave", "late"),
    slow=0.05,
)
# When the relay gives up an intake that stalls, and a connection that nobody uses.
TIMEOUTS = {"answer": 5, "body": 5, "upstream_keep_alive": 1}
PRESENCE, ABSENCE = (2.0, 20.0), (0.0, 0.5)  # seconds of the intake, from and to
# How long after the intake is back an answer may still say that it was away: the relay tries again after a second.
AFTERMATH = 4.0


class Absences:
    """The intake refuses connections, or breaks them off, for a moment now and then.

    Args:
        traffic: whose intake.
        rng: when, and how long.
    """

    def __init__(self, traffic: Traffic, rng: random.Random) -> None:
        self._tell = traffic.intake.tell
        self._rng = rng
        self._felt_until = -math.inf
        self._next = time.monotonic() + PRESENCE[0]

    def felt(self, began: float) -> bool:
        """Whether what began then, and has ended now, may have met one."""
        return began < self._felt_until

    def turn(self) -> None:
        """One, when it is time."""
        if time.monotonic() < self._next:
            return
        self._felt_until = math.inf
        self._tell(self._rng.choice(("close", "reset")))
        time.sleep(self._rng.uniform(*ABSENCE))
        self._tell("open")
        now = time.monotonic()
        self._felt_until = now + AFTERMATH
        self._next = now + self._rng.uniform(*PRESENCE)


class SoakTests(Traffic):
    seed = os.environ.get("SOAK_SEED") or str(random.randrange(1 << 32))

    def setUp(self) -> None:
        super().setUp()
        self.relay = self.start_relay(self.intake.port, timeouts=TIMEOUTS)
        self.memory_at: list[tuple[int, int]] = []  # seconds since the beginning, bytes

    def test_soak(self) -> None:
        idle = descriptors(self.relay)
        absences = Absences(self, self.chance(-1))
        agents = [
            Client(number, self.http_port, MIX, self.chance(number), absences.felt) for number in range(HTTP_CLIENTS)
        ]
        raw = [
            RawClient(number, self.tcp_port, MIX, self.chance(number), absences.felt)
            for number in range(HTTP_CLIENTS, HTTP_CLIENTS + RAW_CLIENTS)
        ]
        began = time.monotonic()

        def watch() -> None:
            absences.turn()
            self.memory_at.append((int(time.monotonic() - began), memory(self.relay)))

        self.run_clients([*agents, *raw], lambda client: time.monotonic() < began + SECONDS, watch)
        self.wait_until(
            lambda: descriptors(self.relay) == idle, f"as many descriptors as before, {idle}; seed {self.seed}"
        )
        self.check(agents, raw)
        self.check_memory()

    def check(self, agents: list[Client], raw: list[RawClient]) -> None:
        """What the clients have seen is what the intake has."""
        report = self.intake.finish()
        tally: Counter[tuple[str, str]] = Counter()
        for counted in [client.tally for client in agents] + [client.tally for client in raw]:
            tally += counted
        text = f"seed {self.seed}: {sorted(tally.items())}"
        self.assertEqual(report["damage"], [], text)
        # An intake that leaves costs one request at most.
        self.assertLessEqual(tally[LATE, "502 upstream-closed"], sum(client.late for client in agents), text)
        arrived = {tuple(upload) for upload in report["uploads"]}
        delivered = {(client.number, number) for client in raw for number in client.delivered}
        self.assertLessEqual(delivered, arrived, text)
        self.assertLessEqual(report["overtaken"], 1 + len(delivered) // 100, text)
        played = {why for why, _ in tally}
        self.assertLessEqual({f"intake: {cut}" for cut in CUTS}, played, text)  # others are rare
        for why in ("", "raw: up", "raw: down", "raw: echo"):
            self.assertTrue(tally[why, ANSWERED], text)

    def check_memory(self) -> None:
        """It may not grow after the warm-up."""
        warm = max(size for second, size in self.memory_at if second <= WARM_UP)
        some = self.memory_at[:: max(1, len(self.memory_at) // 20)]
        course = [f"{second} s: {size >> 10} KB" for second, size in some]
        self.assertLess(memory(self.relay) - warm, GROWTH, f"seed {self.seed}: {course}")
