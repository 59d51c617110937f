"""fipsrelay as its package would lay it out, on a machine of its own.

The interpreter and the libraries are those of the suite, mounted where the package has its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packages.tests.hosted import Hosted
from packages.tests.machine import CHECKOUT

SERVICES = CHECKOUT / "packages" / "services"
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_SCRIPTS = {"twistd": "from twisted.scripts.twistd import run as main", "fipsrelay": "from fipsrelay.cli import main"}


class Installed(Hosted):
    """A machine with the package's files, the shipped configuration and a module."""

    def setUp(self) -> None:
        super().setUp()
        self._runtime()
        self.put_module("/opt/fipsrelay/share/fipsrelay")
        useradd = "useradd --system --home-dir /var/lib/fipsrelay --no-create-home fipsrelay"
        self.machine.run("sh", "-c", f"id fipsrelay >/dev/null 2>&1 || {useradd}")
        self.machine.run("install", "-d", "-o", "fipsrelay", "-g", "fipsrelay", "-m", "0750", "/var/lib/fipsrelay")
        self.machine.put("/etc/default/fipsrelay", (SERVICES / "fipsrelay.default").read_text())
        self.configure()

    def _runtime(self) -> None:
        """/opt/fipsrelay, on mounts of the suite's own interpreter, its libraries and the checkout."""
        site = next(path for path in map(Path, sys.path) if (path / "twisted" / "scripts").is_dir())
        for source, place in ((sys.base_prefix, "python"), (site, "libraries"), (CHECKOUT, "checkout")):
            self.machine.run("mkdir", "-p", f"/opt/{place}")
            self.machine.run("mount", "--bind", str(source), f"/opt/{place}")
        # An interpreter with a shared library knows it by a path that the service user may not enter.
        self.machine.put("/etc/ld.so.conf.d/000-stand-in.conf", "/opt/python/lib\n")
        self.machine.run("ldconfig")
        self.machine.put("/opt/fipsrelay/pyvenv.cfg", "home = /opt/python/bin\ninclude-system-site-packages = false\n")
        folder = f"/opt/fipsrelay/lib/{_PYTHON}/site-packages"
        self.machine.put(f"{folder}/stand-in.pth", "/opt/libraries\n/opt/checkout\n")
        self.machine.run("mkdir", "-p", "/opt/fipsrelay/bin")
        self.machine.run("ln", "-s", f"/opt/python/bin/{_PYTHON}", "/opt/fipsrelay/bin/python3")
        for name, line in _SCRIPTS.items():
            text = f"#!/opt/fipsrelay/bin/python3\nimport sys\n{line}\nsys.exit(main())\n"
            self.machine.put(f"/opt/fipsrelay/bin/{name}", text, 0o755)
