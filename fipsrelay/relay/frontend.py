"""What the connections of one intake port share, and the account of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, Protocol

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from fipsrelay.config.model import Intake, Limits, Timeouts
from fipsrelay.counters import IntakeCounters, Repeats
from fipsrelay.crypto.policy import Policy
from fipsrelay.errors import AgentError, UpstreamError
from fipsrelay.relay.room import Guest, Room
from fipsrelay.relay.routes import Routes
from fipsrelay.upstream.backend import Backend
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.http1 import ResponseHead, parse_request, parse_response
from fipsrelay.wire.known import Known

# Seconds in which an agent that has just connected is expected to ask: one that connected to a relay which then stops
# would not try again, as it does on a connection that it has kept.
FRESH = 1.0
_ANSWERS = 16  # heads that are remembered; the largest have 64 KB
_QUIET = 10.0  # seconds in which the same failure is not logged again
_GREETINGS = 60.0  # the same for agents with TLS where there is none: they come back with every payload

_log = Logger()


class AgentConnection(Guest, Protocol):
    """An exchange or a bridge."""

    def drain(self) -> None:
        """Finish what is under way, take nothing new, and close."""

    def abort(self) -> None:
        """Cut it now."""


@attrs.frozen
class Request:
    """What a request's head says, its length apart.

    Attributes:
        method: as sent.
        http10: whether the agent speaks HTTP/1.0.
        keep_alive: whether it wants its connection kept.
        expects: whether it waits for 100 Continue before it sends the body, if there is one.
        backend: where the request goes.
    """

    method: bytes
    http10: bool
    keep_alive: bool
    expects: bool
    backend: Backend


class Frontend:
    """One intake port.

    Args:
        intake: its configuration.
        backends: all upstreams, by name.
        counters: where to count.
        timeouts, limits: of the configuration.
        deadlines: who watches the time.
        reactor: Twisted's.
        room: of the process.
        policy: what handshakes with agents are judged by.
        tls: context for the agents, where the intake has a certificate.
        talks: whether each request is logged.
        origin: begins the numbers of failures; another one in each process.

    Attributes:
        draining: no further requests are taken.
        talks: whether each request is logged.
        requests: reads the heads of requests.
        answers: reads the head of an answer to any method but HEAD; also gives it rebuilt.
    """

    def __init__(
        self,
        intake: Intake,
        backends: Mapping[str, Backend],
        counters: IntakeCounters,
        timeouts: Timeouts,
        limits: Limits,
        deadlines: Deadlines,
        reactor: Any,
        room: Room,
        policy: Policy,
        tls: SSL.Context | None = None,
        talks: bool = False,
        origin: str = "",
    ) -> None:
        self._every = backends
        self.change(intake, timeouts, limits, policy, tls)
        self.counters = counters
        self.deadlines = deadlines
        self.reactor = reactor
        self.draining = False
        self.talks = talks
        self._connections: set[AgentConnection] = set()
        self._room = room
        room.guests.append(self.guests)
        self._drained: Deferred[None] | None = None
        self._origin = f"{origin}-{intake.port}"
        self._numbers = count(1)
        self._failures = Repeats(_QUIET)
        self._greetings = Repeats(_GREETINGS)

    def change(
        self, intake: Intake, timeouts: Timeouts, limits: Limits, policy: Policy, tls: SSL.Context | None
    ) -> None:
        """Go by these from now on; what is under way goes on as it began. See ``Frontend``."""
        self.intake = intake
        self.timeouts = timeouts
        self.limits = limits
        self.policy = policy
        self.tls = tls
        self._routes = Routes(intake)
        # A copy: what has begun still goes there when the configuration knows neither intake nor upstream any more.
        self._backends = dict(self._every)
        # These know where requests go, and the limits.
        self.requests = Known(self._read_request)
        # The same answer comes again and again within a second, until its Date changes.
        self.answers = lru_cache(_ANSWERS)(self._read_answer)

    def backend(self, target: bytes = b"") -> Backend:
        """Where a request for ``target`` goes; without one, where the port's bytes go."""
        return self._backends[self._routes.choose(target)]

    def _read_request(self, data: bytes) -> tuple[Request, int, bytes]:
        head = parse_request(data, self.limits.header_lines)
        backend = self.backend(head.target)
        request = Request(head.method, head.http10, head.keep_alive, head.expects, backend)
        return request, head.body, head.rebuild(backend.host)

    def _read_answer(self, data: bytes) -> tuple[ResponseHead, bytes]:
        head = parse_response(data, b"GET", self.limits.header_lines)
        return head, head.rebuild()

    def opened(self, connection: AgentConnection) -> None:
        """An agent connection begins, unless it has taken another one's place already."""
        if connection in self._connections:
            return
        self._connections.add(connection)
        self.counters.connections += 1
        self.counters.open_connections += 1
        self._room.enter()

    def succeeded(self, connection: AgentConnection, successor: AgentConnection) -> None:
        """The same connection, served by another."""
        self._connections.remove(connection)
        self._connections.add(successor)

    def closed(self, connection: AgentConnection) -> None:
        """An agent connection has ended; more than once is fine."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.counters.open_connections -= 1
            self._room.leave()
            self._tell_drained()

    def failed(self, error: UpstreamError | AgentError) -> str:
        """Count and log a failure; the one place where it is logged.

        Returns:
            Its number, by which an answer and the log can be brought together.
        """
        upstream = error.upstream if isinstance(error, UpstreamError) else None
        number = f"{self._origin}-{next(self._numbers):x}"
        self._tell(error.code, upstream, str(error), self._failures, f" request {number}")
        return number

    def answered(self, head: bytes, status: int, seconds: float) -> None:
        """Log a request that is over, for those who want to read of each.

        Args:
            head: as it went upstream.
            status: of its answer.
            seconds: that it took.
        """
        method, target = head.split(b" ", 2)[:2]
        _log.debug(
            "{intake}: {method} {path} {status} in {milliseconds:.1f} ms",
            intake=self.intake.name,
            method=method.decode("ascii", "replace"),
            # Without its query, where some agents put their key.
            path=target.partition(b"?")[0].decode("ascii", "replace"),
            status=status,
            milliseconds=seconds * 1000,
        )

    def greeted(self, code: str, text: str) -> None:
        """Count and log an agent that speaks TLS to a plaintext port, or none to a TLS port."""
        self._tell(code, None, text, self._greetings)

    def _tell(self, code: str, upstream: str | None, text: str, repeats: Repeats, number: str = "") -> None:
        self.counters.errors[code] += 1
        held = repeats.admit((code, upstream), self.deadlines.now())
        if held is None:
            return
        write = _log.info if upstream is None else _log.warn
        more = f", and {held} more like it" if held else ""
        message = "{intake}: {error} [{code}]{request}{more}"
        write(message, intake=self.intake.name, error=text, code=code, request=number, more=more)

    def guests(self) -> Collection[AgentConnection]:
        """All connections, for the room."""
        return self._connections

    def leave(self) -> None:
        """There will be no more connections."""
        self._room.guests.remove(self.guests)

    def drain(self) -> Deferred[None]:
        """Let requests finish and take no further ones; fires when no connection is left."""
        self.draining = True
        drained: Deferred[None] = Deferred()
        self._drained = drained
        for connection in list(self._connections):
            connection.drain()
        self._tell_drained()
        return drained

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._connections:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def abort(self) -> None:
        """Cut what is left."""
        if self._connections:
            _log.warn("{intake}: {count} connections cut", intake=self.intake.name, count=len(self._connections))
        for connection in list(self._connections):
            connection.abort()
