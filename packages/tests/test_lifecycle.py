"""A .deb on this machine, from the installation to the purge: as root, with the init script."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from fipsrelay.crypto import module
from fipsrelay.crypto.obtain import place
from packages.build import ROOT, pack
from packages.tests.built import package
from tests.scenarios.stage import Stage, read_exactly, read_head

CONFIG = Path("/etc/fipsrelay/proxy.yaml")
SLOT = Path("/opt/fipsrelay/share/fipsrelay")
PLACES = (
    "/opt/fipsrelay",
    "/etc/fipsrelay",
    "/var/lib/fipsrelay",
    "/var/log/fipsrelay",
    "/run/fipsrelay",
    "/usr/bin/fipsrelay",
)
REQUEST = b"POST /api/v2/series HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\npayload"
ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"


class LifecycleTests(Stage):
    """One test, whose steps are a host's life."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid():
            self.fail("this installs a package: run it as root")
        for path in PLACES:
            self.assertFalse(os.path.lexists(path), f"{path} is there already: not a machine to try this on")
        self.addCleanup(self.call, "dpkg", "--purge", "fipsrelay")
        self.peer = self.start_peer(self.answer)

    def answer(self, connection: ssl.SSLSocket) -> None:
        while read_head(connection):
            self.assertEqual(read_exactly(connection, 7), b"payload")
            connection.sendall(ANSWER)

    def call(self, *command: str, status: int = 0) -> str:
        """Run it; returns what it said."""
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, check=False
        )
        self.assertEqual(done.returncode, status, f"{' '.join(command)}: {done.stdout}")
        return done.stdout

    def relay(self, port: int) -> None:
        """A payload."""
        with socket.create_connection(("127.0.0.1", port), 10) as agent:
            agent.sendall(REQUEST)
            self.assertEqual(read_head(agent) + read_exactly(agent, 2), ANSWER)

    def pid(self) -> int:
        return int(Path("/run/fipsrelay/fipsrelay.pid").read_text())

    def test_life(self) -> None:
        said = self.call("dpkg", "--install", str(package("deb")))
        self.assertIn("no FIPS module yet", said)
        self.check_installed()
        self.assertEqual(self.call("/usr/bin/fipsrelay", "version").split()[0], "fipsrelay")
        self.call("service", "fipsrelay", "status", status=3)
        self.configure()
        self.check_service()
        self.check_upgrade()
        self.check_end()

    def check_installed(self) -> None:
        """Who owns what, and who may read it."""
        user, group = pwd.getpwnam("fipsrelay"), grp.getgrnam("fipsrelay")
        self.assertEqual((user.pw_dir, user.pw_shell), ("/var/lib/fipsrelay", "/usr/sbin/nologin"))
        facts = CONFIG.stat()
        self.assertEqual((facts.st_uid, facts.st_gid, facts.st_mode & 0o7777), (0, group.gr_gid, 0o640))
        self.assertEqual(CONFIG.read_bytes(), Path("/etc/fipsrelay/proxy.yaml.example").read_bytes())
        facts = Path("/var/lib/fipsrelay").stat()
        self.assertEqual((facts.st_uid, facts.st_mode & 0o7777), (user.pw_uid, 0o750))
        for path in Path("/opt/fipsrelay").rglob("*"):
            self.assertEqual((path.lstat().st_uid, path.lstat().st_gid), (0, 0), path)
            self.assertFalse(path.lstat().st_mode & 0o022 and not path.is_symlink(), f"{path} is for others to write")

    def configure(self) -> None:
        """As an operator: the module in its slot, and a configuration of one's own."""
        place(module.find("auto").path, SLOT)
        authority = CONFIG.with_name("authority.pem")
        shutil.copyfile(self.paths.authority, authority)
        document = self.document(self.peer.port, tls={"trust": str(authority)})
        CONFIG.write_text(json.dumps(document))

    def check_service(self) -> None:
        """The init script's answers are those of the LSB."""
        service = ("service", "fipsrelay")
        self.call(*service, "reload", status=7)
        self.call(*service, "nonsense", status=2)
        self.call(*service, "start")
        self.call(*service, "start")
        self.call(*service, "status")
        process = Path(f"/proc/{self.pid()}")
        self.assertEqual(process.stat().st_uid, pwd.getpwnam("fipsrelay").pw_uid)
        self.assertIn("/opt/fipsrelay/share/fipsrelay/fips.so", (process / "maps").read_text())
        self.relay(self.http_port)
        self.check_commands()
        before = self.pid()
        self.call(*service, "reload")
        self.assertEqual(self.pid(), before)
        self.relay(self.http_port)
        good = CONFIG.read_text()
        CONFIG.write_text("upstreams: 7\n")
        self.call(*service, "reload", status=6)
        self.call(*service, "restart", status=6)
        self.assertEqual(self.pid(), before)
        self.relay(self.http_port)
        CONFIG.write_text(good)
        self.call(*service, "restart")
        self.assertNotEqual(self.pid(), before)
        self.relay(self.http_port)
        os.kill(self.pid(), 9)
        self.wait_until(lambda: not Path(f"/proc/{self.pid()}").exists(), "its end")
        self.call(*service, "status", status=1)
        self.call(*service, "start")
        self.relay(self.http_port)

    def check_commands(self) -> None:
        """Those of an operator find all that they import."""
        command, config = "/usr/bin/fipsrelay", ("-c", str(CONFIG))
        self.assertIn("web", self.call(command, "status", *config))
        self.assertIn(str(SLOT / "fips.so"), self.call(command, "module", "--prove", *config))
        found = json.loads(self.call(command, "doctor", "--json", *config))["findings"]
        self.assertEqual([each for each in found if each["state"] == "FAIL"], [])
        self.call(command, "evidence", *config, "-o", str(self.folder / "evidence"))
        self.assertIn("fipsrelay", self.call(command, "completion", "bash"))

    def check_upgrade(self) -> None:
        """The configuration and the module stay."""
        kept = (CONFIG, SLOT / "fips.so")
        before = [(path.read_bytes(), path.stat()) for path in kept]
        self.call("dpkg", "--install", str(pack(ROOT, "deb", "99.0.0", self.folder)))
        self.assertTrue([(path.read_bytes(), path.stat()) for path in kept] == before)
        self.call("service", "fipsrelay", "restart")
        self.relay(self.http_port)

    def check_end(self) -> None:
        """Removal keeps the configuration and the module, purge nothing."""
        pid = self.pid()
        self.call("service", "fipsrelay", "stop")
        self.call("service", "fipsrelay", "stop")
        self.assertFalse(Path(f"/proc/{pid}").exists())
        self.call("service", "fipsrelay", "start")
        pid = self.pid()
        self.call("dpkg", "--remove", "fipsrelay")
        self.assertFalse(Path(f"/proc/{pid}").exists(), "it runs on")
        self.assertTrue(CONFIG.exists())
        self.assertTrue((SLOT / "fips.so").exists())
        self.assertFalse(Path("/usr/bin/fipsrelay").exists())
        self.call("dpkg", "--purge", "fipsrelay")
        for path in (*PLACES, "/etc/init.d/fipsrelay", "/etc/default/fipsrelay", "/etc/init/fipsrelay.conf"):
            self.assertFalse(os.path.lexists(path), path)
        self.assertEqual(list(Path("/etc").glob("rc*.d/*fipsrelay")), [])
        self.assertRaises(KeyError, pwd.getpwnam, "fipsrelay")
        self.assertRaises(KeyError, grp.getgrnam, "fipsrelay")
