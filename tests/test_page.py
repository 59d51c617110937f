"""The statistics page: its text, and how it is served."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import UnsupportedMethod
from twisted.web.test.requesthelper import DummyRequest

from fipsrelay import __version__
from fipsrelay.config.model import Probes, Timeouts, Upstream
from fipsrelay.counters import Counters, IntakeCounters
from fipsrelay.crypto.policy import SP800_52
from fipsrelay.observe import page
from fipsrelay.upstream.backend import Backend
from fipsrelay.upstream.cluster import Cluster
from fipsrelay.upstream.connect import Means
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import ReadBuffer
from tests.doubles import FakeStream, Reactor

NOTHING: Any = None


class TextTests(SynchronousTestCase):
    def test_render(self) -> None:
        counters = Counters(100.0, {"metrics": IntakeCounters(7, 2), "logs": IntakeCounters()})
        counters.intakes["metrics"].requests.update({503: 1, 202: 4})
        counters.intakes["metrics"].errors.update({"tls": 1, "connect": 12})
        counters.intakes["metrics"].retries.update({"connect": 2})
        counters.intakes["metrics"].bytes_in = 12345
        facts = ("module: fips.so", "listed: True")
        self.assertEqual(
            page.render(counters, facts, "", self.backends(), {"new.example": 20.0}, 161.4, 50.0).splitlines(),
            [
                f"fipsrelay {__version__}, up 61 s",
                "module: fips.so",
                "listed: True",
                "",
                "intake   open  connections  bytes in  bytes out  answers      errors            retries",
                "metrics  2     7            12345     0          202:4 503:1  connect:12 tls:1  connect:2",
                "logs     0     0            0         0          -            -                 -",
                "",
                "server          address            state        for   outstanding  free  last failure",
                "up/mothership1  192.0.2.1:443      DOWN         10 s  1            0     Layer4 timeout",
                "up/mothership2  [2001:db8::1]:443  UP           50 s  0            1     -",
                "up/mothership3  192.0.2.3:443      not checked  50 s  0            0     -",
                "new             new.example        no address   -     -            -     -",
                "new.example has not resolved for 30 s",
            ],
        )

    def test_handshakes(self) -> None:
        """Upstreams that share their servers are one destination."""
        counters = Counters(0.0, {"secure": IntakeCounters(), "metrics": IntakeCounters()})
        counters.intakes["secure"].handshakes["TLSv1.2", "AES", "P-384"] += 2
        backends = self.backends()
        account = backends["up"].cluster.handshakes
        account.finished.update({("TLSv1.3", "AES", "P-256"): 12, ("TLSv1.2", "AES", "P-256"): 1})
        account.refused["tls: wrong curve"] += 3
        text = page.render(counters, (), "Provider 3.1.2", {**backends, "too": backends["up"]}, {}, 0.0, 50.0)
        self.assertEqual(
            text[text.index("handshakes by") :].splitlines(),
            [
                "handshakes by Provider 3.1.2  version  suite  group  count",
                "up.example:443                TLSv1.2  AES    P-256  1",
                "up.example:443                TLSv1.3  AES    P-256  12",
                "agents of secure              TLSv1.2  AES    P-384  2",
                "",
                "handshakes refused  reason            count",
                "up.example:443      tls: wrong curve  3",
            ],
        )

    def backends(self) -> dict[str, Backend]:
        """One upstream with three servers in different states, one with none."""
        reactor = Reactor()
        means = Means(reactor, ReadBuffer(16), Deadlines(reactor, 0.5), NOTHING, SP800_52, Timeouts(), NOTHING)
        addresses = ("192.0.2.1", "2001:db8::1", "192.0.2.3")
        cluster = Cluster("up.example", 443, addresses, None, means, Probes(enabled=False), NOTHING)
        cluster.start()
        down, used, _ = cluster.servers
        down.outstanding += 1
        for began in (20, 30, 40):
            down.health.failed(began, "Layer4 timeout", began)
        stream: Any = FakeStream()
        used.outstanding += 1
        used.adopt(stream)
        reactor.advance(45)
        stream.keeper.give_back()
        unknown = Cluster("new.example", 443, (), None, means, Probes(), NOTHING)
        return {
            "up": Backend(Upstream("up", "up.example"), cluster, means),
            "new": Backend(Upstream("new", "new.example"), unknown, means),
        }

    def test_without_intakes(self) -> None:
        text = page.render(Counters(0.0, {}), (), "", {}, {}, 0.0, 0.0)
        self.assertIn("retries\n", text)
        self.assertTrue(text.endswith("last failure\n"), text)


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        texts = iter(("first", "second ä"))
        self.site = page.site(lambda: next(texts), lambda: {"report": next(texts)})

    def get(self, *path: bytes, method: bytes = b"GET") -> DummyRequest:
        request = DummyRequest(list(path))
        request.method = method
        request.write(self.site.getResourceFor(request).render(request))
        return request

    def test_fresh_at_each_request(self) -> None:
        self.assertEqual(b"".join(self.get(b"").written), b"first")
        self.assertEqual(b"".join(self.get(b"haproxy", b"stats").written), "second ä".encode())

    def test_report(self) -> None:
        for text in ("first", "second ä"):
            request = self.get(b"evidence.json")
            self.assertEqual(json.loads(b"".join(request.written)), {"report": text})
            self.assertEqual(request.responseHeaders.getRawHeaders(b"content-type"), [b"application/json"])

    def test_headers(self) -> None:
        headers = self.get(b"").responseHeaders
        self.assertEqual(headers.getRawHeaders(b"content-type"), [b"text/plain; charset=utf-8"])
        self.assertEqual(headers.getRawHeaders(b"cache-control"), [b"no-store"])
        self.assertEqual(headers.getRawHeaders(b"x-content-type-options"), [b"nosniff"])

    def test_read_only(self) -> None:
        for path in (b"", b"evidence.json"):
            for method in (b"POST", b"PUT", b"DELETE"):
                self.assertRaises(UnsupportedMethod, self.get, path, method=method)
