"""An intake that does to each request what its client has written into it, and answers with what is nobody else's.

A process of its own, so that it works while its clients do: ``python -m tests.scenarios.echo --help``. Its standard
input takes commands, one a line: ``close`` refuses connections, ``reset`` breaks them off before the handshake,
``open`` serves them again. When its input ends, it prints what it has seen, and ends too. ``Intake`` is what its
parent holds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tests.scenarios.plays import CUTS, STRAY, Damage, Play, answer, content, played

TIMEOUT = 30.0
PAUSE = 0.005  # seconds; of a slow side, between two pieces
PIECE = 65536
REPEATABLE = (b"GET", b"HEAD")  # what may be sent again by whoever passes it on
RAW = b"RAW "
ROOT = Path(__file__).parents[2]


class Books:
    """What the process has seen.

    Attributes:
        report: to be printed at the end.
    """

    def __init__(self) -> None:
        self.report: dict[str, Any] = {"connections": 0, "requests": 0, "damage": [], "uploads": [], "overtaken": 0}
        self._seen: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def connection(self) -> None:
        with self._lock:
            self.report["connections"] += 1

    def request(self, play: Play, repeatable: bool) -> None:
        """One has arrived. Raises Damage when it must not come again, and does."""
        with self._lock:
            self.report["requests"] += 1
            key = (play.client, play.number)
            if not repeatable and key in self._seen:
                raise Damage(f"twice: {play}")
            self._seen.add(key)

    def upload(self, play: Play, seen: bool) -> None:
        """One that cannot be acknowledged has arrived: whole, or so soon that it could not be seen."""
        with self._lock:
            self.report["uploads"].append([play.client, play.number])
            self.report["overtaken"] += not seen

    def damage(self, error: Exception) -> None:
        with self._lock:
            self.report["damage"].append(repr(error))


class Upload:
    """What a client sends, compared as it comes.

    Args:
        play: says what it has to be.
        pieces: it, as it comes; raises EOFError when it is cut.

    Attributes:
        content: what it has to be.
        at: bytes so far.
    """

    def __init__(self, play: Play, pieces: Iterator[bytes]) -> None:
        self._play = play
        self._pieces = pieces
        self._digest = hashlib.sha256()
        self.content = memoryview(content("request", play, play.size))
        self.at = 0

    def read(self, size: int = -1) -> None:
        """At least so many bytes of it; -1 for all. Raises Damage."""
        if 0 <= size <= self.at:
            return
        for piece in self._pieces:
            end = self.at + len(piece)
            if self.content[self.at : end] != piece:
                raise Damage(f"altered after {self.at} bytes: {self._play}: {piece[:80]!r}")
            self.at = end
            self._digest.update(piece)
            if 0 <= size <= end:
                return
        if self.at != len(self.content):
            raise Damage(f"{self.at} bytes of {self._play}")

    @property
    def digest(self) -> bytes:
        return self._digest.hexdigest().encode()


class Conversation:
    """One connection of the relay's, after its handshake."""

    def __init__(self, connection: ssl.SSLSocket, books: Books) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._books = books

    def run(self) -> None:
        """Until one side has had enough; raises EOFError or OSError when that was the other one, and Damage."""
        going_on = True
        with self._file as file:
            while going_on:
                line = read_line(file)
                if line.startswith(RAW):
                    self._raw(played(line[len(RAW) :]))
                    return
                going_on = self._exchange(line)

    def _exchange(self, line: bytes) -> bool:
        """One request; returns whether the connection goes on."""
        method, _, rest = line.partition(b" ")
        target, _, version = rest.partition(b" ")
        fields: dict[bytes, bytes] = {}
        while field := read_line(self._file):
            name, _, value = field.partition(b": ")
            if name in fields:
                raise Damage(f"a field twice: {field!r}")
            fields[name] = value
        if version != b"HTTP/1.1" or b"Host" not in fields:
            raise Damage(f"no request: {line!r} {fields}")
        pieces = body_pieces(self._file, fields)
        if b"Play" in fields:
            play = played(fields[b"Play"])
            if fields[b"Client"] != play.owner or not target.startswith(b"/%b/" % play.owner):
                raise Damage(f"mixed: {line!r} {fields}")
        else:
            first, _, body = b"".join(pieces).partition(b"\n")
            play = played(first)
            pieces = iter((body,))
        self._books.request(play, method in REPEATABLE)
        upload = Upload(play, pieces)
        upload.read(play.early)
        time.sleep(PAUSE * play.pauses)
        self._send(answer(play, method, target, upload.digest), play)
        if play.fault in CUTS:
            end(self._connection, play.fault)
            return False
        if play.fault:
            drain(self._connection, play)
            return False
        return self._finish(play, upload)

    def _finish(self, play: Play, upload: Upload) -> bool:
        """What comes after a good answer; returns whether the connection goes on."""
        if play.end == "late":
            time.sleep(PAUSE * (play.number % 3))
            end(self._connection, CUTS[play.number // 3 % len(CUTS)])
        elif play.end == "close" or play.form == "close":
            end(self._connection, "notify")
            drain(self._connection, play)
        elif play.end == "keep":
            upload.read()
            return True
        return False

    def _send(self, data: bytes, play: Play) -> None:
        connection = self._connection
        if play.fault == "stray":
            connection.sendall(data + STRAY)
        elif play.fault == "stall" or play.fault in CUTS:
            connection.sendall(data[: play.at])
        elif play.end == "leave":
            # In one segment, so that the end has arrived wherever the answer has.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            connection.sendall(data)
            end(connection, "notify")
        else:
            self._send_slowly(data, play.pauses)

    def _send_slowly(self, data: bytes, pauses: int) -> None:
        step = len(data) // (pauses + 1) + 1
        for start in range(0, len(data), step):
            if start:
                time.sleep(PAUSE)
            self._connection.sendall(data[start : start + step])

    def _raw(self, play: Play) -> None:
        upload = Upload(play, raw_pieces(self._file, play.size))
        if play.form == "echo":
            while upload.at < play.size:
                start = upload.at
                upload.read(start + 1)
                self._connection.sendall(upload.content[start : upload.at])
        if play.form != "down":
            upload.read()  # up to the client's end
        download = content("answer", play, play.length)
        if play.fault:
            self._connection.sendall(download[: play.at])
            end(self._connection, play.fault)
            return
        self._send_slowly(download, play.pauses)
        readable = end(self._connection, "notify")
        if play.form == "down":
            if readable:
                upload.read()
            self._books.upload(play, readable)
        drain(self._connection, play)


def read_line(file: BinaryIO) -> bytes:
    """Without its CRLF."""
    line = file.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line[:-2]


def body_pieces(file: BinaryIO, fields: dict[bytes, bytes]) -> Iterator[bytes]:
    """What one body consists of; raises EOFError when the connection ends before it."""
    if fields.get(b"Transfer-Encoding") != b"chunked":
        yield from exactly(file, int(fields.get(b"Content-Length", b"0")))
        return
    while size := int(read_line(file), 16):
        yield from exactly(file, size)
        if read_line(file):
            raise Damage("a chunk does not end where it should")
    if line := read_line(file):
        raise Damage(f"trailers that nobody sent: {line!r}")


def exactly(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = file.read(min(size, PIECE))
        if not piece:
            raise EOFError
        size -= len(piece)
        yield piece


def raw_pieces(file: Any, size: int) -> Iterator[bytes]:
    """Up to the other side's end; raises EOFError when that comes before ``size`` bytes."""
    with contextlib.suppress(ssl.SSLZeroReturnError):  # the end, to a side that has said its own already
        while piece := file.read1(PIECE):
            size -= len(piece)
            yield piece
    if size > 0:
        raise EOFError


def end(connection: ssl.SSLSocket, how: str) -> bool:
    """Send no more: FIN only (``fin``), or after close_notify (``notify``); ``reset`` makes the next close one.

    Returns:
        Whether what still arrives can be read.
    """
    readable = True
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return readable
    if how == "notify":
        connection.setblocking(False)
        # It sends, then reads, and data that is there by then ends all reading. Corked, what it sends leaves later, but
        # for a thread that has to wait for longer than the kernel does.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            connection.unwrap()
        except ssl.SSLWantReadError:
            pass  # the other side's has not come yet
        except ssl.SSLError:
            readable = False
        connection.setblocking(True)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)  # SSLSocket's own would end reading too
    if how == "notify":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    return readable


def drain(connection: ssl.SSLSocket, play: Play) -> None:
    """Wait for the other side's end, as who closes before that resets what is on its way. Raises Damage if it stays."""
    connection.settimeout(TIMEOUT)
    try:
        while socket.socket.recv(connection, PIECE):  # what comes is still encrypted, and does not matter
            pass
    except TimeoutError:
        raise Damage(f"the connection was not closed after {play}") from None


class Server:
    """Listens.

    Args:
        context: with a certificate.
        books: of the process.

    Attributes:
        resetting: break connections off before the handshake.
    """

    def __init__(self, context: ssl.SSLContext, books: Books) -> None:
        self._context = context
        self._books = books
        self.resetting = False
        self.port = 0
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return  # closed
            if self.resetting:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.close()
            else:
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        self._books.connection()
        with contextlib.suppress(OSError, EOFError), self._handshake(raw) as connection:
            try:
                Conversation(connection, self._books).run()
            except (Damage, KeyError, ValueError) as error:  # the last two: a head or a chunk that cannot be read
                self._books.damage(error)

    def _handshake(self, raw: socket.socket) -> ssl.SSLSocket:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.settimeout(TIMEOUT)
        try:
            connection = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            raise
        connection.settimeout(None)
        return connection


class Intake:
    """The process, for its parent.

    Args:
        certificate, key: PEM files.

    Attributes:
        port: TCP port on 127.0.0.1.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.echo", str(certificate), str(key)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def tell(self, command: str) -> None:
        """See the module; done when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        self._read()

    def finish(self) -> dict[str, Any]:
        """End it; returns what it has seen: see ``Books``."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        report: dict[str, Any] = json.loads(self._read())
        return report

    def stop(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def main() -> None:
    """Listen, print the port, and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certificate")
    parser.add_argument("key")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    books = Books()
    server = Server(context, books)
    print(server.port, flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "close":
            server.close()
        elif command == "open" and not server.resetting:
            server.open()
        server.resetting = command == "reset"
        print(command, flush=True)
    print(json.dumps(books.report), flush=True)


if __name__ == "__main__":
    main()
