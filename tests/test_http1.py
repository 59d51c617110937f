"""Heads that are read: what passes, what is written anew, and what a head says about its body."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.errors import MessageError
from fipsrelay.wire.http1 import CHUNKED, UNTIL_CLOSE, parse_request, parse_response
from tests.messages import answer, request

HOST = b"intake.example"


class RequestTests(SynchronousTestCase):
    def rebuilt(self, *lines: bytes, first: bytes = b"POST / HTTP/1.1", host: bytes | None = b"a") -> bytes:
        return parse_request(request(*lines, first=first, host=host)).rebuild(HOST)

    def test_agent_request(self) -> None:
        """Host is the upstream's, the rest in order and unchanged."""
        data = (
            b"POST /api/v2/series?x=%2F HTTP/1.1\r\nUser-Agent: datadog-agent/7.60.0\r\nHost: 127.0.0.1:9804\r\n"
            b"content-length: 17\r\nDd-Api-Key: 0123\r\nX:\r\nX:a\r\nX:  b \t\r\nX: \xe9\xff\r\nDate: a:b, c\r\n\r\n"
        )
        head = parse_request(data)
        self.assertEqual((head.method, head.target, head.http10), (b"POST", b"/api/v2/series?x=%2F", False))
        self.assertEqual((head.body, head.keep_alive), (17, True))
        self.assertEqual(
            head.rebuild(HOST),
            b"POST /api/v2/series?x=%2F HTTP/1.1\r\nHost: intake.example\r\nUser-Agent: datadog-agent/7.60.0\r\n"
            b"content-length: 17\r\nDd-Api-Key: 0123\r\nX:\r\nX:a\r\nX:  b \t\r\nX: \xe9\xff\r\nDate: a:b, c\r\n\r\n",
        )

    def test_fields_of_one_connection_are_dropped(self) -> None:
        self.assertEqual(
            self.rebuilt(
                *(b"A: 1", b"Connection: keep-alive, X-One", b"Keep-Alive: timeout=5", b"x-one: 1", b"X-One-More: 2"),
                *(b"TE: trailers", b"Upgrade: h2c", b"HTTP2-Settings: x", b"Proxy-Connection: close"),
                *(b"connection:Upgrade,HTTP2-Settings", b"Trailer: X-Sum"),
                b"Proxy-Authorization: x",
            ),
            b"POST / HTTP/1.1\r\nHost: intake.example\r\nA: 1\r\nX-One-More: 2\r\nTrailer: X-Sum\r\n"
            b"Proxy-Authorization: x\r\n\r\n",
        )

    def test_fields_of_one_connection_need_no_nomination(self) -> None:
        """Old and careless clients do not name them."""
        for name in (b"Keep-Alive", b"Proxy-Connection", b"TE", b"Upgrade"):
            self.assertEqual(self.rebuilt(name + b": a"), self.rebuilt(), name)
            self.assertEqual(parse_response(answer(name + b": a"), b"GET").fields, b"", name)

    def test_nominated(self) -> None:
        """Connection may drop any field but those that end the body or name the host."""
        for nominated, lines, kept in (
            (b"content-length", b"Content-Length: 5", b"\r\nContent-Length: 5"),
            (b"transfer-encoding", b"Transfer-Encoding: chunked", b"\r\nTransfer-Encoding: chunked"),
            (b"host", b"A: 1", b"\r\nA: 1"),
            (b"connection", b"A: 1", b"\r\nA: 1"),
            (b"close", b"Close: 1", b"\r\nClose: 1"),
            (b"Expect", b"Expect: 100-continue", b""),
            (b"Date", b"Expect: 100-continue\r\nContent-Length: 1", b"\r\nContent-Length: 1"),
            (b",, ,\tdate\t,", b"Date: 1", b""),
            (b"", b"A: 1", b"\r\nA: 1"),
        ):
            wanted = b"POST / HTTP/1.1\r\nHost: intake.example" + kept + b"\r\n\r\n"
            self.assertEqual(self.rebuilt(b"Connection: " + nominated, lines), wanted, nominated)
            self.assertEqual(self.rebuilt(lines, b"Connection: " + nominated), wanted, nominated)

    def test_expectations(self) -> None:
        """Met by the relay and never passed on; of HTTP/1.0 it says nothing."""
        for first, framing, value, expects in (
            (b"POST / HTTP/1.1", b"Content-Length: 5", b"100-continue", True),
            (b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", b"\t100-Continue ", True),
            (b"GET / HTTP/1.1", b"A: 1", b"100-continue", True),
            (b"POST / HTTP/1.0", b"Content-Length: 5", b"100-continue", False),
        ):
            head = parse_request(request(framing, b"Expect:" + value, first=first))
            self.assertEqual(head.expects, expects, (first, framing))
            self.assertNotIn(b"xpect", head.rebuild(HOST))
        self.assertFalse(parse_request(request(b"Content-Length: 5")).expects)

    def test_body(self) -> None:
        for lines, body in (
            ((), 0),
            ((b"Content-Length: 0",), 0),
            ((b"Content-Length: 5",), 5),
            ((b"Content-Length:\t 5 \t",), 5),
            ((b"CONTENT-LENGTH:5",), 5),
            ((b"Content-Length: 000005",), 5),
            ((b"Content-Length: 999999999999999999",), 10**18 - 1),
            ((b"Transfer-Encoding: chunked",), CHUNKED),
            ((b"transfer-encoding:\tChunked\t ",), CHUNKED),
            ((b"Content_Length: 5", b"Transfer_Encoding: chunked", b"XContent-Length: 5", b"Content-Length-X: 5"), 0),
        ):
            self.assertEqual(parse_request(request(*lines)).body, body, lines)

    def test_framing_is_written_in_its_normal_form(self) -> None:
        self.assertIn(b"\r\nContent-Length: 5\r\n", self.rebuilt(b"Content-Length:\t 0005 "))
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", self.rebuilt(b"transfer-encoding:CHUNKED"))

    def test_keep_alive(self) -> None:
        for version, connection, kept in (
            (b"1.1", (), True),
            (b"1.1", (b"Connection: CLOSE",), False),
            (b"1.1", (b"Connection: keep-alive, close",), False),
            (b"1.1", (b"Connection: keep-alive", b"Connection: a,close"), False),
            (b"1.1", (b"Connection: closed",), True),
            (b"1.0", (), False),
            (b"1.0", (b"Connection: Keep-Alive",), True),
            (b"1.0", (b"Connection: a",), False),
            (b"1.0", (b"Connection: keep-alive, close",), False),
        ):
            head = parse_request(request(*connection, first=b"GET / HTTP/" + version))
            self.assertEqual((head.keep_alive, head.http10), (kept, version == b"1.0"), (version, connection))

    def test_http10_goes_on_as_http11(self) -> None:
        self.assertEqual(
            self.rebuilt(b"Content-Length: 5", first=b"POST / HTTP/1.0", host=None),
            b"POST / HTTP/1.1\r\nHost: intake.example\r\nContent-Length: 5\r\n\r\n",
        )

    def test_targets(self) -> None:
        for method, target, wanted in (
            (b"GET", b"/", b"/"),
            (b"GET", b"//a/../b/./%2e%00?c=/d?e", b"//a/../b/./%2e%00?c=/d?e"),
            (b"GET", b"/\"<>\\^`{|}!$&'()*+,;=:@~", b"/\"<>\\^`{|}!$&'()*+,;=:@~"),
            (b"GET", b"http://a", b"/"),
            (b"GET", b"HTTP://a:80/b?c", b"/b?c"),
            (b"GET", b"http://[::1]:80/b", b"/b"),
            (b"GET", b"http://a?q=/b", b"/?q=/b"),
            (b"GET", b"http://a?", b"/?"),
            (b"GET", b"http://a//b", b"//b"),
            (b"OPTIONS", b"*", b"*"),
            (b"OPTIONS", b"/", b"/"),
            (b"OPTIONS", b"http://a", b"*"),
            (b"OPTIONS", b"http://a?b", b"/?b"),
            (b"OPTIONS", b"http://a/", b"/"),
        ):
            head = parse_request(request(first=method + b" " + target + b" HTTP/1.1"))
            self.assertEqual(head.target, wanted, target)
            self.assertTrue(head.rebuild(HOST).startswith(b"%b %b HTTP/1.1\r\n" % (method, wanted)))

    def test_method_that_is_not_known(self) -> None:
        """The upstream knows; its answer is framed like any other."""
        self.assertEqual(parse_request(request(first=b"PURGE / HTTP/1.1")).method, b"PURGE")

    def test_host(self) -> None:
        for host in (b"", b"127.0.0.1:9804", b"[::1]:80", b"a.example.", b"xn--a_b", b" a "):
            self.assertEqual(parse_request(request(host=host)).body, 0, host)

    def test_one_empty_line_before(self) -> None:
        self.assertEqual(parse_request(b"\r\n" + request()).rebuild(HOST), self.rebuilt())


class AnswerTests(SynchronousTestCase):
    def test_intake_answer(self) -> None:
        head = parse_response(
            answer(
                *(b"Content-Type: application/json", b"Content-Length: 15", b"Date: a", b"Connection: keep-alive"),
                *(b"Keep-Alive: timeout=5", b"Host: odd", b"Via: 1.1 google", b"X:\xe9 ", b"Trailer: X"),
                first=b"HTTP/1.1 202 Accepted",
            ),
            b"POST",
        )
        self.assertEqual((head.status, head.reason, head.http10), (202, b"Accepted", False))
        self.assertEqual((head.body, head.keep_alive), (15, True))
        self.assertEqual(
            head.rebuild(),
            b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\nDate: a\r\n"
            b"Host: odd\r\nVia: 1.1 google\r\nX:\xe9 \r\nTrailer: X\r\n\r\n",
        )

    def test_status_lines(self) -> None:
        for line, status, reason in (
            (b"HTTP/1.1 200", 200, b""),
            (b"HTTP/1.1 200 ", 200, b""),
            (b"HTTP/1.1 200  OK", 200, b" OK"),
            (b"HTTP/1.1 404 Nicht gefunden \xfc\t!", 404, b"Nicht gefunden \xfc\t!"),
            (b"HTTP/1.0 999 Odd", 999, b"Odd"),
        ):
            head = parse_response(answer(first=line), b"GET")
            self.assertEqual((head.status, head.reason), (status, reason), line)
            self.assertEqual(head.rebuild(), b"HTTP/1.1 %d %b\r\n\r\n" % (status, reason))

    def test_body(self) -> None:
        """RFC 9112 §6.3: by method and status first, then coding, then length, else until the connection closes."""
        length, chunked, neither = b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: a"
        for method, status, line, body in (
            (b"GET", 200, length, 5),
            (b"GET", 200, chunked, CHUNKED),
            (b"GET", 200, neither, UNTIL_CLOSE),
            (b"HEAD", 200, length, 0),
            (b"HEAD", 200, chunked, 0),
            (b"HEAD", 200, neither, 0),
            (b"GET", 204, length, 0),
            (b"GET", 204, chunked, 0),
            (b"GET", 304, length, 0),
            (b"GET", 304, chunked, 0),
            (b"GET", 304, neither, 0),
            (b"GET", 100, length, 0),
            (b"GET", 103, chunked, 0),
            (b"GET", 103, neither, 0),
            (b"GET", 205, length, 5),
            (b"GET", 205, neither, UNTIL_CLOSE),
            (b"GET", 404, chunked, CHUNKED),
        ):
            head = parse_response(answer(line, first=b"HTTP/1.1 %d X" % status), method)
            self.assertEqual(head.body, body, (method, status, line))
            self.assertEqual(head.keep_alive, body != UNTIL_CLOSE, (method, status, line))

    def test_length_that_says_something_is_kept(self) -> None:
        """Of HEAD and 304 it is the length that GET would get."""
        for method, status, kept in (
            (b"HEAD", 200, True),
            (b"GET", 304, True),
            (b"GET", 204, False),
            (b"GET", 103, False),
        ):
            head = parse_response(answer(b"A: 1", b"Content-Length: 5", first=b"HTTP/1.1 %d X" % status), method)
            wanted = b"HTTP/1.1 %d X\r\nA: 1" % status + (b"\r\nContent-Length: 5" if kept else b"") + b"\r\n\r\n"
            self.assertEqual(head.rebuild(), wanted)

    def test_broken_framing_without_a_body(self) -> None:
        """An answer to HEAD has no body to misread, but the upstream cannot be trusted about the next one."""
        both = answer(b"Content-Length: 5", b"Transfer-Encoding: chunked")
        self.assertRaises(MessageError, parse_response, both, b"HEAD")

    def test_keep_alive(self) -> None:
        for version, connection, kept in (
            (b"1.1", b"keep-alive", True),
            (b"1.1", b"Close", False),
            (b"1.0", b"a", False),
            (b"1.0", b"Keep-Alive", True),
            (b"1.0", b"keep-alive, close", False),
        ):
            lines = (b"Connection: " + connection, b"Content-Length: 5")
            head = parse_response(answer(*lines, first=b"HTTP/" + version + b" 200 OK"), b"GET")
            self.assertEqual((head.keep_alive, head.http10), (kept, version == b"1.0"), (version, connection))

    def test_http10_without_a_length_ends_the_connection(self) -> None:
        head = parse_response(answer(b"Connection: keep-alive", first=b"HTTP/1.0 200 OK"), b"GET")
        self.assertEqual((head.body, head.keep_alive), (UNTIL_CLOSE, False))
