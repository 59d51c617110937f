"""Plaintext streams on real loopback sockets."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.wire.streams import READ_ROUNDS, Buffers, PlainStream, Stream
from tests.doubles import Reactor, Recorder
from tests.reactors import relay_reactor

TIMEOUT = 10.0
BUFFER = 65536


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets; the first does not block."""
    with small_server() as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    ours.setblocking(False)
    theirs.settimeout(TIMEOUT)
    return ours, theirs


def small_server() -> socket.socket:
    """A listening socket whose connections take little before somebody reads."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return listener


def full_server() -> tuple[socket.socket, socket.socket]:
    """A listening socket whose queue holds the one connection that fits, and that connection.

    The next one goes on connecting until the kernel asks again, which it does after a second.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    return listener, socket.create_connection(listener.getsockname())


def connecting(listener: socket.socket) -> socket.socket:
    """A socket that does not block and has begun to connect."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(listener.getsockname())
    return sock


def reset(sock: socket.socket) -> None:
    """Close so that the other end sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {size} bytes came")
        data += piece
    return data


def wait_delivery(sock: socket.socket) -> None:
    """Until the other end's kernel has all that was sent, an end of it included (SIOCOUTQ of tcp(7))."""
    end = time.monotonic() + TIMEOUT
    while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))) != (0,):
        assert time.monotonic() < end, "it does not arrive"
        time.sleep(0.001)


def fill(stream: Stream) -> bytes:
    """Write until the kernel takes no more; returns what was written."""
    written = b""
    piece = bytearray(range(256)) * 1024
    for _ in range(1000):
        written += piece
        if not stream.write(memoryview(piece)):
            piece[:] = bytes(len(piece))  # as the read buffer, it means something else after the callback
            return written
    raise AssertionError("the kernel takes everything")


class PlainStreams(SynchronousTestCase):
    """One stream, its user and the peer's socket.

    Attributes:
        closing: the event at which the user closes the stream.
    """

    size = 1024

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.buffer = Buffers(self.size)
        ours, self.peer = tcp_pair()
        self.addCleanup(self.peer.close)
        self.stream = PlainStream(ours, self.reactor, self.buffer)
        self.addCleanup(self.stream.abort)
        self.reactions: dict[str, Callable[[], object]] = {}
        self.user = Recorder(lambda name: self.reactions.get(name, lambda: None)())
        self.stream.user = self.user
        self.stream.resume()

    def wait_readable(self) -> None:
        self.assertTrue(select.select([self.stream.socket], [], [], TIMEOUT)[0])

    def take(self, size: int) -> bytes:
        """What the peer gets, while the stream goes on writing."""
        got = bytearray()
        self.peer.setblocking(False)

        def read() -> None:
            while select.select([self.peer], [], [], 0)[0] and len(got) < size:
                got.extend(self.peer.recv(1 << 20))

        self.reactor.run(lambda: len(got) >= size, read)
        self.peer.settimeout(TIMEOUT)
        return bytes(got)


class ReadTests(PlainStreams):
    def test_data(self) -> None:
        self.peer.sendall(b"hello")
        self.wait_readable()
        self.stream.doRead()
        self.assertEqual((self.user.events, self.user.data), (["data"], b"hello"))

    def test_nothing_there(self) -> None:
        self.stream.doRead()
        self.assertEqual(self.user.events, [])

    def test_rounds_are_bounded(self) -> None:
        """One busy connection must not starve the others."""
        sent = bytes(range(256)) * 40
        self.peer.sendall(sent)
        self.reactor.run(lambda: self.user.data == sent)
        self.assertEqual(self.user.data, sent)
        self.user.events.clear()
        self.peer.sendall(sent)
        self.wait_readable()
        while len(self.stream.socket.recv(len(sent), socket.MSG_PEEK)) < len(sent):
            pass
        self.stream.doRead()
        self.assertEqual(self.user.events, ["data"] * READ_ROUNDS)

    def test_pause_stops_between_rounds(self) -> None:
        self.reactions["data"] = self.stream.pause
        self.peer.sendall(bytes(3 * self.size))
        self.wait_readable()
        self.stream.doRead()
        self.assertEqual(self.user.events, ["data"])
        self.assertNotIn(self.stream, self.reactor.readers)
        self.stream.resume()
        self.assertIn(self.stream, self.reactor.readers)

    def test_end(self) -> None:
        """Said once, in order, and writing goes on."""
        self.peer.sendall(b"last")
        self.peer.shutdown(socket.SHUT_WR)
        self.reactor.run(lambda: "eof" in self.user.events)
        self.assertEqual((self.user.events, self.user.data), (["data", "eof"], b"last"))
        self.assertNotIn(self.stream, self.reactor.readers)
        self.assertFalse(self.stream.reading)
        self.assertTrue(self.stream.write(b"answer"))
        self.assertEqual(receive(self.peer, 6), b"answer")

    def test_end_is_said_again_to_who_resumes(self) -> None:
        """An exchange that lingers relies on it."""
        self.peer.shutdown(socket.SHUT_WR)
        self.reactor.run(lambda: "eof" in self.user.events)
        self.stream.resume()
        self.reactor.run(lambda: self.user.events == ["eof", "eof"])

    def test_reset(self) -> None:
        reset(self.peer)
        self.wait_readable()
        self.stream.doRead()
        self.assertEqual(self.user.events, ["lost"])
        assert isinstance(self.user.reason, OSError)
        self.assertEqual(self.user.reason.errno, errno.ECONNRESET)
        self.assertFalse(self.stream.is_open)

    def test_hang_up(self) -> None:
        """What the kernel said is the reason."""
        reset(self.peer)
        self.wait_readable()
        self.stream.broken()
        assert isinstance(self.user.reason, OSError)
        self.assertEqual(self.user.reason.errno, errno.ECONNRESET)
        self.stream.broken()
        self.assertEqual(self.user.events, ["lost"])

    def test_stock_reactors(self) -> None:
        """Where the kernel has no reason, it is a reset."""
        self.stream.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.user.events, ["lost"])
        assert isinstance(self.user.reason, OSError)
        self.assertEqual(self.user.reason.errno, errno.ECONNRESET)

    def test_nobody_hears(self) -> None:
        """What comes while there is no user is gone, and harms nobody."""
        self.stream.user = None
        self.peer.sendall(b"data")
        self.wait_readable()
        self.stream.doRead()
        self.peer.shutdown(socket.SHUT_WR)
        self.wait_readable()
        self.stream.doRead()
        self.assertEqual((self.stream.is_open, self.stream.reading), (True, False))


class LookTests(PlainStreams):
    """What can be known without reading."""

    def test_quiet(self) -> None:
        self.assertTrue(self.stream.is_quiet())
        self.peer.sendall(b"x")
        self.wait_readable()
        self.assertFalse(self.stream.is_quiet())

    def test_an_end_is_not_quiet(self) -> None:
        self.peer.close()
        self.wait_readable()
        self.assertFalse(self.stream.is_quiet())

    def test_peer(self) -> None:
        host, port = self.peer.getsockname()
        self.assertEqual(self.stream.peer(), f"{host}:{port}")
        reset(self.peer)
        self.wait_readable()
        self.assertEqual(self.stream.peer(), "somebody who has gone")


class WriteTests(PlainStreams):
    def test_at_once(self) -> None:
        self.assertTrue(self.stream.write(b"hello"))
        self.assertEqual(receive(self.peer, 5), b"hello")
        self.assertNotIn(self.stream, self.reactor.writers)

    def test_what_the_kernel_refuses_is_kept(self) -> None:
        """In order, whatever is written meanwhile, and the drain is said once."""
        written = fill(self.stream)
        self.assertGreater(self.stream.unsent, 0)
        self.assertIn(self.stream, self.reactor.writers)
        self.assertFalse(self.stream.write(b"one"))
        self.assertFalse(self.stream.write(memoryview(b"two")))
        written += b"onetwo"
        self.assertTrue(self.take(len(written)) == written)  # assertEqual would show megabytes
        self.reactor.run(lambda: self.user.events == ["drained"])
        self.assertEqual(self.stream.unsent, 0)
        self.assertNotIn(self.stream, self.reactor.writers)

    def test_kept_bytes_are_copied(self) -> None:
        """A view of the read buffer means something else after the callback."""
        written = fill(self.stream)
        data = bytearray(b"kept")
        view = memoryview(data)
        self.stream.write(view)
        data[:] = b"gone"
        self.assertTrue(self.take(len(written) + 4) == written + b"kept")

    def test_no_drain_of_nothing(self) -> None:
        self.reactor.addWriter(self.stream)
        self.stream.doWrite()
        self.assertEqual(self.user.events, [])
        self.assertNotIn(self.stream, self.reactor.writers)

    def test_reset(self) -> None:
        reset(self.peer)
        self.wait_readable()
        self.assertFalse(self.stream.write(b"x"))
        self.assertEqual(self.user.events, ["lost"])
        self.assertFalse(self.stream.write(b"x"))
        self.assertEqual((self.user.events, self.stream.unsent), (["lost"], 0))

    def test_reset_with_unsent(self) -> None:
        fill(self.stream)
        reset(self.peer)
        self.reactor.run(lambda: self.user.events)
        self.assertEqual((self.user.events, self.stream.unsent), (["lost"], 0))
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))


class EndTests(PlainStreams):
    def test_write_eof(self) -> None:
        self.stream.write(b"last")
        self.stream.write_eof()
        self.assertEqual(receive(self.peer, 4), b"last")
        self.assertEqual(self.peer.recv(1), b"")
        self.peer.sendall(b"answer")
        self.reactor.run(lambda: self.user.data == b"answer")

    def test_write_eof_after_unsent(self) -> None:
        written = fill(self.stream)
        self.stream.write_eof()
        self.assertTrue(self.take(len(written)) == written)  # assertEqual would show megabytes
        self.assertEqual(self.peer.recv(1), b"")
        self.assertTrue(self.stream.is_open)

    def test_write_eof_after_a_reset(self) -> None:
        reset(self.peer)
        self.wait_readable()
        self.stream.write_eof()
        self.assertEqual((self.user.events, self.stream.is_open), (["lost"], False))

    def test_close(self) -> None:
        self.stream.write(b"last")
        self.stream.close()
        self.assertEqual(receive(self.peer, 4), b"last")
        self.assertEqual(self.peer.recv(1), b"")
        self.assertEqual((self.stream.fileno(), self.stream.reading, self.stream.user), (-1, False, None))

    def test_abort(self) -> None:
        self.stream.abort()
        self.assertEqual(self.peer.recv(1), b"")
        self.assertIsNone(self.stream.user)

    def test_abort_drops_unsent(self) -> None:
        fill(self.stream)
        self.stream.abort()
        self.assertEqual((self.stream.unsent, self.reactor.readers, self.reactor.writers), (0, set(), set()))

    def test_abort_with_reset(self) -> None:
        self.stream.write(b"half of a mess")
        self.stream.abort(reset=True)
        with self.assertRaises(ConnectionResetError):
            while self.peer.recv(100):
                pass

    def test_nothing_after_the_end(self) -> None:
        self.stream.abort()
        for call in (
            self.stream.abort,
            self.stream.close,
            self.stream.write_eof,
            self.stream.resume,
            self.stream.pause,
        ):
            call()
        self.stream.broken()
        self.assertFalse(self.stream.write(b"x"))
        self.assertEqual((self.user.events, self.reactor.readers, self.reactor.writers), ([], set(), set()))

    def test_user_ends_it_in_each_callback(self) -> None:
        """Nothing is said after that, and nothing raises."""
        for end in ("close", "abort"):
            for event in ("data", "eof", "drained", "lost"):
                self.setUp()
                self.reactions[event] = getattr(self.stream, end)
                written = fill(self.stream) if event == "drained" else b""
                if event == "data":
                    self.peer.sendall(bytes(self.size * 3))
                elif event == "eof":
                    self.peer.shutdown(socket.SHUT_WR)
                elif event == "lost":
                    reset(self.peer)
                else:
                    self.take(len(written))
                self.reactor.run(lambda: self.user.events)
                self.reactor.turn()
                self.assertEqual((self.user.events, self.stream.is_open), ([event], False), (end, event))
                self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))


class DetachTests(PlainStreams):
    """The open socket goes elsewhere."""

    def test_detach(self) -> None:
        """With what has not been read yet; the stream can do nothing to it any more."""
        self.peer.sendall(b"unread")
        self.wait_readable()
        sock = self.stream.detach()
        self.addCleanup(sock.close)
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertEqual((self.stream.is_open, self.stream.reading, self.stream.user), (False, False, None))
        for call in (self.stream.abort, self.stream.close, self.stream.write_eof, self.stream.resume):
            call()
        self.stream.broken()
        self.assertFalse(self.stream.write(b"x"))
        self.assertEqual(receive(sock, 6), b"unread")
        sock.sendall(b"answer")
        self.assertEqual(receive(self.peer, 6), b"answer")
        self.assertEqual((self.user.events, self.reactor.readers), ([], set()))

    def test_in_the_middle_of_data(self) -> None:
        """Nothing is read after that."""
        self.reactions["data"] = self.stream.detach
        self.peer.sendall(bytes(3 * self.size))
        self.reactor.run(lambda: self.user.events)
        self.addCleanup(self.stream.socket.close)
        self.stream.socket.settimeout(TIMEOUT)
        self.assertEqual(self.user.events, ["data"])
        self.assertEqual(receive(self.stream.socket, 2 * self.size), bytes(2 * self.size))

    def test_unsent(self) -> None:
        """It would be lost."""
        fill(self.stream)
        self.assertRaises(AssertionError, self.stream.detach)
        self.assertTrue(self.stream.is_open)

    def test_closed(self) -> None:
        self.stream.abort()
        self.assertRaises(AssertionError, self.stream.detach)


class ConnectingTests(SynchronousTestCase):
    """A stream that is given a socket which still connects."""

    def setUp(self) -> None:
        self.listener, self.first = full_server()
        self.addCleanup(self.first.close)
        self.addCleanup(self.listener.close)

    def write(self, reactor: Any) -> tuple[PlainStream, Recorder]:
        stream = PlainStream(connecting(self.listener), reactor, Buffers())
        self.addCleanup(stream.abort)
        stream.user = user = Recorder()
        self.assertFalse(stream.write(b"one"))
        self.assertFalse(stream.write(b"two"))
        self.assertEqual(stream.unsent, 6)
        return stream, user

    def test_connects(self) -> None:
        """What was written goes out in order."""
        reactor = Reactor()
        stream, user = self.write(reactor)
        self.addCleanup(self.listener.accept()[0].close)
        reactor.run(lambda: user.events)
        self.assertEqual((user.events, stream.unsent, reactor.writers), (["drained"], 0, set()))
        peer, _ = self.listener.accept()
        self.addCleanup(peer.close)
        peer.settimeout(TIMEOUT)
        self.assertEqual(receive(peer, 6), b"onetwo")

    def test_refused(self) -> None:
        """The reason is the kernel's, also where epoll tells of an error and a hang-up, or a stock reactor of one."""
        polling, epolling = Reactor(), relay_reactor(self.addCleanup)
        written = [self.write(polling), self.write(epolling), self.write(Reactor())]
        self.listener.close()
        polling.run(lambda: written[0][1].events)
        for _ in range(100):
            if not written[1][1].events:
                epolling.doPoll(0.1)
        told = written[2][0]
        self.assertTrue(select.select([], [told.socket], [], TIMEOUT)[1])
        told.broken()
        for stream, user in written:
            self.assertEqual((user.events, stream.is_open), (["lost"], False))
            assert isinstance(user.reason, OSError)
            self.assertEqual(user.reason.errno, errno.ECONNREFUSED)
        self.assertEqual((polling.readers, polling.writers, epolling.getWriters()), (set(), set(), []))
