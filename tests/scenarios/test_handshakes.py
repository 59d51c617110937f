"""Which servers get the payload, and which are refused before a byte of it leaves."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Sequence

import attrs
from OpenSSL import SSL

from fipsrelay.demo import certificates
from fipsrelay.demo.certificates import Paths
from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.processes import running
from tests.scenarios.servers import (
    ANSWER,
    NO_EXTENDED_MASTER_SECRET,
    PAYLOAD,
    receive,
    receive_with,
    reply,
    server_hello,
    server_of,
    sign_with_sha1,
    suites_of_tls_1_3,
)
from tests.scenarios.stage import HOST, Stage, TlsPeer

KEY = "0123456789abcdef0123456789abcdef"
EVERYTHING = (
    *("-min_protocol", "TLSv1", "-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"),
    *("-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"),
    *("-groups", "X25519:X448:P-256:P-384:P-521:P-224:secp256k1:brainpoolP256r1"),
)
LINE = re.compile(r"upstream (\S+) \((\S+)\) failed at (\w+): [^\n]+\n")


@attrs.define
class Server:
    """A peer of one kind.

    Attributes:
        name: of its upstream and intakes.
        peer: itself.
        seen: the payload that it has received, over all connections.
        refusal: ``CODE at STEP`` when it has to be refused, empty when not.
        words: what the refusal says.
        broken: no client can speak to it.
        names: SNI that was asked for.
    """

    name: str
    peer: TlsPeer
    seen: bytearray
    refusal: str = ""
    words: str = ""
    broken: bool = False
    names: list[str | None] = attrs.Factory(list)


class Handshakes(Stage):
    """One relay with two intakes, http and tcp, for each server.

    Attributes:
        no_extended_master_secret: what OpenSSL says when the module refuses to go on without one.
    """

    no_extended_master_secret = "ems not enabled"

    def setUp(self) -> None:
        super().setUp()
        self.servers: list[Server] = []

    def server(
        self,
        name: str,
        refusal: str = "",
        words: str = "",
        *,
        paths: Paths | None = None,
        version: ssl.TLSVersion | None = None,
        suites: str = "ALL",
        group: str = "",
        options: int = 0,
        client_certificate: ssl.VerifyMode = ssl.CERT_NONE,
    ) -> Server:
        """A server that takes everything but for what is said here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(f"{suites}:@SECLEVEL=0")
        context.options |= options
        context.verify_mode = client_certificate
        if version:
            context.minimum_version = context.maximum_version = version
        if group:
            context.set_ecdh_curve(group)
        files = paths or self.paths
        context.load_cert_chain(files.certificate, files.key)
        seen = bytearray()
        peer = self.start_peer(receive(seen), context)
        server = Server(name, peer, seen, refusal, words)
        context.sni_callback = lambda _connection, asked, _context: server.names.append(asked)
        self.servers.append(server)
        return server

    def openssl_server(self, name: str, context: SSL.Context, refusal: str = "", words: str = "") -> Server:
        """A server by pyOpenSSL."""
        seen = bytearray()
        server = Server(name, self.start_plain_peer(receive_with(context, seen)), seen, refusal, words)
        self.servers.append(server)
        return server

    def broken_server(self, name: str, data: bytes, words: str, until_eof: bool = True) -> None:
        """A peer that answers the ClientHello with ``data``; nothing but TLS may reach it."""
        seen = bytearray()
        peer = self.start_plain_peer(reply(data, seen, until_eof))
        self.servers.append(Server(name, peer, seen, "tls at handshake", words, broken=True))

    def written(self, stem: str, hosts: Sequence[str] = (HOST,), **kind: object) -> Paths:
        """A certificate that the authority of this test has signed."""
        return certificates.write(self.folder, hosts, stem=stem, **kind)  # type: ignore[arg-type]

    # -- playing

    def play(self, **tls: str) -> RelayProcess:
        """Check that every server is refused or accepted as it has to be."""
        for server in self.servers:
            if server.refusal and not server.broken:
                self.assert_speaks(server)
        ports = self.free_ports(2 * len(self.servers))
        relay = self.relay(ports, tls)
        texts = []
        found = {}
        for number, server in enumerate(self.servers):
            outcome, text = self.ask(server, ports[2 * number])
            raw = self.ask_raw(ports[2 * number + 1])
            found[server.name] = (outcome, raw, PAYLOAD in server.seen)
            self.assertIn(server.words, text, f"{server.name}: {text}")
            if server.refusal and not server.broken:
                self.assertEqual(server.seen, b"", server.name)
            texts.append(text)
        refused = (b"reset", False)
        wanted = {s.name: (s.refusal, *refused) if s.refusal else ("", ANSWER, True) for s in self.servers}
        self.assertEqual(found, wanted)
        for server in self.servers:
            if server.refusal:
                relay.wait_for(f"{server.name}: upstream {server.name} (")
        for text in (*texts, relay.output):
            self.assertNotIn(KEY, text)
        return relay

    def relay(self, ports: Sequence[int], tls: dict[str, str]) -> RelayProcess:
        upstreams = {}
        intakes = {}
        for server, port, raw_port in zip(self.servers, ports[::2], ports[1::2], strict=True):
            upstreams[server.name] = {"host": HOST, "port": server.peer.port, "addresses": ["127.0.0.1"]}
            intakes[server.name] = {"port": port, "upstream": server.name}
            intakes[f"{server.name}-raw"] = {"port": raw_port, "protocol": "tcp", "upstream": server.name}
        return self.start_relay(self.servers[0].peer.port, tls=tls, upstreams=upstreams, intakes=intakes)

    def ask(self, server: Server, port: int) -> tuple[str, str]:
        """Send the payload by HTTP; returns ``CODE at STEP`` and the text of a refusal, two empty words otherwise."""
        agent = self.agent(port)
        headers = {"Host": HOST, "DD-API-KEY": KEY}
        agent.request("POST", f"/api/v2/series?api_key={KEY}", PAYLOAD, headers)
        answer = agent.getresponse()
        text = answer.read().decode()
        if answer.status == 200:
            return "", ""
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (502, "text/plain"), server.name)
        self.assertLess(len(text), 500)
        match = LINE.fullmatch(text)
        assert match is not None, text
        self.assertEqual(match.group(1, 2), (server.name, f"127.0.0.1:{server.peer.port}"))
        return f"{answer.headers['Fipsrelay-Error']} at {match[3]}", text

    def ask_raw(self, port: int) -> bytes:
        """Send the payload by raw TCP; returns the answer or ``reset``."""
        try:  # the reset can be as fast as the connection
            agent = self.connect(port)
            agent.sendall(PAYLOAD)
            return agent.recv(65536)
        except ConnectionResetError:
            return b"reset"

    def assert_speaks(self, server: Server) -> None:
        """A client that takes everything gets its payload through: the server is good enough to be refused."""
        command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{server.peer.port}", *EVERYTHING]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with running(command, bufsize=0, **streams) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(PAYLOAD)
            self.assertEqual(client.stdout.read(len(ANSWER)), ANSWER, server.name)
        self.assertEqual(server.seen, PAYLOAD, server.name)
        server.seen.clear()


class RefusedTests(Handshakes):
    """502 for HTTP, a reset for raw TCP, and no payload byte for the peer."""

    def test_versions_and_suites(self) -> None:
        nothing = ("tls at handshake", "handshake failure")
        old = server_of(self.paths)
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        self.openssl_server("tls-1.1", old, "tls at handshake", "version")
        for name, suites in (
            ("chacha20", "ECDHE+CHACHA20"),
            ("cbc", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA"),
            ("ccm", "ECDHE+AESCCM"),
            ("null", "ECDHE+eNULL"),
            ("anonymous", "aNULL"),
        ):
            self.server(name, *nothing, version=ssl.TLSVersion.TLSv1_2, suites=suites)
        rsa = self.written("rsa", key="rsa2048")
        self.server("rsa-key-transport", *nothing, paths=rsa, version=ssl.TLSVersion.TLSv1_2, suites="kRSA")
        chacha20 = suites_of_tls_1_3(self.paths, b"TLS_CHACHA20_POLY1305_SHA256")
        self.openssl_server("chacha20-tls-1.3", chacha20, *nothing)
        self.play()

    def test_no_extended_master_secret(self) -> None:
        """RFC 7627. Modules from 3.1 on refuse the handshake themselves; for 3.0 there is the judgement."""
        options = NO_EXTENDED_MASTER_SECRET
        server = self.server("no-ems", version=ssl.TLSVersion.TLSv1_2, options=options)
        self.assert_speaks(server)
        ports = self.free_ports(2)
        self.relay(ports, {})
        outcome, text = self.ask(server, ports[0])
        judged = outcome == "policy at policy"
        self.assertIn("without extended master secret" if judged else self.no_extended_master_secret, text)
        self.assertEqual((self.ask_raw(ports[1]), server.seen), (b"reset", b""))

    def test_groups(self) -> None:
        for group in ("X25519", "X448", "secp224r1", "secp256k1", "brainpoolP256r1"):
            version = ssl.TLSVersion.TLSv1_2
            self.server(f"{group}-tls-1.2", "tls at handshake", "handshake failure", version=version, group=group)
        for group in ("X25519", "X448"):
            version = ssl.TLSVersion.TLSv1_3
            self.server(f"{group}-tls-1.3", "tls at handshake", "handshake failure", version=version, group=group)
        self.play()

    def test_keys(self) -> None:
        self.server("rsa1024", "certificate at handshake", "too weak", paths=self.written("rsa1024", key="rsa1024"))
        nothing = ("tls at handshake", "handshake failure")
        self.server("ed25519", *nothing, paths=self.written("ed25519", key="ed25519"))
        for key in ("p224", "secp256k1", "brainpool256"):
            self.server(key, *nothing, paths=self.written(key, key=key), version=ssl.TLSVersion.TLSv1_2)
        self.play()

    def test_chains(self) -> None:
        code = "certificate at handshake"
        authority = self.folder / "authority"
        sha1 = self.written("sha1")
        sha1.certificate.write_bytes(sign_with_sha1(self.folder / "sha1", authority))
        self.server("sha1", code, "too weak", paths=sha1)
        above = self.written("above", intermediate="p256")
        leaf, end, _ = above.certificate.read_bytes().partition(b"-----END CERTIFICATE-----\n")
        above.certificate.write_bytes(leaf + end + sign_with_sha1(self.folder / "above-intermediate", authority))
        self.server("sha1-intermediate", code, "too weak", paths=above)
        weak = self.written("weak", intermediate="rsa1024")
        self.server("rsa1024-intermediate", code, "too weak", paths=weak)
        odd = self.written("odd", intermediate="ed25519")
        self.server("ed25519-intermediate", "policy at policy", "ed25519", paths=odd)
        short = self.written("short", intermediate="p256")
        short.certificate.write_bytes(short.certificate.read_bytes().partition(end)[0] + end)
        self.server("intermediate-not-sent", code, "issuer", paths=short)
        self.play()

    def test_trust_and_names(self) -> None:
        code = "certificate at handshake"
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        self.server("wrong-authority", code, "signature failure", paths=certificates.write(elsewhere, [HOST]))
        self.server("self-signed", code, "self-signed", paths=self.written("self", self_signed=True))
        self.server("expired", code, "expired", paths=self.written("expired", expired=True))
        self.server("premature", code, "not yet valid", paths=self.written("premature", premature=True))
        identity = ("identity at identity", f"not valid for {HOST}")
        for name, hosts in (
            ("wrong-name", ["other.ddog-gov.com"]),
            ("parent", ["ddog-gov.com"]),
            ("longer", [f"{HOST}.example"]),
            ("wildcard-below", [f"*.{HOST}"]),
            ("wildcard-two-levels", ["*.com", "*.*.com"]),
            ("address-only", ["127.0.0.1"]),
            ("no-name", []),
        ):
            self.server(name, *identity, paths=self.written(name, hosts))
        self.play()

    def test_not_tls(self) -> None:
        """Broken servers; the agent hears what is wrong."""
        self.broken_server("plain-http", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "")
        self.broken_server("garbage", bytes(range(256)) * 4, "")
        self.broken_server("closes-at-once", b"", "closed", until_eof=False)
        self.broken_server("closes-in-the-middle", server_hello()[:40], "closed", until_eof=False)
        self.broken_server("closes-after-its-hello", server_hello(), "closed", until_eof=False)
        self.broken_server("alert", b"\x15\x03\x03\x00\x02\x02\x50", "internal error")
        self.broken_server("compression", server_hello(compression=1), "compression")
        self.broken_server("suite-not-offered", server_hello(suite=0x009C), "cipher")
        self.play()

    def test_only_tls_1_3(self) -> None:
        """What is approved for TLS 1.2 does not count where TLS 1.3 is demanded."""
        self.server("tls-1.2", "tls at handshake", "version", version=ssl.TLSVersion.TLSv1_2)
        self.server("tls-1.3", version=ssl.TLSVersion.TLSv1_3)
        self.play(minimum_version="1.3")


class AcceptedTests(Handshakes):
    """The payload arrives."""

    def test_suites(self) -> None:
        rsa = self.written("rsa", key="rsa2048")
        for hashed in ("AES128-GCM-SHA256", "AES256-GCM-SHA384"):
            for kind, paths in (("ECDSA", self.paths), ("RSA", rsa)):
                suite = f"ECDHE-{kind}-{hashed}"
                self.server(suite, paths=paths, version=ssl.TLSVersion.TLSv1_2, suites=suite)
            suite = f"TLS_{hashed.replace('AES', 'AES_').replace('-', '_')}"
            self.openssl_server(suite, suites_of_tls_1_3(self.paths, suite.encode()))
        self.play()

    def test_keys_and_groups(self) -> None:
        keys = {key: self.written(key, key=key) for key in ("p384", "p521", "rsa2048", "rsa3072")}
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for group in ("prime256v1", "secp384r1", "secp521r1"):
                self.server(f"{group}-{version.name}", version=version, group=group)
            for key, paths in keys.items():
                self.server(f"{key}-{version.name}", version=version, paths=paths)
        self.play()
        self.assertEqual({name for server in self.servers for name in server.names}, {HOST})

    def test_names_and_chains(self) -> None:
        self.server("wildcard", paths=self.written("wildcard", ["*.ddog-gov.com"]))
        self.server("intermediate", paths=self.written("above", intermediate="rsa2048"))
        self.server("client-certificate-wanted", client_certificate=ssl.CERT_OPTIONAL)
        self.play()


class RenegotiationTests(Handshakes):
    """HelloRequest, TLS 1.2."""

    def test_refused(self) -> None:
        errors: list[str] = []
        heads: list[bytes] = []

        def serve(plain: socket.socket) -> None:
            plain.settimeout(None)
            context = server_of(self.paths)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            connection = SSL.Connection(context, plain)
            connection.set_accept_state()
            heads.append(connection.recv(65536))
            connection.renegotiate()
            connection.do_handshake()  # sends the HelloRequest
            try:
                connection.recv(65536)
            except SSL.Error as error:
                errors.append(str(error))

        self.start_relay(self.start_plain_peer(serve).port)
        agent = self.connect(self.http_port)
        agent.sendall(b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 0\r\n\r\n" % HOST.encode())
        answer = agent.recv(65536)
        self.assertIn(b"\r\nFipsrelay-Error: upstream-closed\r\n", answer)
        self.wait_until(lambda: errors, "what the peer makes of it")
        self.assertIn("no renegotiation", "".join(errors))
        self.assertEqual(len(heads), 1)
