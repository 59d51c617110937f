"""The Agent's configuration beside the relay's: each mistake by itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.observe import agent

GOOD = "api_key: 0123456789abcdef\nfips:\n  enabled: true\n  https: false\n"
CONFIG = load_text("preset: datadog\n", "f.yaml")


class CheckTests(SynchronousTestCase):
    def check(self, text: str, relay: str = "preset: datadog\n", **variables: str) -> list[str]:
        found = list(agent.check(text, variables, load_text(relay, "f.yaml")))
        for finding in found:
            self.assertEqual(finding.topic, "agent")
            self.assertNotIn("0123456789abcdef", finding.found + finding.remedy)
            self.assertEqual(bool(finding.remedy), finding.state != "OK")
        return [f"{finding.state}: {finding.found}" for finding in found]

    def test_good(self) -> None:
        self.assertEqual(self.check(GOOD), ["OK: fips.enabled, fips.https: false, ports from 9803"])
        self.assertEqual(self.check(GOOD + "  local_address: 127.0.0.1\n  port_range_start: 9803\n")[0][:2], "OK")

    def test_not_enabled(self) -> None:
        wanted = ["FAIL: fips.enabled is false: the Agent does not use the relay"]
        for text in ("", "api_key: x\n", "fips:\n", "fips: {https: false}\n", GOOD.replace("true", "false")):
            self.assertEqual(self.check(text), wanted, text)

    def test_variables_win(self) -> None:
        self.assertEqual(self.check("", DD_FIPS_ENABLED="true", DD_FIPS_HTTPS="false")[0][:2], "OK")
        [found] = self.check(GOOD, DD_FIPS_PORT_RANGE_START="9900")
        self.assertEqual(found, "FAIL: fips.port_range_start is 9900, but the relay's is 9803")

    def test_https_by_default(self) -> None:
        [found] = self.check("fips: {enabled: true}\n")
        self.assertTrue(
            found.startswith("FAIL: fips.https is true, but these intakes speak plaintext: metrics-forwarder,")
        )

    def test_https(self) -> None:
        """Right where all intakes have a certificate."""
        name = next(iter(CONFIG.intakes))
        others = "".join(f"  {each}: null\n" for each in CONFIG.intakes if each != name)
        relay = f"preset: datadog\nintakes:\n  {name}:\n    tls: {{certificate: /c, key: /k}}\n{others}"
        self.assertEqual(self.check("fips: {enabled: true}\n", relay)[0][:2], "OK")
        [found] = self.check(GOOD, relay)
        self.assertEqual(found, f"WARN: fips.https is false, but these intakes speak TLS: {name}")

    def test_address(self) -> None:
        relay = "preset: datadog\nlisten: {addresses: [127.0.0.1]}\n"
        [found] = self.check(GOOD, relay)
        self.assertEqual(found, "WARN: fips.local_address is localhost, but the relay does not listen on ::1")
        [found] = self.check(GOOD + "  local_address: 127.0.0.2\n", relay)
        self.assertEqual(found, "FAIL: fips.local_address is 127.0.0.2, but the relay does not listen on 127.0.0.2")

    def test_any_address(self) -> None:
        """One that stands for all of a family stands for no other family's."""
        relay = "preset: datadog\nlisten: {allow_remote_plaintext: true, addresses: [%s]}\n"
        self.assertEqual(self.check(GOOD, relay % "0.0.0.0, '::'")[0][:2], "OK")
        [found] = self.check(GOOD, relay % "0.0.0.0")
        self.assertEqual(found, "WARN: fips.local_address is localhost, but the relay does not listen on ::1")
        [found] = self.check(GOOD, relay % "'::'")
        self.assertEqual(found, "WARN: fips.local_address is localhost, but the relay does not listen on 127.0.0.1")

    def test_ways_round(self) -> None:
        text = GOOD + (
            "additional_endpoints: {'https://elsewhere.example': [0123456789abcdef]}\n"
            "logs_config: {additional_endpoints: [{api_key: 0123456789abcdef}]}\n"
            "process_config: {additional_endpoints: {}}\n"
            "proxy: {https: 'http://user:0123456789abcdef@proxy.example'}\n"
        )
        self.assertEqual(
            self.check(text),
            [
                "WARN: datadog.yaml has proxy settings, which the Agent ignores with fips.enabled",
                "WARN: the Agent sends past the relay: additional_endpoints, logs_config.additional_endpoints",
            ],
        )

    def test_no_yaml(self) -> None:
        self.assertEqual(self.check("api_key: 0123456789abcdef\nfips: [\n"), ["FAIL: datadog.yaml is not YAML, line 3"])
        for text in ("fips: yes please\n", "- fips\n"):
            self.assertEqual(self.check(text), ["FAIL: datadog.yaml has no settings under fips"])

    def test_nested_too_deeply(self) -> None:
        deep = f"{GOOD}tags: {'[' * 5000}{']' * 5000}\n"
        self.assertEqual(self.check(deep), ["SKIP: datadog.yaml is nested too deeply"])

    def test_value_that_cannot_be_read(self) -> None:
        """YAML takes it for a date or a number, and the Agent for text."""
        for value in ("2024-13-45", "0x_", r'"\UFFFFFFFF"'):
            [found] = self.check(f"{GOOD}tags: [{value}]\n")
            self.assertEqual(
                found, "SKIP: datadog.yaml has a value that cannot be read, such as a date that there is not"
            )
