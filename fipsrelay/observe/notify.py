"""Tells a service manager how it goes: sd_notify(3), as systemd and others that speak its protocol understand it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from fipsrelay.relay.sockets import MOST_DESCRIPTORS

_INTERVAL = 10.0  # seconds from one status to the next, where there is no watchdog
_CLOSING = 10.0  # seconds that a stop may take beside what is under way

# Its queue holds ten messages (net.unix.max_dgram_qlen), of all services.
_PATIENCE = 1.0  # seconds

_log = Logger()


class Manager:
    """The other end, if there is one.

    Args:
        environ: of the process; what is for this process only is taken out.

    Attributes:
        watchdog: seconds within which it wants to hear from the process; None when it does not care.
        stores: whether it may be given descriptors to keep. systemd before 232 has no INVOCATION_ID, and some of those
            give them back without a name.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path, usec, pid = (environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        # An @ stands for the zero byte of Linux's abstract names.
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self.stores = bool(path) and "INVOCATION_ID" in environ
        mine = pid in ("", str(os.getpid()))
        self.watchdog = int(usec) / 1e6 if path and usec.isdigit() and mine else None

    def __bool__(self) -> bool:
        return bool(self._path)

    def store(self, sockets: Iterable[socket.socket]) -> None:
        """Give it listening sockets to keep, see sd_pid_notify_with_fds(3).

        After a restart the process has them again, by the name ``stored``; whoever connects meanwhile waits. When it is
        stopped for good the manager lets go of them, and of each that is shut down.
        """
        descriptors = [sock.fileno() for sock in sockets]
        for first in range(0, len(descriptors), MOST_DESCRIPTORS):
            self._send({"FDSTORE": "1"}, descriptors[first : first + MOST_DESCRIPTORS])

    def tell(self, **variables: str) -> None:
        """Send ``READY="1"`` and the like; nothing where there is nobody."""
        self._send(variables)

    def _send(self, variables: Mapping[str, str], descriptors: Sequence[int] = ()) -> None:
        if not self._path:
            return
        text = "\n".join(f"{name}={value}" for name, value in variables.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_PATIENCE)
                sock.connect(self._path)
                socket.send_fds(sock, [text.encode()], descriptors)
        except OSError as error:
            _log.warn("The service manager was not told {text}: {error}", text=text, error=error.strerror or error)


class Notify(Service):
    """Says when the relay is ready, stops, and how it is. The watchdog is fed by the reactor: a stuck one starves it.

    Args:
        manager: who is told.
        status: gives one line for people.
        reactor: Twisted's.
    """

    def __init__(self, manager: Manager, status: Callable[[], str], reactor: Any) -> None:
        self.setName("service manager")
        self._manager = manager
        self._status = status
        self._loop = LoopingCall(self._say)
        self._loop.clock = reactor

    def ready(self) -> None:
        """The relay takes connections."""
        self._manager.tell(READY="1", STATUS=self._status())
        if self._manager and not self._loop.running:
            # Twice as often as it has to be, as sd_watchdog_enabled(3) recommends.
            self._loop.start((self._manager.watchdog or 2 * _INTERVAL) / 2, now=True)

    def reloading(self) -> None:
        """The configuration is read again; ``ready`` follows."""
        self._manager.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def stopping(self, seconds: float) -> None:
        """The relay finishes what is under way, for so long at most; the watchdog is still fed.

        systemd from 236 on grants that (EXTEND_TIMEOUT_USEC) also where TimeoutStopSec= is less.
        """
        granted = round((seconds + _CLOSING) * 1e6)
        self._manager.tell(STOPPING="1", STATUS=self._status(), EXTEND_TIMEOUT_USEC=str(granted))

    def stopService(self) -> None:
        """The watchdog is no longer fed."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _say(self) -> None:
        fed = {"WATCHDOG": "1"} if self._manager.watchdog else {}
        self._manager.tell(**fed, STATUS=self._status())
