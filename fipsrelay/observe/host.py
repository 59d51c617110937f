"""What this host says of itself: who holds a port, and whether its clock is set. Reads /proc, and asks the kernel."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

PROC = Path("/proc")
_LISTEN = "0A"
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized


@attrs.frozen
class Holder:
    """Who listens on a port.

    Attributes:
        pid: None when this user may not know.
        name: of the process; empty with no pid.
    """

    pid: int | None
    name: str = ""

    @property
    def is_manager(self) -> bool:
        """Whether it is systemd, which holds sockets for others."""
        return (self.pid, self.name) == (1, "systemd")

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})" if self.pid is not None else "a process of another user"


def holders(port: int, proc: Path = PROC) -> list[Holder]:
    """Who listens on a TCP port, on whatever address.

    Args:
        port: TCP port.
        proc: where procfs is mounted.
    """
    sockets = set(_listening(port, proc))
    if not sockets:
        return []
    found = [
        Holder(int(process.name), _name(process))
        for process in sorted(proc.iterdir())
        if process.name.isdigit() and sockets & set(_open(process))
    ]
    return found or [Holder(None)]


def _listening(port: int, proc: Path) -> Iterator[str]:
    """The sockets that listen on a port, as links of file descriptors name them."""
    for name in ("tcp", "tcp6"):
        table = proc / "net" / name
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _open(process: Path) -> Iterator[str]:
    """What a process has open, as far as this user may know."""
    try:
        for descriptor in (process / "fd").iterdir():
            yield os.readlink(descriptor)
    except OSError:
        return  # it is another user's, or has ended


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process that has ended"


def is_clock_set() -> bool:
    """Whether the kernel knows the clock to be synchronised."""
    # struct timex has less than 256 bytes; modes, its first field, is 0: only ask.
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    return state != _TIME_ERROR
