"""TLS with an agent, where an intake has a certificate: the handshake, judged before anything of the agent is read."""

from __future__ import annotations

from typing import Protocol

from fipsrelay.crypto import context as crypto
from fipsrelay.crypto.policy import judge_session
from fipsrelay.relay.frontend import FRESH, AgentConnection, Frontend
from fipsrelay.upstream.connect import describe
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.streams import Stream
from fipsrelay.wire.tls import TlsStream

_PLAINTEXT = ("http request", "https proxy request")  # OpenSSL's names for what is no TLS


class Served(AgentConnection, Protocol):
    """What the stream is for: an exchange or a bridge."""

    def makeConnection(self, stream: Stream) -> None:
        """Serve the agent."""


class Welcome:
    """Shakes hands with one agent, and hands its stream over.

    Args:
        frontend: the port that it came in by.
        served: takes the stream, and the place in the account.

    Attributes:
        deadline: see ``wire.deadlines``.
    """

    def __init__(self, frontend: Frontend, served: Served) -> None:
        self.deadline = NEVER
        self._frontend = frontend
        self._served = served
        self._stream: TlsStream
        self._peer = ""

    def makeConnection(self, stream: TlsStream) -> None:
        """``IntakePort`` hands over the accepted connection."""
        self._stream = stream
        self._peer = stream.peer()  # while it can be asked
        self._frontend.opened(self)
        self._frontend.deadlines.watch(self)
        self.deadline = self._frontend.deadlines.now() + self._frontend.timeouts.handshake
        stream.start(self)

    def idle_since(self) -> float:
        """Something is under way."""
        return NEVER

    def give_way(self) -> bool:
        """It has its own deadline, soon enough."""
        return False

    def drain(self) -> None:
        """Nothing has been asked yet, but it may have connected only to ask."""
        fresh = self.deadline - self._frontend.timeouts.handshake + FRESH
        if fresh > self._frontend.deadlines.now():
            self.deadline = min(self.deadline, fresh)
        else:
            self.abort()

    def abort(self) -> None:
        """Cut it."""
        self._stream.abort(reset=True)
        self._gone()

    def expired(self) -> None:
        """The agent does not go on."""
        if self._frontend.draining:
            self.abort()
            return
        self._fail("agent-tls-timeout", "the handshake took too long")

    # -- the stream

    def stream_connected(self) -> None:
        """It was before."""

    def stream_ready(self) -> None:
        """The handshake is finished: judge it."""
        facts = crypto.examine(self._stream.connection)
        broken = judge_session(facts, self._frontend.policy)
        if broken:
            self._fail("agent-tls", "; ".join(broken))  # which the context should have kept from happening
            return
        self._frontend.counters.handshakes[facts.parameters] += 1
        self._gone(self._served)
        self._served.makeConnection(self._stream)
        if self._frontend.draining:
            self._served.drain()

    def stream_lost(self, reason: Exception | None) -> None:
        """No handshake came about."""
        what = describe(reason)
        if what in _PLAINTEXT:
            self._fail("plaintext-to-tls", "it is plaintext; set fips.https: true in the Agent")
        else:
            self._fail("agent-tls", what)

    def _fail(self, code: str, what: str) -> None:
        self._frontend.greeted(code, f"no TLS with the agent at {self._peer}: {what}")
        self.abort()

    def _gone(self, successor: AgentConnection | None = None) -> None:
        self.deadline = NEVER
        self._frontend.deadlines.forget(self)
        if successor is None:
            self._frontend.closed(self)
        else:
            self._frontend.succeeded(self, successor)
