"""Throw-away certificates: that each kind is what it is called."""

from __future__ import annotations

import datetime
import stat

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from fipsrelay.demo import certificates
from tests.folders import Folders


class CertificateTests(Folders):
    def setUp(self) -> None:
        self.place = self.folder()

    def chain(self, paths: certificates.Paths) -> list[x509.Certificate]:
        """The server's certificates, leaf first, then the authority's."""
        data = paths.certificate.read_bytes() + paths.authority.read_bytes()
        return x509.load_pem_x509_certificates(data)

    def test_good(self) -> None:
        leaf, authority = self.chain(certificates.write(self.place, ["a.example", "192.0.2.1", "2001:db8::1"]))
        leaf.verify_directly_issued_by(authority)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["a.example"])
        self.assertEqual(
            [str(each) for each in names.get_values_for_type(x509.IPAddress)], ["192.0.2.1", "2001:db8::1"]
        )
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.SERVER_AUTH])
        now = datetime.datetime.now(datetime.timezone.utc)
        self.assertTrue(leaf.not_valid_before_utc < now < leaf.not_valid_after_utc)

    def test_keys(self) -> None:
        curves = {"p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1", "p224": "secp224r1"}
        curves["brainpool256"] = "brainpoolP256r1"
        for name in certificates.KEYS:
            key = self.chain(certificates.write(self.place, ["a.example"], key=name, stem=name))[0].public_key()
            if isinstance(key, rsa.RSAPublicKey):
                found = f"rsa{key.key_size}"
            elif isinstance(key, ec.EllipticCurvePublicKey):
                found = key.curve.name
            else:
                self.assertIsInstance(key, ed25519.Ed25519PublicKey)
                found = "ed25519"
            self.assertEqual(found, curves.get(name, name))
        error = self.assertRaises(ValueError, certificates.write, self.place, ["a.example"], key="dsa")
        self.assertIn("found 'dsa'", str(error))

    def test_one_authority_a_folder(self) -> None:
        first = self.chain(certificates.write(self.place, ["a.example"]))
        second = self.chain(certificates.write(self.place, ["b.example"], stem="other"))
        self.assertEqual(first[-1], second[-1])
        second[0].verify_directly_issued_by(first[-1])

    def test_kinds_to_refuse(self) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        expired, _ = self.chain(certificates.write(self.place, ["a.example"], expired=True))
        self.assertLess(expired.not_valid_after_utc, now)
        premature, _ = self.chain(certificates.write(self.place, ["a.example"], premature=True))
        self.assertGreater(premature.not_valid_before_utc, now)
        own, authority = self.chain(certificates.write(self.place, ["a.example"], self_signed=True))
        own.verify_directly_issued_by(own)
        self.assertRaises((InvalidSignature, ValueError), own.verify_directly_issued_by, authority)

    def test_intermediate(self) -> None:
        leaf, between, authority = self.chain(certificates.write(self.place, ["a.example"], intermediate="p384"))
        leaf.verify_directly_issued_by(between)
        between.verify_directly_issued_by(authority)

    def test_hashes(self) -> None:
        for name in ("sha256", "sha384", "sha512"):
            leaf, _ = self.chain(certificates.write(self.place, ["a.example"], hash_name=name, stem=name))
            assert leaf.signature_hash_algorithm is not None
            self.assertEqual(leaf.signature_hash_algorithm.name, name)

    def test_keys_are_private(self) -> None:
        paths = certificates.write(self.place, ["a.example"])
        for path in (paths.key, self.place / "authority.key"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
