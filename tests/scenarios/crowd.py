"""A crowd beside a normal client: what the scenarios of slow and greedy clients share."""

from __future__ import annotations

import contextlib
import http.client
import resource
import ssl
import threading
from collections.abc import Mapping
from typing import BinaryIO

from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.stage import HOST, TIMEOUT, Stage

LARGE = 256 * 1024  # more than the relay keeps of an answer
DESCRIPTORS = 16384
_PAUSE = 0.005  # the client is to leave time to the others


class Intake:
    """Answers a request for ``/large`` with LARGE bytes, any other one with its own body; give ``serve`` to a peer.

    Attributes:
        requests: that it has read to their end.
        ranges: those with a field Range.
    """

    def __init__(self) -> None:
        self.requests = self.ranges = 0
        self._lock = threading.Lock()

    def serve(self, connection: ssl.SSLSocket) -> None:
        """One connection."""
        connection.settimeout(None)  # slow ones wait for the relay to cut them
        # The other side breaks it off, or leaves in the middle of a request.
        with contextlib.suppress(OSError, EOFError), connection.makefile("rb") as arriving:
            while head := _fields(arriving):
                body = _body(arriving, head)
                with self._lock:
                    self.requests += 1
                    self.ranges += b"range" in head
                method, target, _ = head[b""].split(b" ")
                if target == b"/large":
                    body = bytes(LARGE)
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(answer if method == b"HEAD" else answer + body)


def _fields(arriving: BinaryIO) -> dict[bytes, bytes]:
    """A head's fields by their names in small letters, its first line by none; nothing at the end."""
    fields: dict[bytes, bytes] = {}
    while line := arriving.readline().rstrip(b"\r\n"):
        name, _, value = line.partition(b":") if fields else (b"", b"", line)
        fields[name.lower()] = value.strip()
    return fields


def _body(arriving: BinaryIO, head: Mapping[bytes, bytes]) -> bytes:
    if b"transfer-encoding" not in head:
        return _exactly(arriving, int(head.get(b"content-length", b"0")))
    pieces = []
    while size := int(_line(arriving), 16):
        pieces.append(_exactly(arriving, size))
        _line(arriving)
    while _line(arriving) != b"\r\n":
        pass
    return b"".join(pieces)


def _line(arriving: BinaryIO) -> bytes:
    line = arriving.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line


def _exactly(arriving: BinaryIO, size: int) -> bytes:
    data = arriving.read(size)
    if len(data) < size:
        raise EOFError
    return data


class Client:
    """Sends requests one after the other in a thread: every other one on a connection of its own, the rest on one.

    Args:
        port: of an intake with an ``Intake`` behind it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers = 0
        self._wrong = ""
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with contextlib.closing(self._connect()) as kept:
                while not self._stopping.wait(_PAUSE):
                    self._ask(kept)
                    with contextlib.closing(self._connect()) as new:
                        self._ask(new)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            with self._changed:
                self._wrong = f"after {self._answers} answers: {error!r}"
                self._changed.notify_all()

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        connection.connect()
        connection.auto_open = 0  # one that the relay ended is not to be opened again unseen
        return connection

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        body = b"request %d" % self._answers
        connection.request("POST", "/small", body, {"Host": HOST})
        answer = connection.getresponse()
        found = answer.status, answer.read()
        if found != (200, body):
            raise AssertionError(f"{found} for {body!r}")
        with self._changed:
            self._answers += 1
            self._changed.notify_all()

    def check(self, more: int) -> None:
        """Wait for ``more`` right answers from now on; raises AssertionError at a wrong one, or none at all."""
        with self._changed:
            wanted = self._answers + more
            done = self._changed.wait_for(lambda: self._wrong or self._answers >= wanted, 3 * TIMEOUT)
            if self._wrong or not done:
                raise AssertionError(self._wrong or f"{self._answers} answers instead of {wanted}")

    def stop(self) -> None:
        """End it; raises AssertionError if any answer was wrong."""
        self._stopping.set()
        self._thread.join(2 * TIMEOUT)
        if self._wrong:
            raise AssertionError(self._wrong)


class CrowdStage(Stage):
    """The relay as its own figures show it; descriptors for thousands of connections.

    Attributes:
        relay: set by the test.
    """

    relay: RelayProcess

    def setUp(self) -> None:
        super().setUp()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        # The processes that are started from here have it from this one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[1], DESCRIPTORS), limits[1]))

    def open_connections(self) -> int:
        """Agent connections that the relay counts as open."""
        return int(self.row("web")[0])
