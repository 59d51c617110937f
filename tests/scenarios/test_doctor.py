"""``fipsrelay doctor`` by the real program: a good world, and each fault by itself."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fipsrelay.demo import certificates
from tests.scenarios.stage import HOST, TIMEOUT, Stage, read_head

SECRET = "not-to-be-shown"
AGENT = f"api_key: {SECRET}\nfips: {{enabled: true, https: false, local_address: 127.0.0.1, port_range_start: %d}}\n"
Findings = list[dict[str, str]]


class DoctorTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_peer(self.wait)
        self.plain = self.document(self.peer.port)
        [self.upstream] = self.plain["upstreams"]

    def wait(self, connection: ssl.SSLSocket) -> None:
        """A visit asks nothing, and may end in a reset."""
        with contextlib.suppress(OSError):
            read_head(connection)

    def run_doctor(self, *words: str, document: Mapping[str, Any] | None = None) -> tuple[int, str, str]:
        if document is not None:
            self.write_config(document)
        agent = self.folder / "datadog.yaml"
        if not agent.exists():
            agent.write_text(AGENT % self.plain["listen"]["port_range_start"])
        command = [sys.executable, "-m", "fipsrelay", "doctor", "-c", str(self.folder / "fipsrelay.yaml")]
        whose = [] if "--no-agent" in words else ["--agent-config", str(agent)]
        done = subprocess.run(
            [*command, *whose, *words],
            capture_output=True,
            text=True,
            timeout=3 * TIMEOUT,
            check=False,
        )
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        return done.returncode, done.stdout, done.stderr

    def findings(self, document: Mapping[str, Any] | None = None) -> tuple[int, Findings]:
        status, output, errors = self.run_doctor("--json", document=document)
        self.assertEqual(errors, "")
        report = json.loads(output)
        self.assertEqual(set(report), {"version", "config", "ok", "findings"})
        self.assertEqual(report["ok"], status == 0)
        return status, report["findings"]

    def assert_wrong(self, document: Mapping[str, Any], topic: str, words: str, state: str = "FAIL") -> Findings:
        """Nothing else is wrong, and there is something to do about it."""
        status, findings = self.findings(document)
        wrong = [each for each in findings if each["state"] == state and (each["topic"] == topic or state == "FAIL")]
        self.assertEqual({each["topic"] for each in wrong}, {topic}, wrong)
        self.assertTrue(any(words in each["found"] for each in wrong), wrong)
        self.assertTrue(all(each["remedy"] for each in wrong), wrong)
        self.assertEqual(status, int(state == "FAIL"))
        return findings

    def test_without_the_agent(self) -> None:
        """As long as it is not to use the relay yet, that it does not is no fault."""
        (self.folder / "datadog.yaml").write_text("")
        self.assert_wrong(self.plain, "agent", "fips.enabled")
        status, output, _ = self.run_doctor("--no-agent")
        self.assertEqual(status, 0, output)
        self.assertNotIn("datadog.yaml", output)

    def test_good(self) -> None:
        status, output, errors = self.run_doctor(document=self.plain)
        self.assertEqual((status, errors), (0, ""), output)
        for words in (
            "OK    configuration",
            "self-tests passed",
            "OK    relay          it does not run",
            "all 3 are free",
            f"127.0.0.1:{self.peer.port}: TLSv1.3 TLS_AES_256_GCM_SHA384 P-256, TCP ",
            "OK    agent",
            "WARN  module",
            " 0 FAIL, 0 SKIP",
        ):
            self.assertIn(words, output)

    def test_running(self) -> None:
        relay = self.run_relay(self.plain)
        status, findings = self.findings()
        self.assertEqual(status, 0, findings)
        found = [each["found"] for each in findings]
        self.assertTrue(any(each.startswith(f"process {relay.pid} runs with this configuration") for each in found))
        self.assertIn("the relay listens on all 3", found)
        changed = {**self.plain, "limits": {"connections": 7}}
        self.assert_wrong(changed, "relay", f"process {relay.pid} runs with another configuration", "WARN")

    def test_ports(self) -> None:
        """The process that holds one is named."""
        peer = self.start_plain_peer(lambda connection: connection.close())
        document = {**self.plain, "listen": {**self.plain["listen"], "port_range_start": peer.port}}
        (self.folder / "datadog.yaml").write_text(AGENT % peer.port)
        words = f"port {peer.port} of statistics page is held by {Path('/proc/self/comm').read_text().strip()} "
        self.assert_wrong(document, "ports", f"{words}(process {os.getpid()})")

    def test_module(self) -> None:
        document = {**self.plain, "fips": {"module": str(self.folder / "missing.so")}}
        findings = self.assert_wrong(document, "module", "module-missing: no such file")
        self.assertEqual([each["topic"] for each in findings if each["state"] == "SKIP"], ["TLS"])

    def test_configuration(self) -> None:
        """Every problem; and what can be asked without it."""
        (self.folder / "fipsrelay.yaml").write_text("site: 7\nlimits: {connections: 0}\n")
        status, findings = self.findings()
        self.assertEqual(status, 1)
        wrong = [each["found"] for each in findings if each["state"] == "FAIL"]
        self.assertTrue(any("fipsrelay.yaml:2: limits.connections" in each for each in wrong), wrong)
        self.assertEqual({each["topic"] for each in findings}, {"configuration", "module", "everything else"})

    def test_trust(self) -> None:
        missing = {**self.plain, "tls": {"trust": str(self.folder / "missing.pem")}}
        self.assert_wrong(missing, "TLS", "missing.pem cannot be read")

    def test_upstreams(self) -> None:
        """One bad address beside a good one is no failure; a wrong name is."""
        [free] = self.free_ports(1)
        upstream = self.plain["upstreams"][self.upstream]
        refused = {**upstream, "port": free}
        self.assert_wrong({**self.plain, "upstreams": {self.upstream: refused}}, self.upstream, "Connection refused")
        two = {**upstream, "addresses": ["127.0.0.1", "127.0.0.9"]}
        words = f"127.0.0.9:{self.peer.port} failed at connect"
        self.assert_wrong({**self.plain, "upstreams": {self.upstream: two}}, self.upstream, words, "WARN")
        other = {**upstream, "host": f"x.{HOST}"}
        words = f'failed at identity: Layer6 invalid response, info: "the certificate is not valid for x.{HOST}"'
        self.assert_wrong({**self.plain, "upstreams": {self.upstream: other}}, self.upstream, words)

    def test_dates(self) -> None:
        """Of a certificate's dates or the host's clock one is wrong."""
        for stem, dates in (("over", {"expired": True}), ("early", {"premature": True})):
            paths = certificates.write(self.folder, [HOST], stem=stem, **dates)  # type: ignore[arg-type]
            peer = self.start_peer(self.wait, self.server_context(paths))
            upstream = {**self.plain["upstreams"][self.upstream], "port": peer.port}
            document = {**self.plain, "upstreams": {self.upstream: upstream}}
            findings = self.assert_wrong(document, self.upstream, "failed at handshake: ")
            remedies = [each["remedy"] for each in findings if each["state"] == "FAIL"]
            self.assertRegex(" ".join(remedies), "clock, if it is not 20[0-9-]{8} [0-9:]{5} UTC")

    def test_local_tls(self) -> None:
        place = self.folder / "local"
        place.mkdir()
        soon = certificates.write(place, ["localhost"])
        over = certificates.write(place, ["localhost"], expired=True, stem="over")
        for paths, words, state in (
            (soon, "the certificate ends", "WARN"),
            (over, "the certificate ends", "FAIL"),
            (certificates.Paths(place, place / "none.pem", place / "none.key"), "none.key cannot be read", "FAIL"),
        ):
            [name] = [each for each, intake in self.plain["intakes"].items() if intake.get("protocol") != "tcp"]
            tls = {"certificate": str(paths.certificate), "key": str(paths.key)}
            intakes = {**self.plain["intakes"], name: {**self.plain["intakes"][name], "tls": tls}}
            self.assert_wrong({**self.plain, "intakes": intakes}, f"TLS of {name}", words, state)

    def test_agent(self) -> None:
        (self.folder / "datadog.yaml").write_text(f"api_key: {SECRET}\n")
        self.assert_wrong(self.plain, "agent", "fips.enabled is false")

    def test_proxy_password(self) -> None:
        proxy = {"proxy": "http://user@127.0.0.1:9", "password_file": str(self.folder / "none")}
        self.assert_wrong({**self.plain, "egress": proxy}, "TLS", "none cannot be read")
