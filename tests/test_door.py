"""Tests of ``fipsrelay.relay.door``: when ports refuse. What agents see of it is tested with the real program."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.door import Door
from tests.doubles import Port


class PlayedPort:
    """An intake's port; ``taken`` by somebody else or not."""

    def __init__(self) -> None:
        self.accepts = True
        self.taken = False

    def refuse(self) -> None:
        self.accepts = False

    def accept(self) -> None:
        if self.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.accepts = True


class DoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = Port("tcp")
        self.cluster = SimpleNamespace(is_away=False)
        backend: Any = self.port.backend
        backend.cluster = self.cluster
        self.ports = [PlayedPort(), PlayedPort()]
        self.opened = 0
        ports: Any = self.ports
        self.door = Door(self.port.frontend, ports, self.count)
        self.door.start()

    def count(self) -> None:
        self.opened += 1

    def after(self, seconds: float, away: bool) -> list[str]:
        """What is logged."""
        self.cluster.is_away = away
        with capturedLogs() as events:
            self.port.wait(seconds)
        return [f"{event['log_level'].name}: {formatEvent(event)}" for event in events]

    def assert_accept(self, accept: bool) -> None:
        self.assertEqual([port.accepts for port in self.ports], [accept] * 2)

    def test_away_and_back(self) -> None:
        self.assertEqual(self.after(5, away=False), [])
        self.assert_accept(True)
        said = self.after(5, away=True)
        self.assertEqual(said, ["warn: web: connections are refused while upstream up has no server available"])
        self.assert_accept(False)
        self.assertEqual(self.opened, 0)
        self.assertEqual(self.after(5, away=False), ["info: web: connections are accepted again"])
        self.assert_accept(True)
        self.assertEqual(self.opened, 1)

    def test_port_that_somebody_has_taken(self) -> None:
        """Said once a minute, and tried again each second."""
        self.after(2, away=True)
        self.ports[1].taken = True
        said = self.after(65, away=False)
        words = "no connection can be accepted on port 1: Address already in use; see 'fipsrelay doctor'"
        self.assertEqual(said, [f"error: web: {words}"] * 2)
        self.ports[1].taken = False
        self.assertEqual(self.after(2, away=False), ["info: web: connections are accepted again"])
        self.assertEqual(self.opened, 1)

    def test_stop(self) -> None:
        """Whoever has the sockets then accepts."""
        self.after(2, away=True)
        self.door.stop()
        self.assert_accept(True)
        self.assertEqual((self.after(5, away=True), self.opened), ([], 0))
        self.assert_accept(True)
        self.assertEqual(self.port.deadlines._watched, set())
