"""Stricter settings of ``tls``, and one that goes further than certificates do, through the real program."""

from __future__ import annotations

import ssl

from OpenSSL import SSL
from OpenSSL._util import lib

from fipsrelay.demo import certificates
from tests.scenarios.servers import server_of
from tests.scenarios.stage import HOST
from tests.scenarios.test_handshakes import Handshakes


class CnsaTests(Handshakes):
    """AES-256, P-384, SHA-384 and RSA keys of 3072 bits; all else is refused, by the offer or by the judgement."""

    def setUp(self) -> None:
        super().setUp()
        place = self.folder / "cnsa"
        place.mkdir()
        self.paths = certificates.write(place, [HOST], key="p384", hash_name="sha384", authority="p384")
        self.folder = place

    def test_cnsa(self) -> None:
        nothing = ("tls at handshake", "handshake failure")
        tls12, tls13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
        for version in (tls12, tls13):
            self.server(f"good-{version.name}", version=version, group="secp384r1")
            self.server(f"p-256-{version.name}", *nothing, version=version, group="prime256v1")
        rsa = self.written("rsa3072", key="rsa3072", hash_name="sha384")
        self.server("rsa", group="secp384r1", paths=rsa)
        self.server("aes-128", *nothing, version=tls12, suites="ECDHE-ECDSA-AES128-GCM-SHA256", group="secp384r1")
        small = self.written("rsa2048", key="rsa2048", hash_name="sha384")
        self.server("rsa-2048", "policy at policy", "an RSA key of 2048 bits", paths=small, group="secp384r1")
        hashed = self.written("sha256", key="p384")
        self.server("sha256", "policy at policy", "is signed with sha256", paths=hashed, group="secp384r1")
        self.play(profile="cnsa")


class HybridTests(Handshakes):
    def hybrid(self) -> SSL.Context:
        """A server that takes no other group."""
        context = server_of(self.paths)
        assert lib.SSL_CTX_set1_curves_list(context._context, b"SecP256r1MLKEM768") == 1
        return context

    def test_off(self) -> None:
        server = self.openssl_server("hybrid", self.hybrid(), "tls at handshake", "handshake failure")
        server.broken = True  # for Debian's s_client, which does not know the group
        self.server("plain")
        self.play()

    def test_on(self) -> None:
        """Preferred with those that have it; others go on as before. The log says that no certificate covers it."""
        self.openssl_server("hybrid", self.hybrid())
        self.server("plain")
        relay = self.play(hybrid_groups="true")
        relay.wait_for("No certificate covers key exchange by SecP256r1MLKEM768, SecP384r1MLKEM1024")
        self.assertIn("No certificate covers key exchange", self.page())
