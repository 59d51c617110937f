"""Every byte arrives, once and in order, whatever the load; and none of them costs the relay memory."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures

from tests.scenarios.processes import memory
from tests.scenarios.stage import HOST, TIMEOUT, Stage, read_chunked, read_exactly, read_head

REQUESTS, CONNECTIONS = 1000, 32
LARGEST = 3_000_000
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
BLOCK = os.urandom(1 << 20)
BURST = 64 << 20
STALL = 0.05  # seconds without progress after which every buffer on the way counts as full
BOUND = 20 << 20


def echo(connection: ssl.SSLSocket) -> None:
    """Answer each request with its own body, in the other framing, and the digest of what has come."""
    while head := read_head(connection):
        length = LENGTH.search(head)
        body = read_exactly(connection, int(length[1])) if length else read_chunked(connection)[0]
        fields = b"HTTP/1.1 200 OK\r\nDigest: %b\r\n" % hashlib.sha256(body).hexdigest().encode()
        if length:
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut(body)]
            connection.sendall(fields + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(pieces) + b"0\r\n\r\n")
        else:
            connection.sendall(fields + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def cut(body: bytes) -> Iterator[bytes]:
    """Pieces of uneven sizes."""
    start, size = 0, 1
    while start < len(body):
        yield body[start : start + size]
        start += size
        size = size * 3 % 100_003


class LoadTests(Stage):
    def test_many_requests_at_once(self) -> None:
        peer = self.start_peer(echo)
        self.start_relay(peer.port)
        rng = random.Random(3)
        bounds = [0, 1, 100, 1500, 16_384, 16_385, 131_072, 140_000] * 115 + [LARGEST] * 80
        rng.shuffle(bounds)
        data = os.urandom(LARGEST)
        sizes = [rng.randint(bound // 2, bound) for bound in bounds]
        with futures.ThreadPoolExecutor(CONNECTIONS) as threads:
            shares = [sizes[number::CONNECTIONS] for number in range(CONNECTIONS)]
            results = threads.map(lambda share: self.send(share, data), shares)
            self.assertEqual(sum(results), REQUESTS)
        self.assertLessEqual(peer.accepted, CONNECTIONS)
        self.assertIn(f"200:{REQUESTS} ", self.page())

    def send(self, sizes: list[int], data: bytes) -> int:
        """One agent's requests over one connection; returns how many came back as they were sent."""
        agent = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=TIMEOUT)
        same = 0
        for number, size in enumerate(sizes):
            body = data[-size:] if size else b""
            chunked = number % 2 == 1
            sent = cut(body) if chunked else body
            agent.request("POST", f"/{size}", sent, {"Host": HOST}, encode_chunked=chunked)
            answer = agent.getresponse()
            digest = hashlib.sha256(body).hexdigest()
            same += answer.headers["Digest"] == digest == hashlib.sha256(answer.read()).hexdigest()
        agent.close()
        return same


class MemoryTests(Stage):
    """The relay holds no more than its buffers when one side is slow, however much the other has."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_played_peer()
        self.relay = self.start_relay(self.peer.port)
        self.idle = memory(self.relay)

    def test_upload(self) -> None:
        agent = self.connect(self.http_port)
        agent.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        upstream = self.peer.accept()
        read_head(upstream)
        self.assertEqual(self.assert_bounded(agent, upstream, 1 << 30), digest_of(1 << 30))
        upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(read_head(agent), b"HTTP/1.1 204 No Content\r\n\r\n")

    def test_chunked_upload(self) -> None:
        agent = self.connect(self.http_port)
        agent.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (1 << 28))
        upstream = self.peer.accept()
        read_head(upstream)
        self.assert_bounded(agent, upstream, 1 << 28)  # of which a little is framing

    def test_download(self) -> None:
        agent = self.connect(self.http_port)
        agent.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        upstream = self.peer.accept()
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 28))
        read_head(agent)
        self.assertEqual(self.assert_bounded(upstream, agent, 1 << 28), digest_of(1 << 28))

    def test_raw_tcp(self) -> None:
        agent = self.connect(self.tcp_port)
        upstream = self.peer.accept()
        self.assertEqual(self.assert_bounded(agent, upstream, 1 << 28), digest_of(1 << 28))
        self.assertEqual(self.assert_bounded(upstream, agent, 1 << 28), digest_of(1 << 28))

    def assert_bounded(self, sender: socket.socket, receiver: socket.socket, size: int) -> bytes:
        """Send ``size`` bytes; the receiver takes them in bursts, each when nothing has moved for a while.

        Returns the digest of what has arrived.
        """
        digest = hashlib.sha256()
        flow = Flow(sender, size)
        received = stops = 0
        view = memoryview(bytearray(1 << 18))
        with futures.ThreadPoolExecutor() as threads, contextlib.closing(flow):
            sending = threads.submit(flow.send)
            while received < size:
                flow.wait_until_full()
                stops += 1
                self.assertLess(memory(self.relay) - self.idle, BOUND)
                end = min(received + BURST, size)
                while received < end:
                    count = receiver.recv_into(view)
                    self.assertTrue(count, received)
                    received += count
                    digest.update(view[:count])
            sending.result(TIMEOUT)
        self.assertGreaterEqual(stops, size // BURST)
        self.assertLess(memory(self.relay, "VmHWM") - self.idle, BOUND)
        return digest.digest()


def digest_of(size: int) -> bytes:
    """Of what a ``Flow`` of that size sends; a multiple of the block's."""
    digest = hashlib.sha256()
    for _ in range(size // len(BLOCK)):
        digest.update(BLOCK)
    return digest.digest()


class Flow:
    """Sends, and tells when nothing moves any more."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self._sock = sock
        self._left = size
        self._closed = False
        self._full = threading.Event()

    def send(self) -> None:
        """Send everything; runs in a thread of its own."""
        block = memoryview(BLOCK)
        self._sock.settimeout(STALL)
        while self._left and not self._closed:
            try:
                self._left -= self._sock.send(block[-self._left % len(block) :])
            except TimeoutError:
                self._full.set()
        self._sock.settimeout(TIMEOUT)
        self._full.set()

    def close(self) -> None:
        """Let a ``send`` that still runs end."""
        self._closed = True

    def wait_until_full(self) -> None:
        """Return when every buffer on the way is full, or everything has been sent."""
        self._full.clear()
        if self._left and not self._full.wait(TIMEOUT):
            raise TimeoutError("the sender was never stopped")
