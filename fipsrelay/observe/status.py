"""What the relay does and how it is, in one document: page, text, CSV and metrics are made of nothing else.

The names of its fields are stable: ``docs/status.schema.json`` describes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import attrs

from fipsrelay import __version__
from fipsrelay.config.model import Config
from fipsrelay.counters import BOUNDS, Counters, IntakeCounters, quantile
from fipsrelay.crypto.gate import Evidence
from fipsrelay.observe.history import INTERVAL, History
from fipsrelay.upstream.backend import Backend
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.server import Server

Document = dict[str, Any]
# Of the histogram's classes, those that are shown.
_SHOWN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
_ENDS = tuple(BOUNDS.index(bound) + 1 for bound in _SHOWN)


@attrs.frozen
class Reloads:
    """How often the configuration was read again, and what came of it.

    Attributes:
        good, bad: how often it was taken on, and not.
        problem: why the last one was not; empty when it was.
    """

    good: int = 0
    bad: int = 0
    problem: str = ""

    def succeeded(self) -> Reloads:
        """One more was taken on."""
        return attrs.evolve(self, good=self.good + 1, problem="")

    def failed(self, problem: str) -> Reloads:
        """One more was not."""
        return attrs.evolve(self, bad=self.bad + 1, problem=problem)


@attrs.frozen
class Subject:
    """What there is to look at.

    Attributes:
        config: of the operator.
        digest: of its effective text.
        evidence: of the gate.
        counters: of the process.
        histories: by intake.
        backends: upstreams by name.
        unresolved: gives names that do not resolve, and since when.
        places: how many connections there may be at the same time.
        reloads: of the configuration.
    """

    config: Config
    digest: str
    evidence: Evidence
    counters: Counters
    histories: Mapping[str, History]
    backends: Mapping[str, Backend]
    unresolved: Callable[[], Mapping[str, float]]
    places: int
    reloads: Reloads = Reloads()


def document(subject: Subject, state: str, lost: str | None, wall: float, now: float) -> Document:
    """All that is to be known at this moment.

    Args:
        subject: what to look at.
        state: ``starting``, ``ready`` or ``draining``.
        lost: the FIPS check that has failed since the start, or None.
        wall: seconds of the wall clock.
        now: seconds of the clock that servers and names go by.
    """
    counters, evidence = subject.counters, subject.evidence
    return {
        "made": _date(wall),
        "program": {
            "name": "fipsrelay",
            "version": __version__,
            "pid": os.getpid(),
            "started": _date(counters.started),
            "uptime": round(wall - counters.started, 3),
        },
        "state": state,
        "configuration": {"sha256": subject.digest},
        "reloads": {
            "succeeded": subject.reloads.good,
            "failed": subject.reloads.bad,
            "problem": subject.reloads.problem or None,
        },
        "fips": {
            "module": evidence.module,
            "sha256": evidence.sha256,
            "name": evidence.provider_name,
            "version": evidence.provider_version,
            "build_info": evidence.build_info,
            "library": evidence.library,
            "listed": evidence.listed,
            "certificate": evidence.certificate,
            "warnings": list(evidence.warnings),
            "failure": lost,
        },
        "connections": {"open": counters.open_connections, "limit": subject.places},
        "intakes": [_intake(subject, name, each) for name, each in counters.intakes.items()],
        "destinations": [
            _destination(cluster, now)
            for cluster in dict.fromkeys(backend.cluster for backend in subject.backends.values())
        ],
        "unresolved": [{"host": host, "seconds": _round(now - since)} for host, since in subject.unresolved().items()],
    }


def _intake(subject: Subject, name: str, counters: IntakeCounters) -> Document:
    intake, history = subject.config.intakes[name], subject.histories[name]
    recent = history.latencies()
    samples = list(history.samples)
    last = samples[-1] if samples else None
    return {
        "name": name,
        "port": intake.port,
        "protocol": intake.protocol,
        "tls": intake.tls is not None,
        "upstream": intake.upstream,
        "open_connections": counters.open_connections,
        "connections": counters.connections,
        "bytes_in": counters.bytes_in,
        "bytes_out": counters.bytes_out,
        "answers": {str(status): count for status, count in sorted(counters.requests.items())},
        "errors": dict(sorted(counters.errors.items())),
        "retries": dict(sorted(counters.retries.items())),
        "handshakes": negotiated(counters.handshakes),
        "latency": {
            "count": sum(counters.latencies.counts),
            "seconds": round(counters.latencies.total, 6),
            "buckets": _buckets(counters.latencies.counts),
            "recent_p50": quantile(recent, 0.5),
            "recent_p99": quantile(recent, 0.99),
        },
        "rates": {
            "requests": last.requests / INTERVAL if last else 0.0,
            "errors": last.errors / INTERVAL if last else 0.0,
            "bytes": last.bytes / INTERVAL if last else 0.0,
        },
        "history": {
            "interval": INTERVAL,
            "requests": [sample.requests for sample in samples],
            "errors": [sample.errors for sample in samples],
            "bytes": [sample.bytes for sample in samples],
        },
    }


def _buckets(counts: list[int]) -> list[list[float]]:
    """Upper bounds in seconds, and how many were not longer; the last bound, of all of them, is left out."""
    return [[bound, sum(counts[:end])] for bound, end in zip(_SHOWN, _ENDS, strict=True)]


def _destination(cluster: Cluster, now: float) -> Document:
    newest = cluster.handshakes.newest
    return {
        "host": cluster.host,
        "port": cluster.port,
        "upstreams": list(cluster.upstreams),
        "servers": [_server(server, now) for server in cluster.servers],
        "negotiated": dict(zip(("version", "suite", "group"), newest.parameters, strict=True)) if newest else None,
        "certificate_expires": newest.chain[0].expires if newest and newest.chain else None,
        "handshakes": negotiated(cluster.handshakes.finished),
        "refused": dict(sorted(cluster.handshakes.refused.items())),
    }


def _server(server: Server, now: float) -> Document:
    health = server.health
    known = server.heard != float("-inf")
    return {
        "name": server.name,
        "address": str(server.place),
        "state": state(server),
        "seconds": _round(now - health.since),
        "heard": _round(now - server.heard) if known else None,
        "outstanding": server.outstanding,
        "free": len(server.free),
        "failure": health.reason or None,
    }


def state(server: Server) -> str:
    """One word or two for a server's state."""
    if not server.health.up:
        return "DOWN"
    return "not checked" if server.heard == float("-inf") else "UP"


def negotiated(finished: Mapping[tuple[str, str, str], int]) -> list[Document]:
    """Handshakes by what they came to."""
    return [
        {"version": version, "suite": suite, "group": group, "count": count}
        for (version, suite, group), count in sorted(finished.items())
    ]


def _round(seconds: float) -> float:
    return round(seconds, 3)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
