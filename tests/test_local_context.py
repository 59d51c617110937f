"""The context of intakes that speak TLS to their agents: which certificates it takes, and which clients.

As in ``test_context`` this process is not in FIPS mode, so that the context and the judgement are alone.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from OpenSSL import SSL
from OpenSSL._util import lib

from fipsrelay.config.model import LocalTls, Tls
from fipsrelay.crypto import context, policy
from fipsrelay.demo import certificates
from fipsrelay.errors import ConfigError
from tests.folders import Folders
from tests.misshapen import of_version_4
from tests.test_context import carry

NO_EXTENDED_MASTER_SECRET = 1


class LocalContexts(Folders):
    def setUp(self) -> None:
        self.place = self.folder()
        self.paths = certificates.write(self.place, ["localhost"])

    def build(self, certificate: Path, key: Path, minimum_version: str = "1.2") -> SSL.Context:
        return context.build_local(
            LocalTls(str(certificate), str(key)),
            policy.demanded(Tls(minimum_version=minimum_version)),
            "intakes.web.tls",
        )


class FileTests(LocalContexts):
    def problem(self, certificate: Path, key: Path) -> str:
        error = self.assertRaises(ConfigError, self.build, certificate, key)
        (problem,) = error.problems
        return str(problem)

    def test_good_ones(self) -> None:
        for key in ("p256", "p384", "p521", "rsa2048", "rsa3072"):
            paths = certificates.write(self.place, ["localhost"], key=key, stem=key, intermediate="p384")
            self.build(paths.certificate, paths.key)
        paths = certificates.write(self.place, ["localhost"], self_signed=True, stem="own")
        self.build(paths.certificate, paths.key)

    def test_files(self) -> None:
        certificate, key, missing, empty = self.paths.certificate, self.paths.key, self.place / "no", self.place / "0"
        empty.write_text("")
        renamed = self.place / "renamed.pem"  # OpenSSL reads such blocks, too
        renamed.write_text(certificate.read_text().replace(" CERTIFICATE", " X509 CERTIFICATE"))
        odd = certificates.write(self.place, ["localhost"], self_signed=True, stem="odd")
        of_version_4(odd)
        rsa = certificates.write(self.place, ["localhost"], key="rsa2048", stem="rsa")
        other = certificates.write(self.place, ["localhost"], stem="other")
        locked = self.place / "locked.pem"
        command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked)]
        subprocess.run(command, check=True, capture_output=True)
        for paths, where, words in (
            ((missing, key), "certificate", f"{missing} cannot be read (No such file or directory)"),
            ((self.place, key), "certificate", f"{self.place} cannot be read (Is a directory)"),
            ((empty, key), "certificate", f"{empty} holds no certificate that can be used"),
            ((key, key), "certificate", f"{key} holds no certificate that can be used"),
            ((renamed, key), "certificate", f"{renamed} holds no certificate that can be used"),
            ((odd.certificate, odd.key), "certificate", f"{odd.certificate} holds no certificate that can be used"),
            ((certificate, missing), "key", f"{missing} cannot be read (No such file or directory)"),
            ((certificate, empty), "key", f"{empty} holds no key that can be used"),
            ((certificate, locked), "key", f"{locked} holds no key that can be used"),  # and nobody is asked
            ((certificate, other.key), "key", f"{other.key} is not the key of {certificate}"),
            ((certificate, rsa.key), "key", f"{rsa.key} is not the key of {certificate}"),
        ):
            said = self.problem(*paths)
            self.assertIn(f"configuration: intakes.web.tls.{where}: {words}", said)

    def test_policy(self) -> None:
        """The intake's own certificate is held to what upstreams' are."""
        for key, words in (
            ("rsa1024", "rsa1024.pem holds no certificate that can be used"),
            ("p224", "has a secp224r1 key"),
            ("secp256k1", "has a secp256k1 key"),
            ("brainpool256", "has a brainpoolP256r1 key"),
            ("ed25519", "has a ed25519 key"),
        ):
            paths = certificates.write(self.place, ["localhost"], key=key, stem=key)
            self.assertIn(words, self.problem(paths.certificate, paths.key))
        paths = certificates.write(self.place, ["localhost"], stem="below", intermediate="secp256k1")
        self.assertIn("has a secp256k1 key", self.problem(paths.certificate, paths.key))

    def test_signature(self) -> None:
        """Also that of a certificate that no other follows."""
        command = ["openssl", "req", "-x509", "-sha1", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
        made = [self.place / "sha1.pem", self.place / "sha1.key"]
        command += ["-out", str(made[0]), "-keyout", str(made[1])]
        environ = {**os.environ, "OPENSSL_CONF": os.devnull}
        subprocess.run(command, check=True, capture_output=True, env=environ)
        said = self.problem(*made)
        self.assertTrue("is signed with sha1" in said or "holds no certificate that can be used" in said, said)


class ClientTests(LocalContexts):
    """Clients that would agree to anything, but for one thing."""

    def facts(self, client: SSL.Context, minimum_version: str = "1.2") -> policy.HandshakeFacts:
        """What they come to; raises what the server raises."""
        one = SSL.Connection(client, None)
        one.set_connect_state()
        other = SSL.Connection(self.build(self.paths.certificate, self.paths.key, minimum_version), None)
        other.set_accept_state()
        for _ in range(10):
            for side, far in ((one, other), (other, one)):
                try:
                    side.do_handshake()
                    if side is other:
                        return context.examine(other)
                except SSL.WantReadError:
                    pass
                except SSL.Error:
                    if side is other:
                        raise
                carry(side, far)
        raise AssertionError("the handshake does not end")

    def client(self, version: int, suites: bytes = b"ALL", groups: str = "", options: int = 0) -> SSL.Context:
        made = SSL.Context(SSL.TLS_CLIENT_METHOD)
        made.set_min_proto_version(version)
        made.set_max_proto_version(version)
        if version == SSL.TLS1_3_VERSION and suites != b"ALL":
            made.set_tls13_ciphersuites(suites)
        else:
            made.set_cipher_list(suites + b":@SECLEVEL=0")
        made.set_options(options)
        if groups:
            assert lib.SSL_CTX_set1_curves_list(made._context, groups.encode()) == 1
        return made

    def test_accepted(self) -> None:
        for suite in policy.TLS12_SUITES:
            if "ECDSA" in suite:
                facts = self.facts(self.client(SSL.TLS1_2_VERSION, suite.encode()))
                self.assertEqual((facts.suite, policy.judge_session(facts)), (suite, ()))
        for suite in policy.TLS13_SUITES:
            facts = self.facts(self.client(SSL.TLS1_3_VERSION, suite.encode()))
            self.assertEqual((facts.suite, policy.judge_session(facts)), (suite, ()))
        for group in policy.GROUPS:
            facts = self.facts(self.client(SSL.TLS1_3_VERSION, groups=f"X25519:{group}"))
            self.assertEqual((facts.group, policy.judge_session(facts)), (group, ()))

    def test_refused(self) -> None:
        for client in (
            self.client(SSL.TLS1_1_VERSION),
            self.client(SSL.TLS1_2_VERSION, b"ECDHE-ECDSA-AES128-SHA256"),
            self.client(SSL.TLS1_2_VERSION, b"ECDHE-ECDSA-CHACHA20-POLY1305"),
            self.client(SSL.TLS1_3_VERSION, b"TLS_CHACHA20_POLY1305_SHA256"),
            self.client(SSL.TLS1_2_VERSION, groups="X25519"),
            self.client(SSL.TLS1_3_VERSION, groups="X25519"),
        ):
            self.assertRaises(SSL.Error, self.facts, client)
        self.assertRaises(SSL.Error, self.facts, self.client(SSL.TLS1_2_VERSION), "1.3")

    def test_extended_master_secret(self) -> None:
        """Without it the handshake may come about, and is refused by the judgement."""
        facts = self.facts(self.client(SSL.TLS1_2_VERSION, options=NO_EXTENDED_MASTER_SECRET))
        self.assertEqual(policy.judge_session(facts), ("TLS 1.2 without extended master secret (RFC 7627)",))
