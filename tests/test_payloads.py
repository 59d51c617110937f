"""The demo's payloads: complete, deterministic, and what their headers say they are."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import zstandard
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.demo import intake, payloads


class PayloadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.payloads = payloads.payloads()

    def test_same_seed_same_bytes(self) -> None:
        """Two runs of the demo send the same, so that their tables can be compared."""
        self.assertEqual(self.payloads, payloads.payloads())

    def test_another_seed_other_bytes(self) -> None:
        self.assertNotEqual(self.payloads, payloads.payloads(seed=payloads.SEED + 1))

    def test_every_product_port_is_used(self) -> None:
        """Every offset but the statistics page (0) and the unused one (11)."""
        self.assertEqual({payload.intake_offset for payload in self.payloads}, set(range(1, 16)) - {11})

    def test_bodies_decode_as_announced(self) -> None:
        decoders: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.decompress,
            "deflate": zlib.decompress,
            "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
        }
        seen = set()
        for payload in self.payloads:
            encoding = dict(payload.headers).get("Content-Encoding")
            if encoding:
                seen.add(encoding)
                self.assertGreater(len(decoders[encoding](payload.body)), 0, payload)
        self.assertEqual(seen, set(decoders))

    def test_flare_is_large_and_chunked(self) -> None:
        flares = [payload for payload in self.payloads if payload.product == "flare"]
        self.assertEqual([(flare.method, flare.chunked) for flare in flares], [("HEAD", False), ("POST", True)])
        self.assertGreaterEqual(len(flares[1].body), payloads.FLARE_SIZE)
        self.assertNotIn(b"", flares[1].chunks, "an empty chunk would end the body")

    def test_bodiless_methods_have_no_body(self) -> None:
        for payload in self.payloads:
            if payload.method in ("GET", "HEAD"):
                self.assertEqual(payload.body, b"", payload)

    def test_demo_intake_answers_at_the_expected_host_only(self) -> None:
        for payload in self.payloads:
            path = payload.path.partition("?")[0]
            status, _ = intake.answer(payload.expected_host, payload.method, path, payloads.SITE)
            self.assertEqual(status, payload.expected_status, payload)
            wrong = "ndm-intake." if "ndm-intake." not in payload.expected_host else "process."
            status, _ = intake.answer(wrong + payloads.SITE, payload.method, path, payloads.SITE)
            self.assertEqual(status, 404, payload)

    def test_other_site_gets_404(self) -> None:
        status, _ = intake.answer("api.example.com", "GET", "/api/v1/validate", payloads.SITE)
        self.assertEqual(status, 404)
