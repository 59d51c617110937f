"""The parts of the gate that need no libcrypto of their own; the rest is in ``scenarios/test_fips_gate``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Certificate, Fips
from fipsrelay.crypto import gate, module, provider
from fipsrelay.errors import FipsError
from tests.folders import MAC, Folders

TODAY = "2026-10-01"


class PinTests(Folders):
    """``fips.sha256``."""

    def test_pin(self) -> None:
        path = self.put(self.folder() / "file")
        found = module.Module(path, MAC)
        right = hashlib.sha256(path.read_bytes()).hexdigest()
        self.assertEqual(gate.check_pin(found, right.upper()), right)
        self.assertEqual(gate.check_pin(found, None), right)
        self.assertEqual(self.assertRaises(FipsError, gate.check_pin, found, "0" * 64).code, "module-sha256")


class JudgeTests(SynchronousTestCase):
    """``gate.judge``."""

    module = module.Module(Path("/opt/fips.so"), MAC)

    def facts(self, version: str) -> provider.ProviderFacts:
        active = frozenset({"fips", "base"})
        return provider.ProviderFacts(
            "fips", "OpenSSL FIPS Provider", version, version, 1, 1, active, md5=False, library="OpenSSL 3"
        )

    def test_listed(self) -> None:
        evidence = gate.judge(self.facts("3.1.2"), self.module, "00", Fips(), TODAY)
        self.assertTrue(evidence.listed)
        self.assertEqual(evidence.warnings, ())

    def test_historical_is_refused(self) -> None:
        error = self.assertRaises(FipsError, gate.judge, self.facts("3.0.9"), self.module, "00", Fips(), TODAY)
        self.assertEqual(error.code, "module-unlisted")
        self.assertIn("#4282", str(error))

    def test_unlisted_is_warned_of(self) -> None:
        evidence = gate.judge(self.facts("9.9.9"), self.module, "00", Fips(unlisted_module="warn"), TODAY)
        self.assertFalse(evidence.listed)
        self.assertIn("9.9.9", evidence.warnings[0])

    def test_the_operators_entry(self) -> None:
        """It wins over the program's, until its sunset."""
        words = ("OpenSSL FIPS Provider", "3.0.9", "3.0.9")
        own = Certificate("9999", *words, "FIPS 140-3", "https://example.com/", sunset="2026-10-02")
        fips = Fips(certificates=(own,))
        evidence = gate.judge(self.facts("3.0.9"), self.module, "00", fips, TODAY)
        self.assertEqual((evidence.listed, evidence.certificate), (True, "#9999 (FIPS 140-3, active)"))
        error = self.assertRaises(FipsError, gate.judge, self.facts("3.0.9"), self.module, "00", fips, "2026-10-02")
        self.assertIn("#9999 (FIPS 140-3, historical)", error.found)
