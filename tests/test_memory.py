"""When memory is given back; that it really is, ``scenarios.test_memory`` shows."""

from __future__ import annotations

import ctypes

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.memory import INTERVAL, Trimming


class Library:
    """glibc."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def malloc_trim(self, pad: int) -> None:
        self.calls.append(pad)


class TrimmingTests(SynchronousTestCase):
    def test_once_a_minute(self) -> None:
        library, clock = Library(), Clock()
        self.patch(ctypes, "CDLL", lambda name: library)
        trimming = Trimming(clock)
        trimming.startService()
        self.assertEqual(library.calls, [0])
        clock.pump([INTERVAL] * 2)
        self.assertEqual(library.calls, [0, 0, 0])
        trimming.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_library_without_it(self) -> None:
        """musl's."""
        self.patch(ctypes, "CDLL", lambda name: object())
        trimming = Trimming(Clock())
        trimming.trim()
