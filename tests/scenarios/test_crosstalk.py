"""64 clients that abort at random: none ever receives a byte of an answer that is not its own.

``CROSSTALK_REQUESTS`` in the environment makes the run longer, ``CROSSTALK_SEED`` draws again what a run has drawn.
"""

from __future__ import annotations

import os
import random
from collections import Counter

from tests.scenarios.clients import ABORTED, Client, Traffic
from tests.scenarios.plays import Mix
from tests.scenarios.traffic import ANSWERED

REQUESTS = int(os.environ.get("CROSSTALK_REQUESTS", "8000"))
CLIENTS = 64
MIX = Mix(
    sizes=(0, 100, 1000, 1000, 5000, 20_000),
    client_faults=0.15,
    faults=("fin", "notify", "reset", "head", "chunk", "stray", "stray"),
    fault_rate=0.05,
    ends=("keep",) * 18 + ("close", "leave"),
    slow=0.02,
)


class CrossTalkTests(Traffic):
    seed = os.environ.get("CROSSTALK_SEED") or str(random.randrange(1 << 32))

    def test_none(self) -> None:
        self.start_relay(self.intake.port)
        clients = [Client(number, self.http_port, MIX, self.chance(number)) for number in range(CLIENTS)]
        self.run_clients(clients, lambda client: client.sent < REQUESTS / CLIENTS)
        tally = sum((client.tally for client in clients), Counter())
        text = f"seed {self.seed}: {sorted(tally.items())}"
        report = self.intake.finish()
        self.assertEqual(report["damage"], [], text)
        self.assertGreater(tally["", ANSWERED], REQUESTS / 2, text)
        # Every fault was played, and everything that clients do to their answers.
        played = {why for why, _ in tally}
        self.assertLessEqual({f"intake: {fault}" for fault in MIX.faults}, played, text)
        states = {what for why, what in tally if why == ABORTED}
        for state in ("sending", "waiting", "reading"):
            for how in ("fin", "reset"):
                self.assertIn(f"{state}, {how}", states, text)
        if "CROSSTALK_REQUESTS" in os.environ:
            print(text, report)
