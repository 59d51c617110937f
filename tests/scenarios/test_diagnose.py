"""``datadog-agent diagnose``: its connectivity checks as it plays them, judged by its rules.

It is Go's ``net/http`` that speaks: a request leaves in one piece, Host and User-Agent first, then framing, then the
other fields in alphabetical order and in Go's canonical form, Accept-Encoding last and not for HEAD.
"""

from __future__ import annotations

import http.client
import re
import socket

import attrs

from fipsrelay.demo.payloads import FAKE_KEY
from fipsrelay.demo.peer import IntakeProcess
from tests.scenarios.stage import PresetStage

AGENT = "datadog-agent/7.78.0"
GO = "Go-http-client/1.1"
LINE = re.compile(r"upstream (datadog-[a-z-]+) \((127\.0\.0\.1:\d+)\) failed at connect: [^\n]+\n")


@attrs.frozen
class Check:
    """One request of the diagnosis."""

    offset: int
    path: str
    upstream: str
    method: str = "POST"
    body: bytes = b"{}"
    user_agent: str = GO

    def request(self, port: int) -> bytes:
        """As it goes over the wire."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: localhost:{port}", f"User-Agent: {self.user_agent}"]
        if self.method == "POST":
            lines.append(f"Content-Length: {len(self.body)}")
        if self.method != "HEAD":
            lines += ["Content-Type: application/json", f"Dd-Api-Key: {FAKE_KEY}"]
            if self.user_agent == AGENT:
                lines += ["Dd-Evp-Origin: agent", "Dd-Evp-Origin-Version: 7.78.0"]
            lines.append("Accept-Encoding: gzip")
        return "\r\n".join([*lines, "", ""]).encode() + (self.body if self.method == "POST" else b"")

    def passes(self, status: int) -> bool:
        """The Agent's own judgement."""
        return status in (200, 307, 308) if self.method == "HEAD" else status < 400


METRICS = "datadog-metrics"
#: Over one connection: the forwarder's client keeps it.
CORE = (
    Check(1, "/api/v1/series", METRICS),
    Check(1, "/api/v1/check_run", METRICS, body=b'{"check": "test", "status": 0}'),
    Check(1, "/api/v1/metadata", METRICS),
    Check(1, "/intake/", METRICS),
    Check(1, "/api/v2/series", METRICS),
    Check(1, "/api/beta/sketches", METRICS),
    Check(1, "/api/v1/validate", "datadog-api", "GET"),
    Check(1, f"/api/v1/validate?api_key={FAKE_KEY}", "datadog-api", "GET"),
)
FLARE = Check(1, "/support/flare", "datadog-flare", "HEAD")
TRACKS = tuple(
    Check(offset, f"/api/v2/{track}", f"datadog-{upstream}", user_agent=AGENT)
    for offset, track, upstream in (
        (5, "logs", "logs-http"),
        (6, "dbmmetrics", "database-monitoring-metrics"),
        (6, "dbmactivity", "database-monitoring-metrics"),
        (6, "dbmmetadata", "database-monitoring-metrics"),
        (6, "dbmhealth", "database-monitoring-metrics"),
        (6, "dbmcolumnstatistics", "database-monitoring-metrics"),
        (7, "databasequery", "database-monitoring-samples"),
        (8, "ndm", "network-devices-metadata"),
        (9, "ndmtraps", "network-devices-snmp-traps"),
        (10, "apmtelemetry", "instrumentations-telemetry"),
        (12, "orch", "orchestrator"),
        (12, "orchmanif", "orchestrator"),
        (13, "secruntime", "runtime-security"),
        (13, "secinfo", "runtime-security"),
        (14, "compliance", "compliance"),
        (15, "ndmflow", "network-devices-netflow"),
        # Those that fall back to the port for metrics.
        (1, "contlcycle", "container-lifecycle"),
        (1, "contimage", "container-images"),
        (1, "sbom", "sbom"),
        (1, "netpath", "network-path"),
    )
)


class DiagnoseTests(PresetStage):
    def setUp(self) -> None:
        super().setUp()
        self.intake = IntakeProcess(self.intake_paths)
        self.addCleanup(self.intake.stop)
        self.relay = self.start_preset(self.intake.port)

    def diagnose(self) -> list[tuple[Check, http.client.HTTPResponse, bytes]]:
        """Every check with its answer."""
        core = self.connect(self.page_port + 1)
        connections = [*((check, core) for check in CORE)]
        connections += ((check, self.connect(self.page_port + check.offset)) for check in (FLARE, *TRACKS))
        return [(check, *self.ask(check, connection)) for check, connection in connections]

    def ask(self, check: Check, connection: socket.socket) -> tuple[http.client.HTTPResponse, bytes]:
        connection.sendall(check.request(self.page_port + check.offset))
        answer = http.client.HTTPResponse(connection, method=check.method)
        answer.begin()
        return answer, answer.read()

    def assert_key_is_secret(self) -> None:
        for text in (self.page(), self.relay.output):
            self.assertNotIn(FAKE_KEY, text)

    def test_passes(self) -> None:
        answers = self.diagnose()
        self.assertEqual([check.path for check, answer, _ in answers if not check.passes(answer.status)], [])
        found = [(record["method"], record["path"], record["sni"]) for record in self.intake.records()]
        hosts = {name: upstream.host for name, upstream in self.config.upstreams.items()}
        wanted = [(check.method, check.path.partition("?")[0], hosts[check.upstream]) for check, *_ in answers]
        self.assertEqual(found, wanted)
        self.assert_key_is_secret()

    def test_fails_with_the_reason(self) -> None:
        """What the Agent prints is the first 500 bytes of the answer; an empty reply would make it suspect TLS."""
        self.intake.stop()
        for check, answer, body in self.diagnose():
            self.assertEqual((answer.status, answer.headers["Fipsrelay-Error"]), (503, "connect-refused"), check)
            self.assertFalse(check.passes(answer.status))
            if check.method == "HEAD":
                self.assertEqual(body, b"")
                continue
            self.assertLess(len(body), 500)
            match = LINE.fullmatch(body.decode())
            assert match is not None, body
            self.assertEqual(match.groups(), (check.upstream, f"127.0.0.1:{self.intake.port}"))
        self.relay.wait_for("network_devices_netflow_frontend: upstream datadog-network-devices-netflow (")
        self.assert_key_is_secret()
