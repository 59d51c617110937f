"""Attempts: what each step's failure is called, and what is left behind. Real sockets and handshakes."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from twisted.internet.defer import Deferred

from fipsrelay.config.model import Timeouts, Tls
from fipsrelay.crypto import context
from fipsrelay.crypto.policy import SP800_52, demanded
from fipsrelay.demo import certificates
from fipsrelay.errors import MessageError, UpstreamError
from fipsrelay.upstream.connect import Attempt, Gateway, Means, Place, describe
from fipsrelay.upstream.names import Names
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import Buffers, label
from fipsrelay.wire.tls import TlsStream
from tests.doubles import Reactor
from tests.folders import Folders
from tests.misshapen import of_version_4
from tests.test_streams import reset
from tests.test_tls import Peer

HOST = "intake.example"


class User:
    """Who wants a connection: what came of it.

    Attributes:
        heard: ``reached``, ``ready`` and ``failed`` in order.
        react: called with each of them after it was written down.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.react: Callable[[str], object] = lambda name: None
        self.stream: TlsStream | None = None
        self.error: UpstreamError | None = None

    @property
    def is_done(self) -> bool:
        return self.heard[-1:] not in ([], ["reached"])

    def _hear(self, name: str) -> None:
        self.heard.append(name)
        self.react(name)

    def attempt_reached(self, attempt: Attempt) -> None:
        self._hear("reached")

    def attempt_ready(self, attempt: Attempt, stream: TlsStream) -> None:
        self.stream = stream
        self._hear("ready")

    def attempt_failed(self, attempt: Attempt, error: UpstreamError) -> None:
        self.error = error
        self._hear("failed")


class Attempts(Folders):
    """A listener that may be reached, its context, and means to reach it.

    Attributes:
        peers: accepted so far.
        questions: that DNS was asked.
        gateway: what attempts go through, if anything.
        pins, policy: of attempts.
    """

    def setUp(self) -> None:
        self.place = self.folder()
        self.paths = certificates.write(self.place, [HOST])
        self.reactor = Reactor()
        self.deadlines = Deadlines(self.reactor, 0.5)
        self.deadlines.start()
        self.questions: list[Deferred[tuple[str, ...]]] = []
        self.names = Names(self.reactor, self.resolve, 30, lambda: 0.5)
        self.listeners: list[socket.socket] = []
        self.listener = self.listen("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.peers: list[Peer] = []
        self.server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.gateway: Gateway | None = None
        self.pins: frozenset[str] = frozenset()
        self.policy = SP800_52
        self.user = User()

    def listen(self, address: str, port: int) -> socket.socket:
        listener = socket.create_server((address, port))
        self.addCleanup(listener.close)
        listener.setblocking(False)
        self.listeners.append(listener)
        return listener

    def resolve(self, host: str) -> Deferred[tuple[str, ...]]:
        self.questions.append(Deferred())
        return self.questions[-1]

    def means(self, tls_context: SSL.Context | None = None) -> Means:
        self.server_context.use_certificate_chain_file(str(self.paths.certificate))
        self.server_context.use_privatekey_file(str(self.paths.key))
        tls_context = tls_context or context.build(str(self.paths.authority), self.policy)
        return Means(self.reactor, Buffers(), self.deadlines, tls_context, self.policy, Timeouts(), self.names)

    def start(
        self,
        address: str = "127.0.0.1",
        host: str = HOST,
        tls_context: SSL.Context | None = None,
    ) -> Attempt:
        place = Place(host, self.port, address, self.gateway, self.pins)
        attempt = self.means(tls_context).attempt(place, "up", self.user)
        attempt.start()
        return attempt

    def accept(self) -> None:
        """A step of the other end."""
        for listener in self.listeners:
            with contextlib.suppress(BlockingIOError):
                raw, _ = listener.accept()
                self.addCleanup(raw.close)
                self.peers.append(Peer(raw, self.server_context))

    def play(self, until: Callable[[], object] | None = None) -> None:
        """Accept and shake hands until the user hears an outcome."""

        def step() -> None:
            self.accept()
            for peer in self.peers:
                peer.shake()

        self.reactor.run(until or (lambda: self.user.is_done), step)

    def reach(self) -> Peer:
        """Up to the handshake, in which the peer stays silent."""
        self.reactor.run(lambda: self.peers and "reached" in self.user.heard, self.accept)
        return self.peers[-1]

    def ready(self) -> TlsStream:
        """What came of it; closed when the test ends."""
        assert self.user.stream is not None
        self.addCleanup(self.user.stream.abort)
        return self.user.stream

    def assert_failed(self, code: str, status: int, step: str, *, address: str = "127.0.0.1") -> str:
        """Returns the detail. Nothing is left open or watched."""
        error = self.user.error
        assert error is not None
        self.assertEqual((error.code, error.status, error.step), (code, status, step), error)
        self.assertEqual((error.upstream, error.address), ("up", label(address, self.port)))
        self.assert_nothing_left()
        return error.detail

    def assert_nothing_left(self) -> None:
        self.assertEqual(self.deadlines._watched, set())
        heard = list(self.user.heard)
        self.reactor.pump([0.5] * 100)
        self.assertEqual((self.user.heard, self.reactor.readers, self.reactor.writers), (heard, set(), set()))


class GoodTests(Attempts):
    def test_ready(self) -> None:
        self.reactor.advance(7)
        attempt = self.start()
        self.play()
        stream = self.ready()
        self.assertEqual((self.user.heard, self.questions, attempt.began), (["reached", "ready"], [], 7))
        assert attempt.facts is not None
        self.assertEqual(attempt.facts.parameters, ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "P-256"))
        pem = self.paths.certificate.read_bytes()
        digest = x509.load_pem_x509_certificates(pem)[0].fingerprint(hashes.SHA256()).hex()
        self.assertEqual(attempt.facts.chain[0].sha256, digest)
        self.assertEqual((stream.is_open, stream.reading, stream.user), (True, False, None))
        self.assertEqual(stream.socket.getpeername(), ("127.0.0.1", self.port))
        self.assertTrue(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertEqual(self.peers[0].connection.get_servername(), HOST.encode())
        self.assert_nothing_left()
        self.assertTrue(stream.is_open)

    def test_reached(self) -> None:
        """Before anything of TLS is exchanged."""
        self.start()
        self.reach()
        self.assertEqual(self.user.heard, ["reached"])
        self.play()
        self.ready()


class FailedTests(Attempts):
    def test_refused(self) -> None:
        self.listener.close()
        self.start()
        self.reactor.run(lambda: self.user.is_done)
        detail = self.assert_failed("connect-refused", 503, "connect")
        self.assertEqual(detail, 'Layer4 connection problem, info: "Connection refused"')

    def test_ipv6(self) -> None:
        """A host without IPv6 says so at once; that is another failure."""
        self.listener.close()
        self.start("::1")
        self.reactor.run(lambda: self.user.is_done)
        assert self.user.error is not None
        self.assertIn(self.user.error.code, ("connect-refused", "connect"))
        self.assert_failed(self.user.error.code, 503, "connect", address="::1")

    def test_unreachable(self) -> None:
        """Refused by the kernel before anything is sent; the user hears before ``start`` returns."""
        self.start("255.255.255.255")
        self.assertEqual(self.user.heard, ["failed"])
        self.assert_failed("connect", 503, "connect", address="255.255.255.255")

    def test_no_descriptor(self) -> None:
        """Not the server's fault."""
        means = self.means()
        spare = socket.socket()
        number = spare.fileno()
        spare.close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        try:
            means.attempt(Place(HOST, self.port, "127.0.0.1"), "up", self.user).start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual(self.assert_failed("local", 503, "connect"), "no socket: Too many open files")

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
        self.start()
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.user.heard, [])
        self.reactor.pump([0.5] * 2)
        self.assertEqual(self.assert_failed("connect-timeout", 503, "connect"), "Layer4 timeout")

    def test_silent_in_the_handshake(self) -> None:
        """The connection is up; the time begins anew."""
        self.start()
        self.reactor.pump([0.5] * 8)
        self.reach()
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.user.heard, ["reached"])
        self.reactor.pump([0.5] * 2)
        self.assertEqual(self.assert_failed("tls-timeout", 502, "handshake"), "Layer6 timeout")

    def test_no_tls(self) -> None:
        self.start()
        self.reach().raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.reactor.run(lambda: self.user.is_done)
        self.assertIn('Layer6 invalid response, info: "', self.assert_failed("tls", 502, "handshake"))

    def test_peer_closes(self) -> None:
        self.start()
        reset(self.reach().raw)
        self.reactor.run(lambda: self.user.is_done)
        detail = self.assert_failed("tls", 502, "handshake")
        self.assertEqual(detail, 'Layer6 invalid response, info: "the connection was closed"')

    def test_nothing_in_common(self) -> None:
        self.server_context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.policy = demanded(Tls(minimum_version="1.3"))
        self.start()
        self.play()
        self.assert_failed("tls", 502, "handshake")

    def test_certificate(self) -> None:
        self.paths = certificates.write(self.place, [HOST], expired=True)
        self.start()
        self.play()
        detail = self.assert_failed("certificate", 502, "handshake")
        self.assertEqual(detail, 'Layer6 invalid response, info: "certificate refused, certificate has expired"')

    def test_identity(self) -> None:
        self.start(host="other.example")
        self.play()
        detail = self.assert_failed("identity", 502, "identity")
        self.assertEqual(detail, 'Layer6 invalid response, info: "the certificate is not valid for other.example"')

    def test_certificate_that_cannot_be_read(self) -> None:
        """OpenSSL finds nothing wrong with version 4, which is written as 3; cryptography does not take it."""
        paths = certificates.write(self.place, [HOST], self_signed=True)
        self.paths = attrs.evolve(paths, authority=paths.certificate)
        of_version_4(paths)
        self.start()
        self.play()
        detail = self.assert_failed("certificate", 502, "handshake")
        words = "certificate cannot be read: 3 is not a valid X509 version"
        self.assertEqual(detail, f'Layer6 invalid response, info: "{words}"')

    def test_policy(self) -> None:
        """What a context that is too lax has negotiated."""
        lax = SSL.Context(SSL.TLS_CLIENT_METHOD)
        lax.set_tls13_ciphersuites(b"TLS_CHACHA20_POLY1305_SHA256")
        lax.load_verify_locations(str(self.paths.authority))
        lax.set_verify(SSL.VERIFY_PEER)
        self.start(tls_context=lax)
        self.play()
        detail = self.assert_failed("policy", 502, "policy")
        self.assertIn("suite TLS_CHACHA20_POLY1305_SHA256 is not approved", detail)
        self.peers[0].read()
        self.assertEqual(self.peers[0].data, b"")


class PinTests(Attempts):
    def pin(self, certificate: Path) -> str:
        """By openssl, as the handbooks do it."""
        der = ["openssl", "pkey", "-pubin", "-outform", "DER"]
        key = subprocess.run(
            ["openssl", "x509", "-in", str(certificate), "-noout", "-pubkey"], check=True, capture_output=True
        )
        return hashlib.sha256(subprocess.run(der, input=key.stdout, check=True, capture_output=True).stdout).hexdigest()

    def test_of_the_server(self) -> None:
        self.pins = frozenset({self.pin(self.paths.certificate)})
        self.start()
        self.play()
        self.ready()

    def test_of_the_issuer(self) -> None:
        self.pins = frozenset({"0" * 64, self.pin(self.paths.authority)})
        self.start()
        self.play()
        self.ready()

    def test_of_another(self) -> None:
        self.pins = frozenset({"0" * 64})
        self.start()
        self.play()
        detail = self.assert_failed("pin", 502, "policy")
        keys = f"{self.pin(self.paths.certificate)}, {self.pin(self.paths.authority)}"
        self.assertEqual(detail, f'Layer6 invalid response, info: "no pinned key in the chain, which has {keys}"')


class CancelTests(Attempts):
    """Who cancels hears nothing more, and the peer sees the end."""

    def assert_ended(self, peer: Peer) -> bytes:
        """Returns what the peer got before the end."""
        self.assert_nothing_left()
        peer.raw.settimeout(10)
        got = b""
        while piece := peer.raw.recv(65536):
            got += piece
        return got

    def test_while_connecting(self) -> None:
        self.start().cancel()
        self.assert_nothing_left()
        self.assertEqual(self.user.heard, [])
        self.reactor.run(lambda: self.peers, self.accept)
        self.assertEqual(self.assert_ended(self.peers[0]), b"")

    def test_when_it_is_reached(self) -> None:
        """Its socket's number may belong to another connection a moment later; nothing may be sent there."""
        attempt = self.start()
        others: list[socket.socket] = []

        def cancel(name: str) -> None:
            attempt.cancel()
            others.extend(socket.socketpair())
            for other in others:
                self.addCleanup(other.close)
                other.setblocking(False)

        self.user.react = cancel
        peer = self.reach()
        for other in others:
            with self.assertRaises(BlockingIOError):
                self.fail(f"{other.recv(100)!r} arrived")
        self.assertEqual(self.assert_ended(peer), b"")
        self.assertEqual(self.user.heard, ["reached"])

    def test_in_the_handshake(self) -> None:
        attempt = self.start()
        peer = self.reach()
        attempt.cancel()
        attempt.cancel()
        self.assertNotEqual(self.assert_ended(peer), b"")
        self.assertEqual(self.user.heard, ["reached"])

    def test_afterwards(self) -> None:
        """What has been handed over stays."""
        attempt = self.start()
        self.user.react = lambda name: attempt.cancel() if name == "ready" else None
        self.play()
        attempt.cancel()
        self.assertTrue(self.ready().is_open)


class WordTests(Folders):
    def test_describe(self) -> None:
        for reason, text in (
            (None, "the connection was closed"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "the connection was closed"),
            (SSL.Error([("a", "b", "first"), ("a", "b", "second")]), "first; second"),
            (SSL.Error(), "Error"),
            (OSError(111, "x"), "Connection refused"),
            (OSError("x"), "OSError"),
            (MessageError("bad-head", 400, "what it says"), "what it says"),
        ):
            self.assertEqual(describe(reason), text)

    def test_names_of_places(self) -> None:
        gateway = Gateway("2001:db8::9", 3128, b"Basic c2VjcmV0")
        self.assertEqual(str(gateway), "[2001:db8::9]:3128")
        self.assertEqual(str(Place(HOST, 443, "192.0.2.1", gateway)), "192.0.2.1:443")
        self.assertEqual(str(Place(HOST, 443, "2001:db8::1")), "[2001:db8::1]:443")

    def test_credentials_are_not_shown(self) -> None:
        place = Place(HOST, 443, HOST, Gateway("proxy.example", 3128, b"Basic c2VjcmV0"))
        self.assertNotIn("c2VjcmV0", repr(place))
