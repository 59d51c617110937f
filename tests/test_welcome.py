"""The handshake with an agent: judged, handed over once, and given up in every other case."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.crypto import context
from fipsrelay.crypto.policy import HandshakeFacts
from fipsrelay.relay import welcome
from fipsrelay.relay.exchange import Exchange
from fipsrelay.relay.welcome import Welcome
from fipsrelay.wire.deadlines import NEVER
from tests.doubles import FakeStream, Port

FACTS = HandshakeFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "P-256", True, ())


class FakeTlsStream(FakeStream):
    """Follows ``wire.tls.TlsStream`` up to its handshake.

    Attributes:
        connection: what the judge is given.
    """

    connection = object()

    def start(self, user: Any) -> None:
        self.user = user
        self.user.stream_connected()


class WelcomeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.broken: list[str] = []
        self.examined: list[object] = []
        self.patch(context, "examine", self.examine)
        self.patch(welcome, "judge_session", lambda facts, policy: self.broken)
        self.port = Port()
        self.exchange = Exchange(self.port.frontend)
        self.welcome = Welcome(self.port.frontend, self.exchange)
        self.stream = FakeTlsStream()
        self.welcome.makeConnection(cast(Any, self.stream))

    def examine(self, connection: object) -> HandshakeFacts:
        self.examined.append(connection)
        return FACTS

    def open(self) -> tuple[int, int, int]:
        """Connections: all so far, open ones, places left."""
        return self.port.counters.connections, self.port.counters.open_connections, self.port.room.left

    def assert_given_up(self, errors: dict[str, int]) -> None:
        self.assertEqual(self.open(), (1, 0, 10))
        self.assertEqual(self.port.counters.errors, errors)
        self.assertEqual(self.welcome.deadline, NEVER)
        self.assertEqual(self.port.deadlines._watched, set())

    def test_handed_over(self) -> None:
        """It stays one connection, with the deadline of its successor."""
        self.assertEqual(self.open(), (1, 1, 9))
        self.stream.user.stream_ready()
        self.assertEqual(self.examined, [self.stream.connection])
        self.assertIs(self.stream.user, self.exchange)
        self.assertTrue(self.stream.reading)
        self.assertEqual(self.open(), (1, 1, 9))
        self.assertEqual(self.port.counters.handshakes, {FACTS.parameters: 1})
        self.assertEqual(self.port.deadlines._watched, {self.exchange})
        self.assertEqual(self.exchange.deadline, self.port.timeouts.agent_keep_alive)
        self.stream.lose()
        self.assertEqual(self.open(), (1, 0, 10))

    def test_policy(self) -> None:
        self.broken = ["protocol TLSv1.1"]
        self.stream.user.stream_ready()
        self.assertEqual(self.stream.how, "reset")
        self.assert_given_up({"agent-tls": 1})

    def test_lost(self) -> None:
        self.stream.lose()
        self.assert_given_up({"agent-tls": 1})

    def test_silence(self) -> None:
        self.port.wait(4)
        self.assertTrue(self.stream.is_open)
        self.port.wait(2)
        self.assertEqual(self.stream.how, "reset")
        self.assert_given_up({"agent-tls-timeout": 1})

    def test_never_idle(self) -> None:
        """The handshake's own deadline is soon enough."""
        self.assertEqual(self.welcome.idle_since(), NEVER)
        self.assertFalse(self.welcome.give_way())
        self.assertTrue(self.stream.is_open)

    def test_drain_of_a_fresh_one(self) -> None:
        """Its request may be on its way, and is served."""
        drained = self.port.frontend.drain()
        self.assertTrue(self.stream.is_open)
        self.stream.user.stream_ready()
        self.assertNoResult(drained)
        self.assertIs(self.stream.user, self.exchange)
        self.port.wait(2)
        self.assertEqual(self.stream.how, "closed")
        self.successResultOf(drained)

    def test_drain_of_a_silent_one(self) -> None:
        drained = self.port.frontend.drain()
        self.port.wait(2)
        self.assertEqual(self.stream.how, "reset")
        self.assert_given_up({})
        self.successResultOf(drained)

    def test_drain(self) -> None:
        self.port.wait(2)
        drained = self.port.frontend.drain()
        self.assertEqual(self.stream.how, "reset")
        self.assert_given_up({})
        self.successResultOf(drained)
