"""What scenarios stand on: the real program, peers whose behaviour a test writes down, real certificates and sockets.

Everything ends with its test: peers are closed; the relay is stopped by its process id and must end with status 0.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess, free_ports
from tests.routes import Route, own

HOST = "intake.ddog-gov.com"
TIMEOUT = 20.0
GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class TlsPeer:
    """A TLS server on loopback that does what a test says, one thread a connection.

    Args:
        serve: called with each connection after its handshake; the connection is closed when it returns. What it raises
            fails the test.
        context: of the server; with None there is no handshake, and ``serve`` gets the plain socket.
        address, port: to listen on; 0 for any port.

    Attributes:
        port: its TCP port.
        accepted: TCP connections so far.
        refused: reasons of handshakes that failed.
    """

    def __init__(
        self,
        serve: Callable[[Any], None],
        context: ssl.SSLContext | None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.create_server((address, port), backlog=512)
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
            connection = self._context.wrap_socket(raw, server_side=True) if self._context else raw
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
        """End all connections, and raise what a ``serve`` raised, or that one does not end; more than once is fine."""
        if self._listener.fileno() < 0:
            return
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
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError("what serves a connection does not end with it")


class PlayedPeer:
    """A TLS server on loopback whose connections the test plays by itself, step by step with the agent's side.

    Args:
        context: of the server.
        at_end: the test's ``addCleanup``; connections are closed before a relay that was started earlier is stopped.

    Attributes:
        port: TCP port on 127.0.0.1.
        stop_listening: refuses further connections; those that there are go on.
    """

    def __init__(self, context: ssl.SSLContext, at_end: Callable[[Callable[[], None]], object]) -> None:
        self._context = context
        self._at_end = at_end
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.settimeout(TIMEOUT)
        self.port: int = self._listener.getsockname()[1]
        self.stop_listening = self._listener.close
        at_end(self.stop_listening)

    def accept(self) -> ssl.SSLSocket:
        """The relay's next connection, after its handshake."""
        raw, _ = self._listener.accept()
        raw.settimeout(TIMEOUT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what was sent before a reset is to arrive
        connection = self._context.wrap_socket(raw, server_side=True)
        self._at_end(connection.close)
        return connection

    def has_more(self) -> bool:
        """Whether there is a further connection already."""
        return bool(select.select([self._listener], [], [], 0)[0])


class Stage(SynchronousTestCase):
    """A folder with certificates for HOST, and ways to start peers and the relay.

    Attributes:
        page_port, http_port, tcp_port: of the last relay that was started with ``start_relay``.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.paths = certificates.write(self.folder, [HOST])
        self._given: set[int] = set()

    def route(self) -> Route:
        """Whose OpenSSL the relay uses."""
        return own()

    def fips(self) -> dict[str, Any]:
        """That section of the configuration."""
        return {"unlisted_module": "warn"}

    def free_ports(self, count: int) -> list[int]:
        """Ports that were free a moment ago, and that this test has not been given before."""
        ports = [port for port in free_ports(count + len(self._given)) if port not in self._given][:count]
        self._given.update(ports)
        return ports

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

    def start_plain_peer(self, serve: Callable[[socket.socket], None]) -> TlsPeer:
        """A peer that is given the plain socket, to speak TLS by itself or not at all."""
        peer = TlsPeer(serve, None)
        self.addCleanup(peer.stop)
        return peer

    def start_played_peer(self, paths: certificates.Paths | None = None) -> PlayedPeer:
        """A peer whose connections the test plays."""
        return PlayedPeer(self.server_context(paths), self.addCleanup)

    def write_config(self, document: Mapping[str, Any]) -> Path:
        """A configuration file; JSON is YAML."""
        path = self.folder / "fipsrelay.yaml"
        path.write_text(json.dumps(document))
        return path

    def document(self, upstream_port: int, **sections: Any) -> dict[str, Any]:
        """A configuration with one http and one tcp intake for one upstream; ``sections`` are merged into it."""
        self.page_port, self.http_port, self.tcp_port = self.free_ports(3)
        document: dict[str, Any] = {
            "listen": {"addresses": ["127.0.0.1"], "port_range_start": self.page_port},
            "fips": self.fips(),
            "tls": {"trust": str(self.paths.authority)},
            "probes": {"enabled": False},  # a peer that is played step by step gets no others
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

    def run_relay(
        self,
        document: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> RelayProcess:
        """The real program on a configuration, ready. The test fails if it does not end with status 0."""
        relay = RelayProcess(self.write_config(document), environ, prefix, self.route().python, options=options)
        self.addCleanup(lambda: self.assertEqual(relay.stop(), 0, relay.output))
        relay.wait_for()
        return relay

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Ask again and again, for what tells nobody when it changes; the test fails when it takes too long."""
        end = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > end:
                self.fail(f"waited {TIMEOUT:.0f} s for {what}")
            time.sleep(0.01)  # others need the processor, too

    @contextlib.contextmanager
    def stopped(self, relay: RelayProcess) -> Iterator[None]:
        """The relay sees nothing of what happens meanwhile, and then all of it at once."""
        os.kill(relay.pid, signal.SIGSTOP)
        try:
            state = Path(f"/proc/{relay.pid}/stat")
            self.wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the relay to stop")
            yield
        finally:
            os.kill(relay.pid, signal.SIGCONT)

    def connect(self, port: int) -> socket.socket:
        """An agent's plain connection, with a time limit."""
        sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.addCleanup(sock.close)
        return sock

    def answered(self, peer: PlayedPeer) -> tuple[socket.socket, ssl.SSLSocket]:
        """An agent whose request has been answered, and the upstream connection; both are kept."""
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        upstream = peer.accept()
        read_head(upstream)
        upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)
        return agent, upstream

    def agent(self, port: int | None = None) -> http.client.HTTPConnection:
        """An agent's HTTP connection."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http_port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        return connection

    def status(self) -> dict[str, Any]:
        """The document of that name on the first port."""
        connection = self.agent(self.page_port)
        connection.request("GET", "/status")
        document: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return document

    def page(self) -> str:
        """The statistics page. When it is here, the relay has been through its reactor since the call."""
        connection = self.agent(self.page_port)
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def row(self, name: str) -> list[str]:
        """An intake's row of the statistics page, without its name."""
        match = re.search(rf"^{name} +(.*)$", self.page(), re.MULTILINE)
        assert match is not None
        return re.split(" {2,}", match[1])


class PresetStage(Stage):
    """The Datadog preset on a range of free ports, both loopback addresses, with every upstream on one port.

    Attributes:
        config: the preset as the relay reads it.
        intake_paths: certificate for every host of the preset.
    """

    def setUp(self) -> None:
        super().setUp()
        self.page_port = free_range(16)
        self.config = load_text(f"preset: datadog\nlisten: {{port_range_start: {self.page_port}}}", "preset")
        hosts = sorted({upstream.host for upstream in self.config.upstreams.values()})
        self.intake_paths = certificates.write(self.folder, hosts, stem="intake")

    def start_preset(self, upstream_port: int, **sections: Any) -> RelayProcess:
        """The real program, ready, with every upstream at ``upstream_port``; probes are on by default."""
        document = {
            "preset": "datadog",
            "listen": {"port_range_start": self.page_port},
            "fips": self.fips(),
            "tls": {"trust": str(self.paths.authority)},
            "upstreams": {key: {"addresses": ["127.0.0.1"], "port": upstream_port} for key in self.config.upstreams},
            **sections,
        }
        return self.run_relay(document)


def free_range(count: int) -> int:
    """The first of ``count`` ports in a row that were free a moment ago, on both loopback addresses."""
    # Below what the kernel gives to connections, so that these do not take one of them meanwhile; and of this process.
    first = 10_000 + os.getpid() % 60 * 160
    for start in range(first, first + 160, count):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(start, start + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                held.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6))
            return start
    raise OSError(f"no {count} ports in a row are free")


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


def read_chunked(sock: socket.socket) -> tuple[bytes, bytes]:
    """One body in chunked framing: its data, and its trailer lines."""
    pieces = []
    while size := int(read_line(sock), 16):
        pieces.append(read_exactly(sock, size))
        if read_line(sock) != b"\r\n":
            raise ValueError("a chunk does not end where it should")
    trailers = b""
    while (line := read_line(sock)) != b"\r\n":
        trailers += line
    return b"".join(pieces), trailers


def read_line(sock: socket.socket) -> bytes:
    """One line with its CRLF, byte by byte; raises EOFError when the peer closes before its end."""
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError(f"the peer closed after {line!r}")
        line += byte
    return line


def reset_at_close(sock: socket.socket) -> None:
    """Have its close be a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half_close(connection: ssl.SSLSocket) -> None:
    """Send close_notify, and go on reading; nothing may have arrived that is not read yet."""
    connection.settimeout(0)
    try:
        connection.unwrap()
    except ssl.SSLWantReadError:
        pass  # it waits for the peer's close_notify
    finally:
        connection.settimeout(TIMEOUT)
