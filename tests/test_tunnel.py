"""Tunnels: what a proxy is asked, and what each of its answers means. Real sockets; the test is the proxy."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import __version__
from fipsrelay.errors import MessageError
from fipsrelay.upstream.tunnel import Tunnel, authorization
from fipsrelay.wire.streams import Buffers
from tests.doubles import Reactor
from tests.reactors import relay_reactor
from tests.test_streams import TIMEOUT, connecting, full_server, receive, reset

TARGET = b"intake.example:443"
CANARY = "dead-canary"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
# As proxies say yes, and what else their heads may hold: none of it changes what follows.
YES = (
    OK,
    b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ndate: Tue, 24 Nov 2026 20:00:00 GMT\r\nserver: envoy\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 \r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nTransfer-Encoding: x\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Odd : 1\r\n folded\r\nno colon\r\nX-\xff: \x01\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK,
)
NOT_HTTP = (
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"\r\n\r\n",
    b" HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.2 200 OK\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n",
    b"HTTP/1.1 200\tOK\r\n\r\n",
    b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nSSH-2.0\r\n\r\n",
)


class User:
    """Writes down what it hears.

    Args:
        react: called with the name of each event after it was written down.
    """

    def __init__(self, react: Callable[[str], object] = lambda name: None) -> None:
        self.events: list[str] = []
        self.sock: socket.socket | None = None
        self.refusal: tuple[int, str] | None = None
        self.reason: Exception | None = None
        self._react = react

    @property
    def outcome(self) -> str:
        """The last event, unless that is none of the three ends."""
        return self.events[-1] if self.events and self.events[-1] != "connected" else ""

    def _hear(self, name: str) -> None:
        self.events.append(name)
        self._react(name)

    def tunnel_connected(self) -> None:
        self._hear("connected")

    def tunnel_ready(self, sock: socket.socket) -> None:
        self.sock = sock
        self._hear("ready")

    def tunnel_refused(self, status: int, reason: str) -> None:
        self.refusal = status, reason
        self._hear("refused")

    def tunnel_lost(self, reason: Exception | None) -> None:
        self.reason = reason
        self._hear("lost")


class Tunnels(SynchronousTestCase):
    """A proxy that the test plays, and who wants a tunnel through it."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.buffer = Buffers()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(TIMEOUT)
        self.addCleanup(self.listener.close)
        self.user = User()

    def make(self, sock: socket.socket, credentials: bytes | None = None, reactor: Any = None) -> Tunnel:
        tunnel = Tunnel(sock, reactor or self.reactor, self.buffer, TARGET, credentials, self.user)
        self.addCleanup(tunnel.abort)
        return tunnel

    def begin(self, credentials: bytes | None = None) -> tuple[Tunnel, socket.socket]:
        """A tunnel that has asked, and the proxy's end, which has read what was asked."""
        self.user = User()
        tunnel = self.make(connecting(self.listener), credentials)
        proxy = self.accept()
        tunnel.start()
        self.reactor.run(lambda: self.user.events)
        self.assertEqual(self.user.events, ["connected"])
        self.asked = b""
        while not self.asked.endswith(b"\r\n\r\n"):
            self.asked += receive(proxy, 1)
        return tunnel, proxy

    def accept(self) -> socket.socket:
        proxy, _ = self.listener.accept()
        self.addCleanup(proxy.close)
        proxy.settimeout(TIMEOUT)
        proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return proxy

    def deliver(self, tunnel: Tunnel, proxy: socket.socket, piece: bytes) -> None:
        """Let a piece arrive and be read, before anything else is sent."""
        reading = [tunnel._stream.socket]
        proxy.sendall(piece)
        self.assertTrue(select.select(reading, [], [], TIMEOUT)[0])
        self.reactor.run(lambda: not select.select(reading, [], [], 0)[0])

    def wait(self) -> None:
        """For the outcome; nothing is left in the reactor, and nothing more is said."""
        self.reactor.run(lambda: self.user.outcome)
        self.assert_over()

    def assert_over(self) -> None:
        self.reactor.turn()
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        self.assertLessEqual(len(self.user.events), 2)

    def answer(self, data: bytes, close: Callable[[socket.socket], object] = lambda proxy: None) -> socket.socket:
        """What comes of an answer; returns the proxy's end."""
        _, proxy = self.begin()
        proxy.sendall(data)
        close(proxy)
        self.wait()
        return proxy

    def assert_closed(self, proxy: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):  # where something had not been read
            self.assertEqual(proxy.recv(1), b"")

    def taken(self) -> socket.socket:
        """The socket that was handed over."""
        sock = self.user.sock
        assert sock is not None, self.user.reason
        self.addCleanup(sock.close)
        return sock

    def assert_broken(self, words: str, code: str = "bad-head") -> None:
        self.assertEqual(self.user.outcome, "lost")
        assert isinstance(self.user.reason, MessageError), self.user.reason
        self.assertEqual(self.user.reason.code, code)
        self.assertIn(words, str(self.user.reason))


class RequestTests(Tunnels):
    def test_request(self) -> None:
        self.begin()
        version = __version__.encode()
        self.assertEqual(
            self.asked,
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: fipsrelay/%b\r\n\r\n" % (TARGET, TARGET, version),
        )

    def test_credentials(self) -> None:
        self.begin(b"Basic abc")
        self.assertIn(b"\r\nProxy-Authorization: Basic abc\r\n", self.asked)

    def test_authorization(self) -> None:
        """The examples of RFC 7617, and a password with colons."""
        for user, password, value in (
            ("Aladdin", "open sesame", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123\u00a3", b"Basic dGVzdDoxMjPCow=="),
            ("a", ":b:", b"Basic YTo6Yjo="),
        ):
            self.assertEqual(authorization(user, password), value)


class ReadyTests(Tunnels):
    def test_every_yes(self) -> None:
        for head in YES:
            proxy = self.answer(head)
            self.assertEqual(self.user.outcome, "ready", head)
            self.taken().sendall(b"hello")
            self.assertEqual(receive(proxy, 5), b"hello")

    def test_socket(self) -> None:
        """It is the one that was given, carries both ways, does not block, and is the tunnel's no more."""
        tunnel, proxy = self.begin()
        proxy.sendall(OK)
        self.wait()
        tunnel.abort()
        sock = self.taken()
        self.assertEqual((sock.getpeername(), sock.gettimeout()), (self.listener.getsockname(), 0))
        proxy.sendall(b"later")
        self.assertTrue(select.select([sock], [], [], TIMEOUT)[0])
        self.assertEqual(receive(sock, 5), b"later")

    def test_proxy_closes_afterwards(self) -> None:
        """That is for who has the socket then."""
        self.answer(OK, lambda proxy: proxy.close())
        sock = self.taken()
        sock.settimeout(TIMEOUT)
        self.assertEqual(sock.recv(1), b"")

    def test_bytes_after_the_head(self) -> None:
        """A TLS server is silent until it has a ClientHello, so they are an intruder's."""
        for more in (b"x", b"\x15\x03\x03\x00\x02\x02\x28", b"\r\n", OK):
            for head in (OK, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(more)):
                proxy = self.answer(head + more)
                self.assert_broken("bytes follow its head")
                self.assert_closed(proxy)


class RefusedTests(Tunnels):
    def test_statuses(self) -> None:
        for head, refusal in (
            (DENIED, (403, "Forbidden")),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", (407, "Proxy Authentication Required")),
            (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", (503, "Service Unavailable")),
            (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", (302, "Found")),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + DENIED, (403, "Forbidden")),
            (b"HTTP/1.1 999 No\r\n\r\n", (999, "No")),
            (b"HTTP/1.1 502\r\n\r\n", (502, "")),
        ):
            self.answer(head)
            self.assertEqual((self.user.outcome, self.user.refusal), ("refused", refusal))

    def test_page(self) -> None:
        """A large body does not matter; the connection is closed."""
        proxy = self.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 90000\r\n\r\n" + bytes(90_000))
        self.assertEqual(self.user.refusal, (403, "Forbidden"))
        self.assert_closed(proxy)

    def test_phrases(self) -> None:
        """They go into logs and answers: one short line of printable ASCII."""
        for phrase, reason in (
            (b"  spaces  ", "spaces"),
            (b"\x1b[31mred\x1b[0m", "?[31mred?[0m"),
            ("für\x7f\t\x00".encode(), "f??r???"),
            (b"x" * 1000, "x" * 60),
        ):
            self.answer(b"HTTP/1.1 403 %b\r\n\r\n" % phrase)
            self.assertEqual(self.user.refusal, (403, reason))

    def test_early(self) -> None:
        """A proxy may say no without reading all of the request, and close; a yes would be to something else."""
        for head in (DENIED, OK):
            reactor = relay_reactor(self.addCleanup)
            self.user = User()
            self.make(connecting(self.listener), bytes(10_000_000), reactor).start()
            proxy = self.accept()
            proxy.sendall(head)
            reset(proxy)
            for _ in range(100):
                if not self.user.events:
                    reactor.doPoll(0.1)
            if head == DENIED:
                self.assertEqual((self.user.events, self.user.refusal), (["refused"], (403, "Forbidden")))
            else:
                self.assertEqual(self.user.events, ["lost"])
                self.assert_broken("it came before the whole request was out")
            self.assertEqual((reactor.getReaders(), reactor.getWriters()), ([*reactor._internalReaders], []))


class LostTests(Tunnels):
    def test_not_http(self) -> None:
        for head in NOT_HTTP:
            self.answer(head)
            self.assert_broken("it is not HTTP/1.1")

    def test_too_large(self) -> None:
        fits = b"HTTP/1.1 200 OK\r\nX: ".ljust(16_380, b"x") + b"\r\n\r\n"
        self.answer(fits)
        self.assertEqual(self.user.outcome, "ready")
        self.taken()
        for larger in (fits.replace(b"X", b"XX"), fits.replace(b"\r\n\r\n", b"xxxx")):
            self.answer(larger)
            self.assert_broken("larger than 16384 bytes", "head-too-large")

    def test_closes(self) -> None:
        self.answer(b"", lambda proxy: proxy.close())
        self.assertEqual((self.user.events, self.user.reason), (["connected", "lost"], None))

    def test_closes_within_the_head(self) -> None:
        """As a TLS server does, with an alert."""
        for data in (b"\x15\x03\x01\x00\x02\x02\x46", OK[:-1]):
            self.answer(data, lambda proxy: proxy.close())
            self.assert_broken("it ends within its head")

    def test_closes_after_an_interim_answer(self) -> None:
        self.answer(b"HTTP/1.1 100 Continue\r\n\r\n", lambda proxy: proxy.close())
        self.assertEqual((self.user.outcome, self.user.reason), ("lost", None))

    def test_resets(self) -> None:
        self.answer(OK[:-1], reset)
        self.assert_error(errno.ECONNRESET)

    def test_refuses(self) -> None:
        self.listener.close()
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.1", 0))
        self.make(connecting(nobody)).start()
        self.wait()
        self.assertEqual(self.user.events, ["lost"])
        self.assert_error(errno.ECONNREFUSED)

    def test_refuses_later(self) -> None:
        listener, first = full_server()
        self.addCleanup(first.close)
        self.make(connecting(listener)).start()
        self.assertEqual(self.user.events, [])
        listener.close()
        self.wait()
        self.assertEqual(self.user.events, ["lost"])
        self.assert_error(errno.ECONNREFUSED)

    def assert_error(self, number: int) -> None:
        assert isinstance(self.user.reason, OSError)
        self.assertEqual((self.user.outcome, self.user.reason.errno), ("lost", number))

    def test_no_credentials_in_any_text(self) -> None:
        credentials = authorization("relay", CANARY)
        secrets = (CANARY, credentials.decode(), credentials.decode().partition(" ")[2])
        ends = [
            *((head, None) for head in NOT_HTTP),
            (bytes(20_000), None),
            (OK + b"x", None),
            (OK[:-1], reset),
            (b"", reset),
        ]
        for data, close in ends:
            tunnel, proxy = self.begin(credentials)
            proxy.sendall(data)
            (close or socket.socket.close)(proxy)
            self.wait()
            texts = [repr(tunnel), str(tunnel), repr(tunnel._stream), repr(self.user.refusal)]
            if self.user.reason is not None:
                texts += [repr(self.user.reason), *traceback.format_exception(self.user.reason)]
            for secret in secrets:
                self.assertNotIn(secret, "".join(texts))


class AbortTests(Tunnels):
    """Nothing is said afterwards, and the proxy sees the end."""

    def assert_aborted(self, proxy: socket.socket, events: list[str]) -> None:
        self.assertEqual(proxy.recv(1), b"")
        self.assert_over()
        self.assertEqual(self.user.events, events)

    def test_before_it_begins(self) -> None:
        tunnel = self.make(connecting(self.listener))
        proxy = self.accept()
        tunnel.abort()
        self.assert_aborted(proxy, [])

    def test_while_connecting(self) -> None:
        listener, first = full_server()
        self.addCleanup(listener.close)
        self.addCleanup(first.close)
        tunnel = self.make(connecting(listener))
        tunnel.start()
        tunnel.abort()
        self.assert_over()
        self.assertEqual(self.user.events, [])

    def test_in_the_first_callback(self) -> None:
        tunnel = self.make(connecting(self.listener))
        self.user._react = lambda name: tunnel.abort()
        proxy = self.accept()
        tunnel.start()
        self.reactor.run(lambda: self.user.events)
        while proxy.recv(1000):
            pass
        self.assert_aborted(proxy, ["connected"])

    def test_while_waiting(self) -> None:
        for data in (b"", OK[:-1], b"HTTP/1.1 100 Continue\r\n\r\n"):
            tunnel, proxy = self.begin()
            if data:
                self.deliver(tunnel, proxy, data)
            tunnel.abort()
            self.assert_aborted(proxy, ["connected"])

    def test_at_the_end(self) -> None:
        """It changes nothing."""
        for data, outcome in ((OK, "ready"), (DENIED, "refused"), (NOT_HTTP[0], "lost")):
            tunnel, proxy = self.begin()
            self.user._react = lambda name, tunnel=tunnel: tunnel.abort()  # type: ignore[misc]
            proxy.sendall(data)
            self.wait()
            self.assertEqual(self.user.events, ["connected", outcome])
            if outcome == "ready":
                self.taken().sendall(b"hello")
                self.assertEqual(receive(proxy, 5), b"hello")


class ChunkTests(Tunnels):
    def test_two_pieces(self) -> None:
        """Cut anywhere, over the network."""
        for data, wanted in ((YES[-2], "ready"), (DENIED, "refused"), (NOT_HTTP[-1], "lost")):
            for cut in range(1, len(data)):
                tunnel, proxy = self.begin()
                self.deliver(tunnel, proxy, data[:cut])
                self.assertEqual(self.user.outcome, "")
                proxy.sendall(data[cut:])
                self.wait()
                self.assertEqual(self.user.outcome, wanted, (data, cut))
                if wanted == "ready":
                    self.taken().close()

    @given(
        st.lists(
            st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\n"]), max_size=3
        ),
        st.sampled_from([*YES, *NOT_HTTP, DENIED, b"HTTP/1.1 407 Who?\r\n\r\n", bytes(17_000)]),
        st.sampled_from([b"", b"x", b"\r\n\r\n", b"\x16\x03\x03"]),
        st.lists(st.integers(1, 200), max_size=8),
    )
    @settings(derandomize=True, database=None, deadline=None, max_examples=300)
    def test_any_pieces(self, interim: list[bytes], final: bytes, more: bytes, cuts: list[int]) -> None:
        """One end, and the same as in one piece; what comes in a later piece than a yes is the target's."""
        answer = b"".join(interim) + final
        data = answer + more
        ends = sorted({cut for cut in cuts if cut < len(data)} | {len(data)})
        pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        whole = answer if final in YES and len(answer) in ends else data
        self.assertEqual(self.fed(pieces), self.fed([whole]))

    def fed(self, pieces: list[bytes]) -> object:
        """What comes of pieces that arrive one by one."""
        ours, theirs = socket.socketpair()
        self.user = User()
        tunnel = Tunnel(ours, self.reactor, self.buffer, TARGET, None, self.user)
        with theirs:
            tunnel.start()
            for piece in pieces:
                if not self.user.outcome:
                    tunnel.stream_data(memoryview(piece))
            if self.user.sock is not None:
                self.user.sock.close()
            self.assertNotEqual(self.user.outcome, "")
            self.assert_over()
            return self.user.events, self.user.refusal, repr(self.user.reason)
