"""Checks a server when no traffic has done so: TCP, TLS, identity and policy, as for a request, which is not sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.connect import Attempt, Means
from fipsrelay.upstream.server import Server
from fipsrelay.wire.tls import TlsStream

# The first checks come within this time, and the others are spread by this part of the interval to both sides, so that
# neither the servers of a host nor the hosts of a fleet are in step.
_FIRST = 2.0
_SPREAD = 0.1


class Judge(Protocol):
    """Who keeps account of the servers."""

    def passed(self, server: Server, attempt: Attempt) -> None:
        """It could be reached."""

    def failed(self, server: Server, attempt: Attempt, error: UpstreamError) -> None:
        """It could not."""


class Probe:
    """The checks of one server.

    Args:
        server: to check.
        upstream: a name for what is said about failures.
        interval: seconds between two checks.
        means: how connections are made.
        chance: a number from 0 to 1, another one at each call.
        judge: is told.
    """

    def __init__(
        self, server: Server, upstream: str, interval: float, means: Means, chance: Callable[[], float], judge: Judge
    ) -> None:
        self._server = server
        self._upstream = upstream
        self._interval = interval
        self._means = means
        self._chance = chance
        self._judge = judge
        self._attempt: Attempt | None = None
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Check soon, and then again and again."""
        self._wait(self._chance() * min(_FIRST, self._interval))

    def stop(self) -> None:
        """Check no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def _wait(self, seconds: float) -> None:
        self._next = self._means.reactor.callLater(seconds, self._check)

    def _check(self) -> None:
        self._wait(self._interval * (1 + _SPREAD * (2 * self._chance() - 1)))
        # Only an answer puts a check off. What a slow check brought must not: each second one would be left out.
        recent = self._means.deadlines.now() - self._server.used < self._interval * (1 - _SPREAD)
        if self._attempt is None and not recent:
            self._attempt = self._means.attempt(self._server.place, self._upstream, self)
            self._attempt.start()

    def attempt_reached(self, attempt: Attempt) -> None:
        """Not yet all that is checked."""

    def attempt_ready(self, attempt: Attempt, stream: TlsStream) -> None:
        """The server is up; nobody needs this connection."""
        self._attempt = None
        stream.close()
        self._judge.passed(self._server, attempt)

    def attempt_failed(self, attempt: Attempt, error: UpstreamError) -> None:
        """The server has failed once more."""
        self._attempt = None
        self._judge.failed(self._server, attempt, error)
