"""Frontends: the account of connections, the heads they know, and the end."""

from __future__ import annotations

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Limits
from fipsrelay.errors import AgentError, MessageError, UpstreamError
from fipsrelay.relay.hello import refusal
from fipsrelay.wire.deadlines import NEVER
from tests.doubles import Port


class Connection:
    """Ends when it is told to, if it does."""

    def __init__(self, port: Port, ends_at_drain: bool = True, opens: bool = True) -> None:
        self._port = port
        self._ends_at_drain = ends_at_drain
        if opens:
            port.frontend.opened(self)

    def idle_since(self) -> float:
        return NEVER

    def give_way(self) -> bool:
        return False

    def drain(self) -> None:
        if self._ends_at_drain:
            self.end()

    def abort(self) -> None:
        self.end()

    def end(self) -> None:
        self._port.frontend.closed(self)


class AccountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = Port()

    def test_account(self) -> None:
        first, second = Connection(self.port), Connection(self.port)
        self.assertEqual((self.port.counters.connections, self.port.counters.open_connections), (2, 2))
        self.assertEqual(self.port.room.left, 8)
        for _ in range(2):  # a connection may say twice that it is over
            first.end()
            self.assertEqual((self.port.counters.open_connections, self.port.room.left), (1, 9))
        second.end()
        self.assertEqual((self.port.counters.connections, self.port.counters.open_connections), (2, 0))

    def test_successor(self) -> None:
        """It takes the place of the one before it, and counts as the same connection."""
        first = Connection(self.port)
        second = Connection(self.port)
        first.end()
        third = Connection(self.port, opens=False)
        self.port.frontend.succeeded(second, third)
        self.port.frontend.opened(third)
        self.assertEqual((self.port.counters.connections, self.port.counters.open_connections), (2, 1))
        self.assertEqual(self.port.room.left, 9)
        second.end()
        self.assertEqual(self.port.counters.open_connections, 1)
        third.end()
        self.assertEqual((self.port.counters.open_connections, self.port.room.left), (0, 10))

    def test_failures_are_counted_and_logged_once(self) -> None:
        for error, level in (
            (UpstreamError("tls", 502, "up", "192.0.2.1:443", "handshake", "no"), LogLevel.warn),
            (AgentError("head-timeout", 408, "slow"), LogLevel.info),
        ):
            with capturedLogs() as logs:
                self.port.frontend.failed(error)
            (event,) = logs
            self.assertEqual(
                (event["log_level"], event["intake"], event["error"], event["code"]),
                (level, "web", str(error), error.code),
            )
            self.assertEqual(self.port.counters.errors[error.code], 1)

    def test_repeated_failures(self) -> None:
        """All are counted; one of a kind is logged in ten seconds, and says how many it stands for."""
        one = UpstreamError("tls", 502, "up", "192.0.2.1:443", "handshake", "no")
        for error, pause, lines in (
            (one, 0, 1),
            (one, 9, 0),
            (UpstreamError("tls", 502, "up", "192.0.2.2:443", "handshake", "no"), 0, 0),
            (UpstreamError("tls", 502, "other", "192.0.2.1:443", "handshake", "no"), 0, 1),
            (UpstreamError("connect", 503, "up", "192.0.2.1:443", "connect", "no"), 2, 1),
            (one, 0, 1),
        ):
            with capturedLogs() as logs:
                self.port.frontend.failed(error)
            self.assertEqual(len(logs), lines)
            self.port.reactor.advance(pause)
        self.assertEqual(formatEvent(logs[0]), f"web: {one} [tls] request -1-6, and 2 more like it")
        self.assertEqual(self.port.counters.errors, {"tls": 5, "connect": 1})

    def test_greetings(self) -> None:
        """TLS on the port is logged once a minute, with where it came from and what to do."""
        for pause, lines in ((0, 1), (30, 0), (29, 0), (2, 1)):
            self.port.reactor.advance(pause)
            with capturedLogs() as logs:
                self.port.frontend.greeted(*refusal("127.0.0.1:50000"))
            self.assertEqual(len(logs), lines, pause)
        self.assertEqual(self.port.counters.errors, {"tls-to-plaintext": 4})
        text = formatEvent(logs[0])
        for words in ("web: ", "127.0.0.1:50000", "fips.https: false", ", and 2 more like it"):
            self.assertIn(words, text)

    def test_drain(self) -> None:
        Connection(self.port)
        slow = Connection(self.port, ends_at_drain=False)
        drained = self.port.frontend.drain()
        self.assertTrue(self.port.frontend.draining)
        self.assertNoResult(drained)
        slow.end()
        self.assertIsNone(self.successResultOf(drained))

    def test_nothing_to_drain(self) -> None:
        self.assertIsNone(self.successResultOf(self.port.frontend.drain()))

    def test_abort(self) -> None:
        Connection(self.port, ends_at_drain=False)
        drained = self.port.frontend.drain()
        with capturedLogs() as logs:
            self.port.frontend.abort()
            self.port.frontend.abort()
        self.successResultOf(drained)
        self.assertEqual([event["count"] for event in logs], [1])


class HeadTests(SynchronousTestCase):
    def test_requests(self) -> None:
        port = Port()
        for target, name in ((b"/x", "up"), (b"/other/x?y", "other"), (b"/otherx", "up")):
            for _ in range(2):
                request, length, head = port.frontend.requests.read(
                    b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n" % target
                )
                self.assertIs(request.backend, port.backends[name])
                self.assertEqual((request.method, request.http10, request.keep_alive), (b"POST", False, False))
                self.assertEqual(length, 3)
                self.assertIn(b"\r\nHost: %b.example\r\n" % name.encode(), head)

    def test_header_lines(self) -> None:
        frontend = Port(limits=Limits(header_lines=2)).frontend
        for lines, fits in ((2, True), (3, False)):
            request = b"GET / HTTP/1.1\r\nHost: a" + b"\r\nA: b" * (lines - 1) + b"\r\n\r\n"
            answer = b"HTTP/1.1 200 OK" + b"\r\nA: b" * lines + b"\r\n\r\n"
            if fits:
                frontend.requests.read(request)
                frontend.answers(answer)
            else:
                self.assertRaises(MessageError, frontend.requests.read, request)
                self.assertRaises(MessageError, frontend.answers, answer)

    def test_raw_tcp(self) -> None:
        port = Port("tcp")
        self.assertIs(port.frontend.backend(), port.backends["up"])
