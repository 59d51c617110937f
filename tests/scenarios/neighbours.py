"""Debian's HAProxy and nginx as plain HTTP proxies, set up as an operator would, and an upstream that records.

Each proxy is one process in the foreground, run by the user of the test, with all its files in the test's folder. It
has lanes: ports to listen on, each with an upstream of its own, so that what arrives there is known to have come by
that port.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tests.scenarios.stage import TIMEOUT, TlsPeer

# Debian keeps servers out of a plain user's PATH.
_SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
# One of them that waits for the rest of a broken message shall not wait long.
_PATIENCE = 5


class Neighbour:
    """A running proxy, ready. It ends with :meth:`stop`.

    Args:
        folder: is made, for its files.
        command: of its process, which runs in ``folder``.
        files: their texts by name.
        ports: that it will listen on, at 127.0.0.1.

    Raises:
        RuntimeError: it is not installed, or it did not start.
    """

    def __init__(self, folder: Path, command: Sequence[str], files: Mapping[str, str], ports: Sequence[int]) -> None:
        program = shutil.which(command[0], path=_SEARCH)
        if program is None:
            raise RuntimeError(f"{command[0]} is not installed")
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        self._log = folder / "output.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *command[1:]],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal belongs to the suite
            )
        try:
            for port in ports:
                self._wait_for(port)
        except BaseException:
            self.stop()
            raise

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def check_alive(self) -> None:
        """Raise RuntimeError when it has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended with status {self._process.returncode}; it said:\n{self.output}")

    def stop(self) -> None:
        """End it at once; it has nothing to save."""
        self._process.kill()
        self._process.wait()

    def _wait_for(self, port: int) -> None:
        end = time.monotonic() + TIMEOUT
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return
            self.check_alive()
            if time.monotonic() > end:
                raise RuntimeError(f"it does not listen on port {port}; it said:\n{self.output}")
            time.sleep(0.01)  # nobody tells when a port is opened


def haproxy(folder: Path, lanes: Mapping[int, int]) -> Neighbour:
    """HAProxy in mode http.

    Args:
        folder: is made, for its files.
        lanes: ports of upstreams by ports to listen on.
    """
    lines = ["defaults", "  mode http", "  timeout connect 5s"]
    lines += [f"  timeout {name} {_PATIENCE}s" for name in ("client", "server", "http-request", "http-keep-alive")]
    for port, upstream in lanes.items():
        lines += [f"listen lane{port}", f"  bind 127.0.0.1:{port}", f"  server upstream 127.0.0.1:{upstream}"]
    # Without a master, and without workers that it would leave behind.
    command = ("haproxy", "-db", "-f", "haproxy.cfg")
    return Neighbour(folder, command, {"haproxy.cfg": "\n".join(lines) + "\n"}, list(lanes))


_NGINX = f"""\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_header_timeout {_PATIENCE}s;
    client_body_timeout {_PATIENCE}s;
    keepalive_timeout {_PATIENCE}s;
    proxy_read_timeout {_PATIENCE}s;
    proxy_send_timeout {_PATIENCE}s;
    proxy_http_version 1.1;
    proxy_request_buffering off;
"""


def nginx(folder: Path, lanes: Mapping[int, int]) -> Neighbour:
    """nginx with ``proxy_pass``, HTTP/1.1 and no buffering of requests.

    Args:
        folder: is made, for its files.
        lanes: ports of upstreams by ports to listen on.
    """
    servers = "".join(
        f"    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}\n"
        for port, upstream in lanes.items()
    )
    # By -e: what is compiled in is a file of the system's own nginx.
    command = ("nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr")
    return Neighbour(folder, command, {"nginx.conf": _NGINX + servers + "}\n"}, list(lanes))


# -- what arrives, read as a lenient server and a trusting agent would


@attrs.frozen
class Message:
    """A whole message: ``head`` without its empty line, ``body`` decoded, and the ``rest`` behind it."""

    head: bytes
    body: bytes
    rest: bytes


def first_message(data: bytes, until_close: bool = False) -> Message | None:
    """The message that ``data`` begins with, or None when it is not whole.

    Args:
        data: as it arrived.
        until_close: a message without a length goes on to the end, as answers do.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    if re.match(rb"HTTP/1\.1 (?:1..|204|304) ", head):
        return Message(head, b"", rest)
    if re.search(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked", head):
        return _chunked_message(head, rest)
    length = re.search(rb"(?i)\r\ncontent-length:[ \t]*([0-9]+)", head)
    size = int(length[1]) if length else len(rest) if until_close else 0
    return Message(head, rest[:size], rest[size:]) if size <= len(rest) else None


def messages_of(data: bytes, until_close: bool = False) -> Iterator[Message]:
    """All whole messages, one behind the other."""
    while message := first_message(data, until_close):
        data = message.rest
        yield message


def _chunked_message(head: bytes, rest: bytes) -> Message | None:
    body = b""
    while line := re.match(rb"([0-9a-fA-F]+)\r\n", rest):
        rest = rest[line.end() :]
        size = int(line[1], 16)
        if not size:
            trailers = re.match(rb"(?:[^\r\n]+\r\n)*\r\n", rest)
            return Message(head, body, rest[trailers.end() :]) if trailers else None
        if rest[size : size + 2] != b"\r\n":
            return None
        body += rest[:size]
        rest = rest[size + 2 :]
    return None


class Recorder:
    """An upstream that keeps what it gets.

    Args:
        last: answer to the request for ``/next``, behind which it closes.
        context: of its TLS; None for none.
        client: of somebody who connects to it; None for none.

    Attributes:
        port: on 127.0.0.1.
        records: bytes by connection, in the order of their first byte.
    """

    def __init__(self, last: bytes, context: ssl.SSLContext | None, client: ssl.SSLContext | None) -> None:
        self.records: list[bytearray] = []
        self._last = last
        self._client = client
        self._answer, self._closes = b"", False
        self._ended = 0
        self._changed = threading.Lock()
        self._fence: tuple[str, int] | None = None
        self._fenced = threading.Event()
        self._peer = TlsPeer(self._connection, context)
        self.port = self._peer.port
        self.stop = self._peer.stop

    def prepare(self, answer: bytes, closes: bool) -> None:
        """Forget what it has got, for the next case.

        Args:
            answer: what it says to each other request.
            closes: it closes behind that.
        """
        self.records = []
        self._answer, self._closes = answer, closes

    def fence(self) -> None:
        """Connect to it; when it has accepted that, it has accepted all connections that were made before."""
        self._fenced.clear()
        with socket.socket() as plain:
            plain.bind(("127.0.0.1", 0))
            plain.settimeout(TIMEOUT)
            self._fence = plain.getsockname()
            plain.connect(("127.0.0.1", self.port))
            with self._client.wrap_socket(plain) if self._client else plain:
                if not self._fenced.wait(TIMEOUT):
                    raise TimeoutError("the upstream does not accept")

    @property
    def settled(self) -> bool:
        """No connection is open, of those that were accepted."""
        return self._ended + len(self._peer.refused) >= self._peer.accepted

    def _connection(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a proxy that refuses its agent breaks off
            if connection.getpeername() == self._fence:
                self._fenced.set()
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(connection)
        with self._changed:
            self._ended += 1

    def _serve(self, connection: socket.socket) -> None:
        record, pending = bytearray(), b""
        while data := connection.recv(65536):
            if not record:
                self.records.append(record)
            record += data
            pending += data
            while message := first_message(pending):
                pending = message.rest
                if b" /next " in message.head.partition(b"\r\n")[0]:
                    connection.sendall(self._last)
                    return
                connection.sendall(self._answer)
                if self._closes:
                    return
