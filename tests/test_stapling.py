"""OCSP answers that servers staple, made by ``cryptography``, with each fault alone."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from fipsrelay.config.model import Tls
from fipsrelay.crypto import context, stapling
from fipsrelay.crypto.policy import CNSA, SP800_52, demanded
from fipsrelay.demo import certificates
from tests.folders import Folders
from tests.test_connect import Attempts
from tests.test_context import HOST, Handshakes

NOW = datetime.datetime.now(datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
Key = Any


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def load_key(path: Path) -> Key:
    return serialization.load_pem_private_key(path.read_bytes(), None)


class Signing(Folders):
    """Signs answers about the certificate that a test has written to its folder."""

    place: Path
    paths: certificates.Paths

    def load_authority(self) -> None:
        self.certificate = load(self.paths.certificate)
        self.issuer = load(self.paths.authority)
        self.issuer_key = load_key(self.place / "authority.key")

    def answer(
        self,
        *,
        about: x509.Certificate | None = None,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        begin: datetime.datetime = NOW - HOUR,
        until: datetime.datetime | None = NOW + HOUR,
        responder: tuple[x509.Certificate, Key] | None = None,
        algorithm: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """A signed answer."""
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        who, key = responder or (self.issuer, self.issuer_key)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about or self.certificate,
            issuer=self.issuer,
            algorithm=hashes.SHA1(),
            cert_status=status,
            this_update=begin,
            next_update=until,
            revocation_time=NOW - HOUR if revoked else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, who)
        if responder is not None:
            builder = builder.certificates([who])
        return builder.sign(key, algorithm or hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def responder(
        self,
        *,
        usage: bool = True,
        end: datetime.datetime = NOW + HOUR,
        signer: Key = None,
        curve: ec.EllipticCurve | None = None,
    ) -> Any:
        """A certificate and key to which the issuer has delegated its answers."""
        key = ec.generate_private_key(curve or ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * HOUR)
            .not_valid_after(end)
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        return builder.sign(signer or self.issuer_key, hashes.SHA256()), key


class Answers(Signing, Handshakes):
    def setUp(self) -> None:
        super().setUp()
        self.paths = certificates.write(self.place, [HOST])
        self.load_authority()


class ProblemTests(Answers):
    """``stapling.problem``."""

    def problem(self, data: bytes) -> str:
        return stapling.problem(data, [self.certificate, self.issuer], SP800_52, NOW) or ""

    def test_good(self) -> None:
        self.assertEqual(self.problem(self.answer()), "")

    def test_delegated(self) -> None:
        self.assertEqual(self.problem(self.answer(responder=self.responder())), "")

    def test_none(self) -> None:
        self.assertEqual(self.problem(b""), "the server stapled no OCSP answer")

    def test_unreadable(self) -> None:
        for data in (b"nonsense", self.answer()[:-1], b"0"):
            self.assertEqual(self.problem(data), "the stapled OCSP answer cannot be read")

    def test_unsuccessful(self) -> None:
        later = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
        data = later.public_bytes(serialization.Encoding.DER)
        self.assertEqual(self.problem(data), "the stapled OCSP answer is try later")

    def test_status(self) -> None:
        for status, word in ((ocsp.OCSPCertStatus.REVOKED, "revoked"), (ocsp.OCSPCertStatus.UNKNOWN, "unknown")):
            self.assertEqual(self.problem(self.answer(status=status)), f"the certificate is {word} (OCSP)")

    def test_about_another(self) -> None:
        other = load(certificates.write(self.place, [HOST], stem="other").certificate)
        self.assertEqual(self.problem(self.answer(about=other)), "the stapled OCSP answer is about another certificate")

    def test_time(self) -> None:
        for begin, until in ((NOW + HOUR, NOW + 2 * HOUR), (NOW - 2 * HOUR, NOW - HOUR), (NOW - HOUR, None)):
            self.assertIn("the stapled OCSP answer is valid from", self.problem(self.answer(begin=begin, until=until)))

    def test_clocks_may_differ(self) -> None:
        minute = datetime.timedelta(minutes=1)
        for begin, until in ((NOW + minute, NOW + HOUR), (NOW - HOUR, NOW - minute)):
            self.assertEqual(self.problem(self.answer(begin=begin, until=until)), "")

    def test_signer(self) -> None:
        """The issuer, or who has its word for it and a key that is allowed; for this use only, and not for ever."""
        stranger = ec.generate_private_key(ec.SECP256R1())
        elsewhere = self.folder()
        namesake = certificates.write(elsewhere, [HOST]).authority
        for responder in (
            (load(namesake), load_key(elsewhere / "authority.key")),
            (self.certificate, load_key(self.paths.key)),
            self.responder(usage=False),
            self.responder(end=NOW - HOUR),
            self.responder(signer=stranger),
            self.responder(curve=ec.SECP256K1()),
        ):
            data = self.answer(responder=responder)
            self.assertEqual(self.problem(data), "the stapled OCSP answer is not signed by the certificate's issuer")

    def test_rsa(self) -> None:
        """A good answer, and one that a namesake of the issuer has signed."""
        other = self.folder()
        namesake = certificates.write(other, [HOST], authority="rsa2048").authority
        self.place = self.folder()
        self.paths = certificates.write(self.place, [HOST], authority="rsa2048")
        self.load_authority()
        self.assertEqual(self.problem(self.answer()), "")
        data = self.answer(responder=(load(namesake), load_key(other / "authority.key")))
        self.assertEqual(self.problem(data), "the stapled OCSP answer is not signed by the certificate's issuer")

    def test_hash(self) -> None:
        weak = self.answer(algorithm=hashes.SHA224())
        self.assertEqual(self.problem(weak), "the stapled OCSP answer is signed with sha224")
        found = stapling.problem(self.answer(), [self.certificate, self.issuer], CNSA, NOW)
        self.assertEqual(found, "the stapled OCSP answer is signed with sha256")

    def test_no_issuer(self) -> None:
        self.assertIn("has no issuer", stapling.problem(self.answer(), [self.certificate], SP800_52, NOW) or "")


class HandshakeTests(Answers):
    """``stapling.check``, in both versions."""

    def problem(self, data: bytes, maximum: int) -> str | None:
        made = SSL.Context(SSL.TLS_SERVER_METHOD)
        made.set_max_proto_version(maximum)
        made.use_certificate_chain_file(str(self.paths.certificate))
        made.use_privatekey_file(str(self.paths.key))
        made.set_ocsp_server_callback(lambda connection, _: data)
        server = SSL.Connection(made, None)
        server.set_accept_state()
        client = SSL.Connection(context.build(str(self.paths.authority), SP800_52), None)
        client.set_connect_state()
        client.request_ocsp()
        return stapling.check(self.handshake(client, server), SP800_52)

    def test_both_versions(self) -> None:
        for maximum in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            self.assertIsNone(self.problem(self.answer(), maximum))
            revoked = self.answer(status=ocsp.OCSPCertStatus.REVOKED)
            self.assertEqual(self.problem(revoked, maximum), "the certificate is revoked (OCSP)")
            self.assertEqual(self.problem(b"", maximum), "the server stapled no OCSP answer")


class AttemptTests(Signing, Attempts):
    """Where it is required, it is asked for, and no connection comes up without it."""

    def setUp(self) -> None:
        super().setUp()
        self.load_authority()
        self.policy = demanded(Tls(ocsp_stapling="require"))

    def staple(self, data: bytes) -> None:
        self.server_context.set_ocsp_server_callback(lambda connection, _: data)
        self.start()
        self.play()

    def test_good(self) -> None:
        self.staple(self.answer())
        self.assertEqual(self.user.heard, ["reached", "ready"])
        self.ready()

    def test_revoked(self) -> None:
        self.staple(self.answer(status=ocsp.OCSPCertStatus.REVOKED))
        detail = self.assert_failed("ocsp", 502, "policy")
        self.assertEqual(detail, 'Layer6 invalid response, info: "the certificate is revoked (OCSP)"')

    def test_none(self) -> None:
        self.staple(b"")
        detail = self.assert_failed("ocsp", 502, "policy")
        self.assertEqual(detail, 'Layer6 invalid response, info: "the server stapled no OCSP answer"')
