"""The Datadog preset: every payload of an Agent, through every port, to the right intake."""

from __future__ import annotations

import gzip
import http.client
import json

from fipsrelay.demo.payloads import FAKE_KEY, payloads
from fipsrelay.demo.peer import IntakeProcess
from fipsrelay.demo.run import send_all
from tests.scenarios.stage import TIMEOUT, PresetStage, read_head

#: What arrives on the port for metrics, and the host that it is for.
ROUTED = (
    ("/api/v1/validate", "api"),
    (f"/api/v1/validate?api_key={FAKE_KEY}", "api"),
    ("/api/v2/validate", "api"),
    ("/api/v2/intake-key", "api"),
    ("/support/flare", "flare"),
    (f"/support/flare?api_key={FAKE_KEY}", "flare"),
    (f"/support/flare/1234567?api_key={FAKE_KEY}", "flare"),
    ("/api/v2/contlcycle", "contlcycle-intake"),
    ("/api/v2/contimage", "contimage-intake"),
    ("/api/v2/sbom", "sbom-intake"),
    ("/api/v2/netpath", "netpath-intake"),
    ("/api/v2/apmtelemetry/x", "instrumentation-telemetry-intake"),
    ("/api/v1/series", "metrics.agent"),
    ("/api/v2/series", "metrics.agent"),
    ("/api/beta/sketches", "metrics.agent"),
    ("/intake/", "metrics.agent"),
    ("/", "metrics.agent"),
    ("/api/v9/unknown?path=/api/v1/validate", "metrics.agent"),
    ("/api/v1/validated", "metrics.agent"),
    ("/support/flares", "metrics.agent"),
    ("/support", "metrics.agent"),
    ("/x/api/v1/validate", "metrics.agent"),
)


class PresetTests(PresetStage):
    def start(self) -> IntakeProcess:
        intake = IntakeProcess(self.intake_paths)
        self.addCleanup(intake.stop)
        self.start_preset(intake.port)
        return intake

    def test_every_payload(self) -> None:
        """On both addresses and every port: the same bytes, at the host that they are for."""
        intake = self.start()
        sent = payloads()
        ports = {self.page_port + payload.intake_offset for payload in sent}
        self.assertEqual(ports, {each.port for each in self.config.intakes.values()})
        for address in ("127.0.0.1", "::1"):
            outcomes = send_all(sent, self.page_port, [address], intake)
            self.assertEqual([outcome for outcome in outcomes if not outcome.same], [])
            self.assertEqual(len(outcomes), len(sent))

    def test_routes(self) -> None:
        intake = self.start()
        agent = self.agent(self.page_port + 1)
        for path, _ in ROUTED:
            agent.request("POST", path, b"{}")
            agent.getresponse().read()
        found = [(record["path"], record["host"], record["sni"]) for record in intake.records()]
        wanted = []
        for path, prefix in ROUTED:
            host = f"{prefix}.ddog-gov.com"
            wanted.append((path.partition("?")[0], f"{host}:{intake.port}", host))
        self.assertEqual(found, wanted)

    def test_answers(self) -> None:
        """The Agent sets its clock by Date, and its process checks by the body: nothing of them may change."""
        peer = self.start_played_peer(self.intake_paths)
        self.start_preset(peer.port, probes={"enabled": False})
        body = gzip.compress(json.dumps({"activeClients": 1, "interval": 2}).encode())
        fields = (
            ("Date", "Tue, 24 Nov 2026 10:00:00 GMT"),
            ("Content-Type", "application/x-protobuf"),
            ("content-encoding", "gzip"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        for address in ("127.0.0.1", "::1"):
            agent = http.client.HTTPConnection(address, self.page_port + 4, timeout=TIMEOUT)
            self.addCleanup(agent.close)
            agent.request("POST", "/api/v1/collector", b"{}", {"Connection": "close"})
            upstream = peer.accept()
            read_head(upstream)
            upstream.sendall(f"HTTP/1.1 202 Accepted\r\n{lines}Connection: close\r\n\r\n".encode() + body)
            answer = agent.getresponse()
            self.assertEqual((answer.status, answer.reason, answer.read()), (202, "Accepted", body))
            self.assertEqual(answer.getheaders(), [*fields, ("Connection", "close")])
