"""Free upstream connections as a reserve of descriptors: what can be spared when the process has none left."""

from __future__ import annotations

import errno
import socket
from typing import Protocol

from fipsrelay.wire.deadlines import NEVER

# The process, or the host, has no descriptor or memory for one more socket.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Holder(Protocol):
    """A server with free connections."""

    def free_since(self) -> float:
        """When its oldest free connection became free; NEVER without one."""

    def close_oldest(self) -> None:
        """Close that one."""


class Reserve:
    """All servers of the process.

    Attributes:
        holders: those that may have free connections.
    """

    def __init__(self) -> None:
        self.holders: set[Holder] = set()

    def give_up(self) -> bool:
        """Close the connection that has been free longest; False when there is none."""
        oldest = min(self.holders, key=lambda holder: holder.free_since(), default=None)
        if oldest is None or oldest.free_since() == NEVER:
            return False
        oldest.close_oldest()
        return True

    def socket(self, family: int) -> socket.socket:
        """A new TCP socket, if need be in the place of a free connection.

        Raises:
            OSError: there is none to be had.
        """
        while True:
            try:
                return socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno not in EXHAUSTED or not self.give_up():
                    raise
