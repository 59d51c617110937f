"""The document of ``status`` as metrics, in the formats of Prometheus and OpenMetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

Document = Mapping[str, Any]


class Metrics(Collector):
    """Renders them for scrapers.

    Args:
        document: gives a fresh one.
    """

    def __init__(self, document: Callable[[], Document]) -> None:
        self._document = document
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # CPU time, memory, descriptors, under the names that every exporter has for them.
        ProcessCollector(registry=self._registry)

    def kind(self, accept: str) -> str:
        """The content type for a scraper, by its Accept field; one of a few."""
        return choose_encoder(accept)[1]

    def render(self, accept: str) -> bytes:
        """The text of that type."""
        encode, _ = choose_encoder(accept)
        return bytes(encode(self._registry))

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry that asks for names first would have all of them made."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All families, of one document."""
        document = self._document()
        yield from _program(document)
        yield from _intakes(document["intakes"])
        yield from _destinations(document)


def _program(document: Document) -> Iterable[Metric]:
    program, fips, connections = document["program"], document["fips"], document["connections"]
    yield InfoMetricFamily("fipsrelay", "The program.", {"version": program["version"]})
    started = datetime.fromisoformat(program["started"]).timestamp()
    yield GaugeMetricFamily("fipsrelay_start_time_seconds", "Since when it counts.", started)
    yield InfoMetricFamily("fipsrelay_configuration", "What it goes by.", document["configuration"])
    reloads = CounterMetricFamily("fipsrelay_reloads", "Of the configuration.", labels=("result",))
    for result in ("succeeded", "failed"):
        reloads.add_metric((result,), document["reloads"][result])
    yield reloads
    yield GaugeMetricFamily("fipsrelay_ready", "1 while it takes connections.", document["state"] == "ready")
    module = {name: str(fips[name] or "") for name in ("name", "version", "sha256", "certificate", "library")}
    yield InfoMetricFamily("fipsrelay_fips_module", "What does the cryptography.", module)
    yield GaugeMetricFamily("fipsrelay_fips_intact", "0 when the FIPS state is lost.", not fips["failure"])
    yield GaugeMetricFamily("fipsrelay_fips_listed", "1 with an active certificate.", fips["listed"])
    yield GaugeMetricFamily("fipsrelay_connections_limit", "Connections that may be open.", connections["limit"])


def _intakes(intakes: Iterable[Document]) -> Iterable[Metric]:
    opened = GaugeMetricFamily("fipsrelay_connections", "Open connections of agents.", labels=("intake",))
    made = CounterMetricFamily("fipsrelay_connections_accepted", "Connections of agents.", labels=("intake",))
    received = CounterMetricFamily("fipsrelay_received_bytes", "Bytes read from agents.", labels=("intake",))
    sent = CounterMetricFamily("fipsrelay_sent_bytes", "Bytes written to agents.", labels=("intake",))
    requests = CounterMetricFamily("fipsrelay_requests", "Answers by status.", labels=("intake", "code"))
    errors = CounterMetricFamily("fipsrelay_errors", "Failures by Fipsrelay-Error.", labels=("intake", "error"))
    retries = CounterMetricFamily("fipsrelay_retries", "Further tries, by the failure.", labels=("intake", "error"))
    latency = HistogramMetricFamily(
        "fipsrelay_request_duration_seconds",
        "From a request's whole head to the last byte of its answer.",
        labels=("intake",),
    )
    handshakes = CounterMetricFamily(
        "fipsrelay_agent_tls_handshakes", "With agents.", labels=("intake", "version", "suite", "group")
    )
    for intake in intakes:
        name = intake["name"]
        opened.add_metric((name,), intake["open_connections"])
        made.add_metric((name,), intake["connections"])
        received.add_metric((name,), intake["bytes_in"])
        sent.add_metric((name,), intake["bytes_out"])
        for family, counts in ((requests, "answers"), (errors, "errors"), (retries, "retries")):
            for key, count in intake[counts].items():
                family.add_metric((name, key), count)
        for each in intake["handshakes"]:
            handshakes.add_metric((name, each["version"], each["suite"], each["group"]), each["count"])
        if intake["protocol"] == "http":
            times = intake["latency"]
            buckets = [*((str(bound), count) for bound, count in times["buckets"]), ("+Inf", times["count"])]
            latency.add_metric((name,), buckets, times["seconds"])
    yield from (opened, made, received, sent, requests, errors, retries, latency, handshakes)


def _destinations(document: Document) -> Iterable[Metric]:
    server = ("upstream", "server", "address")
    up = GaugeMetricFamily("fipsrelay_server_up", "0 while it is down.", labels=server)
    busy = GaugeMetricFamily("fipsrelay_server_outstanding_requests", "Under way.", labels=server)
    free = GaugeMetricFamily("fipsrelay_server_idle_connections", "Ready for a request.", labels=server)
    unresolved = GaugeMetricFamily("fipsrelay_unresolved_seconds", "Since a name resolved.", labels=("host",))
    expiry = GaugeMetricFamily(
        "fipsrelay_destination_certificate_expiry_timestamp_seconds",
        "When the certificate ends that was seen last.",
        labels=("destination",),
    )
    handshakes = CounterMetricFamily(
        "fipsrelay_tls_handshakes",
        "Finished, and judged good.",
        labels=("destination", "version", "suite", "group", "module"),
    )
    refused = CounterMetricFamily("fipsrelay_tls_handshakes_refused", "By reason.", labels=("destination", "reason"))
    module = f"{document['fips']['name']} {document['fips']['version']}"
    for each in document["destinations"]:
        name = f"{each['host']}:{each['port']}"
        for upstream in each["upstreams"]:
            for one in each["servers"]:
                labels = (upstream, one["name"], one["address"])
                up.add_metric(labels, one["state"] != "DOWN")
                busy.add_metric(labels, one["outstanding"])
                free.add_metric(labels, one["free"])
        if each["certificate_expires"]:
            expiry.add_metric((name,), datetime.fromisoformat(each["certificate_expires"]).timestamp())
        for found in each["handshakes"]:
            terms = (name, found["version"], found["suite"], found["group"], module)
            handshakes.add_metric(terms, found["count"])
        for reason, count in each["refused"].items():
            refused.add_metric((name, reason), count)
    for host in document["unresolved"]:
        unresolved.add_metric((host["host"],), host["seconds"])
    yield from (up, busy, free, unresolved, expiry, handshakes, refused)
