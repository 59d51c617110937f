"""Twisted's epoll reactor, calling our streams without a logging context.

``callWithLogger`` around every event costs about a seventh of a small request (Twisted issue #2534). Everything that is
not one of our streams is called exactly as before.
"""

from __future__ import annotations

import errno
import time
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithLogger

from fipsrelay.wire.streams import Stream

_log = Logger()


class RelayReactor(EPollReactor):
    """An epoll reactor with a short way to streams, and a clock that nobody sets."""

    seconds = staticmethod(time.monotonic)  # Twisted's is the wall clock: a step of it would expire every connection

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events and deliver them."""
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables) or 1)
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        selectables = self._selectables
        # Looked up before the first one is called: that may close a descriptor, and its number go to a new one.
        for fd, event, selectable in [(fd, event, selectables.get(fd)) for fd, event in events]:
            if selectable is None or selectables.get(fd) is not selectable:
                continue
            if isinstance(selectable, Stream):
                try:
                    if event == EPOLLIN:
                        selectable.doRead()
                    else:
                        deliver(selectable, event)
                except Exception:
                    _log.failure("Unexpected error on a connection; it is closed")
                    give_up(selectable)
            else:
                callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)

    doIteration = doPoll


def give_up(stream: Stream) -> None:
    """Close a stream whose user failed, and let the user settle its account: other connections depend on that."""
    try:
        stream.connectionLost(Failure())
    except Exception:
        _log.failure("Unexpected error at the end of a connection")


def deliver(stream: Stream, event: int) -> None:
    """Give one epoll event to a stream.

    Hang-ups and errors come whether asked for or not, and again until the end was read. So a stream that was told not
    to read reads now, at most one receive buffer: what the peer sent before it went counts, and a write would lose it.
    Behind an end that has been read there is nothing more, not even the error.
    """
    if event & (EPOLLERR | EPOLLHUP) and stream.at_end and not stream.reading:
        stream.broken()
        return
    if event & ~EPOLLOUT:
        stream.doRead()
    if event & EPOLLOUT and not event & (EPOLLERR | EPOLLHUP) and stream.is_open:
        stream.doWrite()


def install() -> RelayReactor:
    """Make it this process's reactor; must come before anything imports ``twisted.internet.reactor``."""
    reactor = RelayReactor()
    installReactor(reactor)
    return reactor
