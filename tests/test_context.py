"""Real handshakes in memory against every kind of certificate. This process is not in FIPS mode: what a module would
not even negotiate is possible here, and has to be refused by the context and by the judgement alone."""

from __future__ import annotations

import contextlib
import datetime
import subprocess
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL import SSL
from OpenSSL._util import lib

from fipsrelay.config.model import Tls
from fipsrelay.crypto import context, policy
from fipsrelay.demo import certificates
from fipsrelay.errors import ConfigError, FipsError
from tests.folders import Folders

HOST = "intake.example"
FREE = "X25519:P-256:P-384:P-521"


class Handshakes(Folders):
    """A client with a context of ours, and a server that permits everything."""

    def setUp(self) -> None:
        self.place = self.folder()

    def client(self, paths: certificates.Paths, minimum_version: str = "1.2") -> SSL.Connection:
        built = context.build(str(paths.authority), policy.demanded(Tls(minimum_version=minimum_version)))
        connection = SSL.Connection(built, None)
        connection.set_tlsext_host_name(HOST.encode())
        connection.set_connect_state()
        return connection

    def server(
        self,
        paths: certificates.Paths,
        *,
        maximum: int = SSL.TLS1_3_VERSION,
        groups: str = FREE,
        suites: bytes = b"ALL",
        signatures: str = "",
        options: int = 0,
    ) -> SSL.Connection:
        made = SSL.Context(SSL.TLS_SERVER_METHOD)
        made.set_max_proto_version(maximum)
        if maximum == SSL.TLS1_3_VERSION and suites != b"ALL":
            made.set_tls13_ciphersuites(suites)
        else:
            made.set_cipher_list(suites + b":@SECLEVEL=0")
        made.set_options(options)
        assert lib.SSL_CTX_set1_curves_list(made._context, groups.encode()) == 1
        if signatures:
            assert lib.SSL_CTX_set1_sigalgs_list(made._context, signatures.encode()) == 1
        made.use_certificate_chain_file(str(paths.certificate))
        made.use_privatekey_file(str(paths.key))
        connection = SSL.Connection(made, None)
        connection.set_accept_state()
        return connection

    def handshake(self, client: SSL.Connection, server: SSL.Connection) -> SSL.Connection:
        """Carry bytes to and fro until both have finished; raises what the client raises, or else the server."""
        done = {client: False, server: False}
        for _ in range(20):
            for one, other in ((client, server), (server, client)):
                try:
                    one.do_handshake()
                    done[one] = True
                except SSL.WantReadError:
                    pass
                finally:
                    carry(one, other)
            if all(done.values()):
                return client
        raise AssertionError("the handshake does not end")


def carry(source: SSL.Connection, target: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        target.bio_write(source.bio_read(1 << 16))


class FactsTests(Handshakes):
    """``context.examine``."""

    def facts(self, key: str = "p256", **settings: object) -> policy.HandshakeFacts:
        paths = certificates.write(self.place, [HOST], key=key, stem=key)
        connection = self.handshake(self.client(paths), self.server(paths, **settings))  # type: ignore[arg-type]
        self.assertIsNone(context.verification_error(connection))
        self.assertIsNone(context.identity_error(connection, HOST))
        return context.examine(connection)

    def test_tls_1_3(self) -> None:
        facts = self.facts()
        self.assertEqual((facts.version, facts.suite, facts.group), ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "P-256"))
        self.assertEqual([each.key for each in facts.chain], ["P-256", "P-256"])
        self.assertEqual([each.signature_hash for each in facts.chain], ["sha256", "sha256"])
        self.assertEqual(facts.chain[0].subject, "CN=fipsrelay demo intake")
        self.assertEqual(policy.judge(facts), ())

    def test_tls_1_2(self) -> None:
        for key, suite in (("p256", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("rsa2048", "ECDHE-RSA-AES256-GCM-SHA384")):
            facts = self.facts(key, maximum=SSL.TLS1_2_VERSION)
            self.assertEqual((facts.version, facts.suite, facts.group), ("TLSv1.2", suite, "P-256"))
            self.assertTrue(facts.extended_master_secret)
            self.assertEqual(policy.judge(facts), ())

    def test_groups(self) -> None:
        for group in policy.GROUPS:
            for maximum in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
                facts = self.facts(groups=group, maximum=maximum)
                self.assertEqual((facts.group, policy.judge(facts)), (group, ()))

    def test_keys(self) -> None:
        for key, kind, bits in (
            ("p384", "P-384", 384),
            ("p521", "P-521", 521),
            ("rsa2048", "rsa", 2048),
            ("rsa3072", "rsa", 3072),
        ):
            leaf = self.facts(key).chain[0]
            self.assertEqual((leaf.key, leaf.key_bits), (kind, bits))

    def test_hashes(self) -> None:
        for name in ("sha384", "sha512"):
            paths = certificates.write(self.place, [HOST], hash_name=name, stem=name)
            facts = context.examine(self.handshake(self.client(paths), self.server(paths)))
            self.assertEqual(facts.chain[0].signature_hash, name)

    def test_without_extended_master_secret(self) -> None:
        """A server that does not know it is refused by the judgement: 3.0 modules do not enforce it themselves."""
        facts = self.facts(maximum=SSL.TLS1_2_VERSION, options=1 << 0)  # SSL_OP_NO_EXTENDED_MASTER_SECRET
        self.assertFalse(facts.extended_master_secret)
        self.assertEqual(policy.judge(facts), ("TLS 1.2 without extended master secret (RFC 7627)",))

    def test_a_lax_context_is_judged(self) -> None:
        """What the policy's context would never negotiate, negotiated by another one."""
        paths = certificates.write(self.place, [HOST], key="rsa1024")
        lax = SSL.Context(SSL.TLS_CLIENT_METHOD)
        lax.set_cipher_list(b"ALL:@SECLEVEL=0")
        lax.set_tls13_ciphersuites(b"TLS_CHACHA20_POLY1305_SHA256")
        lax.load_verify_locations(str(paths.authority))
        lax.set_verify(SSL.VERIFY_PEER)
        assert lib.SSL_CTX_set1_curves_list(lax._context, b"X25519") == 1
        client = SSL.Connection(lax, None)
        client.set_connect_state()
        facts = context.examine(self.handshake(client, self.server(paths)))
        self.assertEqual(
            policy.judge(facts),
            (
                "suite TLS_CHACHA20_POLY1305_SHA256 is not approved",
                "group x25519 is not approved",
                "certificate CN=fipsrelay demo intake has an RSA key of 1024 bits",
            ),
        )

    def test_other_keys_have_their_names(self) -> None:
        """A curve of 256 bits is not P-256 for that."""
        for key, name, signature_hash in (
            (ec.generate_private_key(ec.SECP256K1()), "secp256k1", "sha256"),
            (ed25519.Ed25519PrivateKey.generate(), "ed25519", None),
        ):
            facts = context.certificate_facts(self_signed(key))
            self.assertEqual((facts.key, facts.signature_hash), (name, signature_hash))


class NegotiationTests(Handshakes):
    """What the context does not even negotiate."""

    def assert_nothing_in_common(self, minimum_version: str = "1.2", **settings: object) -> None:
        paths = certificates.write(self.place, [HOST])
        client = self.client(paths, minimum_version)
        with self.assertRaises(SSL.Error):
            self.handshake(client, self.server(paths, **settings))  # type: ignore[arg-type]
        self.assertIsNone(context.verification_error(client))

    def test_versions(self) -> None:
        self.assert_nothing_in_common(maximum=SSL.TLS1_1_VERSION)
        self.assert_nothing_in_common("1.3", maximum=SSL.TLS1_2_VERSION)

    def test_groups(self) -> None:
        for groups in ("X25519", "X448", "brainpoolP256r1:ffdhe2048", "X25519MLKEM768", "SecP256r1MLKEM768"):
            self.assert_nothing_in_common(groups=groups)
        self.assert_nothing_in_common(groups="X25519", maximum=SSL.TLS1_2_VERSION)

    def test_suites(self) -> None:
        for suites in (b"TLS_CHACHA20_POLY1305_SHA256", b"TLS_AES_128_CCM_SHA256"):
            self.assert_nothing_in_common(suites=suites)
        for suites in (b"ECDHE-ECDSA-CHACHA20-POLY1305", b"ECDHE-ECDSA-AES128-SHA256", b"ECDHE-ECDSA-AES256-SHA"):
            self.assert_nothing_in_common(suites=suites, maximum=SSL.TLS1_2_VERSION)

    def test_signatures(self) -> None:
        self.assert_nothing_in_common(signatures="ECDSA+SHA224", maximum=SSL.TLS1_2_VERSION)
        self.assert_nothing_in_common(signatures="ECDSA+SHA1", maximum=SSL.TLS1_2_VERSION)

    def test_all_approved_signatures(self) -> None:
        for name in policy.SIGNATURE_ALGORITHMS:
            paths = certificates.write(self.place, [HOST], key="p256" if "ECDSA" in name else "rsa2048")
            server = self.server(paths, signatures=name, maximum=SSL.TLS1_2_VERSION)
            self.assertEqual(policy.judge(context.examine(self.handshake(self.client(paths), server))), ())

    def test_all_approved_suites(self) -> None:
        for maximum, names in ((SSL.TLS1_2_VERSION, policy.TLS12_SUITES), (SSL.TLS1_3_VERSION, policy.TLS13_SUITES)):
            for name in names:
                paths = certificates.write(self.place, [HOST], key="rsa2048" if "RSA-AES" in name else "p256")
                server = self.server(paths, maximum=maximum, suites=name.encode())
                self.assertEqual(context.examine(self.handshake(self.client(paths), server)).suite, name)


class OfferTests(Handshakes):
    """``context.offered``: the ClientHello is read."""

    def build(self, tls: Tls) -> SSL.Context:
        authority = certificates.write(self.place, [HOST]).authority
        return context.build(str(authority), policy.demanded(tls))

    def test_every_policy(self) -> None:
        for tls in (Tls(), Tls(minimum_version="1.3"), Tls(profile="cnsa"), Tls(hybrid_groups=True)):
            wanted = policy.demanded(tls)
            named = context.offered(self.build(tls)).named()
            self.assertEqual(named["groups"], list(wanted.groups))
            self.assertEqual(named["suites"], list(wanted.suites))
            self.assertEqual(set(named["versions"]), set(wanted.versions))
            self.assertEqual(set(named["signature_algorithms"]), set(wanted.signature_algorithms))

    def test_what_the_library_adds_is_refused(self) -> None:
        offer = context.offered(self.build(Tls()))
        self.patch(context, "offered", lambda built: attrs.evolve(offer, groups=(29, *offer.groups)))
        error = self.assertRaises(FipsError, self.build, Tls())
        self.assertEqual((error.code, error.found), ("offer", "groups include 0x001D"))

    def test_hybrid_groups(self) -> None:
        """Negotiated where they are offered, with a server that has them."""
        paths = certificates.write(self.place, [HOST])
        wanted = policy.demanded(Tls(hybrid_groups=True))
        client = SSL.Connection(context.build(str(paths.authority), wanted), None)
        client.set_connect_state()
        facts = context.examine(self.handshake(client, self.server(paths, groups="P-384:SecP256r1MLKEM768")))
        self.assertEqual((facts.group, policy.judge(facts, wanted)), ("SecP256r1MLKEM768", ()))


class RevocationTests(Handshakes):
    """Lists made by openssl."""

    def setUp(self) -> None:
        super().setUp()
        self.paths = certificates.write(self.place, [HOST])

    def crl(self, *revoked: Path, days: int = 1, issuer: str = "authority") -> str:
        """A list of an issuer."""
        config = self.place / "ca.cnf"
        (self.place / "index.txt").write_text("")
        config.write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.place}/index.txt\ndefault_md=sha256\n")
        names = ["-config", str(config), "-cert", str(self.place / f"{issuer}.pem")]
        command = ["openssl", "ca", *names, "-keyfile", str(self.place / f"{issuer}.key")]
        for each in revoked:
            subprocess.run([*command, "-revoke", str(each)], check=True, capture_output=True)
        made = ["-gencrl", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate"]
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        done = subprocess.run([*command, *made, until.strftime("%Y%m%d%H%M%SZ")], check=True, capture_output=True)
        return done.stdout.decode()

    def refusal(self, crl: str, paths: certificates.Paths | None = None) -> str | None:
        """Why a server is refused, or None."""
        file = self.place / "crl.pem"
        file.write_text(crl)
        client = SSL.Connection(context.build(str(self.paths.authority), policy.SP800_52, str(file)), None)
        client.set_connect_state()
        try:
            self.handshake(client, self.server(paths or self.paths))
        except SSL.Error:
            return context.verification_error(client)
        return None

    def test_revoked(self) -> None:
        self.assertEqual(self.refusal(self.crl(self.paths.certificate)), "certificate revoked")

    def test_another_is_revoked(self) -> None:
        other = certificates.write(self.place, [HOST], stem="other")
        self.assertIsNone(self.refusal(self.crl(other.certificate)))

    def test_list_that_has_run_out(self) -> None:
        self.assertEqual(self.refusal(self.crl(days=-1)), "CRL has expired")

    def test_every_issuer_needs_a_list(self) -> None:
        """Not only that of the server's certificate."""
        below = certificates.write(self.place, [HOST], stem="below", intermediate="p384")
        upper, lower = self.crl(), self.crl(issuer="below-intermediate")
        for one in (upper, lower):
            self.assertEqual(self.refusal(one, below), "unable to get certificate CRL")
        self.assertIsNone(self.refusal("a comment\n" + upper + lower, below))

    def test_an_issuer_is_revoked(self) -> None:
        below = certificates.write(self.place, [HOST], stem="below", intermediate="p384")
        lower = self.crl(issuer="below-intermediate")
        upper = self.crl(self.place / "below-intermediate.pem")
        self.assertEqual(self.refusal(upper + lower, below), "certificate revoked")

    def test_unusable(self) -> None:
        both = self.crl() + self.paths.certificate.read_text()
        for text, words in (
            ("", "holds no revocation list"),
            (both, "is to hold nothing but revocation lists, and holds CERTIFICATE"),
            (self.paths.certificate.read_text(), "holds no revocation list"),
            ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds a revocation list that cannot be read"),
        ):
            self.assertIn(
                f"tls.crl: {self.place}/crl.pem {words}", str(self.assertRaises(ConfigError, self.refusal, text))
            )
        missing = str(self.place / "missing.pem")
        error = self.assertRaises(ConfigError, context.build, str(self.paths.authority), policy.SP800_52, missing)
        self.assertIn("missing.pem cannot be read (No such file or directory)", str(error))


class TrustTests(Handshakes):
    """Chain and names."""

    def refusal(self, paths: certificates.Paths, trusted: certificates.Paths | None = None) -> str | None:
        client = self.client(trusted or paths)
        self.assertRaises(SSL.Error, self.handshake, client, self.server(paths))
        return context.verification_error(client)

    def test_refused_chains(self) -> None:
        stranger = certificates.write(self.folder(), [HOST])
        for wanted, found in (
            ("certificate has expired", self.refusal(certificates.write(self.place, [HOST], expired=True))),
            ("self-signed certificate", self.refusal(certificates.write(self.place, [HOST], self_signed=True))),
            ("certificate signature failure", self.refusal(certificates.write(self.place, [HOST]), stranger)),
            ("EE certificate key too weak", self.refusal(certificates.write(self.place, [HOST], key="rsa1024"))),
        ):
            self.assertEqual(found, wanted)

    def names(self, *names: str) -> SSL.Connection:
        paths = certificates.write(self.place, names)
        return self.handshake(self.client(paths), self.server(paths))

    def test_names(self) -> None:
        connection = self.names("a.example", "*.b.example", "192.0.2.1")
        for host in ("a.example", "A.EXAMPLE", "x.b.example"):
            self.assertIsNone(context.identity_error(connection, host), host)
        for host in ("b.example", "x.a.example", "x.y.b.example", "a.example.com"):
            self.assertEqual(context.identity_error(connection, host), f"the certificate is not valid for {host}")

    def test_an_address_is_not_a_name(self) -> None:
        self.assertIsNotNone(context.identity_error(self.names("192.0.2.1"), "a.example"))

    def test_no_names_or_malformed_ones(self) -> None:
        """Once a foreign kind of error, which reached the reactor instead of the agent."""
        for names in ([], ["*.*.example"], ["*"]):
            error = context.identity_error(self.names(*names), HOST)
            self.assertEqual(error, f"the certificate is not valid for {HOST}: it has no names, or malformed ones")


class BundleTests(Handshakes):
    """``tls.trust``."""

    def message(self, trust: str) -> str:
        return str(self.assertRaises(ConfigError, context.build, trust, policy.SP800_52))

    def test_unusable(self) -> None:
        empty = self.put(self.place / "empty.pem", "")
        noise = self.put(self.place / "noise.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for path in (empty, noise):
            self.assertIn(f"tls.trust: {path} holds no certificate", self.message(str(path)))
        self.assertIn("nowhere.pem cannot be read (No such file", self.message(str(self.place / "nowhere.pem")))
        self.assertIn("cannot be read (Is a directory)", self.message(str(self.place)))

    def test_system(self) -> None:
        """The first that is there; none is an error at the start, not a 502 for every request afterwards."""
        there = self.put(self.place / "second.pem")
        self.assertEqual(context.trust_bundle("system", [self.place / "first.pem", there]), there)
        error = self.assertRaises(ConfigError, context.trust_bundle, "system", [self.place / "first.pem"])
        self.assertIn("install ca-certificates", str(error))

    def test_places_of_the_platforms(self) -> None:
        """Wherever one of them keeps its bundle, it is found."""
        for name in (
            "etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu
            "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Red Hat from 7 on, Amazon Linux, Fedora
            "etc/pki/tls/certs/ca-bundle.crt",  # the same, of old
            "etc/ssl/ca-bundle.pem",  # SUSE
            "var/lib/ca-certificates/ca-bundle.pem",  # SUSE from 12 on, which the one before leads to
        ):
            root = self.folder()
            places = [root / place.relative_to("/") for place in context.SYSTEM_BUNDLES]
            bundle = self.put(root / name)
            self.assertEqual(context.trust_bundle("system", places), bundle)

    def test_the_platforms_certificates_are_trusted(self) -> None:
        """Every certificate of the platform's bundle is in the store that connections are verified with."""
        bundle = context.trust_bundle("system").read_text()
        built = context.build("system", policy.SP800_52)
        # pyOpenSSL's store lives no longer than its context.
        store = built.get_cert_store()
        assert store is not None
        count = lib.sk_X509_OBJECT_num(lib.X509_STORE_get0_objects(store._store))
        self.assertGreater(count, 0)
        self.assertEqual(count, bundle.count("-----BEGIN CERTIFICATE-----"))


def self_signed(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)
