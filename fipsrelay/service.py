"""How is it put together: the listening sockets, the tree of services, start and drain.

Everything here runs after the gate. Sockets are bound while the tree is made, before twistd forks or gives up
privileges, so that every port that is taken is reported at once and on the terminal.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

from fipsrelay.config.model import Config
from fipsrelay.counters import Counters, IntakeCounters
from fipsrelay.crypto import context
from fipsrelay.crypto.gate import Evidence
from fipsrelay.crypto.policy import Policy, demanded
from fipsrelay.observe import evidence as report
from fipsrelay.observe import status
from fipsrelay.observe.history import History
from fipsrelay.observe.notify import Manager, Notify
from fipsrelay.observe.sampling import Sampling, Summaries
from fipsrelay.observe.site import StatusSite
from fipsrelay.relay.factory import IntakePort, ProxyFactory, listen
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.room import Room, places
from fipsrelay.relay.sockets import PAGE, bind, handed_over
from fipsrelay.relay.watch import FipsWatch
from fipsrelay.upstream.backend import Backend, backends
from fipsrelay.upstream.connect import Gateway
from fipsrelay.upstream.egress import gateway
from fipsrelay.upstream.names import Names, is_address
from fipsrelay.upstream.prepare import prepare
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import ReadBuffer

_log = Logger()


def make(config: Config, evidence: Evidence, reactor: Any) -> IService:
    """The tree of services of a process that has passed the gate, with its sockets bound.

    Raises:
        FipsError: OpenSSL does not take the policy.
        ConfigError: the trust bundle, the revocation lists, an intake's certificate, or the password of the egress
            proxy, cannot be used.
        PortsError: ports are taken.
    """
    policy = demanded(config.tls)
    tls = context.build(config.tls.trust, policy, config.tls.crl)
    local = {
        name: context.build_local(intake.tls, policy, f"intakes.{name}.tls")
        for name, intake in config.intakes.items()
        if intake.tls is not None
    }
    way = gateway(config.egress)
    if policy.hybrid_groups:
        message = f"No certificate covers key exchange by {', '.join(policy.hybrid_groups)} (tls.hybrid_groups)."
        evidence = attrs.evolve(evidence, warnings=(*evidence.warnings, message))
    return Relay(config, evidence, policy, tls, local, way, bind(config, handed_over(os.environ)), reactor)


class Stages(MultiService):
    """Stops its services one after the other, the last one first, each when the one after it has stopped."""

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                _log.failure("{service} did not stop as it should", service=service.name)


class Relay(Stages):
    """The whole process: timekeeping, upstreams, page, and on top of them the intakes, which stop first.

    Args:
        config: of the operator.
        evidence: of the gate.
        policy: what handshakes are judged by.
        tls: context with it.
        local: by intake, the contexts of those that speak TLS to their agents.
        way: the egress proxy, if there is one.
        sockets: from ``bind``.
        reactor: Twisted's.
    """

    def __init__(
        self,
        config: Config,
        evidence: Evidence,
        policy: Policy,
        tls: SSL.Context,
        local: Mapping[str, SSL.Context],
        way: Gateway | None,
        sockets: Mapping[str, Sequence[socket.socket]],
        reactor: Any,
    ) -> None:
        super().__init__()
        self.setName("fipsrelay")
        self._config = config
        self._evidence = evidence
        self._policy = policy
        self._offer = context.offered(tls)
        self._reactor = reactor
        self._counters = Counters(time.time(), {name: IntakeCounters() for name in config.intakes})
        histories = {name: History(counters) for name, counters in self._counters.intakes.items()}
        self._state = "starting"
        means = prepare(config, tls, policy, reactor, random.random)
        deadlines, buffer = means.deadlines, means.buffer
        names = means.names
        self._backends = backends(config, means, way, random.random)
        connections = places(config.limits.connections)
        room = Room(connections, reactor, means.reserve)
        self._subject = status.Subject(
            config,
            report.digest(config),
            evidence,
            self._counters,
            histories,
            self._backends,
            names.failing,
            connections,
        )
        self._notify = Notify(Manager(os.environ), self._line, reactor)
        self.addService(self._notify)
        self.addService(Timekeeping(deadlines))
        self.addService(Upstreams(self._backends, names, way))
        site = StatusSite(self._document, self._report, self._say_state, reactor.seconds)
        self.addService(Page(site, sockets[PAGE], reactor))
        self.addService(Sampling(histories.values(), reactor))
        self.addService(Summaries(self._counters.intakes, reactor))
        frontends: list[Frontend] = []
        origin = f"{random.getrandbits(32):08x}"
        self._watch = FipsWatch(evidence, self._backends, frontends, reactor)
        self.addService(self._watch)
        intakes = MultiService()
        intakes.setName("intakes")
        for name, intake in config.intakes.items():
            counters = self._counters.intakes[name]
            frontend = Frontend(
                intake,
                self._backends,
                counters,
                config.timeouts,
                config.limits,
                deadlines,
                reactor,
                room,
                policy,
                local.get(name),
                config.log.level == "debug",
                origin,
            )
            frontends.append(frontend)
            intakes.addService(Intake(frontend, sockets[name], buffer, room, reactor))
        self.addService(intakes)

    def startService(self) -> None:
        """Say what the gate found, then start."""
        for line in self._evidence.lines():
            _log.info("FIPS {line}", line=line)
        super().startService()
        # Not before the reactor runs: until then a SIGTERM would still kill the process.
        self._reactor.callWhenRunning(self._ready)

    def stopService(self) -> Deferred[None]:
        """Finish what is under way."""
        self._state = "draining"
        self._notify.stopping()
        return super().stopService()

    def _ready(self) -> None:
        self._state = "ready"
        self._notify.ready()
        _log.info("fipsrelay is ready: {count} intakes", count=len(self._counters.intakes))

    def _line(self) -> str:
        """How it is, for a service manager's status."""
        counters = self._counters
        down = [name for name, backend in self._backends.items() if not backend.cluster.usable]
        return (
            f"{self._say_state()}: {counters.open_connections} connections, "
            f"{sum(sum(each.requests.values()) for each in counters.intakes.values())} requests; "
            f"upstreams without a server: {', '.join(down) or 'none'}"
        )

    def _say_state(self) -> str:
        return "lost" if self._watch.lost else self._state

    def _document(self) -> status.Document:
        lost = str(self._watch.lost) if self._watch.lost else None
        return status.document(self._subject, self._say_state(), lost, time.time(), self._reactor.seconds())

    def _report(self) -> report.Report:
        """For ``fipsrelay evidence``."""
        source = report.Source("running", os.getpid(), self._counters.started)
        made = report.begin(source, self._config, time.time())
        if self._watch.lost is not None:
            made = report.fail(made, self._watch.lost)
        made = report.prove(made, self._config, self._evidence, self._policy, self._offer)
        servers = {
            name: [
                report.Server(str(server.place), status.state(server), server.health.reason or "")
                for server in backend.cluster.servers
            ]
            for name, backend in self._backends.items()
        }
        return report.add_traffic(made, self._backends, servers, self._counters)


class Timekeeping(Service):
    """Sweeps the deadlines."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.setName("timekeeping")
        self._deadlines = deadlines

    def startService(self) -> None:
        super().startService()
        self._deadlines.start()

    def stopService(self) -> None:
        super().stopService()
        self._deadlines.stop()


class Upstreams(Service):
    """Looks names up and checks servers; closes the free upstream connections in the end."""

    def __init__(self, backends: Mapping[str, Backend], names: Names, way: Gateway | None) -> None:
        self.setName("upstreams")
        self._way = way
        self._clusters = {backend.cluster for backend in backends.values()}
        self._names = names

    def startService(self) -> None:
        super().startService()
        for cluster in self._clusters:
            cluster.start()
        if self._way is not None and not is_address(self._way.host):
            # Nothing is to be done at an answer, but attempts are to find the newest one.
            self._names.follow(self._way.host, lambda addresses: None)

    def stopService(self) -> None:
        super().stopService()
        self._names.stop()
        for cluster in self._clusters:
            cluster.close()


class Page(Service):
    """The statistics page."""

    def __init__(self, factory: IProtocolFactory, sockets: Sequence[socket.socket], reactor: Any) -> None:
        self.setName(PAGE)
        self._factory = factory
        self._sockets = sockets
        self._reactor = reactor
        self._ports: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        for sock in self._sockets:
            self._ports.append(self._reactor.adoptStreamPort(sock.fileno(), sock.family, self._factory))
            sock.close()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(_stop_listening(self._ports))


class Intake(Service):
    """One intake on all of its addresses; stopping drains it.

    Args:
        frontend: what its connections share.
        sockets: bound and listening.
        buffer, room: of the process.
        reactor: Twisted's.
    """

    def __init__(
        self, frontend: Frontend, sockets: Sequence[socket.socket], buffer: ReadBuffer, room: Room, reactor: Any
    ) -> None:
        self.setName(frontend.intake.name)
        self._frontend = frontend
        self._sockets = sockets
        self._buffer = buffer
        self._room = room
        self._reactor = reactor
        self._ports: list[IntakePort] = []

    def startService(self) -> None:
        """Accept connections."""
        super().startService()
        factory = ProxyFactory(self._frontend)
        for sock in self._sockets:
            self._ports.append(listen(self._reactor, sock, factory, self._buffer, self._room))
            sock.close()

    def stopService(self) -> Deferred[None]:
        """Take no more connections; fires when the last one has ended, soon after ``timeouts.drain`` at the latest."""
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        for port in self._ports:
            self._room.ports.remove(port)
        await _stop_listening(self._ports)
        cut = self._reactor.callLater(self._frontend.timeouts.drain, self._frontend.abort)
        await self._frontend.drain()
        if cut.active():
            cut.cancel()


async def _stop_listening(ports: Sequence[IListeningPort]) -> None:
    for port in ports:
        await maybeDeferred(port.stopListening)
