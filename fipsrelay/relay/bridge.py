"""Raw TCP: one agent connection, one upstream connection, every byte as it comes, each direction ending by itself."""

from __future__ import annotations

from fipsrelay.errors import UpstreamError
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.hello import ALERT, is_hello, refusal
from fipsrelay.upstream.connect import describe
from fipsrelay.upstream.search import RETRIES, Search
from fipsrelay.wire.deadlines import NEVER
from fipsrelay.wire.streams import Stream
from fipsrelay.wire.tls import TlsStream


class Bridge:
    """Relays one agent connection. The agent is not read before the upstream connection is there.

    Args:
        frontend: the port that it came in by.

    Attributes:
        deadline: see ``wire.deadlines``.
    """

    def __init__(self, frontend: Frontend) -> None:
        self.deadline = NEVER
        self.counters = frontend.counters
        self._frontend = frontend
        self._now = frontend.deadlines.now
        self._silence = frontend.timeouts.tunnel
        self._backend = frontend.backend()
        self._agent: Stream
        self._search: Search | None = None
        self._sides: tuple[_AgentSide, _UpstreamSide] | None = None

    def makeConnection(self, stream: Stream) -> None:
        """``IntakePort`` hands over the accepted connection."""
        self._agent = stream
        self._frontend.opened(self)
        self._frontend.deadlines.watch(self)
        self._search = self._backend.search(self, RETRIES)
        self._search.start()

    def connected(self, stream: TlsStream) -> None:
        """Relay from now on."""
        self._search = None
        agent, upstream = self._sides = _AgentSide(self, self._agent), _UpstreamSide(self, stream)
        agent.other, upstream.other = upstream, agent
        self.touch()
        stream.resume()
        self._agent.resume()

    def retrying(self, error: UpstreamError) -> None:
        """Another server is tried."""
        self.counters.retries[error.code] += 1

    def refused(self, error: UpstreamError) -> None:
        """Raw TCP has no words for this, so the agent sees a reset."""
        self._search = None
        self._frontend.failed(error)
        self.abort()

    def drain(self) -> None:
        """Nothing to do: where a conversation ends, only its two sides know. ``abort`` follows when the time is up."""

    def idle_since(self) -> float:
        """A silent conversation is one."""
        return NEVER

    def give_way(self) -> bool:
        """Not before its time."""
        return False

    def expired(self) -> None:
        """No byte in either direction for too long."""
        self.counters.errors["tunnel-timeout"] += 1
        self.abort()

    def touch(self) -> None:
        """Something has happened."""
        self.deadline = self._now() + self._silence

    def ended(self) -> None:
        """A direction has ended or gone out; close when that is true of both."""
        if self._sides and all(side.ended and not side.stream.unsent for side in self._sides):
            for side in self._sides:
                side.stream.close()
            self._gone()

    def greeted(self) -> None:
        """The agent speaks TLS: the intake would not understand what this carries to it."""
        self._frontend.greeted(*refusal(self._agent.peer()))
        self._agent.write(ALERT)
        self._agent.close()
        self.abort()

    def agent_lost(self) -> None:
        """The agent's connection broke."""
        self.counters.errors["agent-closed"] += 1
        self.abort()

    def upstream_lost(self, where: str, reason: Exception | None) -> None:
        """The upstream's connection broke: the agent must not take this for an end in order."""
        name = self._backend.upstream.name
        self._frontend.failed(UpstreamError("upstream-closed", 502, name, where, "answer", describe(reason)))
        self.abort()

    def abort(self) -> None:
        """Cut both sides."""
        self._agent.abort(reset=True)
        if self._sides:
            self._sides[1].stream.abort(reset=True)
        self._gone()

    def _gone(self) -> None:
        self.deadline = NEVER
        if self._search is not None:
            self._search.cancel()
            self._search = None
        if self._sides is not None:
            # Circles, as in ``Exchange._gone``.
            del self._sides[0].other
            self._sides = None
        self._frontend.deadlines.forget(self)
        self._frontend.closed(self)


class _Side:
    """What one stream gives goes to the other.

    Attributes:
        other: the side that takes.
        ended: this side sends no more.
    """

    other: _Side

    def __init__(self, bridge: Bridge, stream: Stream) -> None:
        self.stream = stream
        self.ended = False
        self._bridge = bridge
        self._touch = bridge.touch
        self._counters = bridge.counters
        stream.user = self

    def stream_drained(self) -> None:
        """This side has taken what was kept."""
        self._touch()
        if self.other.ended:
            self._bridge.ended()
        else:
            self.other.stream.resume()

    def stream_eof(self) -> None:
        """This side sends no more."""
        self.ended = True
        self.other.stream.write_eof()
        self._bridge.ended()


class _AgentSide(_Side):
    _begun = False

    def stream_data(self, view: memoryview) -> None:
        """Pass it on; a slow upstream pauses the agent."""
        self._counters.bytes_in += len(view)
        if not self._begun:
            self._begun = True
            if is_hello(view):
                self._bridge.greeted()
                return
        self._touch()
        if not self.other.stream.write(view):
            self.stream.pause()

    def stream_lost(self, reason: Exception | None) -> None:
        self._bridge.agent_lost()


class _UpstreamSide(_Side):
    def __init__(self, bridge: Bridge, stream: TlsStream) -> None:
        super().__init__(bridge, stream)
        self._name = stream.name

    def stream_data(self, view: memoryview) -> None:
        """Pass it on; a slow agent pauses the upstream."""
        self._counters.bytes_out += len(view)
        self._touch()
        if not self.other.stream.write(view):
            self.stream.pause()

    def stream_lost(self, reason: Exception | None) -> None:
        self._bridge.upstream_lost(self._name, reason)
