"""A TLS stream: pyOpenSSL straight on the non-blocking socket, without memory BIOs.

``SSL_read`` and ``SSL_write`` are called through pyOpenSSL's own bindings, because its ``recv_into`` allocates a buffer
of the asked size at every call. Nothing here judges a connection: see ``upstream.connect`` and ``relay.welcome``.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import Any, Protocol

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from fipsrelay.wire.streams import READ_ROUNDS, Buffers, Stream

RECORD = 16384  # the largest TLS record, RFC 8446 §5.1
_PACED = b"bbr"
_REST = 64  # records that are read after a write has failed

_from_buffer = ffi.from_buffer
_SSL_read = lib.SSL_read
_SSL_write = lib.SSL_write
_SSL_get_error = lib.SSL_get_error
_WANT_READ = lib.SSL_ERROR_WANT_READ
_WANT_WRITE = lib.SSL_ERROR_WANT_WRITE
_ZERO_RETURN = lib.SSL_ERROR_ZERO_RETURN


def is_paced(sock: socket.socket) -> bool:
    """Whether the kernel paces what a TCP socket sends: large writes do not leave in one call then.

    They would cost up to half as much again, for each has timers started (docs/ledger.md).
    """
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).startswith(_PACED)


class Connector(Protocol):
    """Who waits for a TLS stream to come up."""

    def stream_connected(self) -> None:
        """TCP is up, the handshake begins."""

    def stream_ready(self) -> None:
        """The handshake is finished; nothing has been judged yet."""

    def stream_lost(self, reason: Exception | None) -> None:
        """It will not come up."""


class TlsStream(Stream):
    """TLS on a socket: a client's whose ``connect`` has been begun, or a server's that was accepted.

    Args:
        sock, reactor, buffers: as in ``Stream``.
        context: with the policy.
        server_name: sent as SNI; None to be the server.

    Attributes:
        name: of the peer, for what is said about it.
        paced: large writes leave in several calls, see ``is_paced``.
        keeper: is told by ``stream_closed`` when the stream has been closed, by either side.
    """

    def __init__(
        self, sock: socket.socket, reactor: Any, buffers: Buffers, context: SSL.Context, server_name: bytes | None
    ) -> None:
        super().__init__(sock, reactor, buffers)
        self.connection = SSL.Connection(context, sock)
        self._is_server = server_name is None
        if server_name is None:
            self.connection.set_accept_state()
        else:
            self.connection.set_connect_state()
            self.connection.set_tlsext_host_name(server_name)
        self._ssl = self.connection._ssl
        buffers.ahead.begin(self._ssl)
        self._holds = buffers.ahead.holds
        # pyOpenSSL turns partial writes on: SSL_write would return after each record, eight times a read.
        lib.SSL_clear_mode(self._ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
        # What was kept of a write is written again from another place, which older versions of pyOpenSSL forbid.
        lib.SSL_set_mode(self._ssl, lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
        self._sock_send = sock.send
        self.paced = is_paced(sock)
        self._diverted = False  # OpenSSL writes to ``Records``
        self.name = ""
        self.keeper: Any = None
        self._arrivals = select.poll()
        self._arrivals.register(sock, select.POLLIN)
        self._connected = False
        self._ready = False
        self._read_wants_write = False
        self._connector: Connector | None = None

    def start(self, connector: Connector) -> None:
        """Finish connecting, shake hands, then tell ``connector``; the stream is not reading then."""
        self._connector = connector
        self._reactor.addWriter(self)

    def resume(self) -> None:
        """Read again; bytes that OpenSSL already holds, or an end, raise no event, so they are asked for."""
        if not self.reading and self.is_open and self._ready and (self.at_end or self._holds(self._ssl)):
            self._read_later()
        super().resume()

    def write(self, data: bytes | memoryview, head: bytes = b"", further: bool = False) -> bool:
        """See ``Stream``. With a ``head``, which leaves together with data that is not empty.

        What fits a record goes straight to the socket, the rest by way of ``Records``. And so does everything
        while something is unsent, which therefore is records, and never anything that OpenSSL still has to see. And so
        does what is ``further``: it goes on with a message that may have been answered early, and OpenSSL from 3.2 on
        reads no answer once the socket has refused a record. Where the kernel paces, the answer is lost then.
        """
        if not self.is_open:
            return False
        size = len(data)
        if not size:  # SSL_write of nothing is undefined
            return not self.unsent
        source = data if type(data) is bytes else _from_buffer(data)
        if not (self._diverted or head) and (self.paced or (size <= RECORD and not further)):
            sent = _SSL_write(self._ssl, source, size)
            if sent > 0:
                return True
            if _SSL_get_error(self._ssl, sent) != _WANT_WRITE:
                self._lose(self._error())
                return False
            # The kernel takes no more. OpenSSL wants to be called the same way again, and goes on where it was.
        return self._write_records(source, size, head, further)

    def is_quiet(self) -> bool:
        """See ``Stream``; by a poll object that is kept, for every request asks this."""
        return not (self._arrivals.poll(0) or self._holds(self._ssl))

    def close(self) -> None:
        """See ``Stream``; says so to the peer by close_notify, unless something is unsent."""
        if self.is_open and self._ready and not self._diverted:
            # A peer that has gone already need not be told.
            with contextlib.suppress(SSL.Error, OSError):
                self.connection.shutdown()
        self.abort()

    def abort(self, reset: bool = False) -> None:
        """Close at once, without close_notify; the keeper, if there is one, is told."""
        keeper, self.keeper = self.keeper, None
        self._connector = None
        super().abort(reset)
        if keeper is not None:
            keeper.stream_closed()

    # -- for the reactor

    def doRead(self) -> None:
        """Read records into the shared buffer and deliver them together."""
        if not self._ready:
            self._handshake()
            return
        ssl, holds, buffer = self._ssl, self._holds, self._buffers
        pointer, size = buffer.pointer, buffer.size
        rounds = READ_ROUNDS
        while rounds:
            offset = code = 0
            while offset < size:
                count = _SSL_read(ssl, pointer + offset if offset else pointer, size - offset)
                if count <= 0:
                    code = _SSL_get_error(ssl, count)
                    break
                offset += count
                if count < RECORD and not holds(ssl):
                    break
            if self._diverted:
                self._keep_records()
            # Before the delivery: its callbacks may use OpenSSL, whose error queue belongs to the thread.
            reason = None
            if code and code not in (_WANT_READ, _WANT_WRITE, _ZERO_RETURN):
                reason = self._error()
            if offset and self.user is not None:
                self.user.stream_data(buffer.view[:offset])
            if code:
                self._read_stopped(code, reason)
                return
            # A short record with nothing behind it inside OpenSSL is most likely the last; epoll tells when not.
            if offset < size or not self.reading:
                return
            rounds -= 1
        self._read_later()

    def doWrite(self) -> None:
        """The kernel takes bytes again, or the connection is up."""
        if not self._ready:
            self._handshake()
            return
        if self._read_wants_write:
            self._read_wants_write = False
            self.doRead()
            if not self.is_open or self._read_wants_write:
                return
        super().doWrite()

    # -- inside

    def _write_records(self, source: Any, size: int, head: bytes, further: bool) -> bool:
        """Write by way of ``Records``, behind what is kept; nobody else is called before they are clear again."""
        records = self._buffers.records
        if not self._diverted:
            records.divert(self._ssl)
            self._diverted = True
        rest, reason = b"", None
        try:
            if (head and _SSL_write(self._ssl, head, len(head)) <= 0) or _SSL_write(self._ssl, source, size) <= 0:
                raise self._error()
            view = records.view()
            sent = 0 if self.unsent else self._send(view)
            if sent < len(view):
                rest = b"".join((self._kept, view[sent:]))
        except (SSL.Error, OSError) as error:
            reason = error
        finally:
            records.clear()
        if reason:
            if further:
                self._read_rest()
            # Its traceback leads here, in a circle, which would keep the caller's buffers from being released.
            self._lose(reason.with_traceback(None))
        elif not rest:
            self._all_sent()
            return True
        else:
            self._keep(rest)
        return False

    def _read_rest(self) -> None:
        """Deliver what has arrived, within a bound. The shared buffer may hold what is being written."""
        place = ffi.new("char[]", RECORD)
        view = memoryview(ffi.buffer(place))
        for _ in range(_REST):
            count = _SSL_read(self._ssl, place, RECORD)
            if count <= 0:
                self._error()
            if self._diverted:
                self._buffers.records.clear()
            if count <= 0:
                return
            self.user.stream_data(view[:count])
            if not self.is_open:
                return

    def _send(self, data: Any) -> int:
        """How many bytes the kernel takes."""
        try:
            return self._sock_send(data)
        except BlockingIOError:
            return 0

    def _send_kept(self) -> bool:
        try:
            self._keep(self._kept[self._send(self._kept) :])
        except OSError as error:
            if not self._is_server:
                self._read_rest()
            self._lose(error)
            return False
        if self.unsent:
            return False
        self._all_sent()
        return True

    def _all_sent(self) -> None:
        """OpenSSL may write to the socket again."""
        self._kept = b""
        self._diverted = False
        self._buffers.records.restore(self._ssl)

    def _keep_records(self) -> None:
        """What OpenSSL had to write while it was reading, such as an alert, goes behind what is unsent."""
        records = self._buffers.records
        try:
            view = records.view()
            if len(view):
                self._keep(b"".join((self._kept, view)))
        finally:
            records.clear()

    def _lose(self, reason: Exception | None) -> None:
        connector = self._connector
        super()._lose(reason)
        if connector is not None:
            connector.stream_lost(reason)

    def _read_later(self) -> None:
        self._reactor.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        if self.is_open and self.reading:
            self.doRead()

    def _read_stopped(self, code: int, reason: Exception | None) -> None:
        if code == _WANT_READ or not self.is_open:
            return
        if code == _WANT_WRITE:
            self._read_wants_write = True
            self._reactor.addWriter(self)
        elif code == _ZERO_RETURN:
            self.at_end = True
            self.pause()
            if self.user is not None:
                self.user.stream_eof()
        else:
            self._lose(reason)

    def _error(self) -> Exception:
        """Take OpenSSL's error off its queue, as pyOpenSSL's exception.

        Without its traceback: that leads to whoever keeps the exception, in a circle, and only Python's collector would
        free this stream then.
        """
        try:
            self.connection._raise_ssl_error(self._ssl, -1)
        except SSL.Error as error:
            return error.with_traceback(None)
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
                if not self.is_open:
                    return  # its descriptor's number may be another connection's by now
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

    def _send_eof(self) -> None:
        """close_notify, then FIN for peers that look at TCP only."""
        try:
            self.connection.shutdown()
            self.socket.shutdown(socket.SHUT_WR)
        except SSL.WantWriteError:
            self._ending = True
            self._reactor.addWriter(self)
        except (SSL.Error, OSError) as error:
            self._lose(error)
