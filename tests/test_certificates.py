"""The table of CMVP certificates."""

from __future__ import annotations

from datetime import date

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.crypto import certificates


class CertificateTests(SynchronousTestCase):
    """``certificates.yaml``."""

    def status(self, version: str, day: str) -> str:
        found = certificates.lookup("OpenSSL FIPS Provider", version, version)
        assert found is not None
        return f"#{found.number} {found.standard} {found.status_on(day)}"

    def test_active(self) -> None:
        self.assertEqual(self.status("3.1.2", "2026-10-01"), "#4985 FIPS 140-3 active")

    def test_historical(self) -> None:
        self.assertEqual(self.status("3.0.9", "2026-10-01"), "#4282 FIPS 140-2 historical")

    def test_sunset(self) -> None:
        row = attrs.evolve(certificates.table()[0], sunset="2030-03-11")
        self.assertEqual([row.status_on(day) for day in ("2030-03-10", "2030-03-11")], ["active", "historical"])
        self.assertEqual(attrs.evolve(row, status="unconfirmed").status_on("2031-01-01"), "unconfirmed")

    def test_another_build_of_the_same_version(self) -> None:
        self.assertIsNone(certificates.lookup("OpenSSL FIPS Provider", "3.1.2", "3.1.2-vendor"))

    def test_own_entries_first(self) -> None:
        own = attrs.evolve(certificates.table()[0], number="9999")
        assert own.name is not None
        assert own.build_info is not None
        self.assertIs(certificates.lookup(own.name, own.version, own.build_info, [own]), own)

    def test_rows(self) -> None:
        """What counts is complete; what is not known of a module matches none."""
        for row in certificates.table():
            self.assertIn(row.status, {"active", "historical", "unconfirmed"})
            self.assertIn(row.standard, {"FIPS 140-2", "FIPS 140-3"})
            self.assertTrue(row.source.endswith(f"/certificate/{row.number}"))
            for word in (row.name, row.build_info):
                self.assertEqual(word is None, row.status == "unconfirmed", row)
            for day in (row.sunset, row.checked):
                self.assertTrue(day is None or date.fromisoformat(day))
