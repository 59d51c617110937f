"""The report of a process of its own, which visits every server once. Runs the reactor, once in a process."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import gatherResults
from twisted.python.failure import Failure

from fipsrelay.config.model import Config
from fipsrelay.counters import Counters, IntakeCounters
from fipsrelay.crypto import context
from fipsrelay.crypto.gate import Evidence
from fipsrelay.crypto.policy import Policy, demanded
from fipsrelay.errors import FipsError
from fipsrelay.observe import evidence
from fipsrelay.upstream.backend import Backend, backends
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Gateway, Means
from fipsrelay.upstream.egress import gateway
from fipsrelay.upstream.prepare import prepare
from fipsrelay.upstream.visit import Visit, visit
from fipsrelay.wire import reactor as own_reactor


def report(config: Config, proven: Evidence, began: float) -> evidence.Report:
    """Visit, and report.

    Args:
        config: of the operator.
        proven: what the gate saw in this process.
        began: seconds of the wall clock.

    Raises:
        ConfigError: what it names cannot be used.
    """
    source = evidence.Source("stand-alone", os.getpid(), began)
    policy = demanded(config.tls)
    way = gateway(config.egress)
    try:
        tls = context.build(config.tls.trust, policy, config.tls.crl)
        offer = context.offered(tls)
    except FipsError as error:
        return evidence.fail(evidence.begin(source, config, began), error)
    found, visits = visit_all(config, tls, policy, way)
    servers = {name: [_server(each) for each in visits[backend.cluster]] for name, backend in found.items()}
    counters = Counters(began, {name: IntakeCounters() for name in config.intakes})
    made = evidence.prove(evidence.begin(source, config, time.time()), config, proven, policy, offer)
    return evidence.add_traffic(made, found, servers, counters)


def visit_all(
    config: Config, tls: SSL.Context, policy: Policy, way: Gateway | None
) -> tuple[Mapping[str, Backend], Mapping[Cluster, list[Visit]]]:
    """Visit every server of every upstream: the upstreams by name, and what came of their servers.

    Args:
        config: of the operator.
        tls: context with the policy.
        policy: what handshakes are judged by.
        way: the egress proxy, if there is one.
    """
    own_reactor.install()
    from twisted.internet import reactor

    means = prepare(config, tls, policy, reactor, random.random)
    found = backends(config, means, way, random.random)
    return found, _run(reactor, means, list({backend.cluster for backend in found.values()}))


def _run(reactor: Any, means: Means, clusters: list[Cluster]) -> dict[Cluster, list[Visit]]:
    """Visit all at the same time; what came of it is counted as the relay counts it."""
    outcome: list[Any] = []

    def begin() -> None:
        means.deadlines.start()
        visits = gatherResults([visit(cluster, means) for cluster in clusters], consumeErrors=True)
        visits.addBoth(outcome.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    visits = dict(zip(clusters, outcome[0], strict=True))
    for cluster, each in visits.items():
        for one in each:
            if one.error is not None:
                cluster.handshakes.count_failure(one.error)
            elif one.facts is not None:
                cluster.handshakes.count(one.facts)
    return visits


def _server(one: Visit) -> evidence.Server:
    return evidence.Server(str(one.place), "DOWN" if one.error else "UP", one.error.detail if one.error else "")
