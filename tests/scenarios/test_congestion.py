"""Large writes leave in one call where the kernel does not pace, else record by record: both here, whatever it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fipsrelay.demo.peer import RelayProcess
from tests.scenarios import test_bridge, test_crosstalk, test_integrity
from tests.scenarios.stage import Stage


class Congested(Stage):
    """A relay whose sockets have this congestion control."""

    congestion = "reno"

    def run_relay(
        self,
        document: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> RelayProcess:
        folder = str(Path(__file__).with_name("congested"))
        environ = {**(environ or {}), "PYTHONPATH": folder, "CONGESTION": self.congestion}
        return super().run_relay(document, environ, prefix, options)


class Paced(Congested):
    congestion = "bbr"


class AskedTests(Paced):
    def test_asked(self) -> None:
        """Otherwise the other tests here would repeat those that they are made of."""
        peer = self.start_played_peer()
        relay = self.start_relay(peer.port)
        self.answered(peer)
        relay.wait_for("asked for the congestion control, which is bbr")


class BridgeTests(Congested, test_bridge.BridgeTests):
    pass


class PacedBridgeTests(Paced, test_bridge.BridgeTests):
    pass


class LoadTests(Congested, test_integrity.LoadTests):
    pass


class PacedLoadTests(Paced, test_integrity.LoadTests):
    pass


class MemoryTests(Congested, test_integrity.MemoryTests):
    pass


class PacedMemoryTests(Paced, test_integrity.MemoryTests):
    pass


class CrossTalkTests(Congested, test_crosstalk.CrossTalkTests):
    pass
