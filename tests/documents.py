"""A relay's state with something of everything, made of its real parts."""

from __future__ import annotations

from typing import Any

from fipsrelay.config.load import load_text
from fipsrelay.config.model import Probes, Timeouts, Upstream
from fipsrelay.counters import Counters, IntakeCounters
from fipsrelay.crypto.gate import Evidence
from fipsrelay.crypto.policy import SP800_52, CertificateFacts, HandshakeFacts
from fipsrelay.observe.history import History
from fipsrelay.observe.status import Document, Subject, document
from fipsrelay.upstream.backend import Backend
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Means
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import Buffers
from tests.doubles import FakeStream, Reactor

NOTHING: Any = None
NASTY = "<script>alert('&')</script>"
CONFIG = """
site: example.com
upstreams: {up: {host: up.example.com}, too: {host: up.example.com}, new: {host: new.example.com}}
intakes:
  metrics: {port: 9001, upstream: up}
  logs: {port: 9002, upstream: too, tls: {certificate: /c.pem, key: /k.pem}}
  raw: {port: 9003, protocol: tcp, upstream: new}
"""


class Relay:
    """What a document is made of.

    Attributes:
        counters: of the process.
        histories: by intake.
        backends: ``up`` and ``too`` share three servers in different states, ``new`` has none.
        subject: all of it.
    """

    def __init__(self) -> None:
        config = load_text(CONFIG, "test")
        self.counters = Counters(100.0, {name: IntakeCounters() for name in config.intakes})
        self.histories = {name: History(counters) for name, counters in self.counters.intakes.items()}
        self.backends = _backends()
        evidence = Evidence("/fips.so", "ab" * 32, "Provider", "3.1.2", "build", "OpenSSL 3", True, "#1", ("Look.",))
        unresolved = {"new.example.com": 20.0}
        self.subject = Subject(
            config, "cd" * 32, evidence, self.counters, self.histories, self.backends, lambda: unresolved, 4096
        )
        self._count()

    def _count(self) -> None:
        metrics, logs, raw = self.counters.intakes.values()
        metrics.connections, metrics.open_connections = 7, 2
        metrics.bytes_in, metrics.bytes_out = 12345, 678
        metrics.requests.update({503: 1, 202: 4})
        metrics.errors.update({"tls": 1, "connect": 12})
        metrics.retries["connect"] = 2
        for seconds in (0.0009, 0.002, 0.002, 0.002, 3.0):
            metrics.latencies.count(seconds)
        logs.handshakes["TLSv1.2", "AES", "P-384"] = 2
        raw.bytes_in = 1000
        account = self.backends["up"].cluster.handshakes
        leaf = CertificateFacts("CN=up", "rsa", 2048, "sha256", "ef" * 32, "", "2027-01-02T03:04:05+00:00")
        for _ in range(12):
            account.count(HandshakeFacts("TLSv1.3", "AES", "P-256", True, (leaf,)))
        account.finished["TLSv1.2", "AES", "P-256"] += 1
        account.refused[f"tls: {NASTY}"] += 3

    def document(self, state: str = "ready", lost: str | None = None) -> Document:
        """Sixty-one seconds after the start."""
        return document(self.subject, state, lost, 161.4, 50.0)


def _backends() -> dict[str, Backend]:
    reactor = Reactor()
    means = Means(reactor, Buffers(16), Deadlines(reactor, 0.5), NOTHING, SP800_52, Timeouts(), NOTHING)
    addresses = ("192.0.2.1", "2001:db8::1", "192.0.2.3")
    cluster = Cluster("up.example.com", 443, addresses, None, means, Probes(enabled=False), NOTHING)
    cluster.start()
    down, used, _ = cluster.servers
    down.outstanding += 1
    for began in (20, 30, 40):
        down.health.failed(began, f'Layer4 timeout, info: "{NASTY}"', began)
    stream: Any = FakeStream()
    used.outstanding += 1
    used.adopt(stream)
    reactor.advance(45)
    stream.keeper.give_back()
    unknown = Cluster("new.example.com", 443, (), None, means, Probes(), NOTHING)
    return {
        "up": Backend(Upstream("up", "up.example.com"), cluster, means),
        "too": Backend(Upstream("too", "up.example.com"), cluster, means),
        "new": Backend(Upstream("new", "new.example.com"), unknown, means),
    }
