"""The service of all upstreams."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.upstream.clusters import Upstreams
from fipsrelay.upstream.connect import Gateway
from fipsrelay.upstream.names import Names


class WayTests(SynchronousTestCase):
    """The name of the egress proxy, which may move; an address cannot."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.names = Names(self.clock, self.resolve, 30.0, lambda: 0.5)

    def resolve(self, name: str) -> Deferred[tuple[str, ...]]:
        self.asked.append(name)
        return succeed(("192.0.2.9",))

    def start(self, host: str) -> Upstreams:
        upstreams = Upstreams({}, self.names, Gateway(host, 3128), self.clock)
        upstreams.startService()
        return upstreams

    def test_asked_again(self) -> None:
        for host, wanted in (("proxy.example", 3), ("192.0.2.1", 0)):
            self.asked.clear()
            upstreams = self.start(host)
            self.clock.pump([30.0] * 2)
            upstreams.stopService()
            self.clock.pump([30.0] * 2)
            self.assertEqual(self.asked, [host] * wanted)

    def test_another_one(self) -> None:
        """The one before is asked for no more."""
        upstreams = self.start("one.example")
        for host in ("two.example", "192.0.2.1", "one.example"):
            upstreams.change([], Gateway(host, 3128))
            self.asked.clear()
            self.clock.pump([30.0] * 2)
            self.assertEqual(self.asked, [] if host == "192.0.2.1" else [host] * 2)
        upstreams.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
