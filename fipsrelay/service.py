"""How is it put together: the listening sockets, the tree of services, start and drain.

Everything here runs after the gate. Sockets are bound while the tree is made, before twistd forks or gives up
privileges, so that every port that is taken is reported at once and on the terminal.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from fipsrelay.config.changes import fixed
from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config
from fipsrelay.counters import Counters, IntakeCounters
from fipsrelay.crypto.gate import Evidence
from fipsrelay.errors import ConfigError, FipsError, PortsError, Problem
from fipsrelay.observe import evidence as report
from fipsrelay.observe import status
from fipsrelay.observe.history import History
from fipsrelay.observe.notify import Manager, Notify
from fipsrelay.observe.sampling import Sampling, Summaries
from fipsrelay.observe.site import Page, StatusSite
from fipsrelay.parts import Parts, assemble
from fipsrelay.relay.frontend import Frontend
from fipsrelay.relay.handover import Handover, take
from fipsrelay.relay.intake import Departing, Intake
from fipsrelay.relay.memory import Trimming
from fipsrelay.relay.room import Room, places
from fipsrelay.relay.sockets import (
    PAGE,
    STORED,
    Sockets,
    bind,
    bind_intakes,
    by_place,
    handed_over,
    is_listening,
    release,
)
from fipsrelay.relay.watch import FipsWatch
from fipsrelay.upstream.backend import backends
from fipsrelay.upstream.clusters import Upstreams
from fipsrelay.upstream.prepare import prepare
from fipsrelay.wire.deadlines import Timekeeping

_log = Logger()


def make(
    config: Config,
    evidence: Evidence,
    reactor: Any,
    file: str = "",
    given: Mapping[str, str] = MappingProxyType({}),
    handover: str = "",
) -> IService:
    """The tree of services of a process that has passed the gate, with its sockets bound.

    Args:
        config: of the operator.
        evidence: of the gate.
        reactor: Twisted's.
        file: the absolute path of the configuration, to read it again; empty for never.
        given: see ``handed_over``.
        handover: where listening sockets pass from a relay to its successor; empty for nowhere.

    Raises:
        FipsError, ConfigError: see ``assemble``.
        PortsError: ports are taken.
    """
    parts = assemble(config)
    handed = dict(handed_over(given))
    stored = by_place(filter(is_listening, handed.pop(STORED, ())))
    taken = by_place(take(handover)) if handover else {}
    sockets = bind(config, handed, {**stored, **taken})
    release(stored, sockets)
    for sock in (*stored.values(), *taken.values()):
        sock.close()
    return Relay(parts, evidence, sockets, reactor, file, handover, not handed)


class Stages(MultiService):
    """Stops its services one after the other, the last one first, each when the one after it has stopped."""

    def stopService(self) -> Deferred[None]:
        """Fires when the first one has stopped; one that fails does not keep the others from it."""
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
        parts: of the configuration.
        evidence: of the gate.
        sockets: from ``bind``.
        reactor: Twisted's.
        file, handover: see ``make``.
        own: whether the sockets are the relay's own, and not of a unit of the service manager.
    """

    def __init__(
        self,
        parts: Parts,
        evidence: Evidence,
        sockets: Sockets,
        reactor: Any,
        file: str = "",
        handover: str = "",
        own: bool = True,
    ) -> None:
        super().__init__()
        self.setName("fipsrelay")
        config = parts.config
        self._parts = parts
        self._evidence = evidence
        self._reactor = reactor
        self._file = file
        self._state = "starting"
        self._reloads = status.Reloads()
        self._counters = Counters(time.time(), {})
        self._histories: dict[str, History] = {}
        self._means = prepare(config, parts.tls, parts.policy, reactor, random.random)
        self._backends = backends(config, self._means, parts.way, random.random)
        self._places = places(config.limits.connections)
        self._room = Room(self._places, reactor, self._means.reserve)
        self._origin = f"{random.getrandbits(32):08x}"
        self._manager = Manager(os.environ)
        self._own = own
        self._is_stored = own and self._manager.stores
        self._notify = Notify(self._manager, self._line, reactor)
        self._upstreams = Upstreams(self._backends, self._means.names, parts.way, reactor)
        site = StatusSite(self._document, self._report, self._say_state, reactor)
        self._page = Page(site, sockets[PAGE], reactor)
        self._intakes = MultiService()
        self._intakes.setName("intakes")
        self._departing = Departing()
        self._watch = FipsWatch(evidence, self._upstreams.clusters, self._frontends, reactor)
        for service in (
            self._notify,
            Timekeeping(self._means.deadlines),
            Trimming(reactor),
            self._upstreams,
            self._page,
            Sampling(self._histories, reactor),
            Summaries(self._counters.intakes, reactor),
            self._watch,
            self._intakes,
            self._departing,
        ):
            self.addService(service)
        for name in config.intakes:
            self._add_intake(name, sockets[name])
        if handover:
            self.addService(Handover(handover, self._share, reactor))

    def _share(self) -> Iterator[socket.socket]:
        """The listening sockets, for a successor, which has the same ones then."""
        for intake in self._intakes:
            intake.share()
        return self._listening()

    def _listening(self) -> Iterator[socket.socket]:
        yield from self._page.sockets()
        for intake in self._intakes:
            yield from intake.sockets().values()

    def _add_intake(self, name: str, sockets: Sequence[socket.socket]) -> None:
        parts, counters = self._parts, IntakeCounters()
        config = parts.config
        self._counters.intakes[name] = counters
        self._histories[name] = History(counters)
        frontend = Frontend(
            config.intakes[name],
            self._backends,
            counters,
            config.timeouts,
            config.limits,
            self._means.deadlines,
            self._reactor,
            self._room,
            parts.policy,
            parts.local.get(name),
            config.log.level == "debug",
            self._origin,
        )
        opened = self._store if self._own else None
        self._intakes.addService(Intake(frontend, sockets, self._means.buffers, self._room, self._reactor, opened))

    def _frontends(self) -> list[Frontend]:
        """Of all intakes that have connections: those of the configuration, and those that a reload has taken away."""
        return [intake.frontend for intake in (*self._intakes, *self._departing)]

    def startService(self) -> None:
        """Say what the gate found, then start."""
        for line in self._shown().lines():
            _log.info("FIPS {line}", line=line)
        super().startService()
        if self._file:
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        # Not before the reactor runs: until then a SIGTERM would still kill the process.
        self._reactor.callWhenRunning(self._ready)

    def stopService(self) -> Deferred[None]:
        """Finish what is under way."""
        self._state = "draining"
        self._notify.stopping(self._parts.config.timeouts.drain)
        return super().stopService()

    def _ready(self) -> None:
        self._state = "ready"
        self._notify.ready()
        self._store()
        _log.info("fipsrelay is ready: {count} intakes", count=len(self._counters.intakes))

    def _store(self) -> None:
        if self._is_stored:
            self._manager.store(self._listening())

    # -- another configuration

    def reload(self) -> None:
        """Read the file again, and go by it, or by the old one if anything about the new one is wrong."""
        self._notify.reloading()
        try:
            names = self._reload()
        except (ConfigError, FipsError, PortsError) as error:
            self._reloads = self._reloads.failed(" ".join(str(error).split()))
            _log.error("The configuration stays as it was: {problem}", problem=self._reloads.problem)
        except Exception:
            self._reloads = self._reloads.failed("an unexpected error, see the log")
            _log.failure("Unexpected error while {file} was read again", file=self._file)
        else:
            self._reloads = self._reloads.succeeded()
            _log.info("The configuration was read again: {count} intakes", count=len(names))
        if self._state == "ready":
            self._notify.ready()

    def _reload(self) -> Collection[str]:
        if self._state != "ready" or self._watch.lost:
            raise self._refusal(f"the relay is {self._say_state()}: start it again with the new one")
        old, config = self._parts, load_file(self._file, os.environ)
        different = fixed(old.config, config)
        if different:
            raise self._refusal(f"a restart is needed for {', '.join(different)}")
        parts = assemble(config)
        running = {intake.frontend.intake.name: intake for intake in self._intakes}
        kept = {name for name, each in config.intakes.items() if name in running and running[name].is_as_good_as(each)}
        removed = {name: intake for name, intake in running.items() if name not in kept}
        added = attrs.evolve(config, intakes={name: each for name, each in config.intakes.items() if name not in kept})
        held = {place: sock for intake in removed.values() for place, sock in intake.sockets().items()}
        sockets = bind_intakes(added, held)
        # From here on nothing can be wrong any more.
        self._parts = parts
        self._change_upstreams(old)
        if self._is_stored:
            release(held, sockets)
        for name, intake in removed.items():
            del self._counters.intakes[name], self._histories[name]
            self._departing.add(intake, maybeDeferred(self._intakes.removeService, intake))
        for name in kept:
            running[name].frontend.change(
                config.intakes[name], config.timeouts, config.limits, parts.policy, parts.local.get(name)
            )
        for name in added.intakes:
            self._add_intake(name, sockets[name])
        self._store()
        return config.intakes

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError((Problem(self._file, 0, "", reason),))

    def _change_upstreams(self, old: Parts) -> None:
        parts, config = self._parts, self._parts.config
        if (old.config.tls, old.files, old.config.timeouts) != (config.tls, parts.files, config.timeouts):
            self._means = attrs.evolve(self._means, context=parts.tls, policy=parts.policy, timeouts=config.timeouts)
        before = {backend.cluster for backend in self._backends.values()}
        found = backends(config, self._means, parts.way, random.random, before)
        # The same mapping is what frontends and the page go by.
        self._backends.clear()
        self._backends.update(found)
        self._upstreams.change(before, parts.way)

    def _shown(self) -> Evidence:
        """The gate's evidence, with what else there is to warn of."""
        return attrs.evolve(self._evidence, warnings=(*self._evidence.warnings, *self._parts.warnings))

    # -- what is seen

    def _line(self) -> str:
        """How it is, for a service manager's status."""
        counters = self._counters
        unresolved = self._means.names.failing()
        # One whose name has not been answered yet has no server either, but nothing is known to be wrong.
        down = [
            name
            for name, backend in self._backends.items()
            if not backend.cluster.usable and (backend.cluster.servers or backend.cluster.host in unresolved)
        ]
        return (
            f"{self._say_state()}: {counters.open_connections} connections, "
            f"{sum(sum(each.requests.values()) for each in counters.intakes.values())} requests; "
            f"upstreams without a server: {', '.join(down) or 'none'}"
        )

    def _say_state(self) -> str:
        return "lost" if self._watch.lost else self._state

    def _document(self) -> status.Document:
        lost = str(self._watch.lost) if self._watch.lost else None
        subject = status.Subject(
            self._parts.config,
            self._parts.digest,
            self._shown(),
            self._counters,
            self._histories,
            self._backends,
            self._means.names.failing,
            self._places,
            self._reloads,
        )
        return status.document(subject, self._say_state(), lost, time.time(), self._reactor.seconds())

    def _report(self) -> report.Report:
        """For ``fipsrelay evidence``."""
        source = report.Source("running", os.getpid(), self._counters.started)
        parts = self._parts
        made = report.begin(source, parts.config, time.time())
        if self._watch.lost is not None:
            made = report.fail(made, self._watch.lost)
        made = report.prove(made, parts.config, self._shown(), parts.policy, parts.offer)
        servers = {
            name: [
                report.Server(str(server.place), status.state(server), server.health.reason or "")
                for server in backend.cluster.servers
            ]
            for name, backend in self._backends.items()
        }
        return report.add_traffic(made, self._backends, servers, self._counters)
