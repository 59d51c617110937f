"""Deadlines for thousands of connections at the price of one timer.

A timer a request would cost more than the request's parsing. Here a connection writes one float, and a sweep compares
them. Precision is the sweep's interval, which is fine for timeouts of seconds.
"""

from __future__ import annotations

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()

NEVER = float("inf")


class Timed(Protocol):
    """Something with a deadline.

    Attributes:
        deadline: in the clock's seconds, or NEVER.
    """

    deadline: float

    def expired(self) -> None:
        """The deadline has passed; it has been set to NEVER before this call."""


class Deadlines:
    """Watches a set of timed objects."""

    def __init__(self, clock: IReactorTime, interval: float) -> None:
        self.now = clock.seconds
        self._watched: set[Timed] = set()
        self._loop = LoopingCall(self.sweep)
        self._loop.clock = clock
        self._interval = interval

    def start(self) -> None:
        """Sweep every ``interval`` seconds from now on."""
        self._loop.start(self._interval, now=False)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._loop.running:
            self._loop.stop()

    def watch(self, timed: Timed) -> None:
        """Begin to look after ``timed``."""
        self._watched.add(timed)

    def forget(self, timed: Timed) -> None:
        """Look after it no longer; unknown objects are fine."""
        self._watched.discard(timed)

    def sweep(self) -> None:
        """Tell everything that is late."""
        now = self.now()
        for timed in [timed for timed in self._watched if timed.deadline <= now]:
            if timed.deadline <= now:  # an earlier call of this sweep may have moved it
                timed.deadline = NEVER
                try:
                    timed.expired()
                except Exception:
                    # Raised from here, it would end the sweep and with it every deadline of the process.
                    _log.failure("Unexpected error at a deadline")


class Timekeeping(Service):
    """Sweeps the deadlines."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.setName("timekeeping")
        self._deadlines = deadlines

    def startService(self) -> None:
        """Sweep from now on."""
        super().startService()
        self._deadlines.start()

    def stopService(self) -> None:
        """Sweep no more."""
        super().stopService()
        self._deadlines.stop()
