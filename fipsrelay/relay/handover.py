"""A relay's listening sockets pass to its successor by a Unix socket (SCM_RIGHTS), where no service manager has them.

The successor has them before the one that runs stops, so that nobody is refused: who is in the kernel's queue by then
is served by the successor. As HAProxy's ``-x`` and ``expose-fd listeners``.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from fipsrelay.errors import PortProblem, PortsError
from fipsrelay.relay.sockets import MOST_DESCRIPTORS

_NEW = ".new"  # behind the path, until the service has started
_PATIENCE = 5.0  # seconds for the one that runs to answer
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group

_log = Logger()


def take(path: str) -> list[socket.socket]:
    """The listening sockets of the relay that gives them away here; none where no relay does.

    Args:
        path: of its Unix socket.

    Raises:
        PortsError: somebody is there, and does not give them to this process.
    """
    taken: list[socket.socket] = []
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(path)
            if not _is_trusted(sock):
                raise PermissionError(0, "it belongs to another user")
            while True:
                data, descriptors, _, _ = socket.recv_fds(sock, 1, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
                taken += [socket.socket(fileno=descriptor) for descriptor in descriptors]
                if not data:
                    return taken
    except (FileNotFoundError, ConnectionRefusedError):
        return taken
    except OSError as error:
        for listening in taken:
            listening.close()
        reason = f"{path} does not hand sockets over: {error.strerror or error}"
        raise PortsError((PortProblem("handover", "-", 0, reason),)) from error


@implementer(IReadDescriptor)
class Handover(Service):
    """Gives the listening sockets to whoever asks, if that is this user or root.

    Its file is never removed: by the end of a relay it may be its successor's. Where nobody listens behind it, ``take``
    finds nothing.

    Args:
        path: where to be asked; what is there is replaced.
        listening: gives the sockets.
        reactor: Twisted's.

    Raises:
        PortsError: nobody can ask there.
    """

    def __init__(self, path: str, listening: Callable[[], Iterable[socket.socket]], reactor: Any) -> None:
        self.setName("handover")
        self._listening = listening
        self._reactor = reactor
        self._path = path
        self._sock = _listen(path + _NEW)

    def startService(self) -> None:
        """From now on it is this relay that is asked; at each moment it is this one, or the one before."""
        super().startService()
        self._reactor.addReader(self)
        os.rename(self._path + _NEW, self._path)

    def stopService(self) -> None:
        """Before the sockets are closed: whoever asks from now on finds nothing, and binds its own."""
        super().stopService()
        self._reactor.removeReader(self)
        self._sock.close()

    def fileno(self) -> int:
        """The reactor's, to wait for whoever asks."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """What Twisted calls it in its log."""
        return "handover"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor's, when the process ends; the kernel closes."""

    def doRead(self) -> None:
        """Somebody asks."""
        try:
            asking, _ = self._sock.accept()
        except OSError as error:
            _log.warn("Who asked for the listening sockets has gone: {error}", error=error.strerror)
            return
        with asking:
            if not _is_trusted(asking):
                _log.warn("A process of another user asked for the listening sockets, and did not get them")
                return
            descriptors = [sock.fileno() for sock in self._listening()]
            try:
                # Few and small enough for the buffer of a new connection.
                asking.setblocking(False)
                for first in range(0, len(descriptors), MOST_DESCRIPTORS):
                    socket.send_fds(asking, [b"."], descriptors[first : first + MOST_DESCRIPTORS])
            except OSError as error:
                _log.warn("The listening sockets were not handed over: {error}", error=error.strerror)
                return
        _log.info("{count} listening sockets were handed over", count=len(descriptors))


def _listen(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        Path(path).unlink(missing_ok=True)
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen()
    except OSError as error:
        sock.close()
        raise PortsError((PortProblem("handover", "-", 0, f"{path}: {error.strerror or error}"),)) from error
    sock.setblocking(False)
    return sock


def _is_trusted(sock: socket.socket) -> bool:
    """Whether the process at the other end is this one's user's, or root's."""
    _, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user in (0, os.geteuid())
