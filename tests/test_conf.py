"""Tests of ``conf/proxy.yaml``, the file that operators get."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config import sections
from fipsrelay.config.load import load_file, load_text
from fipsrelay.config.model import Retries

FILE = Path(__file__).parent.parent / "conf" / "proxy.yaml"


class ProxyTests(SynchronousTestCase):
    """Settings behind a # without a space are defaults; lines behind # and five spaces are examples."""

    text = FILE.read_text()
    preset = load_text("preset: datadog\n", "f.yaml")

    def test_what_it_says_is_the_default(self) -> None:
        self.assertEqual(load_file(str(FILE)), self.preset)

    def test_so_is_what_it_shows(self) -> None:
        complete = re.sub(r"(?m)^( *)#(?=\w)", r"\1", self.text)
        self.assertEqual(load_text(complete, "f.yaml"), self.preset)
        for table in (
            sections.LISTEN,
            sections.FIPS,
            sections.TLS,
            sections.RESOLVER,
            sections.EGRESS,
            sections.PROBES,
            sections.TIMEOUTS,
            sections.LIMITS,
            sections.LOG,
        ):
            for key in table:
                self.assertRegex(complete, rf"(?m)^  {key}: ")

    def test_examples(self) -> None:
        examples = "\n".join(re.findall(r"(?m)^#     (.*)$", self.text))
        config = load_text(f"preset: datadog\n{examples}\n", "f.yaml")
        self.assertEqual(config.upstreams["datadog-api"].port, 8443)
        self.assertEqual(config.upstreams["datadog-metrics"].addresses, ("192.0.2.10",))
        self.assertEqual(len(config.upstreams["datadog-traces"].pins[0]), 64)
        self.assertEqual(config.upstreams["datadog-profiles"].retries, Retries(replay=True))
        self.assertIn(f"replay_size: {Retries().replay_size}", examples)
        self.assertEqual(config.intakes["archive"].port, 9823)
        [certificate] = config.fips.certificates
        self.assertEqual((certificate.number, certificate.sunset), ("4985", "2030-03-10"))
        self.assertNotIn("network_devices_netflow_frontend", config.intakes)


class OlderTests(SynchronousTestCase):
    """What operators have on their hosts: each version's file, as it was shipped, means the same today."""

    def test_shipped(self) -> None:
        files = sorted((Path(__file__).parent / "configurations").glob("*.yaml"))
        self.assertEqual([file.stem for file in files][:1], ["0.1.0"])
        for file in files:
            self.assertEqual(load_file(str(file)), ProxyTests.preset, file.name)

    def test_so_does_every_setting_of_it(self) -> None:
        """Written out, as those who change one have it."""
        for file in sorted((Path(__file__).parent / "configurations").glob("*.yaml")):
            complete = re.sub(r"(?m)^( *)#(?=\w)", r"\1", file.read_text())
            self.assertEqual(load_text(complete, file.name), ProxyTests.preset)
            examples = "\n".join(re.findall(r"(?m)^#     (.*)$", complete))
            self.assertEqual(load_text(f"preset: datadog\n{examples}\n", file.name).intakes["archive"].port, 9823)
