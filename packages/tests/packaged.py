"""A machine of its own that the built packages are put on."""

from __future__ import annotations

from pathlib import Path

from packages.build import ROOT, pack
from packages.tests.hosted import Hosted
from tests.folders import Folders

SLOT = "/opt/fipsrelay/share/fipsrelay"
NEWER = "99.0.0"
UNIT = "fipsrelay.service"


class Packaged(Hosted, Folders):
    """A machine that packages are put on."""

    def path(self, place: str) -> Path:
        return self.machine.root / place.lstrip("/")

    def bring(self, file: Path) -> str:
        """Put a file on it; returns its path there."""
        place = f"/srv/{file.name}"
        self.path(place).write_bytes(file.read_bytes())
        return place

    def newer(self, kind: str = "deb") -> str:
        """A package of a higher version on it."""
        return self.bring(pack(ROOT, kind, NEWER, self.folder()))

    def call(self, *words: str, status: int = 0) -> str:
        """Run it there; returns what it said."""
        # Its first process is no init that has written its runlevel down, which invoke-rc.d asks for: see runlevel(8).
        environ = ("RUNLEVEL=2", "PREVLEVEL=N", "DEBIAN_FRONTEND=noninteractive")
        done = self.machine.run("env", *environ, *words, check=status)
        return done.stdout + done.stderr


class SystemdPackaged(Packaged):
    """One with systemd."""

    systemd = True

    def show(self, name: str) -> str:
        """A property of the relay's unit."""
        return self.call("systemctl", "show", "--value", "-p", name, UNIT).strip()

    def assert_nothing_left(self, pid: str) -> None:
        """Neither this process nor a unit nor a file."""
        self.assertFalse(self.path(f"/proc/{pid}").exists(), "it runs on")
        self.assertEqual(self.call("systemctl", "list-units", "--all", "--no-legend", "fipsrelay*"), "")
        self.assertEqual(self.call("sh", "-c", "find /etc /opt /run /usr /var -name '*fipsrelay*'"), "")
