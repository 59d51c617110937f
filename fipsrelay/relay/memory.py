"""What connections no longer need goes back to the host.

The C library keeps what is freed, unless it lies at the end of its heap, where something nearly always is in use: by
itself a process stays as large as it ever was.
"""

from __future__ import annotations

import ctypes
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

INTERVAL = 60.0


class Trimming(Service):
    """Has the C library give back what is free, once a minute; only glibc has a function for it.

    Args:
        reactor: Twisted's.
    """

    def __init__(self, reactor: Any) -> None:
        self.setName("memory")
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._loop = LoopingCall(self.trim)
        self._loop.clock = reactor

    def startService(self) -> None:
        """The first time is an interval away; it also gives back what the start took."""
        super().startService()
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        """Nothing more is given back."""
        super().stopService()
        self._loop.stop()

    def trim(self) -> None:
        """Give back what is free now: 0.2 ms, 20 of them after 4,000 raw TCP connections have ended."""
        if self._trim is not None:
            self._trim(0)
