"""The .deb's runtime with a module of its age where there is nothing but glibc 2.17: the whole relay, by chroot."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

from packages.build import CACHE
from packages.tests.built import package
from packages.tests.hosted import BUNDLE, CONFIG
from packages.tests.old_module import old_module
from packages.tests.packaged import SLOT, Packaged
from packages.toolchain import unpack

HOST = "/bare"
BIN = "/opt/fipsrelay/bin"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


class OldHostTests(Packaged):
    def setUp(self) -> None:
        super().setUp()
        root = self.path(HOST)
        root.mkdir()
        subprocess.run(["dpkg-deb", "-x", str(package("deb")), str(root)], check=True)
        for name in ("lib64", "lib"):
            shutil.rmtree(root / name, ignore_errors=True)  # systemd's unit
            shutil.copytree(unpack(CACHE / "toolchain").sysroot / "lib", root / name, symlinks=True)
        for name in ("dev", "proc", "run", "tmp", "log"):
            (root / name).mkdir()
        (root / "log").chmod(0o777)
        (root / "tmp").chmod(0o1777)
        for name in ("dev", "proc"):
            self.call("mount", "--rbind", f"/{name}", f"{HOST}/{name}")
        self.machine.put(f"{HOST}/etc/nsswitch.conf", NSSWITCH)
        self.machine.put(f"{HOST}/etc/passwd", "fipsrelay:x:65532:65532::/:/nologin\n")
        self.machine.put(f"{HOST}/etc/group", "fipsrelay:x:65532:\n")

    def old(self, *words: str, status: int = 0) -> str:
        """Run it there, as the relay's user."""
        return self.call("chroot", "--userspec=65532:65532", HOST, *words, status=status)

    def test_module(self) -> None:
        """That is built for no younger glibc than 2.14."""
        said = subprocess.run(
            ["readelf", "--wide", "--version-info", str(old_module())], capture_output=True, text=True, check=True
        ).stdout
        versions = {(int(match[1]), int(match[2])) for match in re.finditer(r"\bGLIBC_(\d+)\.(\d+)", said)}
        self.assertEqual(max(versions), (2, 14))

    def test_relays(self) -> None:
        """Every product's payload, over FIPS TLS 1.3 by that module."""
        look = "import os; print(os.confstr('CS_GNU_LIBC_VERSION'), sorted(os.listdir('/usr')))"
        self.assertEqual(self.old(f"{BIN}/python3", "-c", look), "glibc 2.17 ['bin', 'share']\n")
        intake = self.start_intake()
        self.machine.put(HOST + CONFIG, self.configuration())
        for name in ("/etc/hosts", BUNDLE):
            self.machine.put(HOST + name, self.path(name).read_text())
        self.call("chroot", HOST, f"{BIN}/fipsrelay", "module", "--install", self.bring_old())
        self.old(f"{BIN}/twistd", "--pidfile=/tmp/pid", "--logfile=/log/log", "fipsrelay", "-c", CONFIG)
        wait = f"until {BIN}/fipsrelay status -c {CONFIG} >/dev/null 2>&1; do sleep 0.1; done"
        self.call("timeout", "60", "sh", "-c", wait.replace(BIN, f"chroot {HOST} {BIN}"))
        pid = self.path(f"{HOST}/tmp/pid").read_text().strip()
        self.assertIn(f"{HOST}{SLOT}/fips.so", self.path(f"/proc/{pid}/maps").read_text())
        self.relay_everything(intake)
        with self.machine.network():
            self.assertEqual({record["tls_version"] for record in intake.records()}, {"TLSv1.3"})
        found = json.loads(self.old(f"{BIN}/fipsrelay", "doctor", "--json", "--no-agent", "-c", CONFIG))["findings"]
        self.assertEqual([each for each in found if each["state"] == "FAIL"], [])
        self.call("kill", pid)
        self.call("timeout", "60", "sh", "-c", f"while [ -e /proc/{pid} ]; do sleep 0.1; done")

    def bring_old(self) -> str:
        """The module; returns its path there."""
        shutil.copyfile(old_module(), self.path(f"{HOST}/tmp/fips.so"))
        return "/tmp/fips.so"
