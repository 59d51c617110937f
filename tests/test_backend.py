"""Backends: what requests of an upstream look like, and which upstreams share their servers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.config.model import Egress, Probes, Upstream
from fipsrelay.upstream.backend import Backend, backends, host_header
from fipsrelay.upstream.connect import Gateway
from tests.doubles import FakeStream
from tests.searches import A6, HOST, A, B, Caller, Searches

GATEWAY = Gateway("proxy.example", 3128)
CONFIG = load_text("preset: datadog\n", "f.yaml")


class Backends(Searches):
    """Backends of a configuration, whose attempts the test plays."""

    def make(
        self,
        upstreams: Mapping[str, Upstream],
        gateway: Gateway | None = None,
        no_proxy: tuple[str, ...] = (),
        probes: Probes = Probes(enabled=False),  # noqa: B008, frozen
    ) -> Mapping[str, Backend]:
        config = attrs.evolve(CONFIG, upstreams=upstreams, egress=Egress(no_proxy=no_proxy), probes=probes)
        self.backends = backends(config, self.means, gateway, Random(1).random)
        self.cluster = next(iter(self.backends.values())).cluster
        for cluster in {backend.cluster for backend in self.backends.values()}:
            cluster.start()
            self.servers += cluster.servers
        return self.backends

    def tearDown(self) -> None:
        self.names.stop()
        for backend in self.backends.values():
            backend.cluster.close()
        super().tearDown()


class BackendTests(Backends):
    def test_one(self) -> None:
        """Which connections it takes, and how it is called."""
        backend = self.make({"up": Upstream("up", HOST, 8443, (A,))})["up"]
        self.assertEqual((backend.host, backend.upstream.name), (f"{HOST}:8443".encode(), "up"))
        self.assertEqual(self.cluster.upstreams, ["up"])
        self.assertIsNone(backend.take())
        stream: Any = FakeStream()
        self.server(A).outstanding += 1
        self.server(A).adopt(stream)
        stream.keeper.give_back()
        self.assertIs(backend.take(), stream)
        stream.close()

    def test_search(self) -> None:
        """Of its own servers, with the retries that the caller allows, and under its own name."""
        made = self.make({name: Upstream(name, HOST, 443, (A, B, A6)) for name in ("one", "two")})
        caller = Caller()
        made["two"].search(caller, 1).start()
        self.assertEqual(self.running, [A])
        self.attempt(A).fail()
        self.attempt(A6).fail()
        self.assertEqual(caller.heard, ["retrying connect-refused", "refused connect-refused"])
        self.down(A, B, A6, failures=100)
        first, second = Caller(), Caller()
        trial = made["one"].search(first, 0)
        trial.start()
        made["two"].search(second, 0).start()
        refusal = "upstream two (intake.example:443) failed at connect: no server available; last seen: timeout"
        self.assertEqual((first.heard, second.heard, str(second.error)), ([], ["refused no-server"], refusal))
        trial.cancel()


class SharedTests(Backends):
    def test_same_destination(self) -> None:
        """In the order of the configuration, for the log."""
        upstreams = {name: Upstream(name, HOST, 443, (A, B)) for name in ("one", "two", "three")}
        made = self.make({**upstreams, "four": Upstream("four", "other.example", 443, (A, B))})
        self.assertEqual([*made], ["one", "two", "three", "four"])
        self.assertEqual([made[name].upstream for name in upstreams], [*upstreams.values()])
        self.assertEqual({made[name].cluster for name in upstreams}, {self.cluster})
        self.assertEqual(self.cluster.upstreams, ["one", "two", "three"])
        self.assertEqual(made["four"].cluster.upstreams, ["four"])

    def test_connections_are_shared(self) -> None:
        """What one gives back, the other takes."""
        made = self.make({name: Upstream(name, HOST, 443, (A,)) for name in ("one", "two")})
        caller = Caller()
        made["one"].search(caller, 0).start()
        stream = self.attempt(A).come_up()
        stream.keeper.give_back()
        self.assertIs(made["two"].take(), stream)
        stream.close()

    def test_names_are_asked_once(self) -> None:
        made = self.make({name: Upstream(name, HOST) for name in ("one", "two")})
        self.assertEqual(len(self.questions), 1)
        self.answer(A)
        for backend in made.values():
            self.assertEqual([server.place.address for server in backend.cluster.servers], [A])

    def test_pins(self) -> None:
        """What one upstream trusts, another with other pins does not."""
        pins = {"one": (), "two": ("aa", "bb"), "three": ("bb", "aa")}
        made = self.make({name: Upstream(name, HOST, 443, (A,), pins=each) for name, each in pins.items()})
        clusters = [backend.cluster for backend in made.values()]
        self.assertIsNot(clusters[0], clusters[1])
        self.assertIs(clusters[1], clusters[2])
        places = [cluster.servers[0].place.pins for cluster in clusters[:2]]
        self.assertEqual(places, [frozenset(), frozenset({"aa", "bb"})])

    def test_used_again(self) -> None:
        """By the next configuration, as far as nothing has changed; it belongs to the upstreams of that one alone."""
        upstreams = {name: Upstream(name, HOST, 443, (A,)) for name in ("one", "two")}
        self.make(upstreams)
        config = attrs.evolve(CONFIG, upstreams={"two": upstreams["two"]}, probes=Probes(enabled=False))
        made = backends(config, self.means, None, Random(1).random, [self.cluster])
        self.assertIs(made["two"].cluster, self.cluster)
        self.assertEqual(self.cluster.upstreams, ["two"])
        changed = attrs.evolve(config, probes=Probes(enabled=False, fall=9))
        other = backends(changed, self.means, None, Random(1).random, [self.cluster])["two"].cluster
        self.assertIsNot(other, self.cluster)

    def test_other_destinations(self) -> None:
        """Another host, port or list of addresses."""
        destinations = [(HOST, 443, ()), (HOST, 8443, ()), ("b.example", 443, ()), (HOST, 443, (A,)), (HOST, 443, (B,))]
        upstreams = {
            str(number): Upstream(str(number), host, port, addresses)
            for number, (host, port, addresses) in enumerate(destinations)
        }
        clusters = [backend.cluster for backend in self.make(upstreams).values()]
        self.assertEqual(len(set(clusters)), len(destinations))
        self.assertEqual([(cluster.host, cluster.port) for cluster in clusters], [each[:2] for each in destinations])
        self.answer("192.0.2.9")
        self.assertEqual([server.place.address for server in clusters[3].servers + clusters[4].servers], [A, B])

    def test_settings_of_checks(self) -> None:
        self.make({"up": Upstream("up", HOST, 443, (A,))}, probes=Probes(True, 7, 2, 5))
        health = self.server(A).health
        self.assertEqual((health.fall, health.rise), (2, 5))
        self.reactor.pump([0.5] * 4)
        self.assertEqual(self.running, [A])


class GatewayTests(Backends):
    def ways(self, gateway: Gateway | None, *no_proxy: str) -> dict[str, bool]:
        """Which upstreams go through it, and all of their servers do."""
        upstreams = {"name": Upstream("name", "a.b.example"), "fixed": Upstream("fixed", HOST, 443, (A, A6))}
        ways = {}
        for name, backend in self.make(upstreams, gateway, no_proxy).items():
            if not backend.cluster.servers:
                backend.cluster.learn((B,))
            (way,) = {server.place.gateway for server in backend.cluster.servers}
            ways[name] = way is not None
            self.assertIs(way, gateway if ways[name] else None)
        return ways

    def test_no_gateway(self) -> None:
        self.assertEqual(self.ways(None, "other.example"), {"name": False, "fixed": False})

    def test_all(self) -> None:
        """And DNS is not asked."""
        self.assertEqual(self.ways(GATEWAY), {"name": True, "fixed": True})
        self.assertEqual(self.questions, [])

    def test_no_proxy(self) -> None:
        for no_proxy, name, fixed in (
            (("b.example",), False, True),
            ((HOST,), True, False),
            (("192.0.2.0/24", "2001:db8::/32"), True, False),
            (("192.0.2.0/24",), True, True),
            (("*",), False, False),
        ):
            self.assertEqual(self.ways(GATEWAY, *no_proxy), {"name": name, "fixed": fixed}, no_proxy)


class StormTests(Backends):
    """The whole preset while nothing can be reached."""

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        return succeed((A, B, A6))

    def test_one_check_an_address_and_interval(self) -> None:
        self.means.fails.update(dict.fromkeys((A, B, A6), "connect-refused"))
        self.make(CONFIG.upstreams, probes=Probes())
        for _ in range(4 * 120):
            self.reactor.advance(0.25)
        began: dict[tuple[str, str], list[float]] = {}
        for attempt in self.means.attempts:
            began.setdefault((attempt.place.host, attempt.place.address), []).append(attempt.began)
        hosts = {upstream.host for upstream in CONFIG.upstreams.values()}
        self.assertEqual(set(began), {(host, address) for host in hosts for address in (A, B, A6)})
        for moments in began.values():
            self.assertLessEqual(moments[0], 2.25)
            for earlier, later in pairwise(moments):
                self.assertTrue(8.75 <= later - earlier <= 11.25, moments)
        self.assertGreater(len({moments[1] for moments in began.values()}), 10)  # they are not in step


class HostTests(SynchronousTestCase):
    def test_host_header(self) -> None:
        for host, port, expected in (
            ("a.example", 443, b"a.example"),
            ("a.example", 8443, b"a.example:8443"),
        ):
            self.assertEqual(host_header(Upstream("up", host, port)), expected)
