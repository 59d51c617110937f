"""An embedded TLS intake, as a process of its own: ``python -m fipsrelay.demo.intake --certificate F --key F``.

It answers like the real intakes and remembers what arrived, so that the demo and the tests can compare what was
sent with what came out of the relay. It is a peer, not a product: one thread a connection, blocking sockets, no
timeouts. A wrongly routed request gets 404, so a routing error shows in the answer and not only in the records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import attrs
import httptools
from OpenSSL import SSL

from fipsrelay.crypto import controls

CONTROL_HOST = "intake.control"
RECORDS_PATH = "/-/records"

#: Host prefix → path prefixes it serves (reference: the Agent's own configuration of its endpoints).
SERVED = {
    "api.": ("/api/v1/validate", "/api/v2/validate", "/api/v2/intake-key"),
    "flare.": ("/support/flare",),
    "metrics.agent.": (
        "/api/v1/series",
        "/api/v2/series",
        "/api/beta/sketches",
        "/api/intake/metrics/v3",
        "/api/v1/check_run",
        "/api/v1/metadata",
        "/intake/",
        "/probe",
    ),
    "trace.agent.": ("/api/v0.2/traces", "/api/v0.2/stats", "/api/v0.1/pipeline_stats", "/_health"),
    "intake.profile.": ("/api/v2/profile",),
    "process.": ("/api/v1/collector", "/api/v1/container", "/api/v1/connections", "/api/v1/discovery"),
    "agent-http-intake.logs.": ("/api/v2/logs", "/v1/input"),
    "dbm-metrics-intake.": (
        "/api/v2/dbmmetrics",
        "/api/v2/dbmactivity",
        "/api/v2/dbmmetadata",
        "/api/v2/dbmhealth",
        "/api/v2/dbmcolumnstatistics",
        "/api/v2/databasequery",
    ),
    "dbquery-intake.": ("/api/v2/databasequery",),
    "ndm-intake.": ("/api/v2/ndm",),
    "snmp-traps-intake.": ("/api/v2/ndmtraps",),
    "instrumentation-telemetry-intake.": ("/api/v2/apmtelemetry",),
    "orchestrator.": ("/api/v2/orch", "/api/v2/orchmanif", "/api/v1/orchestrator"),
    "runtime-security-http-intake.logs.": ("/api/v2/secruntime", "/api/v2/secinfo", "/api/v2/logs"),
    "cspm-intake.": ("/api/v2/compliance",),
    "ndmflow-intake.": ("/api/v2/ndmflow",),
    "contlcycle-intake.": ("/api/v2/contlcycle",),
    "contimage-intake.": ("/api/v2/contimage",),
    "sbom-intake.": ("/api/v2/sbom",),
    "netpath-intake.": ("/api/v2/netpath",),
}


@attrs.frozen
class Record:
    """One request as it arrived: ``path`` without its query, which may hold an API key."""

    host: str
    method: str
    path: str
    length: int
    sha256: str
    status: int
    tls_version: str
    suite: str
    group: str
    sni: str


def answer(host: str, method: str, path: str, site: str) -> tuple[int, bytes]:
    """Status and body for a request, by the table of what each intake serves."""
    name = host.rpartition(":")[0] if ":" in host else host
    prefix = name.removesuffix(site)
    served = name.endswith(site) and any(
        path == each or path.startswith(each.rstrip("/") + "/") for each in SERVED.get(prefix, ())
    )
    if not served:
        return 404, b'{"errors":["no such intake or path"]}'
    if method == "HEAD" or path == "/_health":
        return 200, b"{}"
    if path.endswith("/validate"):
        return 200, b'{"valid":true}'
    return 202, b'{"status":"ok"}'


class Intake:
    """What all connections share: the site that is served and the records."""

    def __init__(self, site: str) -> None:
        self.site = site
        self._records: list[Record] = []
        self._lock = threading.Lock()

    def remember(self, record: Record) -> None:
        """Keep a record; called from the connections' threads."""
        with self._lock:
            self._records.append(record)

    def records(self) -> bytes:
        """All records so far as a JSON list of objects."""
        with self._lock:
            return json.dumps([attrs.asdict(record) for record in self._records]).encode()


class _Requests:
    """Callbacks of httptools for one connection. Hashes bodies as they come, so a flare of any size costs no memory."""

    def __init__(self, intake: Intake, connection: SSL.Connection) -> None:
        self._intake = intake
        self._connection = connection
        self.parser: Any = httptools.HttpRequestParser(self)
        self.finished = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._host = ""
        self._length = 0
        self._digest = hashlib.sha256()

    def on_message_begin(self) -> None:
        self._reset()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"host":
            self._host = value.decode("latin-1").lower()
        elif lowered == b"expect" and value.lower() == b"100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._length += len(body)
        self._digest.update(body)

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        path = self._url.partition(b"?")[0].decode("latin-1")
        if self._host == CONTROL_HOST and path == RECORDS_PATH:
            status, body = 200, self._intake.records()
        else:
            status, body = answer(self._host, method, path, self._intake.site)
            self._intake.remember(self._record(method, path, status))
        self.finished = not self.parser.should_keep_alive()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nDate: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            + ("Connection: close\r\n\r\n" if self.finished else "\r\n")
        )
        self._connection.sendall(head.encode() + (b"" if method == "HEAD" else body))

    def _record(self, method: str, path: str, status: int) -> Record:
        connection = self._connection
        return Record(
            host=self._host,
            method=method,
            path=path,
            length=self._length,
            sha256=self._digest.hexdigest(),
            status=status,
            tls_version=connection.get_protocol_version_name(),
            suite=connection.get_cipher_name() or "",
            group=controls.group(connection) or "",
            sni=(connection.get_servername() or b"").decode("latin-1"),
        )


_REASONS = {200: "OK", 202: "Accepted", 404: "Not Found"}


def serve_connection(intake: Intake, context: SSL.Context, raw: socket.socket) -> None:
    """One connection until its end. A peer that breaks off, or breaks HTTP, ends only its own thread."""
    connection = SSL.Connection(context, raw)
    connection.set_accept_state()
    try:
        connection.do_handshake()
        requests = _Requests(intake, connection)
        while not requests.finished:
            requests.parser.feed_data(connection.recv(65536))
        connection.shutdown()
    except (SSL.Error, OSError, httptools.HttpParserError):
        pass
    finally:
        raw.close()


def make_context(
    certificate: str, key: str, version: str | None, suites: str | None, groups: str | None
) -> SSL.Context:
    """A server context; ``version`` (1.2 or 1.3), ``suites`` (of TLS 1.2) and ``groups`` narrow what is offered."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if version == "1.3" else SSL.TLS1_2_VERSION)
    if version == "1.2":
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(certificate)
    context.use_privatekey_file(key)
    if suites:
        context.set_cipher_list(suites.encode())
    if groups and not controls.set_groups(context, groups):
        raise ValueError(f"OpenSSL knows no group list {groups!r}")
    return context


def _accept(listener: socket.socket, intake: Intake, context: SSL.Context) -> None:
    # Here and in the threads that are started here: one that took it would not wake the main thread, which acts on it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        raw, _ = listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve_connection, args=(intake, context, raw), daemon=True).start()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, or until standard input closes: an intake never outlives the process that started it."""
    parser = argparse.ArgumentParser(prog="python -m fipsrelay.demo.intake", description=__doc__)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--site", default="ddog-gov.com", help="the site whose hosts are served")
    parser.add_argument("--tls", choices=("1.2", "1.3"), help="speak only this version")
    parser.add_argument("--suites", help="OpenSSL cipher list for TLS 1.2")
    parser.add_argument("--groups", help="OpenSSL group list")
    options = parser.parse_args(argv)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    context = make_context(options.certificate, options.key, options.tls, options.suites, options.groups)
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    with socket.create_server((options.address, options.port), family=family, backlog=512) as listener:
        threading.Thread(target=_accept, args=(listener, Intake(options.site), context), daemon=True).start()
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        while sys.stdin.buffer.read(4096):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
