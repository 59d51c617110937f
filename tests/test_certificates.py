"""The table of CMVP certificates."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.crypto import certificates


class CertificateTests(SynchronousTestCase):
    """``certificates.yaml``."""

    def test_active(self) -> None:
        found = certificates.lookup("OpenSSL FIPS Provider", "3.1.2", "3.1.2")
        self.assertEqual(str(found), "#4985 (FIPS 140-3, active)")

    def test_historical(self) -> None:
        found = certificates.lookup("OpenSSL FIPS Provider", "3.0.9", "3.0.9")
        self.assertEqual(str(found), "#4282 (FIPS 140-2, historical)")

    def test_another_build_of_the_same_version(self) -> None:
        self.assertIsNone(certificates.lookup("OpenSSL FIPS Provider", "3.1.2", "3.1.2-vendor"))

    def test_status_words(self) -> None:
        self.assertLessEqual({row.status for row in certificates.table()}, {"active", "historical", "unconfirmed"})
