"""The state as metrics, read back by Prometheus's own readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.metrics import Metrics
from tests.documents import NASTY, Relay

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.relay = Relay()
        self.metrics = Metrics(self.relay.document)

    def samples(self, families: Iterable[Any]) -> dict[tuple[str, tuple[str, ...]], float]:
        """Values by name, and labels in the order of their names."""
        return {
            (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def read(self) -> dict[tuple[str, tuple[str, ...]], float]:
        return self.samples(text_string_to_metric_families(self.metrics.render("").decode()))

    def test_values(self) -> None:
        found = self.read()
        for name, labels, value in (
            ("fipsrelay_start_time_seconds", (), 100.0),
            ("fipsrelay_ready", (), 1.0),
            ("fipsrelay_fips_intact", (), 1.0),
            ("fipsrelay_fips_listed", (), 1.0),
            ("fipsrelay_connections_limit", (), 4096.0),
            ("fipsrelay_connections", ("metrics",), 2.0),
            ("fipsrelay_connections_accepted_total", ("metrics",), 7.0),
            ("fipsrelay_received_bytes_total", ("metrics",), 12345.0),
            ("fipsrelay_sent_bytes_total", ("metrics",), 678.0),
            ("fipsrelay_requests_total", ("202", "metrics"), 4.0),
            ("fipsrelay_requests_total", ("503", "metrics"), 1.0),
            ("fipsrelay_errors_total", ("connect", "metrics"), 12.0),
            ("fipsrelay_retries_total", ("connect", "metrics"), 2.0),
            ("fipsrelay_request_duration_seconds_bucket", ("metrics", "0.0025"), 4.0),
            ("fipsrelay_request_duration_seconds_bucket", ("metrics", "+Inf"), 5.0),
            ("fipsrelay_request_duration_seconds_count", ("metrics",), 5.0),
            ("fipsrelay_request_duration_seconds_sum", ("metrics",), 3.0069),
            ("fipsrelay_agent_tls_handshakes_total", ("P-384", "logs", "AES", "TLSv1.2"), 2.0),
            ("fipsrelay_server_up", ("192.0.2.1:443", "mothership1", "up"), 0.0),
            ("fipsrelay_server_up", ("[2001:db8::1]:443", "mothership2", "too"), 1.0),
            ("fipsrelay_server_outstanding_requests", ("192.0.2.1:443", "mothership1", "up"), 1.0),
            ("fipsrelay_server_idle_connections", ("[2001:db8::1]:443", "mothership2", "up"), 1.0),
            ("fipsrelay_unresolved_seconds", ("new.example.com",), 30.0),
            (
                "fipsrelay_tls_handshakes_total",
                ("up.example.com:443", "P-256", "Provider 3.1.2", "AES", "TLSv1.3"),
                12.0,
            ),
            ("fipsrelay_tls_handshakes_refused_total", ("up.example.com:443", f"tls: {NASTY}"), 3.0),
        ):
            self.assertEqual(found[name, labels], value, (name, labels))
        self.assertNotIn(("fipsrelay_request_duration_seconds_count", ("raw",)), found)
        expiry = found["fipsrelay_destination_certificate_expiry_timestamp_seconds", ("up.example.com:443",)]
        self.assertEqual(expiry, 1798859045.0)

    def test_lost(self) -> None:
        self.metrics = Metrics(lambda: self.relay.document("lost", "FIPS check x failed"))
        found = self.read()
        self.assertEqual([found[f"fipsrelay_{name}", ()] for name in ("ready", "fips_intact")], [0.0, 0.0])

    def test_of_this_process(self) -> None:
        found = self.read()
        self.assertGreater(found["process_resident_memory_bytes", ()], 1e6)
        self.assertGreater(found["process_open_fds", ()], 2)

    def test_openmetrics(self) -> None:
        """Its reader is strict; and it reads the same."""
        self.assertIn("openmetrics-text", self.metrics.kind(OPENMETRICS))
        self.assertIn("text/plain", self.metrics.kind("*/*"))
        text = self.metrics.render(OPENMETRICS).decode()
        strict = self.samples(openmetrics.text_string_to_metric_families(text))
        plain = self.read()
        for key in [key for key in plain if key[0].startswith("process_")]:
            del plain[key]
        self.assertEqual({key: strict.get(key) for key in plain}, plain)

    def test_names(self) -> None:
        """Each is ours or a process's, has a help text, and each counter is called total."""
        for family in text_string_to_metric_families(self.metrics.render("").decode()):
            self.assertRegex(family.name, "^(fipsrelay|process)_")
            self.assertTrue(family.documentation, family.name)
            if family.type == "counter":
                self.assertTrue(all(sample.name.endswith("_total") for sample in family.samples), family.name)
