"""What scenarios stand on: the real program, peers whose behaviour a test writes down, real certificates and sockets.

Everything ends with its test: peers are closed; the relay is stopped by its process id and must end with status 0.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess

HOST = "intake.ddog-gov.com"
TIMEOUT = 20.0


class TlsPeer:
    """A TLS server on loopback that does what a test says, one thread a connection.

    Args:
        serve: called with each connection after its handshake; the connection is closed when it returns. What it raises
            fails the test.
        context: of the server.

    Attributes:
        port: TCP port on 127.0.0.1.
        accepted: TCP connections so far.
        refused: reasons of handshakes that failed.
    """

    def __init__(self, serve: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.refused: list[str] = []
        self._failures: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return  # stop() has shut the listener down
            self.accepted += 1
            self._open.add(raw)
            thread = threading.Thread(target=self._connection, args=(raw,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _connection(self, raw: socket.socket) -> None:
        raw.settimeout(TIMEOUT)
        try:
            connection = self._context.wrap_socket(raw, server_side=True)
        except (ssl.SSLError, OSError) as error:
            self.refused.append(str(error))
            raw.close()
            return
        self._open.add(connection)
        try:
            with connection:
                self._serve(connection)
        except BaseException as error:
            self._failures.append(error)

    def stop(self) -> None:
        """End all connections, and raise what a ``serve`` raised."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(TIMEOUT)
        failures = list(self._failures)  # what the end of the test itself breaks is not a failure
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
        for thread in self._threads:
            thread.join(TIMEOUT)
        if failures:
            raise failures[0]


class Stage(SynchronousTestCase):
    """A folder with certificates for HOST, and ways to start peers and the relay.

    Attributes:
        page_port, http_port, tcp_port: of the last relay that was started with ``start_relay``.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.paths = certificates.write(self.folder, [HOST])

    def server_context(self, paths: certificates.Paths | None = None) -> ssl.SSLContext:
        """A server's context with the certificate for HOST, or another one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = paths or self.paths
        context.load_cert_chain(files.certificate, files.key)
        return context

    def start_peer(self, serve: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext | None = None) -> TlsPeer:
        """A peer that ends with the test."""
        peer = TlsPeer(serve, context or self.server_context())
        self.addCleanup(peer.stop)
        return peer

    def write_config(self, document: Mapping[str, Any]) -> Path:
        """A configuration file; JSON is YAML."""
        path = self.folder / "fipsrelay.yaml"
        path.write_text(json.dumps(document))
        return path

    def document(self, upstream_port: int, **sections: Any) -> dict[str, Any]:
        """A configuration with one http and one tcp intake for one upstream; ``sections`` are merged into it."""
        self.page_port, self.http_port, self.tcp_port = free_ports(3)
        document: dict[str, Any] = {
            "listen": {"addresses": ["127.0.0.1"], "port_range_start": self.page_port},
            "fips": {"unlisted_module": "warn"},
            "tls": {"trust": str(self.paths.authority)},
            "upstreams": {"peer": {"host": HOST, "port": upstream_port, "addresses": ["127.0.0.1"]}},
            "intakes": {
                "web": {"port": self.http_port, "protocol": "http", "upstream": "peer"},
                "raw": {"port": self.tcp_port, "protocol": "tcp", "upstream": "peer"},
            },
        }
        for name, section in sections.items():
            document.setdefault(name, {}).update(section)
        return document

    def start_relay(self, upstream_port: int, **sections: Any) -> RelayProcess:
        """The real program between this test and one upstream, ready; see ``document``."""
        return self.run_relay(self.document(upstream_port, **sections))

    def run_relay(self, document: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> RelayProcess:
        """The real program on a configuration, ready. The test fails if it does not end with status 0."""
        relay = RelayProcess(self.write_config(document), environ)
        self.addCleanup(lambda: self.assertEqual(relay.stop(), 0, relay.output))
        relay.wait_for()
        return relay

    def connect(self, port: int) -> socket.socket:
        """An agent's plain connection, with a time limit."""
        sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.addCleanup(sock.close)
        return sock

    def agent(self, port: int | None = None) -> http.client.HTTPConnection:
        """An agent's HTTP connection."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http_port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        return connection


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: all are held at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def read_head(sock: socket.socket) -> bytes:
    """One message's head, byte by byte so that nothing after it is taken; shorter when the peer closes."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        head += byte
    return head


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes, or fewer when the peer closes."""
    pieces = []
    while size and (piece := sock.recv(min(size, 65536))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the peer's end."""
    pieces: Iterable[bytes] = iter(lambda: sock.recv(65536), b"")
    return b"".join(pieces)
