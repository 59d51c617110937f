"""Plaintext and TLS byte streams, straight on non-blocking sockets.

Reads go into one shared buffer, 128 KB at a time and again while the socket keeps giving; writes go out at once and only
what the kernel refuses is kept. Why not Twisted's transports: they cost 2.5 times the CPU (docs/architecture.md).
A stream knows nothing of HTTP, of its peer stream, or of time.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any, Protocol

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

READ_SIZE = 128 * 1024
READ_ROUNDS = 8
_RECORD = 16384  # the largest TLS record, RFC 8446 §5.1

_from_buffer = ffi.from_buffer
_SSL_read = lib.SSL_read
_SSL_write = lib.SSL_write
_SSL_pending = lib.SSL_pending
_SSL_get_error = lib.SSL_get_error
_WANT_READ = lib.SSL_ERROR_WANT_READ
_WANT_WRITE = lib.SSL_ERROR_WANT_WRITE
_ZERO_RETURN = lib.SSL_ERROR_ZERO_RETURN


class ReadBuffer:
    """The one buffer that every stream of a reactor reads into. What lies in it is gone when the callback returns."""

    def __init__(self, size: int = READ_SIZE) -> None:
        self.size = size
        self.data = bytearray(size)
        self.view = memoryview(self.data)
        self.pointer = _from_buffer(self.data)


class StreamUser(Protocol):
    """Who uses a stream. Every call may close the stream."""

    def stream_data(self, view: memoryview) -> None:
        """Bytes arrived; ``view`` is valid only until this returns."""

    def stream_drained(self) -> None:
        """Everything that a ``write`` had to keep is out."""

    def stream_eof(self) -> None:
        """The peer will send no more, and said so in order (FIN on a plaintext stream, close_notify on a TLS stream)."""

    def stream_lost(self, reason: Exception | None) -> None:
        """The stream is closed by the other side or by an error; never called after our own ``close`` or ``abort``."""


class Connector(Protocol):
    """Who waits for a TLS stream to come up."""

    def stream_connected(self) -> None:
        """TCP is up, the handshake begins."""

    def stream_ready(self) -> None:
        """The handshake is finished; nothing has been judged yet."""

    def stream_lost(self, reason: Exception | None) -> None:
        """It will not come up."""


@implementer(IReadWriteDescriptor)
class Stream:
    """What both kinds share: registration, unsent bytes, closing."""

    def __init__(self, sock: socket.socket, reactor: IReactorFDSet, buffer: ReadBuffer) -> None:
        self.socket = sock
        self.user: Any = None
        self.is_open = True
        self.reading = False
        self._fd = sock.fileno()
        self._reactor = reactor
        self._buffer = buffer
        self._unsent: bytes | memoryview | None = None
        self._closing = False
        self._ending = False

    # -- for users

    @property
    def unsent(self) -> int:
        """Bytes kept because the kernel would not take them."""
        return 0 if self._unsent is None else len(self._unsent)

    def resume(self) -> None:
        """Read (again)."""
        if not self.reading and self.is_open and not self._closing:
            self.reading = True
            self._reactor.addReader(self)

    def pause(self) -> None:
        """Do not read, so that the peer's writes come to a stop."""
        if self.reading:
            self.reading = False
            self._reactor.removeReader(self)

    def write(self, data: bytes | memoryview) -> bool:
        """Send; False when some of it had to be kept, then ``stream_drained`` follows (unless the stream is lost)."""
        if self._unsent is not None:
            self._unsent = b"".join((self._unsent, data))
            return False
        return self._send(data)

    def write_eof(self) -> None:
        """Send no more after what is unsent; reading goes on."""
        self._ending = True
        if self._unsent is None:
            self._send_eof()

    def close(self) -> None:
        """Close once everything unsent is out; the user hears nothing more."""
        self.user = None
        if self._unsent is None or not self.is_open:
            self._send_eof_and_close()
        else:
            self._closing = True
            self.pause()

    def abort(self, reset: bool = False) -> None:
        """Close at once; with ``reset`` the peer sees a reset, so that a cut message looks cut."""
        if not self.is_open:
            return
        self.is_open = False
        self.user = None
        self.reading = False
        self._unsent = None
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # -- for the reactor

    def logPrefix(self) -> str:
        return "stream"

    def fileno(self) -> int:
        return self._fd if self.is_open else -1

    def connectionLost(self, reason: Failure) -> None:
        """Twisted's stock reactors report hang-ups here."""
        self.broken()

    def broken(self) -> None:
        """The kernel reports an error on the socket."""
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.is_open else 0
        self._lose(OSError(number or errno.ECONNRESET, os.strerror(number or errno.ECONNRESET)))

    def doRead(self) -> None:
        raise NotImplementedError

    def doWrite(self) -> None:
        """The kernel takes bytes again."""
        data = self._unsent
        if data is not None:
            self._unsent = None
            if not self._send(data):
                return
        if not self.is_open:
            return
        self._reactor.removeWriter(self)
        if self._closing:
            self._send_eof_and_close()
            return
        if self._ending:
            self._send_eof()
        if data is not None and self.user is not None:
            self.user.stream_drained()

    # -- inside

    def _send(self, data: bytes | memoryview) -> bool:
        raise NotImplementedError

    def _send_eof(self) -> None:
        raise NotImplementedError

    def _send_eof_and_close(self) -> None:
        raise NotImplementedError

    def _keep(self, data: bytes | memoryview) -> bool:
        """Keep unsent bytes: a view of the shared buffer would not survive, so it is copied."""
        self._unsent = data if isinstance(data, bytes) else bytes(data)
        self._reactor.addWriter(self)
        return False

    def _lose(self, reason: Exception | None) -> None:
        if self.is_open:
            user = self.user
            self.abort()
            if user is not None:
                user.stream_lost(reason)


class PlainStream(Stream):
    """A connected TCP socket."""

    def __init__(self, sock: socket.socket, reactor: IReactorFDSet, buffer: ReadBuffer) -> None:
        super().__init__(sock, reactor, buffer)
        self._recv_into = sock.recv_into
        self._sock_send = sock.send

    def doRead(self) -> None:
        """Read while the socket keeps giving, within a bound."""
        buffer = self._buffer
        for _ in range(READ_ROUNDS):
            try:
                count = self._recv_into(buffer.view)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if not count:
                self.pause()
                if self.user is not None:
                    self.user.stream_eof()
                return
            if self.user is not None:
                self.user.stream_data(buffer.view[:count])
            if count < buffer.size or not self.reading:
                return

    def _send(self, data: bytes | memoryview) -> bool:
        try:
            sent = self._sock_send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return False
        if sent == len(data):
            return True
        return self._keep(data[sent:])

    def _send_eof(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    def _send_eof_and_close(self) -> None:
        self.abort()


class TlsStream(Stream):
    """A TLS client on a socket whose ``connect`` has been begun."""

    def __init__(
        self, sock: socket.socket, reactor: IReactorFDSet, buffer: ReadBuffer, context: SSL.Context, host: str
    ) -> None:
        super().__init__(sock, reactor, buffer)
        self.connection = SSL.Connection(context, sock)
        self.connection.set_connect_state()
        self.connection.set_tlsext_host_name(host.encode("ascii"))
        self._ssl = self.connection._ssl
        self._connected = False
        self._ready = False
        self._read_wants_write = False
        self._connector: Connector | None = None

    def start(self, connector: Connector) -> None:
        """Finish connecting, shake hands, then tell ``connector``."""
        self._connector = connector
        self._reactor.addWriter(self)

    def doRead(self) -> None:
        """Read records into the shared buffer and deliver them together."""
        if not self._ready:
            self._handshake()
            return
        ssl, buffer = self._ssl, self._buffer
        pointer, size = buffer.pointer, buffer.size
        for _ in range(READ_ROUNDS):
            offset = 0
            code = 0
            while offset < size:
                count = _SSL_read(ssl, pointer + offset if offset else pointer, size - offset)
                if count <= 0:
                    code = _SSL_get_error(ssl, count)
                    break
                offset += count
                if count < _RECORD:
                    break
            if offset and self.user is not None:
                self.user.stream_data(buffer.view[:offset])
            if code:
                self._read_stopped(code)
                return
            if not self.reading:
                return
            if offset < size and not _SSL_pending(ssl):
                return  # a short record: most likely the last; epoll tells when not
        self._read_later()

    def resume(self) -> None:
        """Read again; bytes that OpenSSL already holds raise no event, so they are asked for."""
        if not self.reading and self.is_open and self._ready and _SSL_pending(self._ssl):
            self._read_later()
        super().resume()

    def doWrite(self) -> None:
        """The kernel takes bytes again, or the connection is up."""
        if not self._ready:
            self._handshake()
            return
        if self._read_wants_write:
            self._read_wants_write = False
            self.doRead()
            if not self.is_open:
                return
        super().doWrite()

    def broken(self) -> None:
        if self._connected:
            super().broken()
        else:
            self._handshake()

    def _lose(self, reason: Exception | None) -> None:
        connector, self._connector = self._connector, None
        super()._lose(reason)
        if connector is not None:
            connector.stream_lost(reason)

    def abort(self, reset: bool = False) -> None:
        self._connector = None
        super().abort(reset)

    def _read_later(self) -> None:
        self._reactor.callLater(0, self._read_pending)  # type: ignore[attr-defined]

    def _read_pending(self) -> None:
        if self.is_open and self.reading:
            self.doRead()

    def _read_stopped(self, code: int) -> None:
        if code == _WANT_READ or not self.is_open:
            return
        if code == _WANT_WRITE:
            self._read_wants_write = True
            self._reactor.addWriter(self)
        elif code == _ZERO_RETURN:
            self.pause()
            if self.user is not None:
                self.user.stream_eof()
        else:
            self._lose(self._error())

    def _error(self) -> Exception:
        """Take OpenSSL's error off its queue, as pyOpenSSL's exception."""
        try:
            self.connection._raise_ssl_error(self._ssl, -1)
        except SSL.Error as error:
            return error
        return SSL.Error([("", "", "unknown error")])

    def _handshake(self) -> None:
        if not self._connected:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self._lose(OSError(number, os.strerror(number)))
                return
            self._connected = True
            if self._connector is not None:
                self._connector.stream_connected()
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            self._reactor.removeWriter(self)
            self.resume()
            return
        except SSL.WantWriteError:
            self._reactor.addWriter(self)
            return
        except (SSL.Error, OSError) as error:
            self._lose(error)
            return
        self._ready = True
        self.pause()
        self._reactor.removeWriter(self)
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.stream_ready()

    def _send(self, data: bytes | memoryview) -> bool:
        length = len(data)
        pointer = _from_buffer(data)
        offset = 0
        while offset < length:
            sent = _SSL_write(self._ssl, pointer + offset if offset else pointer, length - offset)
            if sent <= 0:
                code = _SSL_get_error(self._ssl, sent)
                if code in (_WANT_READ, _WANT_WRITE):
                    return self._keep(data[offset:])
                self._lose(self._error())
                return False
            offset += sent
        return True

    def _send_eof(self) -> None:
        """close_notify, then FIN for peers that look at TCP only."""
        try:
            self.connection.shutdown()
            self.socket.shutdown(socket.SHUT_WR)
        except SSL.WantWriteError:
            self._reactor.addWriter(self)
        except (SSL.Error, OSError) as error:
            self._lose(error)

    def _send_eof_and_close(self) -> None:
        if self.is_open and self._ready:
            try:
                self.connection.shutdown()
            except (SSL.Error, OSError):
                pass  # the peer is gone already; there is nobody to tell
        self.abort()
