"""Target: one agent connection from its beginning to its end, with whatever upstream connections come of it.

An input is a script: options, then steps, each after a record separator (RS, 0x1e): a letter for what happens and what
it needs. What an upstream says is the input's too, so it may be anything; ``#`` in it becomes a letter that stands for
the request under way. Nothing may escape, nothing may grow or spin, every byte must be where it belongs, and when
nobody does anything any more, time alone must end it all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from fipsrelay.config.model import Limits, Retries
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.frontend import Frontend
from fipsrelay.wire.http1 import parse_request
from tests.doubles import REFUSED, FakeSearch, FakeStream, Port
from tests.fuzz.inputs import expand, held, length
from tests.fuzz.peers import READ, LendingBackend, Peer, UpstreamPeer
from tests.fuzz.transcript import check_answers, check_asked, check_returned
from tests.messages import Reader

SEPARATOR = b"\x1e"
LIMITS = Limits(head_size=600, header_lines=12)
REPLAY_SIZE = 1500
_PAUSES = (1.0, 6.0, 11.0, 31.0, 61.0, 121.0)
_TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x28"
_STEPS = 200  # at most
_ROUND, _ROUNDS = 20.0, 40  # seconds, and how many of them may pass before all must have ended

# Bounds of what is kept. A head may grow by its Host and framing; trailers may be 16 KB, in lines of 4 KB.
_HEAD = LIMITS.head_size + 100
_OWN = _HEAD + READ + max(REPLAY_SIZE, _HEAD + READ)  # a head, what came ahead, and what may be sent again
_BODY = 4096 + 16384 + 4096
# One write: what a read made of a head and the interim answers before it, a last chunk with trailers, an error answer.
_UNSENT = _HEAD + 2 * READ + _BODY + 1000


class World:
    """An exchange between its two ends.

    Args:
        options: letters: ``p`` lets every request be sent again.
        make: the exchange under test.
    """

    def __init__(self, options: bytes, make: Callable[[Frontend], Exchange]) -> None:
        self.replay = b"p" in options
        retries = Retries(self.replay, REPLAY_SIZE)
        self.port = Port(limits=LIMITS, retries=retries)
        self.accepted: list[str] = []
        self.backends = [LendingBackend(name, self.returned, retries, self.accepted) for name in self.port.backends]
        self.port.backends.update((backend.upstream.name, backend) for backend in self.backends)
        frontend = self.port.frontend  # which goes by these from now on, as after a reload
        frontend.change(frontend.intake, frontend.timeouts, frontend.limits, frontend.policy, frontend.tls)
        self.requests = Reader(lambda data: parse_request(data, LIMITS.header_lines), LIMITS.head_size)
        self.agent = Peer(lambda piece: self.requests.feed(piece or b""))
        self.upstreams: list[UpstreamPeer] = []
        self.drained: Any = None
        self.exchange = make(self.port.frontend)
        self.exchange.makeConnection(cast(Any, self.agent))

    def returned(self, stream: FakeStream) -> None:
        assert isinstance(stream, UpstreamPeer)
        check_returned(stream, self.requests.messages, LIMITS)

    def searches(self) -> list[tuple[LendingBackend, FakeSearch]]:
        """Those that wait for the test."""
        return [(backend, search) for backend in self.backends for search in backend.searches if not search.over]

    def lent(self) -> list[UpstreamPeer]:
        return [peer for peer in self.upstreams if peer.user is not None]

    def play(self, step: bytes) -> None:
        """Let one thing happen, if it can. Whoever had gone before gets nothing more."""
        gone = [peer for peer in (self.agent, *self.upstreams) if not peer.is_open]
        for peer in gone:
            peer.late = b""
        letter = step[:1] if step[:1] in ACTIONS else LETTERS[ord(step[:1]) % len(LETTERS)]
        ACTIONS[letter](self, step[1:])
        self.settle()
        assert not any(peer.late for peer in gone)
        self.check_bounds()

    def settle(self) -> None:
        """What can be read now is read."""
        for peer in (self.agent, *self.upstreams, self.agent):
            peer.deliver()
        for backend in self.backends:
            backend.end_idle()

    # -- what may happen

    def agent_sends(self, data: bytes) -> None:
        if not self.agent.ending:
            self.agent.queue += expand(data)

    def agent_ends(self, data: bytes) -> None:
        self.agent.ending = True

    def agent_breaks(self, data: bytes) -> None:
        break_off(self.agent, data)

    def agent_takes(self, data: bytes) -> None:
        take(self.agent, data)

    def connects(self, data: bytes) -> None:
        for backend, search in self.searches():
            peer = UpstreamPeer()
            self.upstreams.append(peer)
            if data:
                take(peer, data)
            search.connect(backend.lend(peer))

    def retried(self, data: bytes) -> None:
        for _, search in self.searches():
            search.retry()

    def refused(self, data: bytes) -> None:
        for _, search in self.searches():
            search.refuse()

    def upstream_says(self, data: bytes) -> None:
        for peer in self.lent():
            if not peer.ending:
                peer.queue += expand(data).replace(b"#", b"%c" % (65 + peer.lendings[-1].number % 26))

    def upstream_ends(self, data: bytes) -> None:
        for peer in self.lent():
            peer.ending = True

    def upstream_breaks(self, data: bytes) -> None:
        for peer in self.lent():
            break_off(peer, data)

    def upstream_takes(self, data: bytes) -> None:
        for peer in self.lent():
            take(peer, data)

    def idle_end(self, data: bytes) -> None:
        for backend in self.backends:
            for stream in backend.free:
                stream.lose()

    def turn(self, data: bytes) -> None:
        self.port.reactor.turn()

    def time_passes(self, data: bytes) -> None:
        self.port.reactor.pump([_PAUSES[sum(data[:1]) % len(_PAUSES)] / 4] * 4)

    def drains(self, data: bytes) -> None:
        if self.drained is None:
            self.drained = self.port.frontend.drain()

    def gives_way(self, data: bytes) -> None:
        """There is no room for another connection, and this one may be idle."""
        if self.exchange.idle_since() <= self.port.reactor.seconds() - 1 and self.agent.is_open:
            self.exchange.give_way()

    def aborts(self, data: bytes) -> None:
        self.port.frontend.abort()

    # -- what must be true

    def check_bounds(self) -> None:
        exchange = self.exchange
        assert held(exchange) <= _OWN, "kept by the exchange"
        answer = getattr(exchange, "_answer", None)
        assert (answer is not None) == self.agent.is_open, "it lets go of the answer at its end"
        for heads in (exchange._heads, getattr(answer, "_heads", None)):
            assert held(heads) <= LIMITS.head_size, "kept of a head"
        for body in (exchange._body, getattr(answer, "_body", None)):
            assert held(body) <= _BODY, "kept of a body"
        for peer in (self.agent, *self.upstreams):
            assert peer.most <= _UNSENT, "not sent"
        assert self.port.counters.open_connections == int(self.agent.is_open)

    def end(self) -> None:
        """Nobody does anything more: time ends it, and then nothing is left."""
        port = self.port
        for backend in self.backends:
            backend.refusal = REFUSED
        for _ in range(_ROUNDS):
            self.play(b"r")
            self.play(b"t")
            while any(call.getTime() <= port.reactor.seconds() for call in port.reactor.getDelayedCalls()):
                self.play(b"t")
            if not self.agent.is_open:
                break
            port.reactor.advance(_ROUND)
        assert not self.agent.is_open, "a hang"
        assert (self.exchange._search, self.exchange._upstream, self.searches()) == (None, None, [])
        assert (port.deadlines._watched, port.room.left) == (set(), 10)
        assert self.drained is None or self.drained.called
        free = [stream for backend in self.backends for stream in backend.free]
        assert not any(peer.is_open and peer not in free for peer in self.upstreams)
        port.deadlines.stop()
        assert port.reactor.getDelayedCalls() == []
        self.check_transcripts()

    def check_transcripts(self) -> None:
        messages = self.requests.messages
        requests = messages[: len(self.accepted)]
        faulty = len(messages) == len(requests) and (self.requests.error is not None or self.requests._heads.begun)
        assert len(requests) == len(self.accepted)
        check_asked(self.upstreams, requests, self.replay)
        lendings = [lending for peer in self.upstreams for lending in peer.lendings]
        data = bytes(self.agent.sent).removesuffix(_TLS_ALERT)
        ended = self.agent.ended or self.agent.how == "closed"
        check_answers(data, ended, requests, faulty, lendings, LIMITS)


def break_off(peer: Peer, data: bytes) -> None:
    """At once, or at the next write."""
    if data:
        peer.breaks = True
    else:
        peer.lose()


def take(peer: Peer, data: bytes) -> None:
    """The kernel takes everything again; or nothing; or only so many bytes of the next write."""
    if not data:
        if peer.is_open:
            peer.drain()
    elif data[:1] == b"0":
        peer.blocked = True
    else:
        peer.window = length(ord(data[:1]))


ACTIONS: dict[bytes, Callable[[World, bytes], None]] = {
    b"a": World.agent_sends,
    b"e": World.agent_ends,
    b"x": World.agent_breaks,
    b"w": World.agent_takes,
    b"c": World.connects,
    b"y": World.retried,
    b"r": World.refused,
    b"u": World.upstream_says,
    b"E": World.upstream_ends,
    b"X": World.upstream_breaks,
    b"W": World.upstream_takes,
    b"i": World.idle_end,
    b"t": World.turn,
    b"p": World.time_passes,
    b"d": World.drains,
    b"g": World.gives_way,
    b"k": World.aborts,
}
LETTERS = list(ACTIONS)


def check(data: bytes, make: Callable[[Frontend], Exchange] = Exchange) -> World:
    """Check one input.

    Args:
        data: the input.
        make: the exchange under test.

    Returns:
        What there is at the end.
    """
    options, *steps = data.split(SEPARATOR)
    world = World(options, make)
    for step in steps[:_STEPS]:
        if step:
            world.play(step)
    world.end()
    return world
