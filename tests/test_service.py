"""The tree of services: what is bound, in which order things start and stop."""

from __future__ import annotations

import socket
from typing import Any, cast

import attrs
from OpenSSL import SSL
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import service
from fipsrelay.config.load import load_text
from fipsrelay.config.model import Config, Intake, Limits, Listen, Timeouts, Upstream
from fipsrelay.crypto.context import offered
from fipsrelay.crypto.gate import Evidence
from fipsrelay.crypto.policy import SP800_52
from fipsrelay.demo.peer import free_ports
from fipsrelay.observe import text
from fipsrelay.parts import Parts
from fipsrelay.relay import sockets
from fipsrelay.relay.factory import IntakePort
from tests.doubles import Reactor

EVIDENCE = Evidence("/fips.so", "ab", "provider", "3.0.9", "build", "OpenSSL", True, "#4282", ())


def config(*addresses: str, limit: int = 10) -> Config:
    page, web, logs = free_ports(3)
    whole = load_text("preset: datadog", "test.yaml")
    return attrs.evolve(
        whole,
        listen=Listen(addresses or ("127.0.0.1",), page),
        upstreams={"up": Upstream("up", "up.example", addresses=("127.0.0.1",))},
        intakes={"web": Intake("web", web, "http", "up"), "logs": Intake("logs", logs, "http", "up")},
        timeouts=Timeouts(drain=3.0),
        limits=Limits(connections=limit),
    )


class PagePort:
    """What ``adoptStreamPort`` gives; stops when the test says so."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stopped: Deferred[None] | None = None

    def stopListening(self) -> Deferred[None]:
        self.stopped = Deferred()
        return self.stopped


class ServiceReactor(Reactor):
    """Also adopts the page's ports."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[PagePort] = []

    def adoptStreamPort(self, fileno: int, family: int, factory: Any) -> PagePort:
        with socket.socket(fileno=socket.dup(fileno)) as sock:
            self.adopted.append(PagePort(sock.getsockname()[1]))
        return self.adopted[-1]

    def callWhenRunning(self, call: Any, *arguments: Any, **named: Any) -> None:
        self.callLater(0, call, *arguments, **named)


class TreeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ServiceReactor()
        self.make(config())

    def make(self, wanted: Config) -> None:
        self.config = wanted
        bound = sockets.bind(wanted)
        for sock in (sock for each in bound.values() for sock in each):
            self.addCleanup(sock.close)
        tls = SSL.Context(SSL.TLS_CLIENT_METHOD)
        parts = Parts(wanted, "", (), SP800_52, tls, offered(tls), "", {}, None)
        self.relay = service.Relay(parts, EVIDENCE, bound, self.reactor)

    def start(self) -> None:
        self.relay.startService()
        self.addCleanup(self.close)

    def close(self) -> None:
        """What is open, be it a port that does not accept just now, or a check that still connects."""
        ports: set[Any] = {*self.relay._room.ports}
        for port in ports:
            port.connectionLost(None)
        for stream in (self.reactor.readers | self.reactor.writers) - ports:
            stream.abort()

    def connect(self, name: str = "web") -> socket.socket:
        """An agent that has been accepted."""
        sock = socket.create_connection(("127.0.0.1", self.config.intakes[name].port), 10)
        self.addCleanup(sock.close)
        opened = self.relay._counters.intakes[name].connections
        self.reactor.run(lambda: self.relay._counters.intakes[name].connections > opened)
        return sock

    def test_names(self) -> None:
        self.assertEqual(cast(Any, self.relay).name, "fipsrelay")
        names = [cast(Any, each).name for each in self.relay]
        self.assertEqual(
            names,
            [
                *("service manager", "timekeeping", "memory", "upstreams", "statistics", "sampling", "summaries"),
                *("FIPS", "intakes", "departing intakes"),
            ],
        )
        intakes = cast(MultiService, self.relay.getServiceNamed("intakes"))
        self.assertEqual([cast(Any, each).name for each in intakes], ["web", "logs"])

    def test_start(self) -> None:
        """The gate's evidence first; readiness only from the running reactor."""
        with capturedLogs() as logs:
            self.start()
        lines = [event["line"] for event in logs if "line" in event]
        self.assertEqual(lines, list(EVIDENCE.lines()))
        self.assertEqual([port.number for port in self.reactor.adopted], [self.config.listen.port_range_start])
        with capturedLogs() as logs:
            self.reactor.turn()
        self.assertEqual([event["count"] for event in logs], [2])

    def test_serves(self) -> None:
        self.start()
        agent = self.connect()
        agent.sendall(b"nonsense\r\n\r\n")
        self.reactor.run(lambda: self.relay._counters.intakes["web"].bytes_out)
        self.assertTrue(agent.recv(1000).startswith(b"HTTP/1.1 400 "))
        self.assertIn("\nweb     1     1 ", text.render(self.relay._document()))

    def test_stop_order(self) -> None:
        """Intakes take nothing new and drain; then the page, the pools, and time last."""
        self.start()
        agent = self.connect()
        agent.sendall(b"GET")
        self.reactor.run(lambda: self.relay._counters.intakes["web"].bytes_in)
        stopped = self.relay.stopService()
        self.reactor.turn()
        self.assertFalse(any(isinstance(reader, IntakePort) for reader in self.reactor.readers))
        self.assertNoResult(stopped)
        self.assertIsNone(self.reactor.adopted[0].stopped)
        agent.close()
        self.reactor.run(lambda: self.reactor.adopted[0].stopped)
        self.assertNoResult(stopped)
        (cluster,) = {backend.cluster for backend in self.relay._backends.values()}
        (server,) = cluster.servers
        self.assertFalse(server.retired)
        cast(Any, self.reactor.adopted[0].stopped).callback(None)
        self.successResultOf(stopped)
        self.assertTrue(server.retired)
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.readers), ([], set()))

    def test_drain_has_an_end(self) -> None:
        """And whoever leaves then makes room, but not for a port that has stopped."""
        self.make(config(limit=2))
        self.start()
        agents = [self.connect(), self.connect()]
        for agent in agents:
            agent.sendall(b"GET")
        self.reactor.run(lambda: self.relay._counters.intakes["web"].bytes_in == 6)
        self.relay.stopService()
        self.reactor.pump([0.5] * 5)
        self.assertEqual(self.relay._counters.open_connections, 2)
        self.reactor.pump([0.5] * 2)
        self.assertEqual(self.relay._counters.open_connections, 0)
        self.assertFalse(any(isinstance(reader, IntakePort) for reader in self.reactor.readers))

    def test_limit(self) -> None:
        """Accepting stops at once; who waits comes in as soon as another one goes, on whatever port."""
        self.make(config(limit=2))
        self.start()
        agents = []
        for name in ("web", "web", "web", "logs"):
            agents.append(socket.create_connection(("127.0.0.1", self.config.intakes[name].port), 10))
            self.addCleanup(agents[-1].close)
        counters = self.relay._counters
        self.reactor.run(lambda: counters.open_connections)
        for _ in range(3):
            self.reactor.turn()
        self.assertEqual(counters.open_connections, 2)
        self.assertFalse(any(isinstance(reader, IntakePort) for reader in self.reactor.readers))
        for agent in agents[:2]:
            agent.close()
        self.reactor.run(lambda: counters.intakes["web"].connections + counters.intakes["logs"].connections == 4)
        self.assertEqual(counters.open_connections, 2)


class StagesTests(SynchronousTestCase):
    def test_one_after_the_other(self) -> None:
        """The last one first, each when the one after it has stopped."""
        stopping: list[tuple[str, Deferred[None]]] = []

        class Slow(MultiService):
            def stopService(self) -> Deferred[None]:
                deferred: Deferred[None] = Deferred()
                stopping.append((str(cast(Any, self).name), deferred))
                return deferred

        stages = service.Stages()
        for name in ("first", "second"):
            slow = Slow()
            slow.setName(name)
            stages.addService(cast(IService, slow))
        stages.startService()
        done = stages.stopService()
        self.assertEqual([name for name, _ in stopping], ["second"])
        stopping[0][1].callback(None)
        self.assertEqual([name for name, _ in stopping], ["second", "first"])
        self.assertNoResult(done)
        stopping[1][1].callback(None)
        self.successResultOf(done)
        self.assertFalse(stages.running)
