"""What the relay really sends first: its ClientHello, captured on the wire and read by tlslite-ng."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any, ClassVar

from tlslite.messages import ClientHello
from tlslite.utils.codec import Parser

from tests.scenarios.stage import HOST, Stage

TLS_1_2, TLS_1_3 = (3, 3), (3, 4)
SUITES_1_3 = {0x1302: "TLS_AES_256_GCM_SHA384", 0x1301: "TLS_AES_128_GCM_SHA256"}
SUITES_1_2 = {
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
}
GROUPS = {23: "secp256r1", 24: "secp384r1", 25: "secp521r1"}
SIGNATURES = {
    (4, 3): "ecdsa_secp256r1_sha256",
    (5, 3): "ecdsa_secp384r1_sha384",
    (6, 3): "ecdsa_secp521r1_sha512",
    (8, 4): "rsa_pss_rsae_sha256",
    (8, 5): "rsa_pss_rsae_sha384",
    (8, 6): "rsa_pss_rsae_sha512",
    (4, 1): "rsa_pkcs1_sha256",
    (5, 1): "rsa_pkcs1_sha384",
    (6, 1): "rsa_pkcs1_sha512",
}
# Whatever else is sent has to be thought about first.
EXTENSIONS = {
    0: "server_name: intakes share addresses",
    10: "supported_groups: the policy's",
    13: "signature_algorithms: the policy's",
    22: "encrypt_then_mac: OpenSSL sends it; it concerns suites that are not offered",
    23: "extended_master_secret: demanded of TLS 1.2",
    43: "supported_versions: the policy's",
    45: "psk_key_exchange_modes: OpenSSL sends it; no key is offered",
    51: "key_share: of a group of the policy",
}
EXTENSIONS_1_2 = {
    11: "ec_point_formats: uncompressed is what all of TLS 1.2 knows",
    0xFF01: "renegotiation_info: that renegotiation, which is refused, would be secure (RFC 5746)",
}


class CaptureTests(Stage):
    """A listener that reads a ClientHello and hangs up.

    Attributes:
        signals: that OpenSSL puts among the suites.
        extensions, extensions_1_2: always, and with TLS 1.2.
    """

    signals: frozenset[int] = frozenset()
    extensions: ClassVar[dict[int, str]] = EXTENSIONS
    extensions_1_2: ClassVar[dict[int, str]] = EXTENSIONS_1_2

    def setUp(self) -> None:
        super().setUp()
        self.records: list[bytes] = []

    def capture(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nothing comes of a relay that stops
            data = connection.recv(65536)
            if data:
                self.records.append(data)

    def parse(self, record: bytes) -> ClientHello:
        """A ClientHello that fills one record."""
        self.assertEqual((record[0], int.from_bytes(record[3:5], "big"), record[5]), (22, len(record) - 5, 1))
        return ClientHello().parse(Parser(bytearray(record[6:])))

    def captured(self, tls: Mapping[str, Any], probes: bool = False) -> list[ClientHello]:
        """The first ones of a relay with these settings: of HTTP and raw TCP, or else of a check."""
        peer = self.start_plain_peer(self.capture)
        relay = self.start_relay(peer.port, tls={"trust": str(self.paths.authority), **tls}, probes={"enabled": probes})
        if not probes:
            for port in (self.http_port, self.tcp_port):
                with contextlib.suppress(OSError):  # raw TCP may be reset as fast as it is connected
                    agent = self.connect(port)
                    agent.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    agent.recv(1)
        self.wait_until(lambda: len(self.records) > (not probes), "ClientHellos")
        relay.check_alive()
        return [self.parse(record) for record in self.records]

    def assert_policy(self, hello: ClientHello, *, tls_1_2: bool) -> None:
        extensions = {extension.extType: extension for extension in hello.extensions}
        self.assertEqual(extensions.keys(), {*self.extensions, *(self.extensions_1_2 if tls_1_2 else ())})
        self.assertEqual(len(extensions), len(hello.extensions))
        self.assertEqual(set(extensions[43].versions), {TLS_1_3, TLS_1_2} if tls_1_2 else {TLS_1_3})
        suites = set(hello.cipher_suites) - self.signals
        self.assertEqual(suites, {*SUITES_1_3, *(SUITES_1_2 if tls_1_2 else ())})
        self.assertEqual(set(extensions[10].groups), set(GROUPS))
        self.assertLessEqual({share.group for share in extensions[51].client_shares}, set(GROUPS))
        self.assertEqual(set(extensions[13].sigalgs), set(SIGNATURES))
        self.assertEqual(list(hello.compression_methods), [0])
        self.assertEqual([bytes(name) for name in extensions[0].hostNames], [HOST.encode()])

    def test_requests(self) -> None:
        for hello in self.captured({}):
            self.assert_policy(hello, tls_1_2=True)

    def test_checks(self) -> None:
        self.assert_policy(self.captured({}, probes=True)[0], tls_1_2=True)

    def test_only_tls_1_3(self) -> None:
        for hello in self.captured({"minimum_version": "1.3"}):
            self.assert_policy(hello, tls_1_2=False)
