"""Visits: every server once, with what came of it. Real sockets and handshakes."""

from __future__ import annotations

from fipsrelay.config.model import Probes
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.visit import Visit, visit
from tests.test_connect import HOST, Attempts


class VisitTests(Attempts):
    def visit(self, *addresses: str, host: str = HOST) -> list[Visit]:
        means = self.means()
        cluster = Cluster(host, self.port, addresses, None, means, Probes(), lambda: 0.5)
        visits = visit(cluster, means)
        if not addresses:
            self.questions[-1].callback(("127.0.0.1",))
        found: list[Visit] = []
        visits.addCallback(found.extend)
        self.play(lambda: found)
        self.assertEqual((cluster.servers, cluster.handshakes.finished), ([], {}))
        return found

    def assert_good(self, one: Visit) -> None:
        assert one.facts is not None
        self.assertEqual((one.place.host, one.place.address, one.error), (HOST, "127.0.0.1", None))
        self.assertEqual(one.facts.parameters[0], "TLSv1.3")
        self.assertEqual(len(one.facts.chain), 2)
        assert one.connected is not None
        self.assertLessEqual(one.connected, one.finished)
        self.assert_nothing_left()
        [peer] = self.peers
        self.reactor.run(lambda: peer.end, peer.read)
        self.assertEqual(peer.end, "close_notify")

    def test_configured_address(self) -> None:
        [one] = self.visit("127.0.0.1")
        self.assert_good(one)

    def test_name(self) -> None:
        [one] = self.visit()
        self.assert_good(one)

    def test_refused(self) -> None:
        """Each by itself: one address is not there, the other one's certificate is for another name."""
        misnamed, absent = self.visit("127.0.0.1", "127.0.0.9", host="other.example")
        assert misnamed.error is not None
        assert absent.error is not None
        self.assertEqual((misnamed.error.code, absent.error.code), ("identity", "connect-refused"))
        self.assertEqual((misnamed.facts is None, misnamed.connected is None), (False, False))
        self.assertEqual((absent.facts, absent.connected), (None, None))
        self.assert_nothing_left()

    def test_no_address(self) -> None:
        means = self.means()
        visits = visit(Cluster(HOST, self.port, (), None, means, Probes(), lambda: 0.5), means)
        self.questions[-1].callback(())
        self.assertEqual(self.successResultOf(visits), [])
