"""HTTP through the real program, step by step: the test plays the agent and the upstream."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from concurrent import futures

from tests.scenarios.stage import (
    EMPTY,
    GET,
    HOST,
    TIMEOUT,
    Stage,
    half_close,
    read_all,
    read_chunked,
    read_exactly,
    read_head,
)

GET_10 = b"GET /x HTTP/1.0\r\n\r\n"
GET_10_KEPT = b"GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNKS = b"5;note=first\r\nhello\r\n1\r\n \r\n0005\r\nworld\r\n0\r\nDigest: abc\r\nX-Other:\r\n\r\n"
TRAILERS = b"Digest: abc\r\nX-Other:\r\n"


class Played(Stage):
    """A relay and one upstream.

    Attributes:
        peer: the upstream.
        host: what the upstream must find in Host.
    """

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_played_peer()
        self.start_relay(self.peer.port)
        self.host = f"{HOST}:{self.peer.port}".encode()

    def begin(self, request: bytes) -> tuple[socket.socket, ssl.SSLSocket]:
        """Send a request by a new agent; returns the agent and the relay's new connection to the upstream."""
        agent = self.connect(self.http_port)
        agent.sendall(request)
        return agent, self.peer.accept()

    def pass_request(self, agent: socket.socket, upstream: ssl.SSLSocket, request: bytes = GET) -> bytes:
        """Send a request without a body over connections that are there; returns its head as it arrives."""
        agent.sendall(request)
        return read_head(upstream)

    def pass_answer(self, upstream: ssl.SSLSocket, agent: socket.socket, answer: bytes = EMPTY) -> bytes:
        """Send an answer without a body; returns its head as it arrives."""
        upstream.sendall(answer)
        return read_head(agent)


class AnswerTests(Played):
    """Where answers end."""

    def test_answers_without_a_body(self) -> None:
        """They end with their heads, whatever length those name: the next answer stands in its place."""
        agent, upstream = self.begin(GET)
        read_head(upstream)
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)
        for method, status, fields in (
            (b"HEAD", b"200 OK", b"Content-Length: 5\r\n"),
            (b"HEAD", b"404 Not Found", b"ETag: 1\r\n"),
            (b"GET", b"204 No Content", b"ETag: 2\r\n"),
            (b"GET", b"304 Not Modified", b"Content-Length: 5\r\n"),
            (b"GET", b"304 Not Modified", b""),
            (b"POST", b"200 OK", b"Content-Length: 0\r\n"),
        ):
            request = b"%b /x HTTP/1.1\r\nHost: localhost\r\n\r\n" % method
            self.assertIn(method, self.pass_request(agent, upstream, request))
            answer = b"HTTP/1.1 %b\r\n%b\r\n" % (status, fields)
            self.assertEqual(self.pass_answer(upstream, agent, answer), answer)

    def test_answers_with_a_body(self) -> None:
        """Each ends where it should: the next one over the same connections stands in its place."""
        agent, upstream = self.begin(GET)
        read_head(upstream)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"
        self.assertEqual(self.pass_answer(upstream, agent, head + b"hello"), head)
        self.assertEqual(read_exactly(agent, 5), b"hello")
        upstream.sendall(b" world")
        self.assertEqual(read_exactly(agent, 6), b" world")

        self.pass_request(agent, upstream)
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n" + CHUNKS
        head = self.pass_answer(upstream, agent, answer)
        self.assertEqual(head, b"HTTP/1.1 200 OK\r\nTrailer: Digest\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertEqual(read_chunked(agent), (b"hello world", TRAILERS))

        self.pass_request(agent, upstream)
        head = self.pass_answer(upstream, agent, b"HTTP/1.1 200 OK\r\n\r\nhello ")
        self.assertEqual(head, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        upstream.sendall(b"world")
        upstream.unwrap()
        self.assertEqual(read_chunked(agent), (b"hello world", b""))

        agent.sendall(GET)
        self.peer.accept().sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)

    def test_to_http_1_0(self) -> None:
        """Its agents know no chunks: also where they would keep the connection, its end is the body's."""
        for fields, body in ((b"Transfer-Encoding: chunked\r\n", CHUNKS), (b"", b"hello world")):
            agent, upstream = self.begin(GET_10_KEPT)
            self.assertIn(b" HTTP/1.1\r\nHost: " + self.host, read_head(upstream))
            upstream.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (fields, body))
            upstream.unwrap()
            self.assertEqual(read_all(agent), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world")

    def test_interim_answers(self) -> None:
        agent, upstream = self.begin(
            b"POST /x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        self.assertNotIn(b"Expect", read_head(upstream))
        self.assertEqual(read_head(agent), b"HTTP/1.1 100 Continue\r\n\r\n")  # before a byte of the upstream's
        for interim in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"):
            self.assertEqual(self.pass_answer(upstream, agent, interim), interim)
        agent.sendall(b"hello")
        self.assertEqual(read_exactly(upstream, 5), b"hello")
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)
        old = self.connect(self.http_port)
        self.pass_request(old, upstream, GET_10)
        upstream.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" + EMPTY)
        self.assertEqual(read_all(old), LAST)


class PlaintextPortTests(Stage):
    """Agents with ``fips.https: true`` at ports that are plaintext."""

    def test_tls_clients(self) -> None:
        """They see a TLS error, not a connection that closes."""

        def wait_for_the_end(connection: ssl.SSLSocket) -> None:
            self.assertEqual(read_all(connection), b"")

        relay = self.start_relay(self.start_peer(wait_for_the_end).port)
        senders = []
        for port in (self.http_port, self.tcp_port):
            for _ in range(3):
                agent = self.connect(port)
                senders.append(agent.getsockname()[1])
                context = ssl.create_default_context()
                error = self.assertRaises(ssl.SSLError, context.wrap_socket, agent, server_hostname="localhost")
                self.assertEqual(error.reason, "SSLV3_ALERT_HANDSHAKE_FAILURE")
        self.assertIn("tls-to-plaintext:3", self.page())
        lines = [line.partition("] ")[2] for line in relay.output.splitlines() if "tls-to-plaintext" in line]
        said = "{}: TLS on a plaintext port, from 127.0.0.1:{}; set fips.https: false in the Agent [tls-to-plaintext]"
        self.assertEqual(lines, [said.format("web", senders[0]), said.format("raw", senders[3])])


class HeadTests(Played):
    """What arrives of heads, and how they may come."""

    def test_request(self) -> None:
        """Host is the upstream's, what concerns one connection is gone; the rest is there, in order, byte by byte."""
        agent, upstream = self.begin(
            b"POST /a/b?c=%20d&api_key=1 HTTP/1.1\r\nUser-Agent: x\r\nHost: localhost:9804\r\nX-Twice: 1\r\n"
            b"Connection: keep-alive, X-Hop\r\nx-twice:  2 \r\nX-Hop: 3\r\nKeep-Alive: 5\r\nX-Text: \xff\xe9\t\r\n"
            b"Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Empty:\r\nX-Twice: 1\r\n"
            b"Content-Length: 2\r\n\r\n{}"
        )
        self.assertEqual(
            read_head(upstream),
            b"POST /a/b?c=%%20d&api_key=1 HTTP/1.1\r\nHost: %b\r\nUser-Agent: x\r\nX-Twice: 1\r\nx-twice:  2 \r\n"
            b"X-Text: \xff\xe9\t\r\nX-Empty:\r\nX-Twice: 1\r\nContent-Length: 2\r\n\r\n" % self.host,
        )
        self.assertEqual(read_exactly(upstream, 2), b"{}")
        answer = self.pass_answer(
            upstream,
            agent,
            b"HTTP/1.1 200 Tr\xe8s bien\r\nDate: now\r\nSet-Cookie: a\r\nConnection: X-Hop\r\nX-Hop: 1\r\nset-cookie:b"
            b"\r\nKeep-Alive: 3\r\nX-Text: \xff\r\nUpgrade: h2c\r\nSet-Cookie: a\r\nContent-Length: 0\r\n\r\n",
        )
        self.assertEqual(
            answer,
            b"HTTP/1.1 200 Tr\xe8s bien\r\nDate: now\r\nSet-Cookie: a\r\nset-cookie:b\r\nX-Text: \xff\r\nSet-Cookie: a"
            b"\r\nContent-Length: 0\r\n\r\n",
        )

    def test_trace_context(self) -> None:
        """W3C's and Datadog's own fields go through as they are, in both directions."""
        fields = (
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
            b"tracestate: dd=s:2;o:rum;t.dm:-4,congo=t61rcWkgMzE\r\nbaggage: a=1,b=2;c\r\n"
            b"x-datadog-trace-id: 9532127138774266268\r\nx-datadog-parent-id: 13235353014750950193\r\n"
            b"x-datadog-sampling-priority: 2\r\nx-datadog-origin: rum\r\nx-datadog-tags: _dd.p.dm=-4\r\n"
            b"X-Request-ID: one\r\n"
        )
        agent, upstream = self.begin(b"GET / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n")
        self.assertEqual(read_head(upstream), b"GET / HTTP/1.1\r\nHost: %b\r\n" % self.host + fields + b"\r\n")
        answer = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n"
        self.assertEqual(self.pass_answer(upstream, agent, answer), answer)

    def test_chunked_request(self) -> None:
        agent, upstream = self.begin(
            b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
        )
        head = b"POST /x HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % self.host
        self.assertEqual(read_head(upstream), head)
        self.assertEqual(read_chunked(upstream), (b"hello world", TRAILERS))
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)

    def test_two_pieces(self) -> None:
        """A request may be cut anywhere."""
        head = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
        request = head + b"hello"
        agent, upstream = self.begin(request)
        for cut in range(1, len(request)):
            arrived = read_head(upstream)
            self.assertEqual(arrived, b"POST /x HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\n\r\n" % self.host)
            self.assertEqual(read_exactly(upstream, 5), b"hello")
            self.assertEqual(self.pass_answer(upstream, agent), EMPTY)
            agent.close()
            agent = self.connect(self.http_port)
            agent.sendall(request[:cut])
            self.page()
            agent.sendall(request[cut:])
        self.assertEqual(read_head(upstream)[:7], b"POST /x")

    def test_byte_by_byte(self) -> None:
        agent = self.connect(self.http_port)
        agent.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
        for value in request:
            agent.sendall(bytes([value]))
            self.page()
        upstream = self.peer.accept()
        read_head(upstream)
        self.assertEqual(read_chunked(upstream), (b"hello world", TRAILERS))
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)

    def test_limits(self) -> None:
        """64 KB and 128 header lines pass, one more of either is refused without asking the upstream."""
        start = b"GET /x HTTP/1.1\r\nHost: localhost\r\n"
        for extra in (0, 1):
            long = start + b"X: " + b"x" * (65536 - len(start) - 7 + extra) + b"\r\n\r\n"
            many = start + b"X: 1\r\n" * (127 + extra) + b"\r\n"
            for request in (long, many):
                agent = self.connect(self.http_port)
                agent.sendall(request)
                if extra:
                    head, _, body = read_all(agent).partition(b"\r\n\r\n")
                    self.assertEqual(head.split(b"\r\n")[0], b"HTTP/1.1 431 Request Header Fields Too Large")
                    self.assertRegex(
                        head, rb"\r\nFipsrelay-Error: head-too-large\r\nFipsrelay-Request: \S+\r\nConnection: close"
                    )
                    self.assertRegex(
                        body, rb"^request refused: (the head is larger than 65536 bytes|more than 128 header lines)\n$"
                    )
                else:
                    upstream = self.peer.accept()
                    self.assertEqual(len(read_head(upstream)), len(request) - len("localhost") + len(self.host))
                    self.assertEqual(self.pass_answer(upstream, agent, LAST), EMPTY)
        self.assertIn("head-too-large:2", self.page())


class ConnectionTests(Played):
    """Which connections stay, and who uses them."""

    def test_agents_share_an_upstream_connection(self) -> None:
        """Also after an agent that closes: that is between it and the relay."""
        agent, upstream = self.begin(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertNotIn(b"onnection", read_head(upstream))
        upstream.sendall(EMPTY)
        self.assertEqual(read_all(agent), LAST)
        for _ in range(2):
            agent = self.connect(self.http_port)
            self.pass_request(agent, upstream)
            self.assertEqual(self.pass_answer(upstream, agent), EMPTY)

    def test_upstream_that_closes(self) -> None:
        """Its announcement stays between it and the relay; the agent's next request takes a new connection."""
        agent, upstream = self.begin(GET)
        for _ in range(3):
            self.assertNotEqual(read_head(upstream), b"")
            self.assertEqual(self.pass_answer(upstream, agent, LAST), EMPTY)
            self.assertEqual(upstream.recv(1), b"")
            agent.sendall(GET)
            upstream = self.peer.accept()
        upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)

    def test_http_1_0(self) -> None:
        """Its agents and upstreams say when they keep a connection, and are told."""
        agent, upstream = self.begin(GET_10_KEPT)
        read_head(upstream)
        kept = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        self.assertEqual(self.pass_answer(upstream, agent), kept)
        self.pass_request(agent, upstream, GET_10)
        upstream.sendall(EMPTY)
        self.assertEqual(read_all(agent), LAST)

        agent = self.connect(self.http_port)
        self.pass_request(agent, upstream)
        kept = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        self.assertEqual(self.pass_answer(upstream, agent, kept), EMPTY)
        self.pass_request(agent, upstream)
        self.assertEqual(self.pass_answer(upstream, agent, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), EMPTY)
        agent.sendall(GET)
        self.assertEqual(self.pass_answer(self.peer.accept(), agent), EMPTY)

    def test_half_closed_agent(self) -> None:
        """What it has asked for completely is answered."""
        agent, upstream = self.begin(GET)
        agent.shutdown(socket.SHUT_WR)
        read_head(upstream)
        self.page()
        upstream.sendall(EMPTY)
        self.assertEqual(read_all(agent), LAST)

    def test_pipelined(self) -> None:
        """500 requests at once, some with bodies, are answered one after the other over one upstream connection."""
        requests = []
        for number in range(500):
            body = b"x" * (number % 7)
            line = b"POST /%d HTTP/1.1\r\nHost: localhost\r\n" % number
            requests.append(line + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        agent, upstream = self.begin(b"".join(requests))
        agent.shutdown(socket.SHUT_WR)
        for number in range(500):
            self.assertEqual(read_head(upstream).split(b" ")[1], b"/%d" % number)
            self.assertEqual(len(read_exactly(upstream, number % 7)), number % 7)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d" % number)
        for number in range(500):
            self.assertIn(b"\r\nContent-Length: 3\r\n", read_head(agent))
            self.assertEqual(read_exactly(agent, 3), b"%03d" % number)
        self.assertEqual(read_all(agent), b"")


class EarlyAnswerTests(Played):
    """An upstream may answer before the request is complete (RFC 9112 §9.3, §9.5)."""

    head = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n"

    def test_upstream_that_goes_on_reading(self) -> None:
        """The agent has its answer at once; nobody else gets the connection before the request is complete."""
        agent, upstream = self.begin(self.head + b"x" * 5)
        read_head(upstream)
        self.assertEqual(read_exactly(upstream, 5), b"x" * 5)
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)
        other_agent, other_upstream = self.begin(GET)
        read_head(other_upstream)
        self.assertEqual(self.pass_answer(other_upstream, other_agent, LAST), EMPTY)
        for _ in range(8_000_000 // 400_000):
            agent.sendall(b"x" * 399_999)
            self.assertEqual(len(read_exactly(upstream, 399_999)), 399_999)
        agent.sendall(b"x" * 15)
        self.assertEqual(len(read_exactly(upstream, 15)), 15)
        self.pass_request(agent, upstream)
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)
        self.pass_request(other_agent, upstream)
        self.assertEqual(self.pass_answer(upstream, other_agent), EMPTY)

    def test_agent_that_leaves_after_its_answer(self) -> None:
        """Half a request stands on that connection: nobody gets it any more."""
        agent, upstream = self.begin(self.head)
        read_head(upstream)
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)
        agent.close()
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(upstream.recv(1), b"")
        agent, upstream = self.begin(GET)
        read_head(upstream)
        self.assertEqual(self.pass_answer(upstream, agent), EMPTY)

    def test_upstream_that_closes(self) -> None:
        """The agent gets the answer, also when it reads only after it has sent everything; and it sees no reset.

        The upstream closes as RFC 9112 §9.6 asks for: it reads on until the other side has closed.
        """
        for request in self.uploads():
            agent = self.play_closing(request, EMPTY, close_in_order)
            self.assertEqual(read_head(agent), EMPTY)
            agent.sendall(GET)
            upstream = self.peer.accept()
            read_head(upstream)
            self.assertEqual(self.pass_answer(upstream, agent, LAST), EMPTY)
            agent = self.play_closing(request, LAST, close_in_order)
            self.assertEqual(read_all(agent), LAST)

    def test_upstream_that_closes_in_disorder(self) -> None:
        """Its reset may destroy its answer. The agent, which sees no reset, is told then; it never waits in vain."""
        for request in self.uploads():
            for answer in (EMPTY, LAST):
                agent = self.play_closing(request, answer, socket.socket.close)
                self.assertIn(read_head(agent).split(b" ")[1], (b"200", b"502"))

    def uploads(self) -> tuple[bytes, bytes]:
        chunk = b"f4240\r\n%b\r\n" % (b"x" * 1_000_000)
        chunked = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        return self.head + b"x" * 8_000_000, chunked + chunk * 8 + b"0\r\n\r\n"

    def play_closing(self, request: bytes, answer: bytes, close: Callable[[ssl.SSLSocket], None]) -> socket.socket:
        """The upstream reads 1 MB, answers and closes while more is coming; returns the agent, which has sent all."""
        agent = self.connect(self.http_port)
        with futures.ThreadPoolExecutor() as threads:
            sent = threads.submit(agent.sendall, request)
            upstream = self.peer.accept()
            read_exactly(upstream, 1_000_000)
            upstream.sendall(answer)
            close(upstream)
            sent.result(TIMEOUT)
        return agent


def close_in_order(connection: ssl.SSLSocket) -> None:
    """Tell the other side, by TLS and TCP, that nothing more is coming, and read until it closes as well."""
    with contextlib.suppress(ssl.SSLError):  # what is still coming: OpenSSL reads no further then
        half_close(connection)
    try:
        connection.shutdown(socket.SHUT_WR)  # plain reads from here on
        read_all(connection)
    except OSError as error:  # the relay may drop a connection that it cannot use again
        if error.errno not in (errno.ECONNRESET, errno.ENOTCONN):
            raise
