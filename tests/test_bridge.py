"""Bridges: raw TCP between a played agent and a played upstream."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.bridge import Bridge
from fipsrelay.wire.deadlines import NEVER
from tests.doubles import FakeStream, Port


class BridgeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = Port("tcp")
        self.agent = cast(Any, FakeStream())
        self.bridge = Bridge(self.port.frontend)
        self.bridge.makeConnection(self.agent)
        self.attempt = self.port.backend.searches[0]

    def connect(self) -> FakeStream:
        return self.attempt.connect(FakeStream())

    def assert_over(self, *hows: str, **errors: int) -> None:
        """How the streams ended, agent first."""
        streams = [self.agent] if len(hows) == 1 else [self.agent, self.upstream]
        self.assertEqual(tuple(stream.how for stream in streams), hows)
        self.assertEqual((self.port.counters.open_connections, self.port.room.left), (0, 10))
        self.assertEqual(self.port.deadlines._watched, set())
        self.assertEqual(dict(self.port.counters.errors), {name.replace("_", "-"): n for name, n in errors.items()})
        self.port.wait(5000)
        self.assertEqual(dict(self.port.counters.errors), {name.replace("_", "-"): n for name, n in errors.items()})

    def test_agent_waits_for_the_upstream(self) -> None:
        self.assertFalse(self.agent.reading)
        self.connect()
        self.assertTrue(self.agent.reading)

    def test_refused(self) -> None:
        """There are no words for it in raw TCP."""
        self.attempt.refuse()
        self.assert_over("reset", connect_refused=1)

    def test_both_ways(self) -> None:
        upstream = self.connect()
        self.agent.give(b"hello")
        upstream.give(b"hi")
        self.assertEqual((bytes(upstream.sent), bytes(self.agent.sent)), (b"hello", b"hi"))
        self.assertEqual((self.port.counters.bytes_in, self.port.counters.bytes_out), (5, 2))

    def test_tls(self) -> None:
        """A ClientHello at the beginning is refused in its own words, and nowhere else."""
        self.upstream = self.connect()
        self.agent.give(b"\x16\x03\x01\x02\x00\x01" + bytes(512))
        self.assertEqual((bytes(self.upstream.sent), bytes(self.agent.sent)), (b"", b"\x15\x03\x01\x00\x02\x02\x28"))
        self.assert_over("closed", "reset", tls_to_plaintext=1)

    def test_what_only_looks_like_tls(self) -> None:
        upstream = self.connect()
        for data in (b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01" + bytes(512)):
            self.agent.give(data)
        self.assertEqual(len(upstream.sent), 3 + 518)
        self.assertIsNone(self.agent.how)

    def test_never_idle(self) -> None:
        upstream = self.connect()
        for _ in range(2):
            self.assertEqual(self.bridge.idle_since(), NEVER)
            self.assertFalse(self.bridge.give_way())
            self.assertIsNone(upstream.how)
            self.port.wait(100)

    def test_slow_sides(self) -> None:
        upstream = self.connect()
        for giver, taker in ((self.agent, upstream), (upstream, self.agent)):
            taker.blocked = True
            giver.give(b"kept")
            self.assertEqual((giver.reading, taker.reading, taker.unsent), (False, True, 4))
            taker.drain()
            self.assertTrue(giver.reading)
            self.assertEqual(bytes(taker.sent), b"kept")

    def test_each_direction_ends_by_itself(self) -> None:
        for first in (0, 1):
            self.setUp()
            self.upstream = self.connect()
            sides = [self.agent, self.upstream]
            one, other = sides[first], sides[1 - first]
            one.eof()
            self.assertEqual((other.ended, other.how), (True, None))
            other.give(b"still here")
            self.assertEqual(bytes(one.sent), b"still here")
            other.eof()
            self.assertTrue(one.ended)
            self.assert_over("closed", "closed")

    def test_last_bytes_come_before_the_end(self) -> None:
        self.upstream = self.connect()
        self.upstream.eof()
        self.upstream.blocked = True
        self.agent.give(b"last")
        self.agent.resume()
        self.agent.eof()
        self.assertEqual((self.agent.how, self.upstream.how, self.upstream.ended), (None, None, False))
        self.upstream.drain()
        self.assertEqual((bytes(self.upstream.sent), self.upstream.ended), (b"last", True))
        self.assert_over("closed", "closed")

    def test_who_has_ended_is_not_read_again(self) -> None:
        upstream = self.connect()
        upstream.blocked = True
        self.agent.give(b"last")
        self.agent.resume()
        self.agent.eof()
        upstream.drain()
        self.assertEqual((self.agent.reading, upstream.ended, upstream.reading), (False, True, True))

    def test_agent_breaks(self) -> None:
        self.upstream = self.connect()
        self.agent.lose()
        self.assert_over("lost", "reset", agent_closed=1)

    def test_upstream_breaks(self) -> None:
        """The agent must not take it for an end in order."""
        self.upstream = self.connect()
        self.upstream.lose()
        self.assert_over("reset", "lost", upstream_closed=1)

    def test_broken_at_the_write(self) -> None:
        self.upstream = self.connect()
        self.upstream.breaks = True
        self.agent.give(b"x")
        self.assert_over("reset", "lost", upstream_closed=1)
        self.setUp()
        self.upstream = self.connect()
        self.agent.breaks = True
        self.upstream.give(b"x")
        self.assert_over("lost", "reset", agent_closed=1)

    def test_tries_are_counted(self) -> None:
        self.attempt.retry()
        self.assertEqual(self.port.counters.retries, {"connect-refused": 1})
        self.connect()
        self.assertEqual(self.port.counters.errors, {})

    def test_silence(self) -> None:
        self.upstream = self.connect()
        self.port.wait(3599)
        self.agent.give(b"x")
        self.port.wait(3599)
        self.upstream.give(b"x")
        self.port.wait(3599)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assert_over("reset", "reset", tunnel_timeout=1)

    def test_silence_from_the_beginning(self) -> None:
        self.upstream = self.connect()
        self.port.wait(3599)
        self.assertTrue(self.agent.is_open)
        self.port.wait(2)
        self.assert_over("reset", "reset", tunnel_timeout=1)

    def test_cut_at_each_step(self) -> None:
        """A drain waits: where a conversation ends only the two sides know. Then everything is cut."""
        drained = self.port.frontend.drain()
        self.port.frontend.abort()
        self.assertTrue(drained.called and self.attempt.cancelled)
        self.assert_over("reset")
        self.setUp()
        self.upstream = self.connect()
        drained = self.port.frontend.drain()
        self.assertFalse(drained.called)
        self.port.frontend.abort()
        self.assertTrue(drained.called)
        self.assert_over("reset", "reset")
