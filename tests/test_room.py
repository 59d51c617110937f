"""Room: how many connections are taken, who gives way, who stops accepting, and what is said of it."""

from __future__ import annotations

import resource
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.room import Room, places
from fipsrelay.wire.deadlines import NEVER


class Accepting:
    """A port that remembers whether it accepts."""

    def __init__(self) -> None:
        self.accepts = True

    def startReading(self) -> None:
        self.accepts = True

    def stopReading(self) -> None:
        self.accepts = False


class Guest:
    """A connection; ``since`` is when it became idle."""

    def __init__(self, since: float = NEVER, willing: bool = True) -> None:
        self.since = since
        self.willing = willing
        self.leave: Any = None

    def idle_since(self) -> float:
        return self.since

    def give_way(self) -> bool:
        if self.willing:
            self.leave()
        return self.willing


class Spare:
    """A reserve of so many connections."""

    def __init__(self, count: int) -> None:
        self.count = count

    def give_up(self) -> bool:
        self.count -= 1
        return self.count >= 0


class RoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.make(2)

    def make(self, limit: int, spare: int = 0) -> None:
        reserve: Any = Spare(spare)
        self.room = Room(limit, self.clock, reserve)
        self.ports = [Accepting(), Accepting()]
        self.room.ports += self.ports
        self.here: list[Guest] = []
        self.room.guests += [lambda: self.here[::2], lambda: self.here[1::2]]  # those of two frontends

    def enter(self, *guests: Guest) -> None:
        for guest in guests:
            guest.leave = lambda guest=guest: self.leave(guest)
            self.here.append(guest)
            self.room.enter()

    def leave(self, guest: Guest) -> None:
        self.here.remove(guest)
        self.room.leave()

    @property
    def accepts(self) -> bool:
        first, second = (port.accepts for port in self.ports)
        self.assertEqual(first, second)
        return first

    def test_stops_when_full_and_starts_again(self) -> None:
        busy = [Guest(), Guest()]
        self.enter(busy[0])
        self.assertTrue(self.accepts)
        for _ in range(2):
            self.enter(busy[1])
            self.assertEqual((self.accepts, self.room.left), (False, 0))
            self.leave(busy[1])
            self.assertEqual((self.accepts, self.room.left), (True, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle_ones_give_way(self) -> None:
        """Those that were idle longest, one in 64 of all: so that not each new one begins the search again."""
        self.make(128)
        self.clock.advance(1000)
        idle = [Guest(float(number)) for number in range(20)]
        self.enter(*idle[::-1], *(Guest() for _ in range(108)))
        self.assertEqual((self.accepts, self.room.left), (True, 2))
        self.assertEqual([guest for guest in idle if guest not in self.here], idle[:2])

    def test_one_that_is_busy_after_all(self) -> None:
        self.clock.advance(1000)
        reluctant, willing = Guest(1.0, willing=False), Guest(2.0)
        self.enter(reluctant, willing)
        self.assertEqual((self.here, self.accepts), ([reluctant], True))

    def test_new_ones_need_not_give_way(self) -> None:
        """Their request is on its way; a second later it counts as an idle one."""
        self.clock.advance(1000)
        self.enter(Guest(), Guest(999.5))
        self.assertEqual((self.accepts, self.room.left), (False, 0))
        self.clock.advance(1)
        self.assertEqual((self.accepts, self.room.left), (True, 1))

    def test_while_nobody_is_idle(self) -> None:
        self.enter(Guest(), Guest())
        self.clock.pump([1.0] * 10)
        self.assertFalse(self.accepts)
        self.here[0].since = self.clock.seconds() - 5
        self.clock.advance(1)
        self.assertTrue(self.accepts)

    def test_exhausted(self) -> None:
        """Accepting begins again a second later, or as soon as somebody leaves."""
        busy = Guest()
        self.enter(busy)
        self.assertFalse(self.room.exhausted("Too many open files"))
        self.assertFalse(self.accepts)
        self.clock.advance(0.9)
        self.assertFalse(self.accepts)
        self.clock.advance(0.2)
        self.assertTrue(self.accepts)
        self.assertFalse(self.room.exhausted("Too many open files"))
        self.leave(busy)
        self.assertTrue(self.accepts)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_exhausted_at_several_ports_at_once(self) -> None:
        """They all look again at the same time, and not once more for each."""
        self.room.exhausted("EMFILE")
        self.clock.advance(0.5)
        self.room.exhausted("EMFILE")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0.5)
        self.assertEqual([port.accepts for port in self.ports], [True, True])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_exhausted_with_something_in_reserve(self) -> None:
        self.make(2, spare=2)
        self.assertEqual([self.room.exhausted("Too many open files") for _ in range(3)], [True, True, False])
        self.assertFalse(self.accepts)

    def test_what_is_said(self) -> None:
        """Each thing once a minute, and that it is over only where its beginning was said."""
        self.clock.advance(1000)

        def full() -> None:
            busy = [Guest(), Guest()]
            self.enter(*busy)
            self.leave(busy[0])
            self.leave(busy[1])

        def none_left() -> None:
            self.room.exhausted("Too many open files")
            self.clock.advance(1)

        def crowded() -> None:
            self.enter(Guest(1.0), Guest(2.0))
            self.leave(self.here[0])

        again = "Connections are accepted again"
        taken = "all 2 connections are taken (limits.connections): no more until one ends"
        nothing = "no connection can be accepted (Too many open files): raise LimitNOFILE, or what ulimit -n says"
        given = "all 2 connections are taken: those that were idle longest are closed"
        for act, lines in (
            (full, [taken, again]),
            (full, []),
            (none_left, [nothing, again]),
            (none_left, []),
            (crowded, [given]),
            (crowded, []),
            (lambda: self.clock.advance(60), []),
            (full, [f"{taken}, and 1 more like it", again]),
            (none_left, [f"{nothing}, and 1 more like it", again]),
        ):
            with capturedLogs() as logs:
                act()
            self.assertEqual([formatEvent(event) for event in logs], lines)

    def test_a_long_pause(self) -> None:
        """Its end is said, however often there was no place in between."""
        with capturedLogs() as logs:
            self.enter(Guest(), Guest())
            self.clock.pump([1.0] * 10)
            self.leave(self.here[0])
        taken, again = (formatEvent(event) for event in logs)
        self.assertIn("no more until one ends", taken)
        self.assertEqual(again, "Connections are accepted again")


class PlacesTests(SynchronousTestCase):
    """What the process's own limits allow; each connection needs two descriptors."""

    def setUp(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.hard = limits[1]

    def test_the_soft_limit_is_raised(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, self.hard))
        with capturedLogs() as logs:
            self.assertEqual(places(20), 20)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (self.hard, self.hard))
        self.assertEqual(list(logs), [])

    def test_fewer_than_wanted(self) -> None:
        with capturedLogs() as logs:
            most = places(10**9)
            with socket.socket(), socket.socket():
                self.assertEqual(places(10**9), most - 1)
        self.assertTrue(0 < 2 * most < self.hard)
        self.assertIn(f"room for {most} connections, not for 1000000000 (limits.connections)", formatEvent(logs[0]))
        self.assertIn(f"may open only {self.hard} files", formatEvent(logs[0]))
