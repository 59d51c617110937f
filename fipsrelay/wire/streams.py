"""Byte streams straight on non-blocking sockets: what both kinds share, and the plaintext kind (``tls`` has the other).

Reads go into one shared buffer, 128 KB at a time and again while the socket keeps giving; writes go out at once and
only what the kernel refuses is kept. Why not Twisted's transports: they cost 2.5 times the CPU (docs/architecture.md).
A stream knows nothing of HTTP, of its peer stream, or of time.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import Any, Protocol

from OpenSSL._util import ffi
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from fipsrelay.wire.ahead import ReadAhead
from fipsrelay.wire.records import Records

READ_SIZE = 128 * 1024
READ_ROUNDS = 8


def label(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Buffers:
    """What all streams of a reactor share.

    Args:
        size: bytes of the one buffer that they read into. What lies in it is gone when the callback returns.

    Attributes:
        ahead: how TLS streams read.
        records: what they write to.
    """

    def __init__(self, size: int = READ_SIZE) -> None:
        self.ahead = ReadAhead()
        self.records = Records()
        self.size = size
        self.data = bytearray(size)
        self.view = memoryview(self.data)
        self.pointer = ffi.from_buffer(self.data)


class StreamUser(Protocol):
    """Who uses a stream. Every call may close the stream."""

    def stream_data(self, view: memoryview) -> None:
        """Bytes arrived; ``view`` is valid only until this returns."""

    def stream_drained(self) -> None:
        """Everything that a ``write`` had to keep is out."""

    def stream_eof(self) -> None:
        """The peer will send no more, and said so in order: by FIN on a plaintext, by close_notify on a TLS stream."""

    def stream_lost(self, reason: Exception | None) -> None:
        """The stream is closed by the other side or by an error; never called after our own ``close`` or ``abort``."""


@implementer(IReadWriteDescriptor)
class Stream:
    """What both kinds share: registration, unsent bytes, closing.

    Args:
        sock: non-blocking, and ours from now on.
        reactor: provides ``IReactorFDSet`` and ``IReactorTime``.
        buffers: the reactor's.

    Attributes:
        user: who hears of events; None while nobody does.
        is_open: whether the socket is.
        at_end: the user has heard of the peer's end.
        reading: whether the user wants data.
        unsent: bytes kept because the kernel would not take them.
    """

    def __init__(self, sock: socket.socket, reactor: Any, buffers: Buffers) -> None:
        self.socket = sock
        # Any, not StreamUser | None: a check at each call on the data path would cost more than it tells.
        self.user: Any = None
        self.is_open = True
        self.at_end = False
        self.reading = False
        self.unsent = 0
        self._fd = sock.fileno()
        self._reactor = reactor
        self._buffers = buffers
        self._kept = b""
        self._ending = False

    # -- for users

    def peer(self) -> str:
        """Address and port of the other end."""
        try:
            address = self.socket.getpeername()
        except OSError:
            return "somebody who has gone"
        return label(address[0], address[1])

    def is_quiet(self) -> bool:
        """Whether nothing has arrived, not even an end: the reactor may not have told of it yet."""
        arrivals = select.poll()
        arrivals.register(self.socket, select.POLLIN)
        return not arrivals.poll(0)

    def resume(self) -> None:
        """Read (again). A user that resumes after ``stream_eof`` hears of the end again."""
        if not self.reading and self.is_open:
            self.reading = True
            self._reactor.addReader(self)

    def pause(self) -> None:
        """Do not read, so that the peer's writes come to a stop."""
        if self.reading:
            self.reading = False
            self._reactor.removeReader(self)

    def write(self, data: bytes | memoryview) -> bool:
        """Send; False when some of it had to be kept, then ``stream_drained`` follows (unless the stream is lost)."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Send no more after what is unsent; reading goes on."""
        if self.unsent:
            self._ending = True
        elif self.is_open:
            self._send_eof()

    def close(self) -> None:
        """Close; the user hears nothing more. Wait for ``stream_drained`` before, or what is unsent is lost."""
        self.abort()

    def abort(self, reset: bool = False) -> None:
        """Close at once; with ``reset`` the peer sees a reset, so that a cut message looks cut."""
        if not self.is_open:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self.is_open = False  # only now: the reactor finds a descriptor by its number
        self.user = None
        self.reading = False
        self.unsent = 0
        self._kept = b""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # -- for the reactor

    def logPrefix(self) -> str:
        """What Twisted calls it in its log."""
        return "stream"

    def fileno(self) -> int:
        """The socket's, or -1 when it is closed."""
        return self._fd if self.is_open else -1

    def connectionLost(self, reason: Failure) -> None:
        """Twisted's stock reactors report hang-ups here."""
        self.broken()

    def broken(self) -> None:
        """The kernel reports an error on the socket."""
        if self.is_open:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
            self._lose(OSError(number, os.strerror(number)))

    def doRead(self) -> None:
        """Bytes may have arrived: each kind of stream reads them in its own way."""
        raise NotImplementedError

    def doWrite(self) -> None:
        """The kernel takes bytes again."""
        some = self.unsent > 0
        if some and not self._send_kept():
            return
        self._reactor.removeWriter(self)
        if self._ending:
            self._ending = False
            self._send_eof()
        if some and self.user is not None:
            self.user.stream_drained()

    # -- inside

    def _send_eof(self) -> None:
        raise NotImplementedError

    def _send_kept(self) -> bool:
        """Send what is unsent; False while some of it still is, and when the stream was lost over it."""
        raise NotImplementedError

    def _keep(self, data: bytes) -> None:
        """This is unsent now: all of it."""
        if not self.unsent:
            self._reactor.addWriter(self)
        self._kept = data
        self.unsent = len(data)

    def _lose(self, reason: Exception | None) -> None:
        if self.is_open:
            user = self.user
            self.abort()
            if user is not None:
                user.stream_lost(reason)


class PlainStream(Stream):
    """A TCP socket. While it is still connecting, writes are kept and go out afterwards."""

    def __init__(self, sock: socket.socket, reactor: Any, buffers: Buffers) -> None:
        super().__init__(sock, reactor, buffers)
        self._view, self._size = buffers.view, buffers.size
        self._recv_into = sock.recv_into
        self._sock_send = sock.send

    def write(self, data: bytes | memoryview) -> bool:
        """See ``Stream``."""
        if not self.is_open:
            return False
        if self.unsent:
            self._keep(b"".join((self._kept, data)))
            return False
        try:
            sent = self._sock_send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return False
        if sent == len(data):
            return True
        self._keep(bytes(data[sent:]))  # a view of the shared buffer would not survive
        return False

    def detach(self) -> socket.socket:
        """The open socket, for another use; the stream is over, and nothing may be unsent."""
        assert self.is_open
        assert not self.unsent
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self.is_open = self.reading = False
        self.user = None
        return self.socket

    def doRead(self) -> None:
        """Read while the socket keeps giving, within a bound."""
        view, size = self._view, self._size
        rounds = READ_ROUNDS
        while rounds:
            try:
                count = self._recv_into(view)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if not count:
                self.at_end = True
                self.pause()
                if self.user is not None:
                    self.user.stream_eof()
                return
            if self.user is not None:
                self.user.stream_data(view[:count])
            if count < size or not self.reading:
                return
            rounds -= 1

    def _send_kept(self) -> bool:
        data, self._kept, self.unsent = self._kept, b"", 0
        return self.write(data)

    def _send_eof(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)
