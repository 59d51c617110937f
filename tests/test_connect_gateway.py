"""Attempts through a forward proxy: TLS is end to end, and the proxy's failures are told apart from a server's."""

from __future__ import annotations

from fipsrelay.demo import certificates
from fipsrelay.upstream.connect import Attempt, Gateway
from fipsrelay.wire.tls import TlsStream
from tests.test_connect import HOST, Attempts
from tests.test_streams import reset
from tests.test_tls import Peer

PROXY = "proxy.example"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class GatewayAttempts(Attempts):
    """The listener is the proxy, and after its answer whatever is behind it."""

    def setUp(self) -> None:
        super().setUp()
        self.proxy_port = self.port
        self.port = 443
        self.gateway = Gateway("127.0.0.1", self.proxy_port, b"Basic dTpw")
        self.request = b""

    def ask(self, address: str = HOST) -> Attempt:
        """Up to where the proxy has read the request."""
        attempt = self.start(address)
        self.reactor.run(lambda: b"\r\n\r\n" in self.request, self.read)
        return attempt

    def read(self) -> None:
        self.accept()
        for peer in self.peers:
            try:
                self.request += peer.raw.recv(65536)
            except BlockingIOError:
                return

    @property
    def proxy(self) -> Peer:
        return self.peers[0]

    def answer(self, data: bytes) -> None:
        self.proxy.raw.send(data)

    def establish(self) -> None:
        """Up to the handshake, in which the server stays silent."""
        self.answer(ESTABLISHED)
        self.reactor.run(lambda: self.user.heard)
        self.assertEqual(self.user.heard, ["reached"])

    def wait(self) -> None:
        self.reactor.run(lambda: self.user.is_done)

    def assert_refused(self, code: str, detail: str) -> None:
        """By the proxy, so that the server was not reached; it is named by what the proxy was asked for."""
        self.assertEqual(self.user.heard, ["failed"])
        self.assertEqual(self.assert_failed(code, 503, "proxy", address=HOST), f"the proxy {self.gateway}{detail}")


class GoodTests(GatewayAttempts):
    def test_through(self) -> None:
        self.ask()
        lines = self.request.split(b"\r\n")
        self.assertEqual(lines[0], b"CONNECT intake.example:443 HTTP/1.1")
        self.assertIn(b"Proxy-Authorization: Basic dTpw", lines)
        self.assertEqual(self.user.heard, [])
        self.answer(ESTABLISHED)
        self.play()
        stream = self.ready()
        self.assertEqual((self.user.heard, stream.is_open, stream.reading), (["reached", "ready"], True, False))
        self.assertEqual(self.proxy.connection.get_servername(), HOST.encode())
        self.assert_nothing_left()

    def test_configured_address(self) -> None:
        """The proxy is asked for that; the certificate must still be the host's."""
        self.ask("2001:db8::1")
        self.assertEqual(self.request.split(b"\r\n")[0], b"CONNECT [2001:db8::1]:443 HTTP/1.1")
        self.answer(ESTABLISHED)
        self.play()
        self.ready()

    def test_without_credentials(self) -> None:
        self.gateway = Gateway("127.0.0.1", self.proxy_port)
        self.ask().cancel()
        self.assertNotIn(b"authorization", self.request.lower())

    def test_named_proxy(self) -> None:
        self.gateway = Gateway(PROXY, self.proxy_port)
        attempt = self.start(HOST)
        self.questions[0].callback(("127.0.0.1",))
        self.reactor.run(lambda: self.request, self.read)
        attempt.cancel()

    def test_next_address_of_the_proxy(self) -> None:
        """A host without IPv6 must not stop at the proxy's IPv6 address, and one that refuses is no better."""
        self.gateway = Gateway(PROXY, self.proxy_port)
        attempt = self.start(HOST)
        self.questions[0].callback(("255.255.255.255", "127.0.0.3", "127.0.0.1"))
        self.reactor.run(lambda: self.request, self.read)
        self.assertEqual(self.user.heard, [])
        attempt.cancel()
        self.assert_nothing_left()


class ProxyTests(GatewayAttempts):
    """The proxy is what is in the way."""

    def test_no_address(self) -> None:
        self.gateway = Gateway(PROXY, self.proxy_port)
        self.start(HOST)
        self.questions[0].callback(())
        self.assert_refused("proxy-resolve", " has no address (DNS)")

    def test_dns_is_silent(self) -> None:
        """A late answer changes nothing."""
        self.gateway = Gateway(PROXY, self.proxy_port)
        self.start(HOST)
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.user.heard, [])
        self.reactor.pump([0.5] * 2)
        self.assert_refused("proxy-timeout", " did not answer in time")
        self.questions[0].callback(("127.0.0.1",))
        self.assert_nothing_left()

    def test_no_address_can_be_used(self) -> None:
        self.listener.close()
        self.gateway = Gateway(PROXY, self.proxy_port)
        self.start(HOST)
        self.questions[0].callback(("255.255.255.255", "127.0.0.1"))
        self.wait()
        self.assert_refused("proxy-connect", ": Connection refused")

    def test_one_that_was_reached_counts(self) -> None:
        """What it does is its answer, also when that is none: the others are not asked."""
        self.gateway = Gateway(PROXY, self.proxy_port)
        self.start(HOST)
        self.questions[0].callback(("127.0.0.1", "127.0.0.1"))
        self.reactor.run(lambda: self.request, self.read)
        self.proxy.raw.close()
        self.wait()
        self.assert_refused("proxy-connect", ": the connection was closed")

    def test_refused(self) -> None:
        self.listener.close()
        self.start(HOST)
        self.wait()
        self.assert_refused("proxy-connect", ": Connection refused")

    def test_unreachable(self) -> None:
        """The user hears before ``start`` returns."""
        self.gateway = Gateway("255.255.255.255", self.proxy_port)
        self.start(HOST)
        self.assert_refused("proxy-connect", ": Network is unreachable")

    def test_silent(self) -> None:
        """One time is for all that the proxy does, so that nothing begins anew when it accepts."""
        self.start(HOST)
        self.reactor.pump([0.5] * 8)
        self.reactor.run(lambda: self.request, self.read)
        self.reactor.advance(0.5)
        self.assertEqual(self.user.heard, [])
        self.reactor.pump([0.5] * 2)
        self.assert_refused("proxy-timeout", " did not answer in time")

    def test_wants_other_credentials(self) -> None:
        self.ask()
        self.answer(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
        self.wait()
        self.assert_refused("proxy-auth", " answered CONNECT with 407 Proxy Authentication Required")

    def test_says_no(self) -> None:
        for line, said in ((b"403 Forbidden", "403 Forbidden"), (b"503", "503")):
            self.setUp()
            self.ask()
            self.answer(b"HTTP/1.1 %b\r\n\r\n" % line)
            self.wait()
            self.assert_refused("proxy-refused", f" answered CONNECT with {said}")

    def test_closes(self) -> None:
        self.ask()
        self.proxy.raw.close()
        self.wait()
        self.assert_refused("proxy-connect", ": the connection was closed")

    def test_resets(self) -> None:
        self.ask()
        reset(self.proxy.raw)
        self.wait()
        self.assert_refused("proxy-connect", ": Connection reset by peer")

    def test_nonsense(self) -> None:
        self.ask()
        self.answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        self.wait()
        self.assert_refused("proxy-connect", ": the answer to CONNECT cannot be used: it is not HTTP/1.1")


class ServerTests(GatewayAttempts):
    """The proxy has opened the way, and the server is what fails."""

    def test_another_identity(self) -> None:
        self.paths = certificates.write(self.place, ["other.example"])
        self.ask()
        self.answer(ESTABLISHED)
        self.play()
        self.assert_failed("identity", 502, "identity", address=HOST)

    def test_silent(self) -> None:
        """The handshake has all of its own time."""
        self.ask()
        self.reactor.pump([0.5] * 8)
        self.establish()
        self.reactor.pump([0.5] * 9)
        self.assertEqual(self.user.heard, ["reached"])
        self.reactor.pump([0.5] * 2)
        self.assertEqual(self.assert_failed("tls-timeout", 502, "handshake", address=HOST), "Layer6 timeout")

    def test_closes(self) -> None:
        self.ask()
        self.establish()
        self.proxy.raw.close()
        self.wait()
        self.assert_failed("tls", 502, "handshake", address=HOST)

    def test_resets_at_once(self) -> None:
        """Before our first byte: it is no longer the proxy's fault."""
        self.ask()
        self.answer(ESTABLISHED)
        self.reactor.run(lambda: any(isinstance(writer, TlsStream) for writer in self.reactor.writers))
        reset(self.proxy.raw)
        self.wait()
        detail = self.assert_failed("tls", 502, "handshake", address=HOST)
        self.assertEqual(detail, 'Layer6 invalid response, info: "Connection reset by peer"')


class CancelTests(GatewayAttempts):
    def assert_closed(self) -> None:
        """Nothing is heard, and the proxy sees the end."""
        self.assert_nothing_left()
        self.proxy.raw.settimeout(10)
        while self.proxy.raw.recv(65536):
            pass

    def test_while_its_name_is_looked_up(self) -> None:
        self.gateway = Gateway(PROXY, self.proxy_port)
        self.start(HOST).cancel()
        self.questions[0].callback(("127.0.0.1",))
        self.assert_nothing_left()
        self.assertEqual(self.user.heard, [])

    def test_while_it_is_asked(self) -> None:
        self.ask().cancel()
        self.assert_closed()
        self.assertEqual(self.user.heard, [])

    def test_in_the_handshake(self) -> None:
        attempt = self.ask()
        self.establish()
        attempt.cancel()
        self.assert_closed()
        self.assertEqual(self.user.heard, ["reached"])
