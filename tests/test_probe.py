"""Probes: when they check, what they tell, and what they leave behind."""

from __future__ import annotations

import socket
from itertools import pairwise
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Timeouts
from fipsrelay.crypto.policy import SP800_52
from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.connect import Attempt, Means, Place
from fipsrelay.upstream.health import Health
from fipsrelay.upstream.probe import Probe
from fipsrelay.upstream.server import Server
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import Buffers
from tests.doubles import FakeStream, Reactor
from tests.searches import TICK, Played, PlayedMeans

ADDRESS = "127.0.0.1"
INTERVAL, SHORTEST, LONGEST = 10, 9, 11
TIMEOUTS = Timeouts()

events = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((1, 2, 7, 8, 9, 10, 11, 30))),
    st.tuples(st.just("chance"), st.sampled_from((0, 0.3, 1))),
    st.tuples(st.sampled_from(("answer", "pass", "fail")), st.just(0)),
)


class Probes(SynchronousTestCase):
    """One server and its probe; the test is the judge.

    Attributes:
        chance: what the probe draws from now on.
        told: what the judge heard: when, and None or the detail of the error.
        means: whose attempts the test plays.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.deadlines = Deadlines(self.reactor, 0.5)
        self.chance = 0.5
        self.told: list[tuple[float, str | None]] = []
        none = cast(Any, None)
        self.means = PlayedMeans(self.reactor, Buffers(16), self.deadlines, none, SP800_52, TIMEOUTS, none)
        self.make(self.means)

    def make(self, means: Means, port: int = 443, interval: float = INTERVAL) -> None:
        health = Health(3, 1, self.reactor.seconds())
        self.server = Server(1, Place("intake.example", port, ADDRESS), health, means, lambda server: None)
        self.probe = Probe(self.server, "up", interval, means, lambda: self.chance, self)

    def passed(self, server: Server, attempt: Attempt) -> None:
        server.health.passed(self.reactor.seconds())
        self.tell(server, None)

    def failed(self, server: Server, attempt: Attempt, error: UpstreamError) -> None:
        server.health.failed(self.reactor.seconds(), error.detail, attempt.began)
        self.tell(server, error.detail)

    def tell(self, server: Server, what: str | None) -> None:
        self.assertIs(server, self.server)
        self.told.append((self.reactor.seconds(), what))

    def wait_until(self, moment: float) -> None:
        """From one delayed call to the next: all calls of a longer step would see its last moment."""
        while (now := self.reactor.seconds()) < moment:
            calls = [call.getTime() for call in self.reactor.getDelayedCalls()]
            self.reactor.advance(min([*calls, moment]) - now)

    @property
    def checks(self) -> list[float]:
        """When they began."""
        return [attempt.began for attempt in self.means.attempts]

    @property
    def check(self) -> Played:
        """The one that is under way."""
        [attempt] = [attempt for attempt in self.means.attempts if attempt.runs]
        return attempt

    def first(self) -> Played:
        """The first check, after a second."""
        self.probe.start()
        self.wait_until(1)
        return self.check

    def answer(self) -> None:
        """The server answers a request."""
        self.server.outstanding += 1
        stream: Any = FakeStream()
        self.server.adopt(stream)
        stream.keeper.give_back()

    def assert_next(self, moment: float) -> None:
        """Checks again then, and not before."""
        before = self.checks
        self.wait_until(moment - TICK)
        self.assertEqual(self.checks, before)
        self.wait_until(moment)
        self.assertEqual(self.checks, [*before, moment])


class TimeTests(Probes):
    def test_first(self) -> None:
        """Soon, but not for all servers of a fleet at the same moment."""
        for interval, chance, moment in ((10, 0.25, 0.5), (10, 0.5, 1), (10, 1, 2), (1, 1, 1), (1, 0.5, 0.5)):
            with self.subTest(interval=interval, chance=chance):
                self.setUp()
                self.make(self.means, interval=interval)
                self.chance = chance
                self.probe.start()
                self.assertEqual(self.checks, [])
                self.assert_next(moment)

    def test_interval(self) -> None:
        """From beginning to beginning, with a tenth of it to either side."""
        self.first().come_up()
        for chance, interval in ((0, SHORTEST), (1, LONGEST), (0.5, INTERVAL)):
            self.chance = chance
            self.assert_next(self.checks[-1] + INTERVAL)  # this one was drawn before
            self.check.come_up()
            self.assert_next(self.checks[-1] + interval)
            self.chance = 0.5
            self.check.come_up()
            self.assert_next(self.checks[-1] + interval)
            self.check.come_up()

    def test_slow_checks(self) -> None:
        """What comes of a check does not put off the next one."""
        self.first()
        self.wait_until(6)
        self.check.fail("timeout")
        self.assert_next(11)
        self.wait_until(15)
        self.check.come_up()
        self.assert_next(21)

    def test_hanging_check(self) -> None:
        """Another one begins only at the first turn after its end."""
        self.first()
        self.wait_until(25)
        self.assertEqual(self.checks, [1])
        self.check.fail()
        self.assert_next(31)

    def test_traffic(self) -> None:
        """An answer within nine seconds is as good as a check."""
        self.first().come_up()
        self.wait_until(2 + TICK)
        self.answer()
        self.assert_next(21)
        self.check.come_up()
        self.wait_until(22)
        self.answer()
        self.assert_next(31)

    def test_failed_traffic(self) -> None:
        """It does not put a check off: that would be the one that finds the server again."""
        self.first().come_up()
        self.wait_until(5)
        self.server.health.failed(5, "why", 5)
        self.assert_next(11)

    def test_traffic_during_a_slow_check(self) -> None:
        self.first()
        self.wait_until(5)
        self.answer()
        self.wait_until(6)
        self.check.fail("timeout")
        self.assert_next(21)

    def test_traffic_before_the_first_check(self) -> None:
        self.answer()
        self.probe.start()
        self.assert_next(11)

    def test_steady_traffic(self) -> None:
        """No check at all."""
        self.probe.start()
        for _ in range(100):
            self.answer()
            self.reactor.advance(1)
        self.assertEqual(self.checks, [])

    @settings(max_examples=200, deadline=None)
    @given(st.lists(events, max_size=40))
    def test_any_order(self, played: list[tuple[str, float]]) -> None:
        """One at a time and in an interval, none soon after traffic, and none is forgotten."""
        self.setUp()
        answers = [float("-inf")]
        ends = [0.0]
        self.probe.start()
        for name, how in played:
            if name == "wait":
                self.reactor.pump([0.25] * int(4 * how))
            elif name == "chance":
                self.chance = how
            elif name == "answer":
                answers.append(self.reactor.seconds())
                self.answer()
            else:
                for attempt in [attempt for attempt in self.means.attempts if attempt.runs]:
                    attempt.come_up() if name == "pass" else attempt.fail()
                    ends.append(self.reactor.seconds())
            for earlier, later in pairwise(self.checks):
                self.assertGreaterEqual(later - earlier, SHORTEST)
            for began in self.checks:
                self.assertFalse(any(0 < began - answer < SHORTEST - 0.25 for answer in answers))
            self.assertLessEqual(len([attempt for attempt in self.means.attempts if attempt.runs]), 1)
            self.assertEqual(len(self.told), len(ends) - 1)
            if not any(attempt.runs for attempt in self.means.attempts):
                last = max(*ends, answers[-1] + LONGEST)
                self.assertLessEqual(self.reactor.seconds() - last, LONGEST + 0.25)
        self.probe.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class OutcomeTests(Probes):
    def test_passed(self) -> None:
        """Its connection is closed, and counts nowhere."""
        attempt = self.first()
        attempt.reach()
        self.assertEqual(self.told, [])
        self.wait_until(3)
        stream = attempt.come_up()
        self.assertEqual((stream.how, stream.keeper), ("closed", None))
        self.assertEqual((self.server.outstanding, self.server.free, self.server.take()), (0, [], None))
        self.assertEqual(self.told, [(3, None)])

    def test_failed(self) -> None:
        attempt = self.first()
        self.wait_until(3)
        attempt.fail("tls")
        self.assertEqual(self.told, [(3, "tls")])

    def test_failed_at_once(self) -> None:
        """Inside ``start``, as when the kernel knows no way there."""
        self.means.fails[ADDRESS] = "unreachable"
        self.probe.start()
        self.reactor.pump([1] * 21)
        self.assertEqual(self.told, [(1, "unreachable"), (11, "unreachable"), (21, "unreachable")])


class StopTests(Probes):
    def tearDown(self) -> None:
        checks, told = list(self.checks), list(self.told)
        self.reactor.pump([1] * 50)
        self.assertEqual((self.checks, self.told), (checks, told))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_before_start(self) -> None:
        self.probe.stop()

    def test_before_the_first_check(self) -> None:
        self.probe.start()
        self.probe.stop()

    def test_between_checks(self) -> None:
        self.first().come_up()
        self.probe.stop()

    def test_during_a_check(self) -> None:
        attempt = self.first()
        self.probe.stop()
        self.assertEqual(attempt.state, "cancelled")

    def test_twice(self) -> None:
        self.first()
        self.probe.stop()
        self.probe.stop()


class RealTests(Probes):
    """Attempts that are not played."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = socket.create_server((ADDRESS, 0))
        self.addCleanup(self.listener.close)
        none = cast(Any, None)
        tls_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        real = Means(self.reactor, Buffers(), self.deadlines, tls_context, SP800_52, TIMEOUTS, none)
        self.make(real, self.listener.getsockname()[1])
        self.deadlines.start()
        self.probe.start()

    def tearDown(self) -> None:
        self.probe.stop()
        self.deadlines.stop()
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertEqual([timed for timed in self.deadlines._watched if isinstance(timed, Attempt)], [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def accept(self) -> socket.socket:
        """The check's connection, once TLS has begun."""
        self.listener.settimeout(10)
        peer, _ = self.listener.accept()
        self.addCleanup(peer.close)
        peer.settimeout(10)
        self.reactor.run(lambda: self.reactor.readers)
        peer.recv(1, socket.MSG_PEEK)
        return peer

    def test_refused(self) -> None:
        self.listener.close()
        self.wait_until(1)
        self.reactor.run(lambda: self.told)
        self.assertEqual(self.told, [(1, 'Layer4 connection problem, info: "Connection refused"')])

    def test_silent(self) -> None:
        """TCP is not enough."""
        self.wait_until(1)
        self.accept()
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.told, [])
        self.reactor.pump([0.5] * 2)
        self.assertEqual(self.told, [(6, "Layer6 timeout")])

    def test_stopped(self) -> None:
        """The server sees it go."""
        self.wait_until(1)
        peer = self.accept()
        self.probe.stop()
        while peer.recv(1000):
            pass
        self.assertEqual(self.told, [])
