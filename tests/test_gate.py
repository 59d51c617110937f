"""The parts of the gate that need no libcrypto of their own; the rest is in ``scenarios/test_fips_gate``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Certificate, Fips
from fipsrelay.crypto import gate, module, provider
from fipsrelay.errors import FipsError
from tests.folders import MAC, Folders, short_folder

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


class OwnerTests(Folders):
    """``gate.check_owner``."""

    def setUp(self) -> None:
        # Not below where the tests run, whose folders may be a group's.
        self.place = short_folder(self.addCleanup) / "modules"
        self.place.mkdir(mode=0o755)
        self.path = self.put(self.place / "fips.so")
        self.path.chmod(0o644)
        self.user = os.geteuid()

    def assert_refused(self, *words: str) -> None:
        error = self.assertRaises(FipsError, gate.check_owner, self.path, self.user)
        self.assertEqual(error.code, "module-owner")
        for word in words:
            self.assertIn(word, error.found)

    def test_good(self) -> None:
        self.assertEqual(gate.check_owner(self.path), ())

    def test_written_by_all(self) -> None:
        self.path.chmod(0o646)
        self.assert_refused(str(self.path), "-rw-r--rw-")
        self.path.chmod(0o1646)
        self.assert_refused(str(self.path), "-rw-r--rwT")
        self.path.chmod(0o644)
        self.place.chmod(0o757)
        self.assert_refused(str(self.place), "drwxr-xrwx")
        self.place.chmod(0o1757)
        self.assertEqual(gate.check_owner(self.path), ())

    def test_the_folders_above(self) -> None:
        """Whoever may rename one of them puts another module in this one's place."""
        above = self.place.parent
        above.chmod(0o757)
        self.assert_refused(f"{above} of uid", "drwxr-xrwx")
        above.chmod(0o775)
        self.assertEqual(len(gate.check_owner(self.path)), 1)

    def test_written_by_a_group(self) -> None:
        self.path.chmod(0o664)
        self.place.chmod(0o775)
        warnings = gate.check_owner(self.path)
        self.assertEqual(len(warnings), 2)
        self.assertIn(f"{self.path} of uid {self.user} with mode -rw-rw-r--", warnings[0])

    def test_of_another_user(self) -> None:
        """Root may run what is root's; others also what is their own."""
        if self.user == 0:
            os.chown(self.path, 4711, -1)
            self.assert_refused("uid 4711")
            self.assertRaises(FipsError, gate.check_owner, self.path, 4712)
            self.assertEqual(gate.check_owner(self.path, 4711), ())
        else:
            self.user += 1
            self.assert_refused(f"uid {self.user - 1}")

    def test_missing(self) -> None:
        self.path.unlink()
        self.assertEqual(self.assertRaises(FipsError, gate.check_owner, self.path).code, "module-unreadable")


class JudgeTests(SynchronousTestCase):
    """``gate.judge``."""

    module = module.Module(Path("/opt/fips.so"), MAC)

    def facts(self, version: str) -> provider.ProviderFacts:
        active = frozenset({"fips", "base"})
        return provider.ProviderFacts(
            "fips", "OpenSSL FIPS Provider", version, version, 1, 1, active, (), (), "OpenSSL 3"
        )

    def test_facts(self) -> None:
        """Each by itself; self-tests that were not run again are no failure."""
        good = self.facts("3.1.2")
        gate._check_facts(good)
        gate._check_facts(attrs.evolve(good, self_test=None))
        for change, code, found in (
            ({"provider": "default"}, "cipher-provider", "default"),
            ({"status": 0}, "provider-status", "0"),
            ({"self_test": 0}, "provider-self-test", "0"),
            ({"active": frozenset({"fips"})}, "provider-others", "fips"),
            ({"active": frozenset({"fips", "base", "legacy"})}, "provider-others", "base, fips, legacy"),
            ({"missing": ("ECDH", "HMAC")}, "algorithm-missing", "not ECDH, HMAC"),
            ({"forbidden": ("MD5",)}, "algorithm-allowed", "MD5"),
        ):
            error = self.assertRaises(FipsError, gate._check_facts, attrs.evolve(good, **change))
            self.assertEqual((error.code, error.found), (code, found))

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
