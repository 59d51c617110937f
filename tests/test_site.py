"""What the first port serves."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import UnsupportedMethod
from twisted.web.test.requesthelper import DummyRequest

from fipsrelay.observe import site
from fipsrelay.observe.site import Kept, StatusSite, is_own_name
from tests.documents import Relay

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.state = "ready"
        self.relay = Relay()
        self.site = StatusSite(
            lambda: self.relay.document(self.state), lambda: {"report": 1}, lambda: self.state, lambda: self.now
        )

    def get(self, path: str, method: bytes = b"GET", /, **fields: str) -> DummyRequest:
        request = DummyRequest([segment.encode() for segment in path.split("/")[1:]])
        request.method = method
        for name, value in fields.items():
            request.requestHeaders.setRawHeaders(name, [value])
        served: Any = request
        request.write(self.site.getResourceFor(served).render(served))
        return request

    def text(self, path: str, **fields: str) -> str:
        return b"".join(self.get(path, **fields).written).decode()

    def kind(self, path: str, **fields: str) -> str:
        [kind] = self.get(path, **fields).responseHeaders.getRawHeaders("content-type", [])
        return str(kind)

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
            request = self.get("/readyz")
            self.assertEqual((request.responseCode, b"".join(request.written)), (status, f"{state}\n".encode()))
            self.assertEqual(self.get("/healthz").responseCode, 200)

    def test_unknown(self) -> None:
        request = self.get("/statistics", **HTML)
        self.assertEqual(request.responseCode, 404)
        self.assertIn("see /, /status, /metrics", b"".join(request.written).decode())

    def test_headers(self) -> None:
        """On every answer, also where there is nothing."""
        for path in ("/", "/status", "/metrics", "/;csv", "/healthz", "/readyz", "/evidence.json", "/nothing"):
            headers = self.get(path, **HTML).responseHeaders
            for name, value in (site._PAGE_HEADERS if path == "/" else site._HEADERS).items():
                self.assertEqual(headers.getRawHeaders(name), [value], path)

    def test_read_only(self) -> None:
        for path in ("/", "/status", "/nothing"):
            for method in (b"POST", b"PUT", b"DELETE"):
                self.assertRaises(UnsupportedMethod, self.get, path, method)

    def test_other_names(self) -> None:
        """Of a page in a browser on this host, whose own name leads here (DNS rebinding)."""
        for path in ("/", "/status", "/evidence.json", "/healthz"):
            request = self.get(path, host="rebound.example:9803")
            self.assertEqual(request.responseCode, 421, path)
            self.assertNotIn(b"fipsrelay 0", b"".join(request.written))
            self.assertEqual(self.get(path, host="localhost:9803").responseCode or 200, 200, path)

    def test_one_document(self) -> None:
        """Numbers agree wherever they stand."""
        answers = json.loads(self.text("/status"))["intakes"][0]["answers"]
        self.assertEqual(answers, {"202": 4, "503": 1})
        self.assertIn("202:4 503:1", self.text("/"))
        self.assertIn("202: 4 ", self.text("/", **HTML).replace("</span>", ""))
        self.assertIn('fipsrelay_requests_total{code="202",intake="metrics"} 4.0', self.text("/metrics"))
        self.assertIn("metrics,FRONTEND,", self.text("/;csv"))


class OwnNameTests(SynchronousTestCase):
    def test_own(self) -> None:
        for host in ("localhost", "LOCALHOST:9803", "localhost.", "127.0.0.1", "127.0.0.1:9803", "[::1]", "[::1]:9803"):
            self.assertTrue(is_own_name(host), host)
        self.assertTrue(is_own_name("192.0.2.7:9803"))

    def test_not_own(self) -> None:
        for host in (
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "[::1",
            "[localhost.x]",
            "1.2.3",
        ):
            self.assertEqual(is_own_name(host), host == "[::1", host)

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
        self.assertEqual(kept(), ("text/plain", b"%d" % len(made)))
