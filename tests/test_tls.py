"""TLS streams on real loopback sockets; the peer is pyOpenSSL's server in the same thread."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.bindings import _rust
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from fipsrelay.crypto import context, library
from fipsrelay.crypto.policy import SP800_52
from fipsrelay.demo import certificates
from fipsrelay.relay.exchange import Exchange
from fipsrelay.wire.reactor import deliver
from fipsrelay.wire.streams import READ_ROUNDS, Buffers
from fipsrelay.wire.tls import TlsStream
from tests.doubles import FakeStream, Port, Reactor, Recorder
from tests.folders import Folders
from tests.test_streams import BUFFER, TIMEOUT, fill, reset, small_server, wait_delivery

HOST = "intake.example"
RECORD = 16384


class Peer:
    """The server's end: whatever it does, it does not block.

    Attributes:
        data: what it has read.
        end: why reading ended: ``close_notify``, ``eof`` (FIN alone), ``reset``; None while it goes on.
        ready: the handshake is finished.
    """

    def __init__(self, raw: socket.socket, made: SSL.Context) -> None:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = raw
        self.connection = SSL.Connection(made, raw)
        self.connection.set_accept_state()
        self.data = bytearray()
        self.end: str | None = None
        self.ready = False
        self._queue = b""

    def shake(self) -> None:
        """A step of the handshake."""
        with contextlib.suppress(SSL.Error):
            self.connection.do_handshake()
            self.ready = True

    def read(self) -> None:
        """Everything that is there."""
        while self.end is None:
            try:
                self.data += self.connection.recv(1 << 20)
            except SSL.WantReadError:
                return
            except SSL.ZeroReturnError:
                self.end = "close_notify"
            except SSL.SysCallError as error:
                self.end = "eof" if error.args[0] == -1 else "reset"
            except SSL.Error:
                self.end = "eof"

    def send(self, data: bytes) -> None:
        """All of it at once; the kernel's buffers must have room."""
        view = memoryview(data)
        while view:
            view = view[self.connection.send(view[: 1 << 16]) :]

    def push(self, data: bytes) -> Callable[[], None]:
        """Something that sends ``data`` bit by bit, whenever it is called."""
        self._queue = data

        def step() -> None:
            try:
                while self._queue:
                    self._queue = self._queue[self.connection.send(self._queue[:RECORD]) :]
            except SSL.WantWriteError:
                pass

        return step


class Reno(socket.socket):
    """Whatever this machine's default is."""

    def __init__(self) -> None:
        super().__init__()
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Paced(Reno):
    """Looks as if its congestion control were BBR, which not every kernel has."""

    def getsockopt(self, level: int, name: int, size: int = 0) -> Any:
        if (level, name) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION):
            return b"bbr".ljust(size, b"\0")
        return super().getsockopt(level, name, size)


def call(name: str, connection: SSL.Connection, *arguments: Any) -> int:
    """A function of OpenSSL's that pyOpenSSL has no name for, and that takes an SSL first and gives a number."""
    bindings = Path(str(_rust.__file__))
    address = library._base(bindings) + library.symbols(bindings, {name})[name]
    types = [ctypes.c_void_p, *map(type, arguments)]
    number = ctypes.CFUNCTYPE(ctypes.c_int, *types)(address)(int(ffi.cast("uintptr_t", connection._ssl)), *arguments)
    assert isinstance(number, int)
    return number


def request_key_update(connection: SSL.Connection) -> None:
    """RFC 8446 §4.6.3, with ``update_requested``."""
    assert call("SSL_key_update", connection, ctypes.c_int(1)) == 1


def speak_first(peer: Peer, data: bytes) -> bool:
    """A step of a server that sends ``data`` behind its Finished, before it has the client's; whether it has."""
    size = ctypes.c_size_t()
    place = ctypes.create_string_buffer(data, len(data))
    last = call("SSL_read_early_data", peer.connection, place, ctypes.c_size_t(0), ctypes.pointer(size))
    if last != 2:  # SSL_READ_EARLY_DATA_FINISH
        return False
    assert call("SSL_write_early_data", peer.connection, place, ctypes.c_size_t(len(data)), ctypes.pointer(size)) == 1
    return True


class TlsStreams(Folders):
    """A stream whose handshake is still to come, its user and its peer."""

    size = 4 * RECORD
    kind: type[socket.socket] = Reno

    def setUp(self) -> None:
        self.place = self.folder()
        self.paths = certificates.write(self.place, [HOST])
        self.context = context.build(str(self.paths.authority), SP800_52)
        self.server_context = self.serving(SSL.TLS1_3_VERSION)
        self.reactor = Reactor()
        self.buffer = Buffers(self.size)
        self.reactions: dict[str, Callable[[], object]] = {}
        self.user = Recorder(lambda name: self.reactions.get(name, lambda: None)())
        self.stream, self.peer = self.pair()

    def serving(self, version: int) -> SSL.Context:
        """The peer's, up to this version of TLS."""
        made = SSL.Context(SSL.TLS_SERVER_METHOD)
        made.set_max_proto_version(version)
        made.use_certificate_file(str(self.paths.certificate))
        made.use_privatekey_file(str(self.paths.key))
        return made

    def pair(self, size: int = BUFFER) -> tuple[TlsStream, Peer]:
        with small_server() as listener:
            sock = self.kind()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            raw, _ = listener.accept()
        self.addCleanup(raw.close)
        stream = TlsStream(sock, self.reactor, self.buffer, self.context, HOST.encode())
        self.addCleanup(stream.abort)
        return stream, Peer(raw, self.server_context)

    def shake_hands(self) -> None:
        """Up to where the stream is reading for the user."""
        connector = Recorder()
        self.stream.start(connector)
        self.reactor.run(lambda: "ready" in connector.events and self.peer.ready, self.peer.shake)
        self.stream.resume()
        # The session tickets: the kernel sends a reset for who closes with unread bytes.
        wait_delivery(self.peer.raw)
        while select.select([self.stream.socket], [], [], 0)[0]:
            self.stream.doRead()
        self.stream.user = self.user


class HandshakeTests(TlsStreams):
    def start(self, until: Callable[[], Any], meanwhile: Callable[[], Any] = lambda: None) -> Recorder:
        connector = Recorder()
        self.stream.start(connector)
        self.connector = connector
        self.reactor.run(until, meanwhile)
        return connector

    def test_comes_up(self) -> None:
        connector = self.start(lambda: "ready" in self.connector.events, self.peer.shake)
        self.assertEqual(connector.events, ["connected", "ready"])
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertEqual(self.peer.connection.get_servername(), HOST.encode())

    def test_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(address)
        self.stream = TlsStream(sock, self.reactor, self.buffer, self.context, HOST.encode())
        connector = self.start(lambda: self.connector.events)
        self.assertEqual(connector.events, ["lost"])
        self.assertIsInstance(connector.reason, ConnectionRefusedError)
        self.assertFalse(self.stream.is_open)

    def test_refused_as_the_kernel_reports_it(self) -> None:
        """epoll says EPOLLERR, not that it is writable."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(address)
        self.stream = TlsStream(sock, self.reactor, self.buffer, self.context, HOST.encode())
        connector = Recorder()
        self.stream.start(connector)
        self.stream.broken()
        self.assertEqual(connector.events, ["lost"])
        self.assertIsInstance(connector.reason, ConnectionRefusedError)

    def test_peer_leaves(self) -> None:
        self.peer.raw.close()
        connector = self.start(lambda: "lost" in self.connector.events)
        self.assertEqual(connector.events, ["connected", "lost"])

    def test_peer_speaks_something_else(self) -> None:
        self.peer.raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connector = self.start(lambda: "lost" in self.connector.events)
        self.assertEqual(connector.events, ["connected", "lost"])
        self.assertIsInstance(connector.reason, SSL.Error)

    def test_untrusted(self) -> None:
        self.context = context.build(str(certificates.write(self.folder(), [HOST]).authority), SP800_52)
        self.stream, self.peer = self.pair()
        connector = self.start(lambda: "lost" in self.connector.events, self.peer.shake)
        self.assertEqual(connector.events, ["connected", "lost"])
        self.assertEqual(context.verification_error(self.stream.connection), "certificate signature failure")

    def test_given_up_as_soon_as_it_is_connected(self) -> None:
        """Nothing is sent to whoever has the descriptor's number by then."""
        another, its_peer = socket.socketpair()
        self.addCleanup(another.close)
        self.addCleanup(its_peer.close)
        another.setblocking(False)
        its_peer.setblocking(False)
        number = self.stream.fileno()

        def give_up(_: str) -> None:
            self.stream.abort()
            self.addCleanup(os.close, os.dup2(another.fileno(), number))

        connector = Recorder(give_up)
        self.stream.start(connector)
        self.reactor.run(lambda: connector.events)
        self.assertEqual(connector.events, ["connected"])
        self.assertRaises(BlockingIOError, its_peer.recv, 1)

    def test_given_up(self) -> None:
        """Who aborts hears nothing."""
        connector = Recorder()
        self.stream.start(connector)
        self.stream.abort()
        self.stream.broken()
        self.assertEqual(connector.events, [])
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))


class ReadTests(TlsStreams):
    def setUp(self) -> None:
        super().setUp()
        self.shake_hands()

    def test_large(self) -> None:
        sent = bytes(range(256)) * 10_000
        self.reactor.run(lambda: len(self.user.data) >= len(sent), self.peer.push(sent))
        self.assertEqual(self.user.data, sent)
        self.assertEqual(set(self.user.events), {"data"})

    def test_data_that_came_with_the_handshake(self) -> None:
        """It waits for who resumes."""
        self.stream.abort()
        self.stream, self.peer = self.pair()
        connector = Recorder()
        self.stream.start(connector)
        self.reactor.run(lambda: "ready" in connector.events and self.peer.ready, self.peer.shake)
        self.peer.send(b"early")
        self.stream.user = self.user
        self.stream.resume()
        self.reactor.run(lambda: self.user.data == b"early")

    def test_data_that_came_with_the_last_of_the_handshake(self) -> None:
        """Of a server that speaks first: no event would tell of what OpenSSL had read with that."""
        self.stream.abort()
        self.stream, self.peer = self.pair()
        connector = Recorder()
        self.stream.start(connector)
        steps = iter(lambda: speak_first(self.peer, b"early"), True)
        self.reactor.run(lambda: "ready" in connector.events, lambda: next(steps, None))
        self.stream.user = self.user
        self.stream.resume()
        self.reactor.run(lambda: self.user.data == b"early")

    def test_read_ahead(self) -> None:
        """All that has arrived takes one read, and all of it is delivered, without a further event."""
        self.peer.send(b"one")
        request_key_update(self.peer.connection)
        self.peer.send(b"two")
        self.peer.send(b"three")
        wait_delivery(self.peer.raw)
        self.stream.doRead()
        self.assertFalse(select.select([self.stream.socket], [], [], 0)[0])
        self.assertEqual((self.user.events, self.user.data), (["data"], b"onetwothree"))

    def test_part_of_a_record_is_something(self) -> None:
        """It has arrived although it lies inside OpenSSL, where poll sees nothing; its rest makes it whole."""
        one, two = self.as_sent(b"one"), self.as_sent(b"two")
        self.peer.raw.send(one + two[:-1])
        self.reactor.run(lambda: self.user.data == b"one")
        self.assertFalse(select.select([self.stream.socket], [], [], 0)[0])
        self.assertFalse(self.stream.is_quiet())
        self.peer.raw.send(two[-1:])
        self.reactor.run(lambda: self.user.data == b"onetwo")
        self.assertTrue(self.stream.is_quiet())

    def as_sent(self, data: bytes) -> bytes:
        """What the peer would send."""
        records, ssl = self.buffer.records, self.peer.connection._ssl
        records.divert(ssl)
        self.peer.send(data)
        made = bytes(records.view())
        records.clear()
        records.restore(ssl)
        return made

    def test_records_are_delivered_together(self) -> None:
        """One call of the user, not one a record."""
        sent = bytes(self.size)
        self.peer.send(sent)
        wait_delivery(self.peer.raw)
        self.reactor.run(lambda: self.user.data == sent)
        self.assertLess(len(self.user.events), self.size // RECORD)

    def test_pending_after_pause(self) -> None:
        """The rest of a record lies inside OpenSSL: no event tells of it, so ``resume`` has to."""
        self.buffer.size = 1000
        self.reactions["data"] = self.stream.pause
        sent = bytes(range(100)) * 50
        self.peer.send(sent)
        self.reactor.run(lambda: self.user.events)
        for count in range(1, 5):
            self.assertEqual(self.user.data, sent[: 1000 * count])
            self.stream.resume()
            self.assertEqual(len(self.user.events), count)  # not from within resume
            self.reactor.turn()
        self.assertEqual(self.user.data, sent)

    def test_records_after_pause(self) -> None:
        """So do whole ones that came with the one before."""
        self.buffer.size = 1000
        self.reactions["data"] = self.stream.pause
        for piece in (b"1", b"2", b"3"):
            self.peer.send(piece * 1000)
        wait_delivery(self.peer.raw)
        self.stream.doRead()
        for piece in (b"1", b"2", b"3"):
            self.assertEqual(self.user.data[-1000:], piece * 1000)
            self.stream.resume()
            self.reactor.turn()
        self.assertEqual(len(self.user.data), 3000)

    def test_pending_is_not_forced_on_who_paused_again(self) -> None:
        self.buffer.size = 1000
        self.reactions["data"] = self.stream.pause
        self.peer.send(bytes(3000))
        self.reactor.run(lambda: self.user.events)
        self.stream.resume()
        self.stream.pause()
        self.reactor.turn()
        self.assertEqual(len(self.user.data), 1000)

    def test_rounds_are_bounded(self) -> None:
        """And what is left inside OpenSSL comes by itself."""
        self.buffer.size = 1000
        sent = bytes(range(100)) * 160
        self.peer.send(sent)
        self.reactor.run(lambda: self.user.events)
        self.assertEqual(self.user.events, ["data"] * READ_ROUNDS)
        self.reactor.turn()
        self.assertEqual(self.user.data, sent)

    def test_close_notify(self) -> None:
        self.peer.send(b"last")
        self.peer.connection.shutdown()
        self.reactor.run(lambda: "eof" in self.user.events)
        self.assertEqual((self.user.events, self.user.data), (["data", "eof"], b"last"))
        self.assertFalse(self.stream.reading)
        self.assertNotIn(self.stream, self.reactor.readers)
        self.assertTrue(self.stream.write(b"answer"))
        self.reactor.run(lambda: self.peer.data == b"answer", self.peer.read)

    def test_end_is_said_again_to_who_resumes(self) -> None:
        """As on plaintext streams, although no event of the kernel's tells of it a second time."""
        self.peer.connection.shutdown()
        for count in (1, 2):
            self.stream.resume()
            self.reactor.run(lambda: self.user.events.count("eof") == count)  # noqa: B023, it is called here

    def test_fin_alone_is_no_end(self) -> None:
        """Anybody on the way can send a FIN; only the peer can send close_notify."""
        self.peer.send(b"half")
        self.peer.raw.shutdown(socket.SHUT_WR)
        self.reactor.run(lambda: "lost" in self.user.events)
        self.assertEqual((self.user.events, self.user.data), (["data", "lost"], b"half"))
        self.assertIsInstance(self.user.reason, SSL.Error)

    def test_reset(self) -> None:
        reset(self.peer.raw)
        self.reactor.run(lambda: self.user.events)
        self.assertEqual((self.user.events, self.stream.is_open), (["lost"], False))

    def test_noise(self) -> None:
        """And no error of one connection is taken for another's: OpenSSL has one queue of them a thread."""
        other, its_peer = self.pair()
        connector = Recorder()
        other.start(connector)
        self.reactor.run(lambda: "ready" in connector.events, its_peer.shake)
        other.user = its_user = Recorder()
        other.resume()
        its_peer.shake()
        self.reactor.run(lambda: other.is_quiet())  # the session tickets: to read them would clear the queue
        self.peer.raw.send(b"\x17\x03\x03\x00\x20" + b"?" * 32)
        self.reactor.run(lambda: self.user.events)
        self.assertEqual(lib.ERR_peek_error(), 0)  # OpenSSL 4 no longer looks there when it reads
        other.doRead()
        self.assertEqual((self.user.events, its_user.events), (["lost"], []))
        self.assertIsInstance(self.user.reason, SSL.Error)
        its_peer.send(b"well")
        self.reactor.run(lambda: its_user.data == b"well")

    def test_lost_after_the_user_closed(self) -> None:
        self.peer.send(b"data")
        self.peer.raw.shutdown(socket.SHUT_WR)
        self.reactions["data"] = self.stream.close
        self.reactor.run(lambda: self.user.events)
        self.assertEqual(self.user.events, ["data"])

    def test_quiet(self) -> None:
        """Until something arrives, whether anyone has read it or not."""
        for arrive in (lambda peer: peer.send(b"x"), lambda peer: peer.raw.shutdown(socket.SHUT_WR)):
            self.setUp()
            self.stream.resume()
            self.stream.doRead()  # session tickets
            self.assertTrue(self.stream.is_quiet())
            arrive(self.peer)
            wait_delivery(self.peer.raw)
            self.assertFalse(self.stream.is_quiet())


class SegmentTests(TlsStreams):
    """What leaves together."""

    def setUp(self) -> None:
        super().setUp()
        self.stream, self.peer = self.pair(1 << 20)
        self.shake_hands()

    def segments(self, data: bytes, head: bytes = b"") -> int:
        """Of the kernel, for one write."""
        before = self.sent()
        self.assertTrue(self.stream.write(data, head))
        self.assertNotIn(self.stream, self.reactor.writers)
        self.reactor.run(lambda: self.peer.data == head + data, self.peer.read)
        self.peer.data.clear()
        return self.sent() - before

    def sent(self) -> int:
        """tcpi_data_segs_out of linux/tcp.h."""
        facts = self.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        number = struct.unpack_from("I", facts, 156)[0]
        assert isinstance(number, int)
        return number

    def test_records(self) -> None:
        self.assertLess(self.segments(bytes(3 * RECORD)), 3)
        self.assertEqual(self.segments(b"alone"), 1)

    def test_head(self) -> None:
        """With what is behind it, whatever its length."""
        self.assertEqual(self.segments(b"body", b"head"), 1)
        self.assertLess(self.segments(bytes(2 * RECORD), b"head"), 3)
        self.assertEqual(self.segments(b"alone"), 1)

    def test_paced(self) -> None:
        """The kernel sends each at its time."""
        self.kind = Paced
        self.setUp()
        self.assertEqual(self.segments(bytes(3 * RECORD)), 3)


class WriteTests(TlsStreams):
    def setUp(self) -> None:
        super().setUp()
        self.shake_hands()

    def test_large(self) -> None:
        """In order, whatever the kernel refuses and is written meanwhile; the drain is said once."""
        written = fill(self.stream) + b"onetwo"
        self.assertGreater(self.stream.unsent, 0)
        self.assertFalse(self.stream.write(b"one"))
        self.assertFalse(self.stream.write(memoryview(b"two")))
        self.reactor.run(lambda: len(self.peer.data) >= len(written), self.peer.read)
        self.assertTrue(self.peer.data == written)  # assertEqual would show megabytes
        self.reactor.run(lambda: self.user.events == ["drained"])
        self.assertNotIn(self.stream, self.reactor.writers)

    def test_peer_is_gone_before_a_large_one(self) -> None:
        reset(self.peer.raw)
        self.assertFalse(self.stream.write(bytes(3 * RECORD)))
        self.assertEqual((self.user.events, self.stream.is_open), (["lost"], False))

    def test_peer_is_gone_before_a_large_request(self) -> None:
        """Nothing of it went out, so that it is sent again on another connection."""
        port = Port()
        agent: Any = FakeStream()
        Exchange(port.frontend).makeConnection(agent)
        agent.give(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n" + bytes(40_000))
        reset(self.peer.raw)
        port.backend.searches[0].connect(cast(Any, self.stream))
        self.assertEqual(len(port.backend.searches), 2)

    def test_what_it_said_before_a_message_began(self) -> None:
        """Is no answer to that: some say why they leave a connection that nobody uses."""
        for size in (1, 3 * RECORD):
            self.setUp()
            self.peer.send(b"HTTP/1.1 408 Request Timeout")
            wait_delivery(self.peer.raw)
            reset(self.peer.raw)
            self.assertFalse(self.stream.write(bytes(size)))
            self.assertEqual((self.user.events, self.stream.is_open), (["lost"], False))

    def test_what_it_said_while_some_was_unsent(self) -> None:
        fill(self.stream)
        self.stream.pause()
        self.peer.send(b"answer")
        wait_delivery(self.peer.raw)
        reset(self.peer.raw)
        self.stream.doWrite()
        self.assertEqual((self.user.events, self.user.data), (["data", "lost"], b"answer"))

    def test_peer_goes_while_some_is_unsent(self) -> None:
        """Whether reading shows it, or writing."""
        for change in (TlsStream.resume, TlsStream.pause):
            self.setUp()
            change(self.stream)
            fill(self.stream)
            reset(self.peer.raw)
            self.reactor.run(lambda: self.user.events)
            self.assertEqual((self.user.events, self.stream.unsent), (["lost"], 0))

    def test_peer_goes_after_its_end(self) -> None:
        """As the reactor hears of it, again and again until somebody heeds it."""
        fill(self.stream)
        self.peer.connection.shutdown()
        self.reactor.run(lambda: self.user.events)
        reset(self.peer.raw)
        with select.epoll() as poller:
            poller.register(self.stream.socket, select.EPOLLOUT)
            [(_, event)] = poller.poll(10)
        deliver(self.stream, event)
        self.assertEqual((self.user.events, self.stream.is_open), (["eof", "lost"], False))

    def test_head_behind_what_is_unsent(self) -> None:
        written = fill(self.stream) + b"headbody"
        self.assertFalse(self.stream.write(b"body", b"head"))
        self.reactor.run(lambda: len(self.peer.data) >= len(written), self.peer.read)
        self.assertTrue(self.peer.data == written)

    def test_close_with_unsent(self) -> None:
        """What is cut looks cut, and nobody else hears of it."""
        written = fill(self.stream)
        self.stream.close()
        self.reactor.run(lambda: self.peer.end, self.peer.read)
        self.assertEqual(self.peer.end, "eof")
        self.assertTrue(written.startswith(self.peer.data))
        self.check_another()

    def check_another(self) -> None:
        """That the next stream's records are its own."""
        self.stream, self.peer = self.pair()
        self.shake_hands()
        self.stream.write(bytes(3 * RECORD))
        self.reactor.run(lambda: len(self.peer.data) == 3 * RECORD, self.peer.read)

    def test_renegotiation(self) -> None:
        """It is refused by an alert, which OpenSSL writes while it reads: behind what is unsent."""
        self.server_context = self.serving(SSL.TLS1_2_VERSION)
        self.stream, self.peer = self.pair()
        self.shake_hands()
        written = fill(self.stream)
        self.peer.connection.renegotiate()
        self.peer.shake()
        self.reactor.run(lambda: self.peer.end, self.peer.read)
        self.assertTrue(self.peer.data == written)
        self.check_another()

    def test_key_update(self) -> None:
        """Its answer is due while something is unsent, and must not get between the records that are."""
        written = fill(self.stream)
        request_key_update(self.peer.connection)
        self.peer.shake()
        self.peer.send(b"after")
        self.reactor.run(lambda: self.user.data == b"after")
        written += b"last"
        self.stream.write(b"last")
        self.reactor.run(lambda: len(self.peer.data) >= len(written), self.peer.read)
        self.assertTrue(self.peer.data == written)

    def test_many_at_once(self) -> None:
        """Every peer gets what was written to it: streams share memory for their records."""
        chance = random.Random(7)
        pairs = [(self.stream, self.peer), *(self.pair() for _ in range(3))]
        for self.stream, self.peer in pairs[1:]:
            self.shake_hands()
        written = [b""] * len(pairs)
        for turn in range(200):
            number = chance.randrange(len(pairs))
            stream, peer = pairs[number]
            for head in (chance.choice((b"", b"head")), b""):
                piece = bytes([turn]) * chance.choice((1, 300, RECORD, RECORD + 1, 5 * RECORD))
                written[number] += head + piece
                stream.write(piece, head)
            if chance.random() < 0.3:
                peer.read()
                self.reactor.turn()
        for (_, peer), whole in zip(pairs, written, strict=True):
            self.reactor.run(lambda: len(peer.data) >= len(whole), peer.read)  # noqa: B023, it is called here
            self.assertTrue(peer.data == whole)

    def test_both_ways_at_once(self) -> None:
        written = fill(self.stream)
        sent = bytes(range(256)) * 4000
        push = self.peer.push(sent)

        def step() -> None:
            push()
            self.peer.read()

        self.reactor.run(lambda: (len(self.peer.data), len(self.user.data)) == (len(written), len(sent)), step)
        self.assertTrue(self.peer.data == written)
        self.assertTrue(self.user.data == sent)

    def test_empty(self) -> None:
        self.assertTrue(self.stream.write(b""))
        fill(self.stream)
        self.assertFalse(self.stream.write(b""))

    def test_peer_is_gone(self) -> None:
        reset(self.peer.raw)
        self.assertFalse(self.stream.write(b"x"))
        self.assertFalse(self.stream.write(b"x"))
        self.assertEqual((self.user.events, self.stream.is_open), (["lost"], False))

    def test_write_eof(self) -> None:
        """close_notify and FIN; reading goes on."""
        self.stream.write(b"last")
        self.stream.write_eof()
        self.reactor.run(lambda: self.peer.end, self.peer.read)
        self.assertEqual((self.peer.data, self.peer.end), (b"last", "close_notify"))
        self.assertEqual(self.peer.raw.recv(1), b"")
        self.peer.send(b"answer")
        self.reactor.run(lambda: self.user.data == b"answer")

    def test_write_eof_after_unsent(self) -> None:
        written = fill(self.stream)
        self.stream.write_eof()
        self.reactor.run(lambda: self.peer.end, self.peer.read)
        self.assertEqual(self.peer.end, "close_notify")
        self.assertTrue(self.peer.data == written)
        self.assertTrue(self.stream.is_open)

    def test_close(self) -> None:
        self.stream.write(b"last")
        self.stream.close()
        self.reactor.run(lambda: self.peer.end, self.peer.read)
        self.assertEqual((self.peer.data, self.peer.end), (b"last", "close_notify"))
        self.assertEqual((self.stream.is_open, self.user.events), (False, []))

    def test_close_when_the_peer_has_gone(self) -> None:
        reset(self.peer.raw)
        self.assertTrue(select.select([self.stream.socket], [], [], 10)[0])
        self.stream.close()
        self.assertEqual((self.stream.is_open, self.user.events), (False, []))

    def test_close_before_the_handshake(self) -> None:
        self.stream, self.peer = self.pair()
        self.stream.close()
        self.peer.raw.settimeout(TIMEOUT)
        self.assertEqual(self.peer.raw.recv(1), b"")

    def test_abort(self) -> None:
        """A message that is cut must not look as if it had ended."""
        for with_reset, end in ((False, "eof"), (True, "reset")):
            self.setUp()
            self.stream.write(b"half")
            self.peer.read()
            self.stream.abort(reset=with_reset)
            self.reactor.run(lambda: self.peer.end, self.peer.read)
            self.assertEqual((self.peer.data, self.peer.end), (b"half", end))

    def test_user_ends_it_in_each_callback(self) -> None:
        for end in ("close", "abort"):
            for event in ("data", "eof", "drained", "lost"):
                self.setUp()
                self.buffer.size = 1000
                self.reactions[event] = getattr(self.stream, end)
                if event == "data":
                    self.peer.send(bytes(20_000))
                elif event == "eof":
                    self.peer.connection.shutdown()
                elif event == "lost":
                    reset(self.peer.raw)
                else:
                    fill(self.stream)
                self.reactor.run(lambda: self.user.events, self.peer.read if event == "drained" else lambda: None)
                self.reactor.turn()
                self.assertEqual((self.user.events, self.stream.is_open), ([event], False), (end, event))
                self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))


class FurtherTests(TlsStreams):
    """Parts of a message that may have been answered, where the kernel does not pace."""

    def setUp(self) -> None:
        super().setUp()
        self.shake_hands()

    def test_what_the_peer_said_before_it_went(self) -> None:
        """Counts, also for who has not heard of it before the next write."""
        for size in (1, RECORD, 3 * RECORD):
            for change in (TlsStream.resume, TlsStream.pause):
                self.setUp()
                change(self.stream)
                self.peer.send(bytes(RECORD) + b"answer")
                wait_delivery(self.peer.raw)
                reset(self.peer.raw)
                self.assertFalse(self.stream.write(bytes(size), further=True))
                self.assertEqual((self.user.events, self.stream.is_open), (["data", "data", "lost"], False))
                self.assertEqual(self.user.data[RECORD:], b"answer")
                self.assertIsInstance(self.user.reason, (SSL.Error, OSError))

    def test_user_goes_when_it_hears_what_the_peer_said(self) -> None:
        """Nothing is written to whatever has the descriptor's number then."""
        others: list[socket.socket] = []

        def go() -> None:
            self.stream.abort()
            others.extend(socket.socketpair())

        for size in (1, 3 * RECORD):
            self.setUp()
            self.peer.send(b"answer")
            wait_delivery(self.peer.raw)
            reset(self.peer.raw)
            self.reactions["data"] = go
            self.assertFalse(self.stream.write(bytes(size), further=True))
            self.assertEqual((self.user.events, self.stream.is_open), (["data"], False))
            self.assertEqual(select.select(others, [], [], 0)[0], [])
        for other in others:
            other.close()

    def test_nothing_stays_behind_when_the_peer_has_gone(self) -> None:
        """Neither an answer to its key update, for the next one's peer, nor a hold on the writer's buffer."""
        request_key_update(self.peer.connection)
        self.peer.send(b"answer")
        wait_delivery(self.peer.raw)
        reset(self.peer.raw)
        view = memoryview(bytes(3 * RECORD))
        self.assertFalse(self.stream.write(view, further=True))
        self.assertEqual((self.user.data, self.user.events), (b"answer", ["data", "lost"]))
        self.assertEqual(len(self.buffer.records.view()), 0)
        view.release()  # or BufferError

    def test_what_arrives_before_the_next_part(self) -> None:
        """Is heard of by the way, if at all; nothing is lost, and on a stream that is not read from it waits."""
        for paused in (True, False):
            self.stream.pause() if paused else self.stream.resume()
            self.peer.send(b"answer")
            wait_delivery(self.peer.raw)
            self.assertTrue(self.stream.write(b"part", further=True))
            if paused:
                self.assertEqual(self.user.events, [])
        self.reactor.run(lambda: len(self.peer.data) == 8 and len(self.user.data) == 12, self.peer.read)
        self.assertEqual((self.peer.data, self.user.data), (b"partpart", b"answeranswer"))


class ServerTests(TlsStreams):
    def test_what_a_client_said_before_it_went(self) -> None:
        """Does not count: nobody is there for the answer."""
        with small_server() as listener:
            raw = socket.create_connection(listener.getsockname())
            sock, _ = listener.accept()
        self.addCleanup(raw.close)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        self.stream = TlsStream(sock, self.reactor, self.buffer, self.server_context, None)
        self.addCleanup(self.stream.abort)
        self.peer = Peer(raw, SSL.Context(SSL.TLS_CLIENT_METHOD))
        self.peer.connection.set_connect_state()
        self.shake_hands()
        fill(self.stream)
        self.peer.send(b"GET")
        wait_delivery(raw)
        reset(raw)
        self.stream.doWrite()
        self.assertEqual((self.user.events, self.stream.is_open), (["lost"], False))


class FullTests(TlsStreams):
    """The kernel has no room for what OpenSSL writes by itself: it goes out when there is some."""

    def fill_kernel(self) -> Callable[[], None]:
        """To the last byte, past OpenSSL; returns what takes that off at the peer again."""
        size = 0
        for piece in (bytes(1 << 16), b"x"):
            with contextlib.suppress(BlockingIOError):
                while True:
                    size += self.stream.socket.send(piece)

        def take() -> None:
            nonlocal size
            with contextlib.suppress(BlockingIOError):
                while size:
                    size -= len(self.peer.raw.recv(size))

        return take

    def test_handshake(self) -> None:
        take = self.fill_kernel()
        connector = Recorder()
        self.stream.start(connector)
        self.stream.doWrite()
        self.assertEqual((connector.events, self.stream in self.reactor.writers), (["connected"], True))

        def play() -> None:
            take()
            self.peer.shake()

        self.reactor.run(lambda: "ready" in connector.events, play)

    def test_write_eof(self) -> None:
        self.shake_hands()
        take = self.fill_kernel()
        self.stream.write_eof()
        self.assertEqual((self.stream.is_open, self.stream in self.reactor.writers), (True, True))

        def play() -> None:
            take()
            self.peer.read()

        self.reactor.run(lambda: self.peer.end, play)
        self.assertEqual((self.peer.end, self.user.events), ("close_notify", []))


class PacedTests(WriteTests):
    """The same where the kernel paces."""

    kind = Paced
