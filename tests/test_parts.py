"""Tests of ``fipsrelay.parts``; what is read and checked is tested with the programs that go by it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.crypto.policy import demanded
from fipsrelay.parts import cautions


class CautionTests(SynchronousTestCase):
    def cautions(self, text: str) -> list[str]:
        config = load_text(f"preset: datadog\n{text}", "test")
        return list(cautions(config, demanded(config.tls)))

    def test_none(self) -> None:
        self.assertEqual(self.cautions(""), [])
        self.assertEqual(self.cautions("listen: {allow_remote_plaintext: true}"), [])

    def test_remote(self) -> None:
        text = "listen: {allow_remote_plaintext: true, addresses: [127.0.0.1, 192.0.2.1, '::']}"
        [line] = self.cautions(text)
        self.assertIn("from other machines to 192.0.2.1, ::", line)

    def test_hybrid_groups(self) -> None:
        [line] = self.cautions("tls: {hybrid_groups: true}")
        self.assertIn("SecP256r1MLKEM768, SecP384r1MLKEM1024", line)
