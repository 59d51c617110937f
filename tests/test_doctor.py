"""What doctor makes of who holds the ports; ``scenarios.test_doctor`` asks all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from fipsrelay.observe import doctor
from tests.folders import Folders
from tests.test_host import procfs
from tests.test_service import config


class PortsTests(Folders):
    def found(self, running: int | None, holders: Mapping[int, str]) -> list[tuple[str, str]]:
        wanted = config()
        proc = procfs(self.folder(), wanted.intakes["web"].port, holders)
        self.port = wanted.intakes["web"].port
        return [(each.state, each.found) for each in doctor.ports(wanted, running, proc)]

    def test_of_somebody_else(self) -> None:
        for running in (None, 7):
            found = self.found(running, {12: "haproxy"})
            self.assertIn(("FAIL", f"port {self.port} of web is held by haproxy (process 12)"), found)

    def test_refused(self) -> None:
        """A raw TCP intake's upstream may be away."""
        wanted: Any = config()
        proc = procfs(self.folder(), wanted.listen.port_range_start, {7: "twistd"})
        wanted.intakes["logs"] = attrs.evolve(wanted.intakes["logs"], protocol="tcp")
        web, logs = (wanted.intakes[name].port for name in ("web", "logs"))
        self.assertEqual(
            [(each.state, each.found) for each in doctor.ports(wanted, 7, proc)],
            [
                ("FAIL", f"nobody listens on {web} of web"),
                ("WARN", f"connections to {logs} of logs are refused"),
            ],
        )

    def test_of_systemd(self) -> None:
        """Which holds it for a relay that does not run."""
        self.assertEqual(
            self.found(None, {1: "systemd"}), [("OK", "systemd holds 1 of 3, for the relay to be started")]
        )

    def test_shared_with_systemd(self) -> None:
        found = self.found(7, {1: "systemd", 7: "twistd"})
        self.assertFalse([words for _, words in found if "held by" in words], found)

    def test_of_a_predecessor(self) -> None:
        """Which is finishing."""
        found = self.found(7, {3: "twistd", 7: "twistd"})
        self.assertFalse([words for _, words in found if "held by" in words], found)
