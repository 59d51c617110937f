"""Heads that are refused: each form by its name, with the code and the status that a client is answered."""

from __future__ import annotations

import timeit

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.errors import MessageError
from fipsrelay.wire.http1 import RequestHead, ResponseHead, parse_request, parse_response
from tests.messages import answer, request

BAD_HEAD = ("bad-head", 400)
BAD_TARGET = ("bad-target", 400)
BAD_EXPECT = ("bad-expect", 417)
BAD_METHOD = ("bad-method", 501)
BAD_VERSION = ("bad-version", 505)
UNKNOWN_CODING = ("bad-head", 501)
TOO_LARGE = ("head-too-large", 431)


def request_outcome(data: bytes) -> tuple[str, int] | RequestHead:
    try:
        return parse_request(data)
    except MessageError as error:
        return error.code, error.status


def answer_outcome(data: bytes) -> str | ResponseHead:
    try:
        return parse_response(data, b"GET")
    except MessageError as error:
        return error.code


# A name, the header lines after Host, and how they are refused. They are refused alike in answers.
REFUSED_LINES: dict[str, tuple[bytes, tuple[str, int]]] = {
    "length with a sign": (b"Content-Length: +5", BAD_HEAD),
    "negative length": (b"Content-Length: -5", BAD_HEAD),
    "no length": (b"Content-Length:", BAD_HEAD),
    "hexadecimal length": (b"Content-Length: 0x5", BAD_HEAD),
    "length with an underscore": (b"Content-Length: 1_0", BAD_HEAD),
    "length with a space": (b"Content-Length: 1 0", BAD_HEAD),
    "length with a superscript digit": (b"Content-Length: \xb2", BAD_HEAD),
    "length with Arabic digits": (b"Content-Length: \xd9\xa3", BAD_HEAD),
    "length above 64 bits": (b"Content-Length: 18446744073709551617", BAD_HEAD),
    "length of nineteen digits": (b"Content-Length: " + b"1" * 19, BAD_HEAD),
    "length of thousands of digits": (b"Content-Length: " + b"1" * 5000, BAD_HEAD),
    "list of equal lengths": (b"Content-Length: 5, 5", BAD_HEAD),
    "list of lengths": (b"Content-Length: 5,6", BAD_HEAD),
    "equal lengths": (b"Content-Length: 5\r\ncontent-length: 5", BAD_HEAD),
    "unequal lengths": (b"Content-Length: 5\r\nContent-Length: 6", BAD_HEAD),
    "zero lengths": (b"Content-Length: 0\r\nContent-Length: 0", BAD_HEAD),
    "length, then coding": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", BAD_HEAD),
    "coding, then length": (b"Transfer-Encoding: chunked\r\nContent-Length: 5", BAD_HEAD),
    "length zero and coding": (b"Content-Length: 0\r\nTransfer-Encoding: chunked", BAD_HEAD),
    "length and a coding that Connection nominates": (
        b"Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        BAD_HEAD,
    ),
    "empty coding": (b"Transfer-Encoding:", BAD_HEAD),
    "identity": (b"Transfer-Encoding: identity", BAD_HEAD),
    "coding that only looks like chunked": (b"Transfer-Encoding: xchunked", BAD_HEAD),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1", BAD_HEAD),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"', BAD_HEAD),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked", BAD_HEAD),
    "chunked on two lines": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BAD_HEAD),
    "chunked not last": (b"Transfer-Encoding: chunked, gzip", BAD_HEAD),
    "chunked before an empty element": (b"Transfer-Encoding: chunked,", BAD_HEAD),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked", BAD_HEAD),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked", UNKNOWN_CODING),
    "gzip and chunked on two lines": (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", UNKNOWN_CODING),
    "folded line": (b"X: a\r\n b", BAD_HEAD),
    "line folded with a tab": (b"X: a\r\n\tb", BAD_HEAD),
    "folded empty value": (b"X:\r\n b", BAD_HEAD),
    "folded to nothing": (b"X: a\r\n ", BAD_HEAD),
    "space before the name": (b" X: a", BAD_HEAD),
    "space before the colon": (b"X : a", BAD_HEAD),
    "tab before the colon": (b"Content-Length\t: 5", BAD_HEAD),
    "space before the colon of a coding": (b"Transfer-Encoding : chunked", BAD_HEAD),
    "space in the name": (b"X Y: a", BAD_HEAD),
    "empty name": (b": a", BAD_HEAD),
    "no colon": (b"X", BAD_HEAD),
    "parenthesis in the name": (b"X(: a", BAD_HEAD),
    "NUL in the name": (b"X\0: a", BAD_HEAD),
    "non-ASCII name": (b"X\xe9: a", BAD_HEAD),
    "NUL in the value": (b"X: a\0b", BAD_HEAD),
    "control character in the value": (b"X: a\x01b", BAD_HEAD),
    "DEL in the value": (b"X: a\x7fb", BAD_HEAD),
    "bare LF": (b"X: a\nY: b", BAD_HEAD),
    "bare LF before the CRLF": (b"X: a\n", BAD_HEAD),
    "bare CR": (b"X: a\rY: b", BAD_HEAD),
    "CR before the CRLF": (b"X: a\r", BAD_HEAD),
    "head that ends with bare LFs": (b"X: a\n\nGET /smuggled HTTP/1.1\r\nHost: a", BAD_HEAD),
    "head that ends with CRLF, LF": (b"X: a\r\n\nGET /smuggled HTTP/1.1\r\nHost: a", BAD_HEAD),
    "head that ends with LF, CRLF": (b"X: a\n\r\nGET /smuggled HTTP/1.1\r\nHost: a", BAD_HEAD),
    "two heads": (b"X: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a", BAD_HEAD),
    "too many lines": (b"\r\n".join([b"X: a"] * 129), TOO_LARGE),
    "too many lines that are dropped": (b"\r\n".join([b"TE: a"] * 129), TOO_LARGE),
}

# A name, a whole head, and how it is refused.
REFUSED_REQUESTS: dict[str, tuple[bytes, tuple[str, int]]] = {
    "nothing": (b"", BAD_HEAD),
    "empty lines only": (b"\r\n\r\n", BAD_HEAD),
    "two empty lines before": (b"\r\n\r\n" + request(), BAD_HEAD),
    "bare LF before": (b"\n" + request(), BAD_HEAD),
    "bare CR before": (b"\r" + request(), BAD_HEAD),
    "no empty line": (request()[:-2], BAD_HEAD),
    "bytes after the empty line": (request() + b"x", BAD_HEAD),
    "TLS": (b"\x16\x03\x01\x02\x00\r\n\r\n", BAD_HEAD),
    "an answer": (answer(), BAD_HEAD),
    "no Host": (request(host=None), BAD_HEAD),
    "two Hosts": (request(b"Host: b"), BAD_HEAD),
    "two equal Hosts": (request(b"host: a"), BAD_HEAD),
    "two Hosts in HTTP/1.0": (request(b"Host: b", first=b"GET / HTTP/1.0"), BAD_HEAD),
    "space in Host": (request(host=b"a b"), BAD_HEAD),
    "path in Host": (request(host=b"a/b"), BAD_HEAD),
    "user in Host": (request(host=b"u@a"), BAD_HEAD),
    "coding in HTTP/1.0": (request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), BAD_HEAD),
    "HTTP/0.9": (b"GET /\r\n\r\n", BAD_HEAD),
    "named HTTP/0.9": (request(first=b"GET / HTTP/0.9"), BAD_VERSION),
    "HTTP/1.2": (request(first=b"GET / HTTP/1.2"), BAD_VERSION),
    "HTTP/2.0 after an empty line": (b"\r\n" + request(first=b"GET / HTTP/2.0"), BAD_VERSION),
    "HTTP/2.0": (request(first=b"GET / HTTP/2.0"), BAD_VERSION),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\n", BAD_VERSION),
    "version of two digits": (request(first=b"GET / HTTP/1.10"), BAD_HEAD),
    "version in small letters": (request(first=b"GET / http/1.1"), BAD_HEAD),
    "RTSP": (request(first=b"GET / RTSP/1.1"), BAD_HEAD),
    "ICE": (request(first=b"SOURCE / ICE/1.0"), BAD_HEAD),
    "space after the version": (request(first=b"GET / HTTP/1.1 "), BAD_HEAD),
    "space before the method": (request(first=b" GET / HTTP/1.1"), BAD_HEAD),
    "two spaces before the target": (request(first=b"GET  / HTTP/1.1"), BAD_HEAD),
    "two spaces after the target": (request(first=b"GET /  HTTP/1.1"), BAD_HEAD),
    "tab after the method": (request(first=b"GET\t/ HTTP/1.1"), BAD_HEAD),
    "space in the target": (request(first=b"GET /a b HTTP/1.1"), BAD_HEAD),
    "bare LF after the version": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", BAD_HEAD),
    "bare CR after the version": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", BAD_HEAD),
    "folded first header line": (request(first=b"GET / HTTP/1.1\r\n X: a"), BAD_HEAD),
    "unknown expectation": (request(b"Expect: y"), BAD_EXPECT),
    "no expectation": (request(b"Expect:"), BAD_EXPECT),
    "expectation and more": (request(b"Expect: y 100-continue"), BAD_EXPECT),
    "expectation with a parameter": (request(b"Expect: 100-continue;q=1"), BAD_EXPECT),
    "list of expectations": (request(b"Expect: 100-continue, 100-continue"), BAD_EXPECT),
    "expectation twice": (request(b"Expect: 100-continue\r\nExpect: 100-continue"), BAD_EXPECT),
    "unknown expectation of HTTP/1.0": (request(b"Expect: y", first=b"GET / HTTP/1.0"), BAD_EXPECT),
    "CONNECT": (request(first=b"CONNECT a:443 HTTP/1.1"), BAD_METHOD),
    "CONNECT with a path": (request(first=b"CONNECT / HTTP/1.1"), BAD_METHOD),
    "method in small letters": (request(first=b"head / HTTP/1.1"), BAD_METHOD),
    "method in mixed letters": (request(first=b"Get / HTTP/1.1"), BAD_METHOD),
    "method with a hyphen": (request(first=b"M-SEARCH / HTTP/1.1"), BAD_METHOD),
    "method that is no token": (request(first=b"GE(T / HTTP/1.1"), BAD_HEAD),
    "fragment": (request(first=b"GET /a#b HTTP/1.1"), BAD_TARGET),
    "control character in the target": (request(first=b"GET /\x01 HTTP/1.1"), BAD_TARGET),
    "NUL in the target": (request(first=b"GET /\0 HTTP/1.1"), BAD_TARGET),
    "tab in the target": (request(first=b"GET /\t HTTP/1.1"), BAD_TARGET),
    "DEL in the target": (request(first=b"GET /\x7f HTTP/1.1"), BAD_TARGET),
    "non-ASCII target": (request(first=b"GET /\xc3\xa9 HTTP/1.1"), BAD_TARGET),
    "relative path": (request(first=b"GET a HTTP/1.1"), BAD_TARGET),
    "only a query": (request(first=b"GET ?a HTTP/1.1"), BAD_TARGET),
    "authority form": (request(first=b"GET a:80 HTTP/1.1"), BAD_TARGET),
    "asterisk with another method": (request(first=b"GET * HTTP/1.1"), BAD_TARGET),
    "asterisk and more": (request(first=b"OPTIONS *a HTTP/1.1"), BAD_TARGET),
    "https": (request(first=b"GET https://a/ HTTP/1.1"), BAD_TARGET),
    "URL without a host": (request(first=b"GET http:///a HTTP/1.1"), BAD_TARGET),
    "URL without anything": (request(first=b"GET http:// HTTP/1.1"), BAD_TARGET),
    "URL with one slash": (request(first=b"GET http:/a HTTP/1.1"), BAD_TARGET),
    "URL with a user": (request(first=b"GET http://u:p@a/ HTTP/1.1"), BAD_TARGET),
    "URL with a backslash": (request(first=b"GET http://a\\b/ HTTP/1.1"), BAD_TARGET),
    "URL with a fragment": (request(first=b"GET http://a#/b HTTP/1.1"), BAD_TARGET),
}

# A name, a whole head and the code; the status of the answer is 502 whatever is wrong.
REFUSED_ANSWERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "bad-head"),
    "a request": (request(), "bad-head"),
    "empty line before": (b"\r\n" + answer(), "bad-head"),
    "no empty line": (answer()[:-2], "bad-head"),
    "coding in HTTP/1.0": (answer(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK"), "bad-head"),
    "HTTP/2.0": (answer(first=b"HTTP/2.0 200 OK"), "bad-version"),
    "HTTP/1.2": (answer(first=b"HTTP/1.2 200 OK"), "bad-version"),
    "ICY": (answer(first=b"ICY 200 OK"), "bad-head"),
    "RTSP": (answer(first=b"RTSP/1.0 200 OK"), "bad-head"),
    "version in small letters": (answer(first=b"http/1.1 200 OK"), "bad-head"),
    "status of two digits": (answer(first=b"HTTP/1.1 20 OK"), "bad-head"),
    "status of four digits": (answer(first=b"HTTP/1.1 2000 OK"), "bad-head"),
    "status below 100": (answer(first=b"HTTP/1.1 099 OK"), "bad-head"),
    "status with a sign": (answer(first=b"HTTP/1.1 +20 OK"), "bad-head"),
    "status with a superscript digit": (answer(first=b"HTTP/1.1 20\xb2 OK"), "bad-head"),
    "two spaces before the status": (answer(first=b"HTTP/1.1  200 OK"), "bad-head"),
    "reason next to the status": (answer(first=b"HTTP/1.1 200OK"), "bad-head"),
    "tab after the status": (answer(first=b"HTTP/1.1 200\tOK"), "bad-head"),
    "NUL in the reason": (answer(first=b"HTTP/1.1 200 O\0K"), "bad-head"),
    "control character in the reason": (answer(first=b"HTTP/1.1 200 O\x01K"), "bad-head"),
    "bare CR in the reason": (answer(first=b"HTTP/1.1 200 O\rK"), "bad-head"),
    "bare LF after the reason": (b"HTTP/1.1 200 OK\nX: a\r\n\r\n", "bad-head"),
    "no status": (answer(first=b"HTTP/1.1 OK"), "bad-head"),
}


class RefusedTests(SynchronousTestCase):
    def test_header_lines_of_requests(self) -> None:
        outcomes = {name: request_outcome(request(lines)) for name, (lines, _) in REFUSED_LINES.items()}
        self.assertEqual(outcomes, {name: wanted for name, (_, wanted) in REFUSED_LINES.items()})

    def test_header_lines_of_answers(self) -> None:
        outcomes = {name: answer_outcome(answer(lines)) for name, (lines, _) in REFUSED_LINES.items()}
        self.assertEqual(outcomes, {name: code for name, (_, (code, _)) in REFUSED_LINES.items()})

    def test_requests(self) -> None:
        outcomes = {name: request_outcome(data) for name, (data, _) in REFUSED_REQUESTS.items()}
        self.assertEqual(outcomes, {name: wanted for name, (_, wanted) in REFUSED_REQUESTS.items()})

    def test_answers(self) -> None:
        outcomes = {name: answer_outcome(data) for name, (data, _) in REFUSED_ANSWERS.items()}
        self.assertEqual(outcomes, {name: code for name, (_, code) in REFUSED_ANSWERS.items()})

    def test_no_refusal_quotes_what_was_sent(self) -> None:
        """Error texts reach logs and answers; targets and values hold API keys."""
        secret = b"0123456789abcdef"
        heads = (
            request(first=b"GET /?api_key=%b#x HTTP/1.1" % secret),
            request(first=b"GET /?api_key=%b HTTP/9.9" % secret),
            request(first=b"%b / HTTP/1.1" % secret),
            request(b"DD-API-KEY: %b\0" % secret),
            request(b"%b" % secret),
            request(b"Content-Length: %b" % secret),
            request(b"Transfer-Encoding: %b" % secret),
            request(host=b"%b@a" % secret),
        )
        for head in heads:
            error = self.assertRaises(MessageError, parse_request, head)
            self.assertNotIn(secret.decode(), str(error))

    def test_the_line_at_fault_is_named(self) -> None:
        error = self.assertRaises(MessageError, parse_request, request(b"X: a", b"Y"))
        self.assertIn("header line 3 ", str(error))

    def test_line_limit(self) -> None:
        self.assertEqual(parse_request(request(b"X: a", b"TE: b"), header_lines=3).body, 0)
        self.assertRaises(MessageError, parse_request, request(b"X: a", b"TE: b"), header_lines=2)
        self.assertEqual(parse_response(answer(b"X: a", b"TE: b"), b"GET", header_lines=2).status, 200)
        self.assertRaises(MessageError, parse_response, answer(b"X: a", b"TE: b"), b"GET", header_lines=1)

    def test_refusing_takes_time_in_proportion_to_length(self) -> None:
        """Backtracking in two places at once would need the square: 100 times as long for 10 times as much."""
        for line, end in ((b"a:\r\n", b"\0"), (b"a:" + b"b" * 100 + b"\r\n", b"\0"), (b"a", b""), (b"X: ", b"\0")):
            short, long = (
                min(timeit.repeat(lambda data=data: request_outcome(data), number=1, repeat=5))  # type: ignore[misc]
                for data in (request(line * (size // len(line)) + end) for size in (6_000, 60_000))
            )
            self.assertLess(long, short * 40, (line, end))
