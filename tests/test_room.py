"""Room: how many connections are taken, and who stops accepting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.room import Room


class Accepting:
    """A port that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def startReading(self) -> None:
        self.told.append("start")

    def stopReading(self) -> None:
        self.told.append("stop")


class RoomTests(SynchronousTestCase):
    def test_stops_when_full_and_starts_again(self) -> None:
        room, ports = Room(2), [Accepting(), Accepting()]
        room.ports += ports
        for step, told, left in (
            (room.enter, [], 1),
            (room.enter, ["stop"], 0),
            (room.leave, ["stop", "start"], 1),
            (room.leave, ["stop", "start"], 2),
            (room.enter, ["stop", "start"], 1),
            (room.enter, ["stop", "start", "stop"], 0),
        ):
            step()
            self.assertEqual(([port.told for port in ports], room.left), ([told, told], left))
