"""The auditor's report: its text says what is in the data, whatever certificates and servers say of themselves."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.crypto.policy import CertificateFacts, HandshakeFacts
from fipsrelay.errors import FipsError
from fipsrelay.observe import evidence, markdown
from fipsrelay.upstream.handshakes import Handshakes

CONFIG = load_text("preset: datadog\n", "f.yaml")
LEAF = CertificateFacts("CN=a|b\n# FAILED", "P-256", 256, "sha256", "00" * 32, "11" * 32)
FACTS = HandshakeFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "P-256", True, (LEAF,))


class ReportTests(SynchronousTestCase):
    def begun(self) -> dict[str, Any]:
        return evidence.begin(evidence.Source("running", 7, 0.0), CONFIG, 86400.0)

    def test_begin(self) -> None:
        report = self.begun()
        self.assertEqual(report["report"]["made"], "1970-01-02T00:00:00+00:00")
        self.assertEqual(set(report["program"]["packages"]), set(evidence.PACKAGES))
        self.assertEqual(self.begun()["configuration"], report["configuration"])

    def test_digest(self) -> None:
        """Another setting, another digest."""
        other = attrs.evolve(CONFIG, site="example.com")
        report = evidence.begin(evidence.Source("running", 7, 0.0), other, 0.0)
        self.assertNotEqual(report["configuration"]["sha256"], self.begun()["configuration"]["sha256"])

    def test_failure(self) -> None:
        """What is known is said; the text begins with what is wrong."""
        report = evidence.fail(self.begun(), FipsError("module-missing", "a module", "none", "bring one"))
        self.assertEqual(report["failure"]["code"], "module-missing")
        text = markdown.render(report)
        self.assertIn("## FAILED", text)
        self.assertIn("| remedy | bring one |", text)

    def test_handshakes(self) -> None:
        handshakes = Handshakes()
        for version in ("TLSv1.3", "TLSv1.2", "TLSv1.3"):
            handshakes.count(attrs.evolve(FACTS, version=version))
        found = evidence._handshakes(handshakes)
        self.assertEqual(
            [(each["version"], each["count"]) for each in found["handshakes"]], [("TLSv1.2", 1), ("TLSv1.3", 2)]
        )
        self.assertEqual(found["chain"], [attrs.asdict(LEAF)])
        self.assertEqual(evidence._handshakes(Handshakes()), {"handshakes": [], "refused": {}, "chain": []})


class TextTests(SynchronousTestCase):
    def test_foreign_words(self) -> None:
        """A name with a line end or a bar in it makes neither a line nor a cell."""
        handshakes = Handshakes()
        handshakes.count(FACTS)
        upstream = {
            "name": "up",
            "host": "up.example",
            "port": 443,
            "servers": [attrs.asdict(evidence.Server("192.0.2.1:443", "DOWN", "a\n\n## b | c"))],
            **evidence._handshakes(handshakes),
        }
        report = evidence.begin(evidence.Source("running", 7, 0.0), CONFIG, 0.0)
        text = markdown.render({**report, "upstreams": [upstream], "intakes": [{"name": "web", "handshakes": []}]})
        self.assertIn("| 192.0.2.1:443 | DOWN | a ## b \\| c |\n", text)
        self.assertIn("| CN=a\\|b # FAILED | P-256 | 256 | sha256 |", text)
        self.assertNotIn("\n# FAILED", text)
        self.assertNotIn("\n## b", text)
        self.assertIn("| TLSv1.3 | TLS_AES_256_GCM_SHA384 | P-256 | 1 |", text)
