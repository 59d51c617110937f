"""An intake that may be killed at any moment: what it has read stands in a file before it is acknowledged.

A process of its own, made of the standard library only so that it is soon back: ``python ledger.py --help``. It ends
when its standard input does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
from typing import BinaryIO

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
DAMAGED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"
# Seconds between the entry and the answer: where to be killed hurts most.
THOUGHT = 0.02


def payload(number: int, size: int) -> bytes:
    """A body of ``size`` bytes that says what it is, so that damage shows."""
    return (b"%d %d\n" % (number, size)).ljust(size, b"x")


class Ledger:
    """A file with the number of every payload that was read to its end, as often as it was.

    Args:
        path: of the file; several processes may share it.
        deadly: every so many entries the process kills itself right after one; 0 for never.
    """

    def __init__(self, path: str, deadly: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._deadly = deadly
        self._entries = 0

    def enter(self, body: bytes) -> bool:
        """One write, which outlives the process; False, or ValueError, when the body is no payload as it was sent."""
        number, size = map(int, body.partition(b"\n")[0].split())
        if body != payload(number, size):
            return False
        os.write(self._file, b"%d\n" % number)
        self._entries += 1
        if self._deadly and self._entries % self._deadly == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return True


def serve(context: ssl.SSLContext, raw: socket.socket, ledger: Ledger) -> None:
    """One connection; whoever breaks it off ends it."""
    with contextlib.suppress(OSError, EOFError), context.wrap_socket(raw, server_side=True) as connection:
        file = connection.makefile("rb")
        while head := read_head(file):
            try:
                is_good = ledger.enter(read_body(file, head))
            except ValueError:
                is_good = False
            time.sleep(THOUGHT)
            connection.sendall(ACCEPTED if is_good else DAMAGED)


def read_head(file: BinaryIO) -> bytes:
    """All lines up to the empty one; nothing when there is no further request."""
    head = b""
    while (line := file.readline()) not in (b"", b"\r\n"):
        head += line
    return head


def read_body(file: BinaryIO, head: bytes) -> bytes:
    """Raises EOFError when the connection ends before it, and ValueError when a chunk's size is none."""
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        return read_exactly(file, int(length[1]))
    body = b""
    while size := int(read_line(file), 16):
        body += read_exactly(file, size)
        read_line(file)
    read_line(file)
    return body


def read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def read_line(file: BinaryIO) -> bytes:
    line = file.readline()
    if not line:
        raise EOFError
    return line


def main() -> None:
    """Listen, say so with a line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("ledger", help="a file; it is appended to")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--deadly", type=int, default=0, help="kill itself after every so many entries")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    ledger = Ledger(options.ledger, options.deadly)
    listener = socket.create_server((options.address, options.port), backlog=128)

    def accept() -> None:
        while True:
            raw, _ = listener.accept()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(context, raw, ledger), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
