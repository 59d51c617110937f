"""Intakes that speak TLS to their agents: ``tls: {certificate, key}``."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
from typing import Any

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess, executable
from tests.scenarios.servers import NO_EXTENDED_MASTER_SECRET
from tests.scenarios.stage import HOST, TIMEOUT, Stage, half_close, read_all, read_exactly, read_head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class LocalTls(Stage):
    """One http and one tcp intake with a certificate for ``localhost``."""

    def setUp(self) -> None:
        super().setUp()
        self.local = certificates.write(self.folder, ["localhost"], stem="local")
        self.peer = self.start_played_peer()

    def start_local(self, paths: certificates.Paths | None = None, **sections: Any) -> RelayProcess:
        self.relay = self.run_relay(self.local_document(paths, **sections))
        return self.relay

    def local_document(self, paths: certificates.Paths | None = None, **sections: Any) -> dict[str, Any]:
        paths = paths or self.local
        document = self.document(self.peer.port, **sections)
        for intake in document["intakes"].values():
            intake["tls"] = {"certificate": str(paths.certificate), "key": str(paths.key)}
        return document

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.paths.authority))

    def connect_tls(self, port: int, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """An agent's connection, verified as Agents do."""
        sock = self.connect(port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = (context or self.client_context()).wrap_socket(sock, server_hostname="localhost")
        self.addCleanup(connection.close)
        return connection


class RelayTests(LocalTls):
    """Behind the handshake all is as on a plaintext port."""

    def test_http(self) -> None:
        self.start_local()
        agent = self.connect_tls(self.http_port)
        for size in (2, 300_000):
            agent.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
            if size == 2:
                upstream = self.peer.accept()
            agent.sendall(bytes(size))
            self.assertIn(b"\r\nHost: " + HOST.encode(), read_head(upstream))
            self.assertEqual(read_exactly(upstream, size), bytes(size))
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            read_head(agent)
            self.assertEqual(read_exactly(agent, size), bytes(size))
        agent.close()

    def test_request_in_the_handshakes_last_flight(self) -> None:
        """Whatever lies in the same packet is read, and a slow agent is as good as a fast one."""
        self.start_local()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        sock = self.connect(self.http_port)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():  # the ClientHello, byte by byte
                    sock.sendall(bytes([byte]))
                incoming.write(sock.recv(65536))
        client.write(GET)
        sock.sendall(outgoing.read())
        upstream = self.peer.accept()
        read_head(upstream)
        upstream.sendall(OK)
        answer = b""
        while not answer.endswith(OK):
            incoming.write(sock.recv(65536))
            try:
                answer += client.read()
            except ssl.SSLWantReadError:
                continue
        self.assertEqual(answer, OK)

    def test_half_close(self) -> None:
        """Raw TCP; each direction ends by its own close_notify."""
        self.start_local()
        agent, upstream = self.connect_tls(self.tcp_port), self.peer.accept()
        agent.sendall(b"all that there is")
        half_close(agent)
        self.assertEqual(read_all(upstream), b"all that there is")
        upstream.sendall(b"answer")
        self.assertEqual(read_exactly(agent, 6), b"answer")
        upstream.unwrap()
        self.assertRaises(ssl.SSLZeroReturnError, agent.recv, 1)

    def test_error_answer(self) -> None:
        """All of it arrives, with the end of TLS behind it."""
        self.start_local()
        agent = self.connect_tls(self.http_port)
        agent.sendall(b"nonsense\r\n\r\n" + bytes(100_000))
        with http.client.HTTPResponse(agent) as answer:
            answer.begin()
            self.assertEqual((answer.status, answer.headers["Fipsrelay-Error"]), (400, "bad-head"))
            answer.read()
        self.assertEqual(agent.recv(1), b"")

    def test_drain(self) -> None:
        """Idle agents, and those in their handshake, do not hold it."""
        relay = self.start_local(timeouts={"drain": 600, "handshake": 600})
        agent, waiting = self.connect_tls(self.http_port), self.connect(self.http_port)
        relay.terminate()
        self.assertEqual(agent.recv(1), b"")
        with self.assertRaises(ConnectionResetError):
            waiting.recv(1)
        self.assertEqual(relay.wait(), 0)


class HandshakeTests(LocalTls):
    """The policy holds for agents, too; whoever does not keep to it reaches no upstream."""

    def assert_refused(self, *options: str) -> str:
        """``openssl s_client`` does not come through; returns what it says."""
        command = ["openssl", "s_client", "-connect", f"localhost:{self.http_port}", "-4", "-brief", *options]
        # Debian's own configuration would keep the client from offering what is old.
        environ = {**os.environ, "OPENSSL_CONF": os.devnull}
        done = subprocess.run(command, input=GET, capture_output=True, timeout=TIMEOUT, check=False, env=environ)
        self.assertNotEqual(done.returncode, 0, options)
        return done.stderr.decode()

    def test_policy(self) -> None:
        self.start_local()
        lax = ["-cipher", "ALL:@SECLEVEL=0"]
        for options in (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
            ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
            ["-tls1_3", "-groups", "X25519"],
            ["-tls1_2", "-groups", "X25519"],
            ["-tls1_1", *lax],
        ):
            self.assert_refused(*options)
        old = self.client_context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.options |= NO_EXTENDED_MASTER_SECRET
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            self.connect_tls(self.http_port, old).recv(1)
        self.relay.wait_for("[agent-tls]")
        self.assertIn("web: no TLS with the agent at 127.0.0.1:", self.relay.output)
        self.assertIn("agent-tls:8", self.page())
        agent = self.connect_tls(self.http_port)
        self.assertEqual((agent.version(), agent.cipher()[0]), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"))  # type: ignore[index]

    def test_minimum_version(self) -> None:
        self.start_local(tls={"minimum_version": "1.3"})
        self.assert_refused("-tls1_2")
        self.connect_tls(self.http_port)

    def test_kinds_of_keys(self) -> None:
        for number, key in enumerate(("rsa2048", "p384", "p521")):
            paths = certificates.write(self.folder, ["localhost"], key=key, stem=f"local{number}")
            relay = self.start_local(paths)
            self.connect_tls(self.http_port)
            self.assertEqual(relay.stop(), 0)

    def test_plaintext(self) -> None:
        """An Agent with ``fips.https: false``; the log says what to do, once a minute."""
        relay = self.start_local()
        for _ in range(3):
            agent = self.connect(self.http_port)
            agent.sendall(GET)
            try:
                self.assertNotIn(b"HTTP", read_all(agent))
            except ConnectionResetError:
                continue
        said = "it is plaintext; set fips.https: true in the Agent [plaintext-to-tls]"
        relay.wait_for(said)
        self.assertIn("plaintext-to-tls:3", self.page())
        self.assertEqual(relay.output.count(said), 1)

    def test_silence(self) -> None:
        relay = self.start_local(timeouts={"handshake": 1})
        agent = self.connect(self.http_port)
        with self.assertRaises(ConnectionResetError):
            agent.recv(1)
        self.assertIn("the handshake took too long", relay.wait_for("[agent-tls-timeout]"))
        self.assertIn("agent-tls-timeout:1", self.page())


class StartTests(LocalTls):
    """What cannot be used is named at the start, before any port is open."""

    def refused(self, paths: certificates.Paths) -> str:
        config = self.write_config(self.local_document(paths))
        command = [str(executable("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_key_of_another_certificate(self) -> None:
        other = certificates.Paths(self.local.authority, self.local.certificate, self.paths.key)
        said = self.refused(other)
        self.assertIn(f"intakes.web.tls.key: {other.key} is not the key of {other.certificate}", said)
