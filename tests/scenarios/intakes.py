"""Intakes and name servers for the scenarios of upstreams that come, go, move and misbehave."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.names import dns

from tests.scenarios.stage import TIMEOUT, read_exactly, read_head, reset_at_close


class Intake:
    """Serves any number of requests with one text; give ``serve`` to a peer.

    Attributes:
        text: what it answers.
        requests: bodies that it has read, in order.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.requests: list[bytes] = []

    def serve(self, connection: Any) -> None:
        with contextlib.suppress(OSError):  # the other side, or the end of the test, breaks it off
            while head := read_head(connection):
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                self.requests.append(read_exactly(connection, int(length[1])) if length else b"")
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.text), self.text))


class NameServer:
    """Answers questions for IPv4 addresses over UDP; any name has the same ones.

    Attributes:
        port: on 127.0.0.1.
        addresses: of every name, or None to say that it does not exist.
        silent: it says nothing.
    """

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] | None = ()
        self.silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            if self.silent:
                continue
            message = dns.Message()
            message.fromStr(data)
            message.answer, message.recAv = 1, 1
            if self.addresses is None:
                message.rCode = dns.ENAME
            for query in message.queries:
                if query.type == dns.A:
                    message.answers += [
                        dns.RRHeader(query.name.name, dns.A, dns.IN, 60, dns.Record_A(address, 60))
                        for address in self.addresses or ()
                    ]
            self._socket.sendto(message.toStr(), client)

    def stop(self) -> None:
        """End it."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(TIMEOUT)
        self._socket.close()


def silent_listener(
    at_end: Callable[[Callable[[], None]], object], address: str = "127.0.0.1", port: int = 0, backlog: int = 64
) -> socket.socket:
    """A server that accepts, and never says anything.

    Args:
        at_end: the test's ``addCleanup``.
        address, port: to listen on; 0 for any port.
        backlog: of connections that nobody has accepted.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=backlog)
    at_end(listener.close)
    return listener


def full_listener(
    at_end: Callable[[Callable[[], None]], object], address: str = "127.0.0.1", port: int = 0
) -> socket.socket:
    """One whose queue is full, so that the kernel drops further requests to connect."""
    listener = silent_listener(at_end, address, port, backlog=0)
    for _ in range(4):
        filling = socket.socket(listener.family)
        at_end(filling.close)
        filling.setblocking(False)
        filling.connect_ex(listener.getsockname())
    return listener


def closing(data: bytes, take: int = 1, *, resets: bool = False) -> Any:
    """A server that reads something, says ``data`` and leaves, with a reset if it ``resets``."""

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.recv(take)
            sock.sendall(data)
        if resets:
            reset_at_close(sock)

    return serve
