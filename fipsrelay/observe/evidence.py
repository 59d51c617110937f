"""The auditor's report as data: what did the cryptography, what is allowed, and what was negotiated with whom.

The names of its fields are stable: ``docs/evidence.schema.json`` describes them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import attrs

from fipsrelay import __version__
from fipsrelay.config.check import expanded
from fipsrelay.config.model import Config
from fipsrelay.counters import Counters
from fipsrelay.crypto import certificates
from fipsrelay.crypto.gate import Evidence
from fipsrelay.crypto.offer import Offer
from fipsrelay.crypto.policy import Policy
from fipsrelay.errors import FipsError
from fipsrelay.observe.status import negotiated
from fipsrelay.upstream.backend import Backend
from fipsrelay.upstream.handshakes import Handshakes

PACKAGES = ("cryptography", "pyOpenSSL", "service-identity", "Twisted")
Report = dict[str, Any]


@attrs.frozen
class Source:
    """Who reports.

    Attributes:
        kind: ``running`` relay, or ``stand-alone`` for a process that visited every server once.
        pid: of the process.
        started: seconds of the wall clock.
    """

    kind: str
    pid: int
    started: float


@attrs.frozen
class Server:
    """One address of an upstream.

    Attributes:
        address: with its port.
        state: ``UP``, ``DOWN`` or ``not checked``.
        failure: the last one; empty for none.
    """

    address: str
    state: str
    failure: str


def begin(source: Source, config: Config, now: float) -> Report:
    """What a report says in any case.

    Args:
        source: who reports.
        config: of the operator.
        now: seconds of the wall clock.
    """
    return {
        "report": {
            "made": _date(now),
            "host": platform.node(),
            "source": source.kind,
            "pid": source.pid,
            "started": _date(source.started),
        },
        "program": {
            "name": "fipsrelay",
            "version": __version__,
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "configuration": {"sha256": digest(config), "text": expanded(config)},
        "failure": None,
    }


def digest(config: Config) -> str:
    """SHA-256 of the effective configuration's text, hexadecimal."""
    return hashlib.sha256(expanded(config).encode()).hexdigest()


def fail(report: Report, error: FipsError) -> Report:
    """The report of a process whose FIPS state could not be proven, or was lost."""
    return {**report, "failure": attrs.asdict(error)}


def prove(report: Report, config: Config, evidence: Evidence, policy: Policy, offer: Offer) -> Report:
    """Add what the gate saw, and what is allowed and offered."""
    return {
        **report,
        "module": _module(config, evidence),
        "library": evidence.library,
        "policy": {
            "profile": config.tls.profile,
            "versions": list(policy.versions),
            "suites": list(policy.suites),
            "groups": list(policy.groups),
            "uncovered_groups": list(policy.hybrid_groups),
            "signature_algorithms": list(policy.signature_algorithms),
            "certificate_curves": list(policy.certificate_curves),
            "certificate_hashes": sorted(policy.certificate_hashes),
            "minimum_rsa_bits": policy.minimum_rsa_bits,
            "stapled_ocsp_answer": policy.stapled,
        },
        "offered": offer.named(),
    }


def add_traffic(
    report: Report, backends: Mapping[str, Backend], servers: Mapping[str, Iterable[Server]], counters: Counters
) -> Report:
    """Add what was negotiated.

    Args:
        report: to add to.
        backends: the upstreams; those that share their servers share these figures.
        servers: of each upstream.
        counters: of the intakes.
    """
    return {
        **report,
        "upstreams": [
            {
                "name": name,
                "host": backend.cluster.host,
                "port": backend.cluster.port,
                "servers": [attrs.asdict(server) for server in servers[name]],
                **_handshakes(backend.cluster.handshakes),
            }
            for name, backend in backends.items()
        ],
        "intakes": [
            {"name": name, "handshakes": negotiated(intake.handshakes)} for name, intake in counters.intakes.items()
        ],
    }


def _module(config: Config, evidence: Evidence) -> Report:
    try:
        status = os.stat(evidence.module)
    except OSError:
        status = None  # a package has taken it away since; what is mapped stays
    words = (evidence.provider_name, evidence.provider_version, evidence.build_info)
    row = certificates.lookup(*words, config.fips.certificates)
    today = datetime.now(timezone.utc).date().isoformat()
    return {
        "path": evidence.module,
        "sha256": evidence.sha256,
        "pinned": config.fips.sha256 is not None,
        "owner_uid": status.st_uid if status else None,
        "mode": stat.filemode(status.st_mode) if status else None,
        "name": evidence.provider_name,
        "version": evidence.provider_version,
        "build_info": evidence.build_info,
        # The gate lets nothing through whose self-tests failed; they run at each start.
        "self_tests": "passed at start",
        "listed": evidence.listed,
        "certificate": {**attrs.asdict(row), "status": row.status_on(today)} if row else None,
        "warnings": list(evidence.warnings),
    }


def _handshakes(handshakes: Handshakes) -> Report:
    newest = handshakes.newest
    return {
        "handshakes": negotiated(handshakes.finished),
        "refused": dict(sorted(handshakes.refused.items())),
        "chain": [attrs.asdict(certificate) for certificate in newest.chain] if newest else [],
    }


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
