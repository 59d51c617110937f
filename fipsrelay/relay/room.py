"""How many connections the process takes, and who makes room when there is none."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.logger import Logger

from fipsrelay.counters import Repeats
from fipsrelay.upstream.reserve import Reserve

_DESCRIPTORS = 2  # of a connection: the agent's and its upstream's
_SPARE = 16  # descriptors for checks, names and files
_PAUSE = 1.0  # seconds until accepting is tried again although nobody has left
_IDLE = 1.0  # seconds after which an idle connection may have to give way; the request of a new one may be on its way
_SHARE = 64  # when all places are taken, one in so many is made free at once
_QUIET = 60.0  # seconds in which the same is not said again

_log = Logger()


class Accepting(Protocol):
    """A listening port, as Twisted has it."""

    def startReading(self) -> None:
        """Accept connections."""

    def stopReading(self) -> None:
        """Leave them in the kernel's queue."""


class Guest(Protocol):
    """A connection that has a place."""

    def idle_since(self) -> float:
        """Since when nothing has been under way on it; NEVER while something is."""

    def give_way(self) -> bool:
        """Close, if it is still idle; whether it has."""


class Room:
    """Shared by all intake ports.

    When all places are taken, the connections that have been idle longest give way, as in nginx; only when none is idle
    do the ports stop accepting, until a connection ends or has become idle.

    Args:
        limit: connections at the same time.
        reactor: provides ``IReactorTime``.
        reserve: what else can be closed when descriptors run out.

    Attributes:
        left: how many more may come.
        ports: those that listen.
        guests: each gives the connections of one frontend.
    """

    def __init__(self, limit: int, reactor: Any, reserve: Reserve) -> None:
        self.left = self._limit = limit
        self.ports: list[Accepting] = []
        self.guests: list[Callable[[], Iterable[Guest]]] = []
        self._reactor = reactor
        self._reserve = reserve
        self._repeats = Repeats(_QUIET)
        self._said = False  # that accepting has stopped
        self._waiting: Any = None

    @property
    def is_full(self) -> bool:
        """Whether no port accepts connections at present."""
        return self._waiting is not None

    def enter(self) -> None:
        """A connection has been accepted."""
        self.left -= 1
        if self.left == 0:
            self._make_room()

    def leave(self) -> None:
        """A connection has ended."""
        self.left += 1
        if self._waiting is not None:
            self._waiting.cancel()
            self._resume()

    def exhausted(self, reason: str) -> bool:
        """A connection could not be accepted for lack of descriptors or memory; whether to try again at once."""
        if self._reserve.give_up():
            return True
        self._pause(f"no connection can be accepted ({reason}): raise LimitNOFILE, or what ulimit -n says")
        return False

    def _make_room(self) -> None:
        """All places are taken: close what is idle, or else pause."""
        latest = self._reactor.seconds() - _IDLE
        idle = [(guest.idle_since(), guest) for guests in self.guests for guest in guests()]
        wanted = self._limit // _SHARE or 1
        for _, guest in sorted((pair for pair in idle if pair[0] <= latest), key=lambda pair: pair[0]):
            if guest.give_way():
                wanted -= 1
                if not wanted:
                    break
        if self.left:
            self._say(f"all {self._limit} connections are taken: those that were idle longest are closed")
        else:
            self._pause(f"all {self._limit} connections are taken (limits.connections): no more until one ends")

    def _pause(self, why: str) -> None:
        self._said = self._say(why) or self._said
        for port in self.ports:
            port.stopReading()
        if self._waiting is None:  # another port may have had the same trouble in the same turn
            self._waiting = self._reactor.callLater(_PAUSE, self._resume)

    def _resume(self) -> None:
        self._waiting = None
        if not self.left:
            self._make_room()
        if self._waiting is not None:
            return
        if self._said:
            self._said = False
            _log.info("Connections are accepted again")
        for port in self.ports:
            port.startReading()

    def _say(self, what: str) -> bool:
        """Log it unless it was just said; returns whether it was logged."""
        held = self._repeats.admit(what, self._reactor.seconds())
        if held is not None:
            _log.warn("{what}{more}", what=what, more=f", and {held} more like it" if held else "")
        return held is not None


def places(wanted: int) -> int:
    """How many connections there are descriptors for, at most ``wanted``; raises the soft limit as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    open_now = len(os.listdir("/proc/self/fd"))
    found = max(1, (hard - open_now - _SPARE) // _DESCRIPTORS)
    if found < wanted:
        _log.warn(
            "There is room for {found} connections, not for {wanted} (limits.connections): the process may open only "
            "{hard} files; raise LimitNOFILE, or what ulimit -n says",
            found=found,
            wanted=wanted,
            hard=hard,
        )
    return min(found, wanted)
