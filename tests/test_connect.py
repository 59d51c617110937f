"""Attempts: what each step's failure is called, and which address is tried next. Real sockets and handshakes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from fipsrelay.config.model import Timeouts, Tls, Upstream
from fipsrelay.crypto import context
from fipsrelay.demo import certificates
from fipsrelay.errors import UpstreamError
from fipsrelay.upstream.connect import Attempt, Means, describe
from fipsrelay.upstream.names import Names
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import ReadBuffer
from fipsrelay.wire.tls import TlsStream
from tests.doubles import Reactor
from tests.folders import Folders
from tests.test_resolve import Resolver
from tests.test_streams import reset
from tests.test_tls import Peer

HOST = "intake.example"


class Caller:
    """Who asked: what came of it."""

    def __init__(self) -> None:
        self.stream: TlsStream | None = None
        self.error: UpstreamError | None = None
        self.calls = 0

    def connected(self, stream: TlsStream) -> None:
        self.stream = stream
        self.calls += 1

    def refused(self, error: UpstreamError) -> None:
        self.error = error
        self.calls += 1


class Attempts(Folders):
    """A listener that may be reached, its context, and means to reach it.

    Attributes:
        peers: accepted so far.
    """

    def setUp(self) -> None:
        self.place = self.folder()
        self.paths = certificates.write(self.place, [HOST])
        self.reactor = Reactor()
        self.resolver: Any = Resolver()
        self.reactor.nameResolver = self.resolver  # type: ignore[attr-defined]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.peers: list[Peer] = []
        self.server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.caller = Caller()

    def start(
        self, *addresses: str, host: str = HOST, tls_context: SSL.Context | None = None, minimum_version: str = "1.2"
    ) -> Attempt:
        self.deadlines = Deadlines(self.reactor, 0.5)
        self.deadlines.start()
        self.server_context.use_certificate_chain_file(str(self.paths.certificate))
        self.server_context.use_privatekey_file(str(self.paths.key))
        tls = Tls(str(self.paths.authority), minimum_version)
        tls_context = tls_context or context.build(tls)
        names = Names(self.reactor, 30, lambda: 0.5)
        means = Means(self.reactor, ReadBuffer(), self.deadlines, tls_context, tls, Timeouts(), names)
        attempt = Attempt(Upstream("up", host, self.port, addresses), means, self.caller)
        attempt.start()
        return attempt

    def play(self, until: Callable[[], object] | None = None, shake: bool = True) -> None:
        """Accept and shake hands until the caller hears something."""

        def step() -> None:
            try:
                raw, _ = self.listener.accept()
            except BlockingIOError:
                pass
            else:
                self.addCleanup(raw.close)
                self.peers.append(Peer(raw, self.server_context))
            if shake:
                for peer in self.peers:
                    peer.shake()

        self.reactor.run(until or (lambda: self.caller.calls), step)

    def assert_refused(self, code: str, status: int, step: str, *, address: str = "127.0.0.1") -> str:
        """Returns the detail. Nothing is left open or watched."""
        error = self.caller.error
        assert error is not None
        self.assertEqual((error.code, error.status, error.step), (code, status, step), error)
        self.assertEqual((error.upstream, error.address), ("up", f"{address}:{self.port}"))
        self.assert_nothing_left()
        return error.detail

    def assert_nothing_left(self) -> None:
        calls = self.caller.calls
        self.reactor.pump([0.5] * 100)
        self.assertEqual((self.caller.calls, self.reactor.readers, self.reactor.writers), (calls, set(), set()))
        self.assertEqual(self.deadlines._watched, set())

    def free_port(self) -> None:
        self.listener.close()


class GoodTests(Attempts):
    def test_addresses(self) -> None:
        """Configured ones replace DNS."""
        self.start("127.0.0.1")
        self.play()
        stream = self.caller.stream
        assert stream is not None
        self.addCleanup(stream.abort)
        self.assertTrue(stream.is_open)
        self.assertEqual((stream.reading, stream.user, self.resolver.asked), (False, None, []))
        self.assertEqual(self.peers[0].connection.get_servername(), HOST.encode())
        self.assert_nothing_left()
        self.assertTrue(stream.is_open)

    def test_resolved(self) -> None:
        self.start()
        receiver, host = self.resolver.asked[0]
        self.assertEqual(host, HOST)
        receiver.addresses.append("127.0.0.1")
        receiver.resolutionComplete()
        self.play()
        assert self.caller.stream is not None
        self.caller.stream.abort()

    def test_next_address(self) -> None:
        """Whatever was wrong with the one before."""
        self.start("127.0.0.3", "::1", "127.0.0.1")
        self.play()
        assert self.caller.stream is not None
        self.assertEqual(self.caller.stream.socket.getpeername(), ("127.0.0.1", self.port))
        self.caller.stream.abort()

    def test_next_address_after_a_failed_handshake(self) -> None:
        attempt = self.start("127.0.0.1", "127.0.0.1")
        self.play(lambda: self.peers and attempt._step == "handshake", shake=False)
        reset(self.peers.pop().raw)
        self.play()
        assert self.caller.stream is not None
        self.caller.stream.abort()


class RefusedTests(Attempts):
    def test_no_address(self) -> None:
        self.start()
        self.resolver.asked[0][0].resolutionComplete()
        self.assertIn("has no address (DNS)", self.assert_refused("resolve", 503, "resolve", address=HOST))

    def test_resolver_is_silent(self) -> None:
        self.start()
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.caller.calls, 0)
        self.reactor.pump([0.5] * 2)
        self.assert_refused("resolve", 503, "resolve", address=HOST)
        self.resolver.asked[0][0].addresses.append("127.0.0.1")
        self.resolver.asked[0][0].resolutionComplete()
        self.assert_nothing_left()

    def test_refused(self) -> None:
        self.free_port()
        self.start("127.0.0.1")
        self.reactor.run(lambda: self.caller.calls)
        detail = self.assert_refused("connect-refused", 503, "connect")
        self.assertEqual(detail, 'Layer4 connection problem, info: "Connection refused"')

    def test_unreachable(self) -> None:
        """Refused by the kernel before anything is sent."""
        self.start("255.255.255.255")
        self.reactor.run(lambda: self.caller.calls)
        self.assert_refused("connect", 503, "connect", address="255.255.255.255")

    def test_the_last_address_is_named(self) -> None:
        self.free_port()
        self.start("127.0.0.1", "::1")
        self.reactor.run(lambda: self.caller.calls)
        assert self.caller.error is not None
        self.assertEqual(self.caller.error.address, f"[::1]:{self.port}")

    def test_nobody_accepts(self) -> None:
        """A full queue: SYNs are dropped."""
        silent = socket.socket()
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        self.port = silent.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        self.start("127.0.0.1")
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.caller.calls, 0)
        self.reactor.pump([0.5] * 2)
        detail = self.assert_refused("connect-timeout", 503, "connect")
        self.assertEqual(detail, "Layer4 timeout, check duration: 5000ms")

    def test_silent_in_the_handshake(self) -> None:
        """The connection is up; the time begins anew."""
        attempt = self.start("127.0.0.1")
        self.reactor.pump([0.5] * 8)
        self.play(lambda: self.peers and attempt._step == "handshake", shake=False)
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.caller.calls, 0)
        self.reactor.pump([0.5] * 2)
        self.assert_refused("tls-timeout", 502, "handshake")

    def test_no_tls(self) -> None:
        self.start("127.0.0.1")
        self.play(lambda: self.peers, shake=False)
        self.peers[0].raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.reactor.run(lambda: self.caller.calls)
        self.assertIn("Layer6 invalid response: ", self.assert_refused("tls", 502, "handshake"))

    def test_peer_closes(self) -> None:
        attempt = self.start("127.0.0.1")
        self.play(lambda: self.peers and attempt._step == "handshake", shake=False)
        reset(self.peers[0].raw)
        self.reactor.run(lambda: self.caller.calls)
        self.assertIn("the connection was closed", self.assert_refused("tls", 502, "handshake"))

    def test_nothing_in_common(self) -> None:
        self.server_context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.start("127.0.0.1", minimum_version="1.3")
        self.play()
        self.assert_refused("tls", 502, "handshake")

    def test_certificate(self) -> None:
        self.paths = certificates.write(self.place, [HOST], expired=True)
        self.start("127.0.0.1")
        self.play()
        self.assertIn("certificate has expired", self.assert_refused("certificate", 502, "handshake"))

    def test_identity(self) -> None:
        self.start("127.0.0.1", host="other.example")
        self.play()
        detail = self.assert_refused("identity", 502, "identity")
        self.assertEqual(detail, "the certificate is not valid for other.example")

    def test_policy(self) -> None:
        """What a context that is too lax has negotiated."""
        lax = SSL.Context(SSL.TLS_CLIENT_METHOD)
        lax.set_tls13_ciphersuites(b"TLS_CHACHA20_POLY1305_SHA256")
        lax.load_verify_locations(str(self.paths.authority))
        lax.set_verify(SSL.VERIFY_PEER)
        self.start("127.0.0.1", tls_context=lax)
        self.play()
        detail = self.assert_refused("policy", 502, "policy")
        self.assertIn("suite TLS_CHACHA20_POLY1305_SHA256 is not approved", detail)
        self.peers[0].read()
        self.assertEqual(self.peers[0].data, b"")


class CancelTests(Attempts):
    def test_while_resolving(self) -> None:
        self.start().cancel()
        receiver, _ = self.resolver.asked[0]
        receiver.addresses.append("127.0.0.1")
        receiver.resolutionComplete()
        self.assert_nothing_left()
        self.assertEqual(self.caller.calls, 0)

    def test_while_connecting(self) -> None:
        self.start("127.0.0.1", "127.0.0.1").cancel()
        self.assert_nothing_left()
        self.assertEqual(self.caller.calls, 0)

    def test_in_the_handshake(self) -> None:
        attempt = self.start("127.0.0.1", "127.0.0.1")
        self.play(lambda: self.peers and attempt._step == "handshake", shake=False)
        attempt.cancel()
        self.assert_nothing_left()
        self.peers[0].raw.setblocking(True)
        self.peers[0].raw.settimeout(10)
        while self.peers[0].raw.recv(1000):
            pass
        self.assertEqual(self.caller.calls, 0)

    def test_afterwards(self) -> None:
        attempt = self.start("127.0.0.1")
        self.play()
        attempt.cancel()
        assert self.caller.stream is not None
        self.assertTrue(self.caller.stream.is_open)
        self.caller.stream.abort()


class WordTests(Folders):
    def test_describe(self) -> None:
        for reason, text in (
            (None, "the connection was closed"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "the connection was closed"),
            (SSL.Error([("a", "b", "first"), ("a", "b", "second")]), "first; second"),
            (SSL.Error(), "Error"),
            (OSError(111, "x"), "Connection refused"),
            (OSError("x"), "OSError"),
        ):
            self.assertEqual(describe(reason), text)
