"""The statistics page: its text, and how it is served."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import UnsupportedMethod
from twisted.web.test.requesthelper import DummyRequest

from fipsrelay import __version__
from fipsrelay.counters import Counters, IntakeCounters
from fipsrelay.observe import page


class TextTests(SynchronousTestCase):
    def test_render(self) -> None:
        counters = Counters(100.0, {"metrics": IntakeCounters(7, 2), "logs": IntakeCounters()})
        counters.intakes["metrics"].requests.update({503: 1, 202: 4})
        counters.intakes["metrics"].errors.update({"tls": 1, "connect": 12})
        counters.intakes["metrics"].bytes_in = 12345
        self.assertEqual(
            page.render(counters, ("module: fips.so", "listed: True"), 161.4).splitlines(),
            [
                f"fipsrelay {__version__}, up 61 s",
                "module: fips.so",
                "listed: True",
                "",
                "intake   open  connections  bytes in  bytes out  answers      errors",
                "metrics  2     7            12345     0          202:4 503:1  connect:12 tls:1",
                "logs     0     0            0         0          -            -",
            ],
        )

    def test_without_intakes(self) -> None:
        text = page.render(Counters(0.0, {}), (), 0.0)
        self.assertTrue(text.endswith("errors\n"), text)


class SiteTests(SynchronousTestCase):
    def get(self, path: bytes = b"") -> DummyRequest:
        texts = iter(("first", "second ä"))
        resource = page.site(lambda: next(texts)).resource
        for _ in range(2):
            request = DummyRequest([path])
            request.write(resource.render_GET(request))
        return request

    def test_fresh_at_each_request(self) -> None:
        request = self.get()
        self.assertEqual(b"".join(request.written), "second ä".encode())

    def test_headers(self) -> None:
        headers = self.get().responseHeaders
        self.assertEqual(headers.getRawHeaders(b"content-type"), [b"text/plain; charset=utf-8"])
        self.assertEqual(headers.getRawHeaders(b"cache-control"), [b"no-store"])
        self.assertEqual(headers.getRawHeaders(b"x-content-type-options"), [b"nosniff"])

    def test_read_only(self) -> None:
        resource = page.site(lambda: "text").resource
        for method in ("POST", "PUT", "DELETE"):
            request = DummyRequest([b""])
            request.method = method.encode()
            self.assertRaises(UnsupportedMethod, resource.render, request)
