"""Tests of ``fipsrelay.relay.intake``: which look at their upstream, and those that leave.

What else intakes do is tested with the real program.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.relay.intake import Departing, Intake
from fipsrelay.wire.streams import Buffers
from tests.doubles import Port


class DoorTests(SynchronousTestCase):
    def test_which_look_at_their_upstream(self) -> None:
        """Raw TCP, where nobody else listens on the same sockets."""
        for protocol, own, looks in (("tcp", True, True), ("tcp", False, False), ("http", True, False)):
            port = Port(protocol)
            opened = (lambda: None) if own else None
            intake = Intake(port.frontend, (), Buffers(16), port.room, port.reactor, opened)
            intake.startService()
            self.assertEqual(bool(port.deadlines._watched), looks, (protocol, own))
            intake.stopService()
            self.assertEqual(port.deadlines._watched, set())


class DepartingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.departing = Departing()
        intake: Any = Service()  # only its name counts
        intake.setName("web")
        self.intake: Any = intake
        self.gone: Deferred[None] = Deferred()
        self.departing.add(self.intake, self.gone)

    def test_until_it_has_gone(self) -> None:
        self.assertEqual(list(self.departing), [self.intake])
        self.gone.callback(None)
        self.assertEqual(list(self.departing), [])
        self.successResultOf(self.departing.stopService())

    def test_a_stop_waits_for_it(self) -> None:
        stopped = self.departing.stopService()
        self.assertNoResult(stopped)
        self.gone.callback(None)
        self.successResultOf(stopped)

    def test_one_that_fails(self) -> None:
        """It is logged, and keeps nobody waiting."""
        stopped = self.departing.stopService()
        self.gone.errback(OSError("closed"))
        self.successResultOf(stopped)
        self.assertEqual(list(self.departing), [])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_one_that_has_gone_already(self) -> None:
        done: Deferred[None] = Deferred()
        done.callback(None)
        other: Any = Service()
        self.departing.add(other, done)
        self.assertEqual(list(self.departing), [self.intake])
