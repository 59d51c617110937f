"""The reactor: events reach streams, and what a stream's user does wrong hits that stream alone."""

from __future__ import annotations

import os
import socket
import struct
import time
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.wire.reactor import deliver
from fipsrelay.wire.streams import Buffers, PlainStream
from tests.doubles import Recorder
from tests.reactors import relay_reactor
from tests.test_streams import reset, tcp_pair


class Calls:
    """A stream of which only the calls count."""

    def __init__(self, ends_in_read: bool = False) -> None:
        self.made: list[str] = []
        self.is_open = True
        self.at_end = False
        self._ends_in_read = ends_in_read

    def doRead(self) -> None:
        self.made.append("read")
        self.is_open = not self._ends_in_read

    def doWrite(self) -> None:
        self.made.append("write")


class DeliverTests(SynchronousTestCase):
    """What epoll says, and what the stream is asked to do."""

    def made(self, event: int, ends_in_read: bool = False) -> list[str]:
        calls: Any = Calls(ends_in_read)
        deliver(calls, event)
        found: list[str] = calls.made
        return found

    def test_events(self) -> None:
        for event, made in (
            (EPOLLIN, ["read"]),
            (EPOLLOUT, ["write"]),
            (EPOLLIN | EPOLLOUT, ["read", "write"]),
            (EPOLLIN | EPOLLHUP, ["read"]),
            (EPOLLIN | EPOLLERR | EPOLLHUP, ["read"]),  # what is there comes before the error
            (EPOLLHUP, ["read"]),
            (EPOLLHUP | EPOLLOUT, ["read"]),
            (EPOLLERR, ["read"]),
            (EPOLLERR | EPOLLHUP | EPOLLOUT, ["read"]),
        ):
            self.assertEqual(self.made(event), made, event)

    def test_no_write_after_the_end(self) -> None:
        self.assertEqual(self.made(EPOLLIN | EPOLLOUT, ends_in_read=True), ["read"])


class ReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = relay_reactor(self.addCleanup)

    def stream(self, user: Recorder) -> tuple[PlainStream, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(10)
        self.addCleanup(theirs.close)
        stream = PlainStream(ours, self.reactor, Buffers())
        self.addCleanup(stream.abort)
        stream.user = user
        stream.resume()
        return stream, theirs

    def test_events_reach_streams(self) -> None:
        user = Recorder()
        stream, peer = self.stream(user)
        self.reactor.doPoll(0)
        self.assertEqual(user.events, [])
        peer.sendall(b"hello")
        self.reactor.doPoll(None)
        self.assertEqual(user.data, b"hello")
        while stream.write(bytes(65536)):
            pass
        while "drained" not in user.events:
            peer.recv(1 << 20)
            self.reactor.doPoll(0)
        peer.shutdown(socket.SHUT_WR)
        self.reactor.doPoll(None)
        self.assertEqual(user.events[-1], "eof")

    def test_a_failure_hits_one_stream(self) -> None:
        """It is logged, and its user hears that the stream is gone: a connection must not stay in the account."""
        failing = Recorder(lambda name: 1 // 0 if name == "data" else None)
        stream, peer = self.stream(failing)
        well = Recorder()
        other, other_peer = self.stream(well)
        peer.sendall(b"x")
        other_peer.sendall(b"x")
        self.reactor.doPoll(0)
        self.assertEqual((failing.events, stream.is_open), (["data", "lost"], False))
        self.assertEqual((well.events, other.is_open), (["data"], True))
        self.assertEqual(peer.recv(1), b"")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_failure_at_the_end_too(self) -> None:
        stream, peer = self.stream(Recorder(lambda name: 1 // 0))
        peer.sendall(b"x")
        self.reactor.doPoll(0)
        self.assertFalse(stream.is_open)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_hang_up_of_a_paused_stream(self) -> None:
        """epoll reports it whether asked or not: without an end to it, the process would spin."""
        user = Recorder()
        stream, peer = self.stream(user)
        stream.pause()
        while stream.write(bytes(65536)):
            pass
        peer.close()
        for _ in range(3):
            self.reactor.doPoll(0)
        self.assertEqual((user.events, stream.is_open), (["lost"], False))
        self.assertEqual(self.reactor._poller.poll(0), [])

    def test_reset_of_a_paused_stream(self) -> None:
        """What came before the reset is delivered before it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            peer, _ = listener.accept()
        ours.setblocking(False)
        user = Recorder()
        stream = PlainStream(ours, self.reactor, Buffers())
        self.addCleanup(stream.abort)
        stream.user = user
        while stream.write(bytes(65536)):
            pass
        peer.sendall(b"last words")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        for _ in range(100):
            if "lost" not in user.events:
                self.reactor.doPoll(0.1)
        self.assertEqual((user.data, user.events), (b"last words", ["data", "lost"]))

    def test_reset_after_the_end(self) -> None:
        """Nothing is left to be read, and what is unsent cannot go: it would be told of the end again and again."""
        ours, peer = tcp_pair()
        user = Recorder()
        stream = PlainStream(ours, self.reactor, Buffers())
        self.addCleanup(stream.abort)
        stream.user = user
        stream.resume()
        while stream.write(bytes(65536)):
            pass
        peer.shutdown(socket.SHUT_WR)
        self.reactor.doPoll(1)
        reset(peer)
        for _ in range(3):
            self.reactor.doPoll(1)
        self.assertEqual((user.events, stream.is_open), (["eof", "lost"], False))

    def test_a_paused_stream_hears_nothing(self) -> None:
        user = Recorder()
        stream, peer = self.stream(user)
        stream.pause()
        peer.sendall(b"x")
        peer.close()
        self.reactor.doPoll(0)
        self.assertEqual(user.events, [])
        stream.resume()
        self.reactor.doPoll(0)
        self.assertEqual(user.events, ["data"])

    def test_events_of_a_stream_that_another_one_closed(self) -> None:
        first, second = Recorder(), Recorder()
        streams = [self.stream(first), self.stream(second)]

        def close_both(name: str) -> None:
            for stream, _ in streams:
                stream.abort()

        first._react = second._react = close_both
        for _, peer in streams:
            peer.sendall(b"x")
        self.reactor.doPoll(0)
        self.assertEqual(sorted([first.events, second.events]), [[], ["data"]])

    def test_everything_else_as_ever(self) -> None:
        """Twisted's own descriptors, with their logging context."""
        heard = []

        class Pipe:
            def fileno(self) -> int:
                return reading

            def logPrefix(self) -> str:
                return "pipe"

            def doRead(self) -> None:
                heard.append(os.read(reading, 10))

            def connectionLost(self, reason: object) -> None:
                heard.append(b"lost")

        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.reactor.addReader(Pipe())
        os.write(writing, b"hello")
        self.reactor.doPoll(0)
        os.close(writing)
        self.reactor.doPoll(0)
        self.assertEqual(heard, [b"hello", b"lost"])

    def test_clock(self) -> None:
        """Not the wall clock: a step of it would expire every connection."""
        before = time.monotonic()
        self.assertTrue(before <= self.reactor.seconds() <= time.monotonic())
