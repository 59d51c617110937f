"""Agent and upstream close at each step, in order or not: nothing cut looks complete, and nothing is left behind."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl

from tests.scenarios.processes import descriptors
from tests.scenarios.stage import HOST, Stage, half_close, read_all, read_exactly, read_head, reset_at_close

FIN, RESET, NOTIFY, CUT = "FIN", "reset", "close_notify", "no close_notify"
GET = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode()
OLD_GET = b"GET / HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def end(sock: socket.socket, how: str) -> None:
    """Close a connection of the test's: with TLS's own end, with the kernel's, or with a reset."""
    if how == RESET:
        reset_at_close(sock)
    elif how == NOTIFY:
        assert isinstance(sock, ssl.SSLSocket)
        with contextlib.suppress(OSError):  # it waits for the other side's, which need not come
            sock.unwrap()
    sock.close()


def post(framing: bytes, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n%b" % (HOST.encode(), framing, body)


def rest(sock: socket.socket) -> tuple[bytes, str]:
    """All that still comes, and how it ends: FIN or RESET, with TLS NOTIFY or CUT (Python does not tell more)."""
    tls = isinstance(sock, ssl.SSLSocket)
    if tls:
        sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ssl.SSLZeroReturnError:
        return data, NOTIFY  # how Python names it to a side that has said its own end already
    except (ssl.SSLEOFError, ConnectionResetError):
        return data, CUT if tls else RESET
    return data, NOTIFY if tls else FIN


def outcome(answer: http.client.HTTPResponse) -> str:
    """``cut``, or the status with our code or else what was left of the body."""
    try:
        body = answer.read()
    except (http.client.HTTPException, ConnectionError):
        return "cut"
    finally:
        answer.close()
    return f"{answer.status} {answer.headers.get('Fipsrelay-Error') or body.decode()}"


class Closing(Stage):
    """A relay, and an upstream that the test plays."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_played_peer()
        self.relay = self.start_relay(self.peer.port)
        self.settled = descriptors(self.relay)

    def begin(self, request: bytes, port: int = 0) -> tuple[socket.socket, ssl.SSLSocket]:
        """An agent that has sent something, and the upstream connection that was made for it."""
        agent = self.connect(port or self.http_port)
        agent.sendall(request)
        return agent, self.peer.accept()

    def answer(self, agent: socket.socket) -> http.client.HTTPResponse:
        """An answer whose head has arrived; it has to be closed for the agent's socket to be."""
        answer = http.client.HTTPResponse(agent)
        answer.begin()
        return answer

    def assert_outcome(self, agent: socket.socket, wanted: str, what: object) -> None:
        try:
            found = outcome(self.answer(agent))
        except (http.client.HTTPException, ConnectionError) as error:
            found = repr(error)
        self.assertEqual(found, wanted, what)

    def assert_settled(self, what: object, left: int = 0) -> None:
        """Every connection is closed but for ``left``, the free ones of the pool."""
        wanted = self.settled + left
        self.wait_until(lambda: descriptors(self.relay) == wanted, f"{wanted} open files after {what}")

    def assert_serves(self, what: object) -> None:
        """Nothing is left, and the next request gets its own answer, on a new connection."""
        self.assert_settled(what)
        agent, upstream = self.begin(GET)
        self.assertTrue(read_head(upstream).startswith(b"GET / HTTP/1.1\r\n"), what)
        text = repr(what).encode()
        upstream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        self.assert_outcome(agent, f"200 {text.decode()}", what)
        agent.close()
        upstream.close()
        self.assert_settled(what)

    def answer_in_pieces(self, agent: socket.socket, what: object) -> None:
        """The same agent's next request gets its own answer, with nothing of an earlier one."""
        agent.sendall(GET)
        upstream = self.peer.accept()
        read_head(upstream)
        upstream.sendall(OK[:10])
        self.page()
        upstream.sendall(OK[10:])
        self.assert_outcome(agent, "200 OK", what)
        upstream.close()
        agent.close()


class AgentTests(Closing):
    """The agent of an HTTP intake closes."""

    def test_before_its_request(self) -> None:
        for how in (FIN, RESET):
            for sent in (b"", GET[:-2]):
                agent = self.connect(self.http_port)
                agent.sendall(sent)
                self.page()
                end(agent, how)
                self.assert_serves((how, sent))

    def test_idle_after_an_answer(self) -> None:
        """Its upstream connection goes on to serve others."""
        agent, upstream = self.begin(GET)
        for how in (FIN, RESET):
            read_head(upstream)
            upstream.sendall(OK)
            self.assertEqual(read_exactly(agent, len(OK)), OK)
            end(agent, how)
            self.assert_settled(how, left=1)
            agent = self.connect(self.http_port)
            agent.sendall(GET)
        self.assertTrue(read_head(upstream))
        end(agent, RESET)

    def test_in_the_body(self) -> None:
        """The upstream sees a request that is cut."""
        for how in (FIN, RESET):
            for framing, body in (
                (b"Content-Length: 10", b"hello"),
                (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
                (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\nX: y\r\n"),
            ):
                agent, upstream = self.begin(post(framing, body))
                read_head(upstream)
                self.assertIn(b"hello", upstream.recv(65536))
                end(agent, how)
                self.assertEqual(rest(upstream), (b"", CUT), (how, body))
                upstream.close()
                self.assert_serves((how, body))
        self.assertIn("agent-closed:6", self.page())

    def test_while_it_waits(self) -> None:
        """An answer that comes too late is nobody's."""
        agent, upstream = self.begin(GET)
        read_head(upstream)
        end(agent, RESET)
        self.assertEqual(rest(upstream), (b"", CUT))
        with contextlib.suppress(OSError):
            upstream.sendall(OK)
        self.assert_serves("reset")

    def test_half_closed(self) -> None:
        """A complete request gets its answer, whether or not its agent can send more."""
        for closed_when in ("waiting", "answer"):
            agent, upstream = self.begin(post(b"Content-Length: 5", b"hello"))
            read_head(upstream)
            if closed_when == "waiting":
                agent.shutdown(socket.SHUT_WR)
                self.page()
            upstream.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhello")
            answer = self.answer(agent)
            self.assertEqual(answer.read(5), b"hello")
            if closed_when == "answer":
                agent.shutdown(socket.SHUT_WR)
                self.page()
            upstream.sendall(b"world")
            self.assertEqual(outcome(answer), "200 world")
            self.assertEqual(agent.recv(1), b"")
            upstream.close()
            self.assert_serves(closed_when)

    def test_in_the_answer(self) -> None:
        """The rest of the answer is not read, and its connection not used again."""
        for how in (FIN, RESET):
            agent, upstream = self.begin(GET)
            read_head(upstream)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nhello")
            answer = self.answer(agent)
            self.assertEqual(answer.read(5), b"hello")
            answer.close()
            end(agent, how)
            with self.assertRaises(OSError, msg=how):
                for _ in range(10_000):  # 650 MB, more than any buffer
                    upstream.sendall(bytes(65536))
            upstream.close()
            self.assert_serves(how)


class UpstreamTests(Closing):
    """The upstream of an HTTP intake closes."""

    def test_idle(self) -> None:
        """The next request gets a new connection."""
        for how in (NOTIFY, FIN, RESET):
            agent, upstream = self.begin(GET)
            read_head(upstream)
            upstream.sendall(OK)
            self.assert_outcome(agent, "200 OK", how)
            end(upstream, how)
            agent.close()
            self.assert_serves(how)

    def test_idle_just_before_a_request(self) -> None:
        """Both come in one turn of the reactor, the request first. None of it was sent, so it may go out elsewhere."""
        for how in (NOTIFY, FIN, RESET):
            agent, upstream = self.begin(GET)
            read_head(upstream)
            upstream.sendall(OK)
            self.assert_outcome(agent, "200 OK", how)
            with self.stopped(self.relay):
                agent.sendall(GET)
                upstream.settimeout(0)  # nobody answers its close_notify
                end(upstream, how)
            fresh = self.peer.accept()
            read_head(fresh)
            fresh.sendall(OK)
            self.assert_outcome(agent, "200 OK", how)
            agent.close()
            fresh.close()
            self.assert_serves(how)

    def test_before_its_answer(self) -> None:
        """502, on a connection that stays usable: the request was complete."""
        for how in (NOTIFY, FIN, RESET):
            for read, sent in (
                (10, b""),
                (65536, b""),
                (65536, b"HTTP/1.1 200 OK\r\nContent-Le"),
                (65536, b"HTTP/1.1 100 Continue\r\n\r\n"),
            ):
                what = (how, read, sent)
                agent, upstream = self.begin(post(b"Content-Length: 5", b"hello"))
                upstream.recv(read)
                upstream.sendall(sent)
                end(upstream, how)
                self.assert_outcome(agent, "502 upstream-closed", what)
                self.answer_in_pieces(agent, what)
                self.assert_serves(what)

    def test_before_its_answer_to_get(self) -> None:
        """It is asked again, on a new connection; but not once something was answered."""
        for how in (NOTIFY, FIN, RESET):
            agent, upstream = self.begin(GET)
            read_head(upstream)
            end(upstream, how)
            upstream = self.peer.accept()
            self.assertTrue(read_head(upstream).startswith(b"GET / HTTP/1.1\r\n"), how)
            upstream.sendall(OK[:20])
            self.page()  # so that the relay has read it
            end(upstream, how)
            self.assert_outcome(agent, "502 upstream-closed", how)
            agent.close()
            self.assert_serves(how)

    def test_in_the_request_body(self) -> None:
        """502, which the agent gets although it is still sending."""
        body = bytes(4_000_000)
        for how in (NOTIFY, FIN, RESET):
            agent, upstream = self.begin(post(b"Content-Length: %d" % len(body), body[:1000]))
            read_head(upstream)
            upstream.recv(100)
            end(upstream, how)
            agent.sendall(body[1000:])
            answer = self.answer(agent)
            self.assertEqual(answer.headers["Connection"], "close", how)
            self.assertEqual(outcome(answer), "502 upstream-closed", how)
            agent.close()
            self.assert_serves(how)

    def test_in_its_answer(self) -> None:
        """What is cut looks cut: never a complete message, not even to HTTP/1.0, which knows no end but the close."""
        head = b"HTTP/1.1 200 OK\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
        for how in (NOTIFY, FIN, RESET):
            for request in (GET, OLD_GET):
                for sent, wanted in (
                    (head + b"Content-Length: 10\r\n\r\nhello", "cut"),
                    (chunked + b"a\r\nhello", "cut"),
                    (chunked + b"5\r\nhello\r\n", "cut"),
                    (chunked + b"5\r\nhello\r\n0\r\nX: y\r\n", "cut"),
                    (head + b"\r\nhello", "200 " if how == NOTIFY else "cut"),
                ):
                    what = (how, request, sent)
                    agent, upstream = self.begin(request)
                    read_head(upstream)
                    upstream.sendall(sent)
                    answer = self.answer(agent)
                    self.assertEqual(answer.read(5), b"hello", what)
                    end(upstream, how)
                    self.assertEqual(outcome(answer), wanted, what)
                    agent.close()
                    self.assert_settled(what)
        self.assert_serves("all of it")

    def test_too_much(self) -> None:
        """Bytes after an answer are nobody's, whether they come with it or later."""
        for with_it, later in ((b"x", b""), (OK, b""), (b"", b"x"), (b"", OK)):
            what = (with_it, later)
            agent, upstream = self.begin(GET)
            read_head(upstream)
            upstream.sendall(OK + with_it)
            self.assert_outcome(agent, "200 OK", what)
            if later:
                upstream.sendall(later)
            self.assertEqual(rest(upstream)[0], b"", what)
            upstream.close()
            self.answer_in_pieces(agent, what)
            self.assert_serves(what)

    def test_broken_http(self) -> None:
        for sent in (
            b"no HTTP at all\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nOK",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nOK",
            b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % bytes(70_000).replace(b"\0", b"x"),
        ):
            agent, upstream = self.begin(GET)
            read_head(upstream)
            upstream.sendall(sent)
            self.assert_outcome(agent, "502 upstream-http", sent[:100])
            upstream.close()
            self.answer_in_pieces(agent, sent[:100])
            self.assert_serves(sent[:100])

    def test_broken_chunks(self) -> None:
        agent, upstream = self.begin(GET)
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        answer = self.answer(agent)
        self.assertEqual(answer.read(5), b"hello")
        upstream.sendall(b"no size\r\n")
        self.assertEqual(outcome(answer), "cut")
        upstream.close()
        agent.close()
        self.assert_serves("broken chunks")


class RawTests(Closing):
    """Raw TCP: each direction ends by itself; what is cut looks cut."""

    def test_agent_half_closes(self) -> None:
        for sent in (b"", b"hello"):
            agent, upstream = self.begin(sent, self.tcp_port)
            agent.shutdown(socket.SHUT_WR)
            self.assertEqual(rest(upstream), (sent, NOTIFY))
            upstream.sendall(b"world")
            end(upstream, NOTIFY)
            self.assertEqual(rest(agent), (b"world", FIN))
            self.assert_serves(sent)

    def test_agent_half_closes_after_much(self) -> None:
        """Everything comes before the end, also what had to wait."""
        agent, upstream = self.begin(b"", self.tcp_port)
        agent.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:  # until the kernel takes no more, because the relay has stopped to read
                sent += agent.send(bytes(65536))
        agent.shutdown(socket.SHUT_WR)
        data, how = rest(upstream)
        self.assertEqual((len(data), how), (sent, NOTIFY))
        end(upstream, NOTIFY)
        self.assert_serves(sent)

    def test_agent_resets(self) -> None:
        """The upstream gets no close_notify."""
        for sent in (b"", b"hello"):
            agent, upstream = self.begin(sent, self.tcp_port)
            upstream.sendall(b"world")
            self.assertEqual(read_exactly(upstream, len(sent)), sent)
            self.assertEqual(read_exactly(agent, 5), b"world")
            end(agent, RESET)
            self.assertEqual(rest(upstream), (b"", CUT))
            upstream.close()
            self.assert_serves(sent)

    def test_upstream_half_closes(self) -> None:
        """The agent can go on sending."""
        agent, upstream = self.begin(b"hello", self.tcp_port)
        self.assertEqual(read_exactly(upstream, 5), b"hello")
        upstream.sendall(b"world")
        half_close(upstream)
        self.assertEqual(read_all(agent), b"world")
        agent.sendall(b"more")
        self.assertEqual(read_exactly(upstream, 4), b"more")
        agent.close()
        self.assertEqual(rest(upstream), (b"", NOTIFY))
        upstream.close()
        self.assert_serves("both ends")

    def test_upstream_breaks(self) -> None:
        """Without close_notify the agent sees a reset."""
        for how in (FIN, RESET):
            agent, upstream = self.begin(b"hello", self.tcp_port)
            self.assertEqual(read_exactly(upstream, 5), b"hello")
            upstream.sendall(b"world")
            self.assertEqual(read_exactly(agent, 5), b"world")
            end(upstream, how)
            self.assertEqual(rest(agent), (b"", RESET), how)
            self.assert_serves(how)
        self.assertIn("upstream-closed:2", self.page())
