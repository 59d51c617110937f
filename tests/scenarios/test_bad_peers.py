"""Servers that choose what the relay has not offered. tlslite-ng is told that it had been, and goes on from there.

Libraries that are honest only ever say that they have nothing in common; what these do instead a broken, or an evil,
server can do.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import ExtensionType
from tlslite.errors import BaseTLSException
from tlslite.messages import ClientHello

from tests.scenarios.servers import ANSWER, PAYLOAD
from tests.scenarios.test_handshakes import Handshakes, Server

TLS_1_1, TLS_1_2, TLS_1_3 = (3, 2), (3, 3), (3, 4)
X25519, SHA1_RSA = 29, (2, 1)
AT_HANDSHAKE = "tls at handshake"

Lie = Callable[[ClientHello], None]


class Liar(TLSConnection):  # type: ignore[misc]
    """A server's connection on which ClientHellos are read as a test wants them to be.

    Args:
        sock: plain.
        lie: changes each ClientHello.
    """

    def __init__(self, sock: socket.socket, lie: Lie) -> None:
        super().__init__(sock)
        self._lie = lie

    def _getMsg(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        for result in super()._getMsg(*arguments, **named):
            if isinstance(result, ClientHello):
                self._lie(result)
            yield result


def settings(*versions: tuple[int, int], ciphers: str = "aes128gcm", exchange: str = "ecdhe_rsa") -> Any:
    made = HandshakeSettings()
    made.minVersion, made.maxVersion = versions[0], versions[-1]
    made.cipherNames = [ciphers]
    made.macNames = ["sha", "sha256", "aead"]
    made.keyExchangeNames = [exchange]
    made.ticket_count = 0
    return made


class LiarTests(Handshakes):
    def setUp(self) -> None:
        super().setUp()
        self.paths = self.written("rsa", key="rsa2048")
        self.chain = X509CertChain()
        self.chain.parsePemList(self.paths.certificate.read_text())
        self.key = parsePEMKey(self.paths.key.read_text(), private=True)

    def liar(self, name: str, words: str, lie: Lie, chosen: Any, *, code: str = AT_HANDSHAKE) -> None:
        """A server that chooses by these settings, after that lie. Any client that offers all this can use it."""
        seen = bytearray()

        def serve(plain: socket.socket) -> None:
            with contextlib.suppress(BaseTLSException, OSError):  # refused, as it should be
                connection = Liar(plain, lie)
                connection.handshakeServer(certChain=self.chain, privateKey=self.key, settings=chosen)
                while data := connection.recv(65536):
                    seen.extend(data)
                    if seen.endswith(PAYLOAD):
                        connection.sendall(ANSWER)

        self.servers.append(Server(name, self.start_plain_peer(serve), seen, code, words))

    def test_honest(self) -> None:
        """The control: without a lie the payload goes through."""
        self.liar("tls-1.2", "", lambda hello: None, settings(TLS_1_2), code="")
        self.liar("tls-1.3", "", lambda hello: None, settings(TLS_1_3), code="")
        self.play()

    def test_suites(self) -> None:
        def offer(*suites: int) -> Lie:
            return lambda hello: hello.cipher_suites.extend(suites)

        wrong = "wrong cipher returned"
        self.liar("rsa-key-transport", wrong, offer(0x009C), settings(TLS_1_2, exchange="rsa"))
        self.liar("dhe", wrong, offer(0x009E), settings(TLS_1_2, exchange="dhe_rsa"))
        self.liar("cbc", wrong, offer(0xC013), settings(TLS_1_2, ciphers="aes128"))
        self.liar("3des", "unknown cipher returned", offer(0xC012), settings(TLS_1_2, ciphers="3des"))
        self.liar("chacha20", wrong, offer(0xCCA8), settings(TLS_1_2, ciphers="chacha20-poly1305"))
        self.liar("chacha20-tls-1.3", wrong, offer(0x1303), settings(TLS_1_3, ciphers="chacha20-poly1305"))
        self.liar("ccm-tls-1.3", wrong, offer(0x1304), settings(TLS_1_3, ciphers="aes128ccm"))
        for server in self.servers:
            # Debian's s_client has no 3DES, and speaks of CCM only when asked.
            server.broken = server.name in ("3des", "ccm-tls-1.3")
        self.play()

    def test_groups(self) -> None:
        def offer(hello: ClientHello) -> None:
            groups = hello.getExtension(ExtensionType.supported_groups).groups
            if X25519 not in groups:
                groups.insert(0, X25519)

        old, new = settings(TLS_1_2), settings(TLS_1_3)
        for each in (old, new):
            each.eccCurves, each.defaultCurve, each.keyShares = ["x25519"], "x25519", ["x25519"]
        self.liar("x25519", "wrong curve", offer, old)
        self.liar("x25519-tls-1.3", "bad key share", offer, new)
        self.play()

    def test_signatures(self) -> None:
        def offer(hello: ClientHello) -> None:
            hello.getExtension(ExtensionType.signature_algorithms).sigalgs[:] = [SHA1_RSA]

        chosen = settings(TLS_1_2)
        chosen.rsaSigHashes, chosen.rsaSchemes = ["sha1"], ["pkcs1"]
        self.liar("sha1", "wrong signature type", offer, chosen)
        self.servers[-1].broken = True  # Debian's s_client takes no SHA-1 here either
        self.play()

    def test_versions(self) -> None:
        """An old one; and an older one than both could have had, which the server's random admits (RFC 8446 §4.1.3)."""

        def only(version: tuple[int, int]) -> Lie:
            def lie(hello: ClientHello) -> None:
                hello.client_version = version
                hello.cipher_suites.append(0xC013)  # TLS 1.1 knows no AES-GCM
                versions = hello.getExtension(ExtensionType.supported_versions)
                hello.extensions.remove(versions)

            return lie

        old = settings(TLS_1_1, ciphers="aes128")
        self.liar("tls-1.1", "unsupported protocol", only(TLS_1_1), old)
        self.liar("downgrade", "inappropriate fallback", only(TLS_1_2), settings(TLS_1_2, TLS_1_3))
        for server in self.servers:
            server.broken = True  # for an honest client, too
        self.play()

    def test_no_extended_master_secret(self) -> None:
        """Modules from 3.1 on refuse it themselves; the others leave it to the judgement."""
        chosen = settings(TLS_1_2)
        chosen.useExtendedMasterSecret = False
        self.liar("no-ems", self.no_extended_master_secret, lambda hello: None, chosen)
        self.play()
