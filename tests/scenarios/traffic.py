"""Connections of clients that know every byte they may receive, and what came of their requests. See ``clients``."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Sequence

from tests.scenarios.echo import PAUSE
from tests.scenarios.plays import BODILESS, Request, answer_lines, content, status_line, trailer
from tests.scenarios.stage import TIMEOUT, reset_at_close

READ = 1 << 18
KEEP_ALIVE, CLOSE, CHUNKED = b"Connection: keep-alive", b"Connection: close", b"Transfer-Encoding: chunked"
OWN_ERROR = re.compile(rb"HTTP/1\.1 ([45][0-9][0-9]) [ A-Za-z]+")
ANSWERED, CUT, UNANSWERED = "answered", "cut", "unanswered"


class Wrong(AssertionError):
    """What no client must ever see."""


class Ended(Exception):
    """The relay has ended the connection."""


class Enough(Exception):
    """The client has read as much as it wanted to."""


class Connection:
    """A client's, which sends and receives at the same time.

    Attributes:
        received: what has arrived and is not used.
        ended: how the relay has ended it: ``fin``, ``reset``, or nothing.
        broken: nothing more can be sent.
        wanted: bytes that the client still wants to receive, for one that aborts.
        pauses: how often it still pauses before it reads.
    """

    def __init__(self, port: int, narrow: bool = False) -> None:
        self._socket = socket.socket()
        if narrow:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionResetError):  # the relay may be faster; reading shows it again
            self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.received = bytearray()
        self.ended = ""
        self.broken = False
        self.wanted = -1
        self.pauses = 0

    def send(self, data: bytes, pauses: int = 0) -> None:
        """All of it, unless the connection breaks."""
        step = len(data) // (pauses + 1) + 1
        for start in range(0, len(data), step):
            if start:
                time.sleep(PAUSE)
            view = memoryview(data)[start : start + step]
            while view and not self.broken:
                view = view[self._send_some(view) :]

    def _send_some(self, view: memoryview) -> int:
        try:
            return self._socket.send(view)
        except BlockingIOError:
            self._poll.modify(self._socket, select.POLLOUT | (0 if self.ended else select.POLLIN))
            if not self._poll.poll(TIMEOUT * 1000):
                raise Wrong(f"the relay neither takes nor gives anything for {TIMEOUT:.0f} s") from None
            self._poll.modify(self._socket, select.POLLIN)
            self._take()
        except OSError:
            self.broken = True
            if not self.ended:
                while not self.ended:  # what came before the reset can still be read
                    self._poll.poll(TIMEOUT * 1000)
                    self._take()
                self.ended = "reset"  # the kernel says so once only, and has just done it
        return 0

    def _take(self) -> None:
        """What has arrived, which may be nothing."""
        try:
            data = self._socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "reset"
            return
        if not data:
            self.ended = "fin"
        self.received += data

    def receive(self) -> None:
        """Something more; raises Ended when nothing more comes, and Enough when nothing more is wanted."""
        had = len(self.received)
        if not self.wanted:
            raise Enough
        if self.pauses:
            self.pauses -= 1
            time.sleep(PAUSE)
        while len(self.received) == had:
            if self.ended:
                raise Ended
            if not self._poll.poll(TIMEOUT * 1000):
                raise Wrong(f"nothing for {TIMEOUT:.0f} s")
            self._take()
        if self.wanted >= 0:
            self.wanted = max(0, self.wanted - len(self.received) + had)

    def line(self) -> bytes:
        """The next one, without its CRLF. When there is none, what there is of it stays in ``received``."""
        while (end := self.received.find(b"\r\n")) < 0:
            self.receive()
        line = bytes(self.received[:end])
        del self.received[: end + 2]
        return line

    def expect(self, expected: bytes) -> None:
        """These bytes come next."""
        view = memoryview(expected)
        while view:
            if not self.received:
                self.receive()
            piece = bytes(self.received[: len(view)])
            if piece != view[: len(piece)]:
                raise Wrong(f"{len(expected) - len(view)} bytes were right, then came {piece[:200]!r}")
            del self.received[: len(piece)]
            view = view[len(piece) :]

    def take(self, size: int) -> bytes:
        """So many bytes, whatever they are."""
        while len(self.received) < size:
            self.receive()
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    def expect_end(self) -> None:
        """Nothing comes any more."""
        try:
            if not self.received:
                self.receive()
        except Ended:
            return
        raise Wrong(f"after the end came {bytes(self.received[:200])!r}")

    def end(self, how: str) -> None:
        """``half`` sends no more; ``fin`` and ``reset`` close, unless it is closed already."""
        if self._socket.fileno() < 0:
            return
        try:
            if how == "half":
                self._socket.shutdown(socket.SHUT_WR)
                return
        except OSError:
            return  # the relay was faster
        if how == "reset":
            reset_at_close(self._socket)
        self._socket.close()


class Reading:
    """Reads the answer to one request.

    Args:
        connection: where it comes.
        request: what it has to answer.

    Attributes:
        goes_on: whether there will be another one on this connection.
    """

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self._play = request.play
        self._begun = False
        self.goes_on = False

    def read(self) -> str:
        """What has come of the request. Raises Wrong; and Enough, as the connection does."""
        try:
            return self._read_answer()
        except Ended:
            self.goes_on = False
            return CUT if self._begun or self._connection.received else UNANSWERED

    def _line(self, allowed: Sequence[bytes]) -> bytes:
        """The next line of a head; a part of one has to be a part of what is allowed."""
        connection = self._connection
        try:
            line = connection.line()
        except (Ended, Enough):
            part = bytes(connection.received)
            if not any((line + b"\r\n").startswith(part) for line in allowed) and not part.startswith(b"HTTP/1.1 "):
                raise Wrong(f"a part of a line: {part[:200]!r}") from None
            raise
        self._begun = True
        return line

    def _read_answer(self) -> str:
        play, request = self._play, self._request
        first = self._line([b"HTTP/1.1 "])
        if play.interim and not request.http10:
            if first == status_line(play.interim):
                self._connection.expect(b"Client: %b\r\n\r\n" % play.owner)
                first = self._line([b"HTTP/1.1 "])
            elif first == status_line(play.status):
                raise Wrong("the interim answer is missing")
        if first != status_line(play.status):
            return self._read_error(first)
        missing = answer_lines(play, request.target, request.digest)
        framing = [b"Content-Length: %d" % play.length, CHUNKED, CLOSE, KEEP_ALIVE]
        found = []
        while line := self._line([*missing, *framing, b""]):
            pool = missing if line in missing else framing
            if line not in pool:
                raise Wrong(f"a line of the head: {line!r}")
            pool.remove(line)
            found.append(line)
        if missing:
            raise Wrong(f"lines are missing: {missing}")
        self.goes_on = KEEP_ALIVE in found if request.http10 else CLOSE not in found
        if request.method != b"HEAD" and play.status not in BODILESS:
            self._read_body(found)
        return ANSWERED

    def _read_body(self, head: Sequence[bytes]) -> None:
        connection, play = self._connection, self._play
        body = content("answer", play, play.length)
        if CHUNKED in head:
            self._read_chunks(body)
        else:
            connection.expect(body)
            if b"Content-Length: %d" % play.length not in head:
                if self.goes_on:
                    raise Wrong(f"a body without an end: {head}")
                connection.expect_end()
                if connection.ended != "fin":
                    raise Ended

    def _read_chunks(self, body: bytes) -> None:
        connection, at = self._connection, 0
        while size := int(connection.line(), 16):
            connection.expect(body[at : at + size] + b"\r\n")
            at += size
        if at != len(body):
            raise Wrong(f"{at} bytes instead of {len(body)}")
        connection.expect((trailer(self._play) + b"\r\n" if self._play.form == "chunked" else b"") + b"\r\n")

    def _read_error(self, first: bytes) -> str:
        """An answer of the relay's own: its status and code."""
        match = OWN_ERROR.fullmatch(first)
        fields: dict[bytes, bytes] = {}
        while line := self._connection.line():
            name, _, value = line.partition(b": ")
            fields[name] = value
        if match is None or b"Fipsrelay-Error" not in fields:
            raise Wrong(f"somebody else's: {first!r} {fields}")
        if self._request.method != b"HEAD":
            text = self._connection.take(int(fields[b"Content-Length"]))
            if not re.fullmatch(rb"[ -~]+\n", text):
                raise Wrong(f"not the relay's words: {text!r}")
        self.goes_on = b"Connection" not in fields
        return f"{match[1].decode()} {fields[b'Fipsrelay-Error'].decode()}"
