"""The way to a connection for one request: which servers are tried, in which order, how often and how long."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.balance import least_bad, least_busy, next_best
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Attempt, Means
from fipsrelay.upstream.server import Server
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.streams import label
from fipsrelay.wire.tls import TlsStream

RETRIES = 3  # HAProxy's default
# RFC 8305 §5: how long a server may take to accept before another one is tried beside it.
_STAGGER = 0.25
# HAProxy's pause before it tries the same server again.
_PAUSE = 1.0
# What a proxy refuses it refuses in a second too, and wrong passwords lock accounts.
_REFUSALS = frozenset({"proxy-auth", "proxy-refused"})


class Caller(Protocol):
    """Who asked for a connection."""

    def connected(self, stream: TlsStream) -> None:
        """Verified and judged; not reading yet. Give it back or close it."""

    def refused(self, error: UpstreamError) -> None:
        """There is none to be had; ``error`` is the last one."""

    def retrying(self, error: UpstreamError) -> None:
        """After this failure another try is made."""


class Search:
    """Tries servers until one gives a connection.

    Up to ``retries`` times after the first one, on a server that has not been tried if there is one; the same server
    again only after a quick failure. A server that does not accept at once gets company (Happy Eyeballs, RFC 8305).
    While all servers are down, one search at a time tries the least bad ones; the others fail at once.

    Args:
        cluster: whose servers are tried.
        upstream: the name in errors.
        means: how connections are made.
        caller: exactly one of ``connected`` and ``refused`` is called, and ``retrying`` any number of times before.
        retries: how many.
    """

    def __init__(self, cluster: Cluster, upstream: str, means: Means, caller: Caller, retries: int) -> None:
        self.deadline = NEVER
        self._cluster = cluster
        self._upstream = upstream
        self._means = means
        self._caller: Caller | None = caller
        self._left = retries
        self._began = means.deadlines.now()
        self._running: dict[Attempt, Server] = {}
        self._tried: list[Server] = []
        self._quick: list[Server] = []  # of these, those that failed quickly
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin; the caller may hear before this returns."""
        if self._cluster.barred is not None:
            self._fail(self._error("fips", "policy", self._cluster.barred))
        elif self._cluster.servers:
            self._first()
        else:
            self._means.deadlines.watch(self)
            self.deadline = self._began + self._means.timeouts.connect
            self._cluster.find().addCallback(self._found)

    def cancel(self) -> None:
        """The caller is gone; it hears nothing more."""
        self._caller = None
        self._end()

    def expired(self) -> None:
        """The name was not resolved in time."""
        self._fail(self._error("resolve", "resolve", "the name was not resolved in time"))

    # -- steps

    def _found(self, addresses: tuple[str, ...]) -> None:
        if self._caller is not None:
            self._means.deadlines.forget(self)
            self._first()

    def _first(self) -> None:
        cluster = self._cluster
        overdue = cluster.overdue() if cluster.usable and cluster.trial is None else []
        if overdue:
            cluster.trial = self
            self._try(overdue[0])
        elif cluster.usable:
            self._try(least_busy(self._untried() or cluster.usable, cluster.turn))
        elif not cluster.servers:
            self._fail(self._error("resolve", "resolve", f"{cluster.host} has no address (DNS)"))
        elif cluster.trial in (None, self):
            cluster.trial = self
            self._try(least_bad(cluster.servers))
        else:
            reason = least_bad(cluster.servers).health.reason
            self._fail(self._error("no-server", "connect", f"no server available; last seen: {reason}"))

    def _try(self, server: Server) -> None:
        self._tried.append(server)
        server.outstanding += 1
        attempt = self._means.attempt(server.place, self._upstream, self)
        self._running[attempt] = server
        attempt.start()
        if attempt in self._running:
            self._set_timer(_STAGGER, self._accompany)

    def _accompany(self) -> None:
        """What runs has not been accepted yet: try another server beside it."""
        untried = self._untried()
        if untried and self._left and not self._is_trial():
            self._left -= 1
            self._try_one_of(untried)

    def _retry(self, error: UpstreamError) -> None:
        untried = self._untried()
        quick = any(server in self._quick for server in self._cluster.usable)
        same = quick and not self._running and self._has_time(_PAUSE)
        if self._running and self._is_trial():
            return  # they went down meanwhile; what runs is enough of a trial
        if self._left and (untried or same):
            self._left -= 1
            if self._caller is not None:
                self._caller.retrying(error)
            if self._caller is None:
                return  # it has cancelled
            if untried:
                self._try_one_of(untried)
            else:
                self._set_timer(_PAUSE, self._again)
        elif not self._running:
            self._fail(error)

    def _try_one_of(self, untried: list[Server]) -> None:
        if self._is_trial():
            self._try(least_bad(untried))
        else:
            self._try(next_best(untried, self._cluster.turn, self._tried[-1].ipv6))

    def _again(self) -> None:
        """No server is left but those that failed quickly: once more."""
        self._tried = [server for server in self._tried if server not in self._quick]
        self._quick.clear()
        self._first()

    # -- what may be tried

    def _is_trial(self) -> bool:
        """Whether this is the search that tries servers although none is up."""
        return self._cluster.trial is self and not self._cluster.usable

    def _untried(self) -> list[Server]:
        """Servers that may be tried next; none when the time is up."""
        servers = self._cluster.servers if self._is_trial() else self._cluster.usable
        return [server for server in servers if server not in self._tried and self._has_time()]

    def _has_time(self, wait: float = 0.0) -> bool:
        """Whether something may begin so many seconds from now: within the time that one attempt may take."""
        timeouts = self._means.timeouts
        return self._means.deadlines.now() + wait - self._began < timeouts.connect + timeouts.handshake

    # -- attempts

    def attempt_reached(self, attempt: Attempt) -> None:
        """One is enough from here on; those that came second may be tried again if it fails."""
        self._stop_timer()
        for other in [other for other in self._running if other is not attempt]:
            self._tried.remove(self._forget(other))
            other.cancel()

    def attempt_ready(self, attempt: Attempt, stream: TlsStream) -> None:
        """Found: the caller gets the stream."""
        server = self._running.pop(attempt)  # it goes on counting in ``outstanding``
        server.adopt(stream)
        self._cluster.passed(server, attempt)
        caller, self._caller = self._caller, None
        self._end()
        assert caller is not None  # one that cancels ends the attempts
        caller.connected(stream)

    def attempt_failed(self, attempt: Attempt, error: UpstreamError) -> None:
        """Not this one: another is tried, if there is one and time is left."""
        server = self._forget(attempt)
        self._cluster.failed(server, attempt, error)
        # 503: it did not get as far as TLS, as while an intake restarts. What TLS refuses it refuses in a second too.
        passing = error.status == 503 and error.code not in _REFUSALS
        if passing and self._means.deadlines.now() - attempt.began < _PAUSE:
            self._quick.append(server)
        self._retry(error)

    def _forget(self, attempt: Attempt) -> Server:
        server = self._running.pop(attempt)
        server.outstanding -= 1
        return server

    # -- ends

    def _error(self, code: str, step: str, detail: str) -> UpstreamError:
        where = label(self._cluster.host, self._cluster.port)
        return UpstreamError(code, 503, self._upstream, where, step, detail)

    def _fail(self, error: UpstreamError) -> None:
        caller, self._caller = self._caller, None
        self._end()
        if caller is not None:
            caller.refused(error)

    def _end(self) -> None:
        self.deadline = NEVER
        self._means.deadlines.forget(self)
        self._stop_timer()
        for attempt in list(self._running):
            self._forget(attempt)
            attempt.cancel()
        if self._cluster.trial is self:
            self._cluster.trial = None

    def _set_timer(self, seconds: float, call: object) -> None:
        self._stop_timer()
        self._timer = self._means.reactor.callLater(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
