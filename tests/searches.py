"""Searches whose attempts a test plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Probes, Timeouts
from fipsrelay.crypto.policy import SP800_52, HandshakeFacts
from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Attempt, AttemptUser, Means, Place
from fipsrelay.upstream.names import Names
from fipsrelay.upstream.search import RETRIES, Search
from fipsrelay.upstream.server import Server
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import Buffers
from tests.doubles import FakeStream, Reactor

HOST = "intake.example"
A, B, C, D, E = (f"192.0.2.{number}" for number in range(1, 6))
A6, B6 = "2001:db8::1", "2001:db8::2"
TIMEOUTS = Timeouts()
IN_ALL = TIMEOUTS.connect + TIMEOUTS.handshake
STAGGER, PAUSE = 0.25, 1.0
OVERDUE = Probes().interval + 1
TICK = 1 / 1024  # exact in binary, so that no sum of times is off


class Played:
    """Follows ``upstream.connect.Attempt``; the test decides what comes of it.

    Attributes:
        state: ``made``, ``running``, ``reached``, ``ready``, ``failed`` or ``cancelled``.
        fails: ``start`` ends with this code at once; empty if not.
        user: the search.
        facts: what a handshake comes to.
    """

    facts = HandshakeFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "P-256", True, ())

    def __init__(self, place: Place, user: AttemptUser, began: float, fails: str = "") -> None:
        self.place = place
        self.began = began
        self.state = "made"
        self.fails = fails
        self.user: Any = user

    @property
    def runs(self) -> bool:
        return self.state in ("running", "reached")

    def start(self) -> None:
        assert self.state == "made"
        self.state = "running"
        if self.fails:
            self.fail(self.fails)

    def cancel(self) -> None:
        if self.runs:
            self.state = "cancelled"

    def reach(self) -> None:
        """TCP is up."""
        assert self.state == "running"
        self.state = "reached"
        self.user.attempt_reached(self)

    def come_up(self) -> FakeStream:
        assert self.runs
        self.state = "ready"
        stream = FakeStream()
        self.user.attempt_ready(self, stream)
        return stream

    def fail(self, code: str = "connect-refused") -> None:
        assert self.runs
        self.state = "failed"
        self.user.attempt_failed(self, failure(code, str(self.place)))


def failure(code: str = "connect-refused", where: str = "") -> UpstreamError:
    """Of TCP, or of TLS where the code says so."""
    return UpstreamError(code, 502 if code.startswith("tls") else 503, "up", where, "connect", code)


@attrs.frozen
class PlayedMeans(Means):
    """Means whose attempts the test plays.

    Attributes:
        attempts: made so far.
        fails: by IP address, the code with which attempts fail inside ``start``.
        made: these are called with each new one.
    """

    attempts: list[Played] = attrs.field(factory=list)
    fails: dict[str, str] = attrs.field(factory=dict)
    made: list[Callable[[Played], object]] = attrs.field(factory=list)

    def attempt(self, place: Place, upstream: str, user: AttemptUser) -> Attempt:
        attempt = Played(place, user, self.deadlines.now(), self.fails.get(place.address, ""))
        self.attempts.append(attempt)
        for call in self.made:
            call(attempt)
        return cast(Attempt, attempt)


class Caller:
    """Who asked for a connection.

    Args:
        react: see below.

    Attributes:
        react: called with the name of each event after it was written down.
        heard: names of events in order, with the code of the error where there is one.
        left: it has cancelled.
    """

    def __init__(self, react: Callable[[str], object] = lambda name: None) -> None:
        self.heard: list[str] = []
        self.left = False
        self.stream: Any = None
        self.error: UpstreamError | None = None
        self.react = react

    def _hear(self, name: str, code: str = "") -> None:
        assert not self.left, "a caller that has left hears nothing"
        assert not self.heard or self.heard[-1].startswith("retrying"), "nothing follows the outcome"
        self.heard.append(f"{name} {code}".rstrip())
        self.react(name)

    def connected(self, stream: Any) -> None:
        self.stream = stream
        self._hear("connected")

    def refused(self, error: UpstreamError) -> None:
        self.error = error
        self._hear("refused", error.code)

    def retrying(self, error: UpstreamError) -> None:
        self._hear("retrying", error.code)


class Searches(SynchronousTestCase):
    """A cluster with attempts to play. Every search must have ended with its test, and have left nothing behind."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.deadlines = Deadlines(self.reactor, 0.5)
        self.deadlines.start()
        self.questions: list[Deferred[tuple[str, ...]]] = []
        self.names = Names(self.reactor, self.resolve, 30, lambda: 0.5)
        buffer, context = Buffers(16), cast(Any, None)
        self.means = PlayedMeans(self.reactor, buffer, self.deadlines, context, SP800_52, TIMEOUTS, self.names)
        self.callers: list[Caller] = []
        self.servers: list[Server] = []  # all that there ever were

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        self.questions.append(Deferred())
        return self.questions[-1]

    def begin(self, *addresses: str, fall: int = 100) -> Cluster:
        """The cluster: of these addresses, or else of those that DNS will give."""
        probes = Probes(enabled=False, fall=fall)
        self.cluster = Cluster(HOST, 443, addresses, None, self.means, probes, lambda: 0.5)
        self.cluster.start()
        self.note_servers()
        return self.cluster

    def answer(self, *addresses: str) -> None:
        """What DNS says to the last question."""
        self.questions[-1].callback(addresses)
        self.note_servers()

    def note_servers(self) -> None:
        """Those that are new."""
        self.servers += [server for server in self.cluster.servers if server not in self.servers]

    def learn(self, *addresses: str) -> None:
        """As often as it takes until the others count as gone."""
        for _ in range(2):
            self.cluster.learn(addresses)
        self.note_servers()

    def search(self, retries: int = RETRIES, react: Callable[[str], object] = lambda name: None) -> Caller:
        caller = Caller(react)
        self.callers.append(caller)
        self.last = Search(self.cluster, "up", self.means, caller, retries)
        self.last.start()
        return caller

    def leave(self) -> None:
        """The last caller cancels."""
        self.callers[-1].left = True
        self.last.cancel()

    @property
    def tried(self) -> list[str]:
        return [attempt.place.address for attempt in self.means.attempts]

    @property
    def running(self) -> list[str]:
        return [attempt.place.address for attempt in self.means.attempts if attempt.runs]

    def attempt(self, address: str) -> Played:
        """The one that is under way."""
        [found] = [each for each in self.means.attempts if each.place.address == address and each.runs]
        return found

    def server(self, address: str) -> Server:
        """The last one of that address."""
        return [server for server in self.servers if server.place.address == address][-1]

    def down(self, *addresses: str, failures: int = 0) -> None:
        """As probes would find, with so many failures more than it takes."""
        for address in addresses:
            server = self.server(address)
            probe: Any = Played(server.place, cast(Any, None), self.deadlines.now())
            for _ in range(server.health.fall + failures):
                self.cluster.failed(server, probe, failure("timeout"))
                probe.began += 1  # what fails in the same second is not counted

    def up(self, address: str) -> None:
        server = self.server(address)
        probe: Any = Played(server.place, cast(Any, None), self.deadlines.now())
        self.cluster.passed(server, probe)

    def wait(self, seconds: float) -> None:
        """Up to the moment before, and then that moment."""
        self.reactor.advance(seconds - TICK)
        self.reactor.advance(TICK)

    def assert_waits(self, seconds: float, address: str) -> None:
        """The next try is of this server, at that time and not before."""
        before = list(self.tried)
        self.reactor.advance(seconds - TICK)
        self.assertEqual(self.tried, before)
        self.reactor.advance(TICK)
        self.assertEqual(self.tried, [*before, address])

    def tearDown(self) -> None:
        self.assertEqual(self.running, [])
        for caller in self.callers:
            if caller.stream is not None:
                caller.stream.close()
            elif not caller.left:
                self.assertTrue(caller.heard[-1].startswith("refused"), caller.heard)
        self.assertEqual({server: server.outstanding for server in self.servers}, dict.fromkeys(self.servers, 0))
        self.assertIsNone(self.cluster.trial)
        self.assertEqual([timed for timed in self.deadlines._watched if isinstance(timed, Search)], [])
        self.names.stop()
        self.deadlines.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
