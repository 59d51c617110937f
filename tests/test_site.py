"""What the first port serves."""

from __future__ import annotations

import csv
import itertools
import json
import re
from http import HTTPStatus
from typing import Any

import attrs
import h11
from hypothesis import given, strategies
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe import page
from fipsrelay.observe.site import Kept, StatusSite, is_own_name
from tests.documents import Relay

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "server": "fipsrelay",
    "x-content-type-options": "nosniff",
}
PAGE_HEADERS = {
    **HEADERS,
    "content-security-policy": page.POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
}

SCRAPE = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n"
REQUESTS = (
    SCRAPE,
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(SCRAPE), SCRAPE),
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(SCRAPE), SCRAPE),
)
DATE = re.compile(rb"Date: [^\r]+\r\n")


@attrs.frozen
class Answer:
    """What came, read by h11."""

    status: int
    headers: dict[str, str]
    content: str


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = "ready"
        self.relay = Relay()
        self.reports: list[dict[str, Any]] = [{"report": 1}]
        self.clock = Clock()
        self.site = StatusSite(
            lambda: self.relay.document(self.state), lambda: self.reports[0], lambda: self.state, self.clock
        )
        self.transport = StringTransport()
        self.channel = self.connect(self.transport)

    def connect(self, transport: StringTransport) -> Any:
        channel: Any = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        return channel

    def ask(self, method: str, path: str, body: bytes = b"", /, **fields: str) -> Answer:
        """On the one connection, which goes on."""
        self.transport.clear()
        client = h11.Connection(h11.CLIENT)
        headers = {"host": "localhost", "content-length": str(len(body)), **fields}
        self.channel.dataReceived(
            (client.send(h11.Request(method=method, target=path, headers=list(headers.items()))) or b"")
            + (client.send(h11.Data(data=body)) or b"")
            + (client.send(h11.EndOfMessage()) or b"")
        )
        client.receive_data(self.transport.value())
        head, content = client.next_event(), b""
        assert isinstance(head, h11.Response), head
        while isinstance(event := client.next_event(), h11.Data):
            content += event.data
        self.assertIsInstance(event, h11.EndOfMessage)
        self.assertEqual(client.trailing_data, (b"", False))
        names = [name.decode() for name, _ in head.headers]
        self.assertEqual(len(set(names)), len(names))
        return Answer(head.status_code, {k.decode(): v.decode() for k, v in head.headers}, content.decode())

    def get(self, path: str, **fields: str) -> Answer:
        return self.ask("GET", path, **fields)

    def text(self, path: str, **fields: str) -> str:
        return self.get(path, **fields).content

    def kind(self, path: str, **fields: str) -> str:
        return self.get(path, **fields).headers["content-type"]

    def test_formats(self) -> None:
        """For browsers, for curl, and for programs."""
        for path, fields, kind, words in (
            ("/", HTML, "text/html; charset=utf-8", "<!DOCTYPE html>"),
            ("/", {}, "text/plain; charset=utf-8", "fipsrelay "),
            ("/", {"accept": "*/*"}, "text/plain; charset=utf-8", "fipsrelay "),
            ("/status", HTML, "application/json", '{"made": '),
            ("/;csv", {}, "text/plain; charset=utf-8", "# pxname,"),
            ("/;csv;norefresh", {}, "text/plain; charset=utf-8", "# pxname,"),
            ("/haproxy/stats;csv", {}, "text/plain; charset=utf-8", "# pxname,"),
            ("/healthz", {}, "text/plain; charset=utf-8", "alive\n"),
            ("/readyz", {}, "text/plain; charset=utf-8", "ready\n"),
            ("/evidence.json", {}, "application/json", '{"report": 1}'),
        ):
            self.assertEqual(self.kind(path, **fields), kind, path)
            self.assertTrue(self.text(path, **fields).startswith(words), path)
        self.assertIn("fipsrelay_ready 1.0", self.text("/metrics"))
        self.assertTrue(self.kind("/metrics").startswith("text/plain; version="))
        openmetrics = "application/openmetrics-text; version=1.0.0"
        self.assertTrue(self.kind("/metrics", accept=openmetrics).startswith("application/openmetrics-text;"))
        self.assertTrue(self.text("/metrics", accept=openmetrics).endswith("# EOF\n"))

    def test_ready(self) -> None:
        for state, status in (("starting", 503), ("ready", 200), ("draining", 503), ("lost", 503)):
            self.state = state
            answer = self.get("/readyz")
            self.assertEqual((answer.status, answer.content), (status, f"{state}\n"))
            self.assertEqual(self.get("/healthz").status, 200)

    def test_unknown(self) -> None:
        for path in ("/statistics", "/status/", "//status", "http://localhost/status", "*", "/%00"):
            answer = self.get(path, **HTML)
            self.assertEqual(answer.status, 404, path)
            self.assertIn("see /, /status, /metrics", answer.content)

    def test_spelled_otherwise(self) -> None:
        """Percent-encoded, as some readers of HAProxy's page send it, and with what a browser adds."""
        for path in ("/%3Bcsv", "/%3bcsv;norefresh"):
            self.assertTrue(self.text(path).startswith("# pxname,"), path)
        self.assertEqual(self.text("/healthz?now=1"), "alive\n")

    def test_headers(self) -> None:
        """On every answer, also where there is nothing."""
        for path in ("/", "/status", "/metrics", "/;csv", "/healthz", "/readyz", "/evidence.json", "/nothing"):
            headers = self.get(path, **HTML).headers
            wanted = PAGE_HEADERS if path == "/" else HEADERS
            self.assertEqual({name: headers.get(name) for name in wanted}, wanted, path)
            self.assertIn("date", headers)

    def test_read_only(self) -> None:
        for path in ("/", "/status", "/nothing"):
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"):
                answer = self.ask(method, path)
                self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        self.assertNotIn("allow", self.get("/").headers)

    def test_bodies_are_not_kept(self) -> None:
        """Nobody fills the disk or the memory by sending one."""
        find, kept = self.site.find, []

        def keeping(request: Any) -> Any:
            kept.append((request.content.read(), request.args))
            return find(request)

        self.patch(self.site, "find", keeping)
        form = {"content-type": "application/x-www-form-urlencoded"}
        for method, status in (("POST", 405), ("GET", 200)):
            self.assertEqual(self.ask(method, "/healthz", b"a=b&" * 50_000, **form).status, status)
        self.assertEqual(kept, [(b"", {})] * 2)

    def test_head(self) -> None:
        """What GET would say of its content, without it."""
        for path in ("/healthz", "/nothing", "/", "/"):
            answer, content = self.ask("HEAD", path, **HTML), self.text(path, **HTML)
            self.assertEqual((answer.content, int(answer.headers["content-length"])), ("", len(content.encode())))

    def test_failure(self) -> None:
        """Of ours is logged, and is an answer."""
        self.reports.clear()
        answer = self.get("/evidence.json")
        self.assertEqual((answer.status, answer.content), (500, "no answer could be made; the relay's log says why\n"))
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)
        self.assertEqual(self.get("/healthz").status, 200)

    def test_scrapes(self) -> None:
        """The metrics and the page are made anew only after a while: see ``Kept``."""
        whole, made = self.relay.document, []

        def document(state: str) -> Any:
            made.append(state)
            self.clock.advance(0.01)
            return whole(state)

        self.patch(self.relay, "document", document)
        for path, fields in (("/metrics", {}), ("/", HTML)):
            made.clear()
            for _ in range(3):
                self.get(path, **fields)
            self.assertEqual(len(made), 1, path)
            self.clock.advance(11)
            self.get(path, **fields)
            self.assertEqual(len(made), 2, path)

    def test_again(self) -> None:
        """The same request is not read again, and gets the same answer as new as ever."""
        find, read = self.site.find, []

        def reading(request: Any) -> Any:
            read.append(request.path)
            return find(request)

        self.patch(self.site, "find", reading)
        for path, fields in (("/metrics", {}), ("/", HTML)):
            read.clear()
            first, second = (self.get(path, **fields) for _ in range(2))
            self.assertEqual({**second.headers, "date": ""}, {**first.headers, "date": ""})
            # But for the process's own CPU time
            self.assertEqual(*(each.content.partition("# HELP process_")[0] for each in (first, second)))
            self.relay.counters.intakes["metrics"].requests[207] += 1
            self.transport = StringTransport()
            self.channel = self.connect(self.transport)
            self.assertIn("207", self.get(path, **fields).content)
            self.assertEqual(len(read), 1)
            for _ in range(2):
                self.assertEqual(self.get(path, **fields, host="rebound.example").status, 421)
            del self.relay.counters.intakes["metrics"].requests[207]

    def test_again_fails(self) -> None:
        self.get("/metrics")
        self.patch(self.relay, "document", lambda state: 1 / 0)
        for _ in range(2):
            self.assertEqual(self.get("/metrics").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_last(self) -> None:
        """The end of a connection is that of its last request only."""
        for _ in range(2):
            self.get("/metrics", connection="close")
            self.assertTrue(self.transport.disconnecting)
            self.transport = StringTransport()
            self.channel = self.connect(self.transport)

    @given(strategies.lists(strategies.sampled_from(REQUESTS), max_size=6), strategies.data())
    def test_cut_anywhere(self, requests: list[bytes], data: strategies.DataObject) -> None:
        """However requests come in, all of them are answered in their order, as each is by itself."""
        expected = []
        for request in requests:
            transport = StringTransport()
            self.connect(transport).dataReceived(request)
            expected.append(DATE.sub(b"", transport.value()))
        stream = b"".join(requests)
        starts = [0, *(found.start() for found in re.finditer(b"(?=GET|HEAD|POST)", stream)), len(stream)]
        cuts = data.draw(strategies.sets(strategies.sampled_from(starts) | strategies.integers(0, len(stream))), "cuts")
        pieces = [stream[begin:end] for begin, end in itertools.pairwise(sorted({0, *cuts, len(stream)}))]
        self.site.known.clear()
        transport = StringTransport()
        channel = self.connect(transport)
        for piece in pieces * 2:
            channel.dataReceived(piece)
        self.assertEqual(DATE.sub(b"", transport.value()), b"".join(expected * 2))

    def test_body_like_a_request(self) -> None:
        for request, status in zip(REQUESTS[-2:], (200, 405), strict=True):
            self.channel.dataReceived(SCRAPE)
            self.transport.clear()
            for piece in request.partition(SCRAPE):
                self.channel.dataReceived(piece)
            self.assertEqual(re.findall(rb"HTTP/1.1 (\d+) ", self.transport.value()), [b"%d" % status])

    def test_half_a_line(self) -> None:
        """What comes after it is not the request that it looks like."""
        self.channel.dataReceived(SCRAPE)
        self.transport.clear()
        self.channel.dataReceived(b"HEAD ")
        self.channel.dataReceived(SCRAPE)
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 400 "))

    def test_spellings(self) -> None:
        """As many of them as anybody sends are known, but no more of them than are useful."""
        for number in range(1000):
            self.assertEqual(self.get("/metrics", number=str(number)).status, 200)
            self.assertLessEqual(len(self.site.known), 64)
        self.site.known.clear()
        self.assertEqual(self.get("/metrics", much="x" * 10_000).status, 200)
        self.assertEqual(self.site.known, {})

    def test_idle(self) -> None:
        """Connections do not stay for ever."""
        for path in ["/healthz"] * 3 + ["/metrics"] * 3:
            self.clock.pump([30])
            self.get(path)
        self.assertFalse(self.transport.disconnecting)
        self.clock.pump([30] * 3)
        self.assertTrue(self.transport.disconnecting)

    def test_other_names(self) -> None:
        """Of a page in a browser on this host, whose own name leads here (DNS rebinding)."""
        for path in ("/", "/status", "/evidence.json", "/healthz"):
            answer = self.get(path, host="rebound.example:9803")
            self.assertEqual(answer.status, 421, path)
            self.assertEqual(answer.content, "this is served for names of this host only\n")
            self.assertEqual(self.get(path, host="localhost:9803").status, 200, path)

    def test_one_document(self) -> None:
        """Numbers agree wherever they stand."""
        answers = json.loads(self.text("/status"))["intakes"][0]["answers"]
        self.assertEqual(answers, {"202": 4, "503": 1})
        self.assertIn("202:4 503:1", self.text("/"))
        self.assertIn("202: 4 ", self.text("/", **HTML).replace("</span>", ""))
        self.assertIn('fipsrelay_requests_total{code="202",intake="metrics"} 4.0', self.text("/metrics"))
        [row, *_] = csv.DictReader(self.text("/;csv").splitlines())
        self.assertEqual((row["# pxname"], row["hrsp_2xx"], row["hrsp_5xx"]), ("metrics", "4", "1"))


class OwnNameTests(SynchronousTestCase):
    def test_own(self) -> None:
        for host in ("localhost", "LOCALHOST:9803", "localhost.", "127.0.0.1", "127.0.0.1:9803", "[::1]", "[::1]:9803"):
            self.assertTrue(is_own_name(host), host)
        self.assertTrue(is_own_name("192.0.2.7:9803"))
        self.assertTrue(is_own_name("[::1"))  # cut, but no name in DNS can look like that

    def test_not_own(self) -> None:
        for host in ("", "example.com", "localhost.example.com", "127.0.0.1.example.com", "[localhost.x]", "1.2.3"):
            self.assertFalse(is_own_name(host), host)

    @given(strategies.text())
    def test_any(self, host: str) -> None:
        """No text is too odd to be judged."""
        self.assertIn(is_own_name(host), (True, False))


class KeptTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """What takes a hundredth of a second is made once in ten seconds at most."""
        now = [0.0]
        made = []

        def make() -> tuple[str, bytes]:
            now[0] += 0.01
            made.append(now[0])
            return "text/plain", b"%d" % len(made)

        kept = Kept(make, lambda: now[0])
        for _ in range(10_000):
            kept()
            now[0] += 0.01
        self.assertIn(len(made), (10, 11))
        now[0] += 10.0
        self.assertEqual(kept(), (HTTPStatus.OK, "text/plain", b"%d" % len(made)))
