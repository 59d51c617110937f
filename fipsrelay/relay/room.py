"""How many connections the process takes."""

from __future__ import annotations

from typing import Protocol


class Accepting(Protocol):
    """A listening port, as Twisted has it."""

    def startReading(self) -> None:
        """Accept connections."""

    def stopReading(self) -> None:
        """Leave them in the kernel's queue."""


class Room:
    """Shared by all intake ports; when nothing is left, they stop accepting until a connection ends.

    Args:
        limit: connections at the same time.

    Attributes:
        left: how many more may come.
        ports: those that listen.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.ports: list[Accepting] = []

    def enter(self) -> None:
        """A connection has been accepted."""
        self.left -= 1
        if self.left == 0:
            for port in self.ports:
                port.stopReading()

    def leave(self) -> None:
        """A connection has ended."""
        self.left += 1
        if self.left == 1:
            for port in self.ports:
                port.startReading()
