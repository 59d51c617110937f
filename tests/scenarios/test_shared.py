"""What is said about handshakes holds with the platform's OpenSSL too, and Debian's old pyOpenSSL."""

from __future__ import annotations

from typing import Any, ClassVar

from fipsrelay.crypto import module
from tests import routes
from tests.scenarios import (
    test_bad_peers,
    test_capture,
    test_closing,
    test_congestion,
    test_evidence,
    test_handshakes,
    test_policies,
    test_watch,
)
from tests.scenarios.stage import Stage

# OpenSSL 3.0's, whose own code does not know why the module did not go on.
NO_EXTENDED_MASTER_SECRET = "internal error"


class Shared(Stage):
    """A relay of that route, with the module of the suite's own environment."""

    def route(self) -> routes.Route:
        return routes.shared()

    def fips(self) -> dict[str, Any]:
        return {**super().fips(), "module": str(module.find("auto").path)}


class RouteTests(Shared):
    def test_route(self) -> None:
        """Otherwise the other tests here would repeat those that they are made of."""
        peer = self.start_played_peer()
        relay = self.start_relay(peer.port)
        own, shared = (route.python for route in (routes.own(), routes.shared()))
        self.assertNotEqual(own, shared)
        with open(f"/proc/{relay.pid}/maps", encoding="utf-8") as maps:
            text = maps.read()
        self.assertIn("/libssl.so", text)
        self.assertEqual(len({line.split()[-1] for line in text.splitlines() if "/libcrypto.so" in line}), 1)
        self.assertIn("/_openssl.", text)


class RefusedTests(Shared, test_handshakes.RefusedTests):
    no_extended_master_secret = NO_EXTENDED_MASTER_SECRET


class AcceptedTests(Shared, test_handshakes.AcceptedTests):
    pass


class RenegotiationTests(Shared, test_handshakes.RenegotiationTests):
    pass


class LiarTests(Shared, test_bad_peers.LiarTests):
    no_extended_master_secret = NO_EXTENDED_MASTER_SECRET


class CnsaTests(Shared, test_policies.CnsaTests):
    pass


class CaptureTests(Shared, test_capture.CaptureTests):
    """OpenSSL 3.0 always sends ec_point_formats, and says by a signal that renegotiation would be secure."""

    signals = frozenset({0x00FF})
    extensions: ClassVar[dict[int, str]] = {**test_capture.EXTENSIONS, 11: test_capture.EXTENSIONS_1_2[11]}
    extensions_1_2: ClassVar[dict[int, str]] = {}


class WatchTests(Shared, test_watch.WatchTests):
    pass


class BridgeTests(Shared, test_congestion.BridgeTests):
    """Large bodies against a slow reader: an older pyOpenSSL leaves other modes of OpenSSL's writing as they are."""


class PacedBridgeTests(Shared, test_congestion.PacedBridgeTests):
    pass


class MemoryTests(Shared, test_congestion.MemoryTests):
    pass


class PacedMemoryTests(Shared, test_congestion.PacedMemoryTests):
    pass


class RawTests(Shared, test_closing.RawTests):
    pass


class EvidenceTests(Shared, test_evidence.EvidenceTests):
    pass
