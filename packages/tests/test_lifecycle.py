"""The .deb on a machine of its own, from the installation to the purge, with the init script and with systemd."""

from __future__ import annotations

import json

from fipsrelay.crypto import module
from packages.tests.built import package
from packages.tests.hosted import CONFIG
from packages.tests.packaged import NEWER, SLOT, UNIT, Packaged, SystemdPackaged

PIDFILE = "/run/fipsrelay/fipsrelay.pid"
PLACES = (
    "/opt/fipsrelay",
    "/etc/fipsrelay",
    "/var/lib/fipsrelay",
    "/var/log/fipsrelay",
    "/run/fipsrelay",
    "/usr/bin/fipsrelay",
    "/etc/init.d/fipsrelay",
    "/etc/default/fipsrelay",
    "/etc/init/fipsrelay.conf",
    "/etc/logrotate.d/fipsrelay",
)


class Bare(Packaged):
    """A machine that no package has been on."""

    def setUp(self) -> None:
        super().setUp()
        for place in PLACES:
            self.assertFalse(self.path(place).exists(), f"{place} is there already")


class LifecycleTests(Bare):
    """One test, whose steps are a host's life."""

    def pid(self) -> int:
        """Of the relay, as its machine counts."""
        return int(self.path(PIDFILE).read_text())

    def service(self, action: str, status: int = 0) -> str:
        return self.call("service", "fipsrelay", action, status=status)

    def test_life(self) -> None:
        said = self.call("dpkg", "--install", self.bring(package("deb")))
        self.assertIn("FIPS check module-missing failed", said)
        self.check_installed()
        self.assertEqual(self.call("fipsrelay", "version").split()[0], "fipsrelay")
        self.service("status", 3)
        self.assertIn("FIPS check", self.service("start", 1))
        self.intake = self.start_intake()
        self.configure()
        self.call("fipsrelay", "module", "--install", self.bring(module.find("auto").path))
        self.check_service()
        self.check_commands()
        self.check_upgrade()
        self.check_end()

    def check_installed(self) -> None:
        """Who owns what, and who may read it."""
        look = "for path in {}; do stat -c '%U:%G %a %n' $path; done"
        found = self.call("sh", "-c", look.format(f"{CONFIG} /var/lib/fipsrelay")).splitlines()
        self.assertEqual(found, [f"root:fipsrelay 640 {CONFIG}", "fipsrelay:fipsrelay 750 /var/lib/fipsrelay"])
        self.assertEqual(self.path(CONFIG).read_bytes(), self.path(f"{CONFIG}.example").read_bytes())
        self.assertEqual(self.call("systemctl", "is-enabled", UNIT), "enabled\n")  # for when systemd runs here
        self.assertRegex(self.call("getent", "passwd", "fipsrelay"), ":/var/lib/fipsrelay:/usr/sbin/nologin\n$")
        others = "find /opt/fipsrelay ( -not -user root -o -not -group root -o ( -not -type l -perm /022 ) )"
        self.assertEqual(self.call(*others.split()), "")

    def check_service(self) -> None:
        """It relays payloads of every product, as the service user, by the module in the slot."""
        self.service("start")
        self.assertEqual(self.call("stat", "-c", "%U", f"/proc/{self.pid()}").strip(), "fipsrelay")
        self.assertIn(f"{SLOT}/fips.so", self.path(f"/proc/{self.pid()}/maps").read_text())
        self.relay_everything(self.intake)
        with self.machine.network():
            self.assertEqual({record["tls_version"] for record in self.intake.records()}, {"TLSv1.3"})
        before = self.pid()
        self.service("reload")
        self.assertEqual(self.pid(), before)
        good = self.path(CONFIG).read_text()
        self.path(CONFIG).write_text("upstreams: 7\n")
        self.service("reload", 6)
        self.service("restart", 6)
        self.assertEqual(self.pid(), before)
        self.path(CONFIG).write_text(good)
        self.relay_everything(self.intake)

    def check_commands(self) -> None:
        """Those of an operator find all that they import."""
        config = ("-c", CONFIG)
        self.assertIn("metrics", self.call("fipsrelay", "status", *config))
        self.assertIn(f"{SLOT}/fips.so", self.call("fipsrelay", "module", "--prove", *config))
        found = json.loads(self.call("fipsrelay", "doctor", "--json", *config))["findings"]
        self.assertEqual([each for each in found if each["state"] == "FAIL"], [])
        self.call("fipsrelay", "evidence", *config, "-o", "/srv/evidence")
        self.call("fipsrelay", "evidence", "--stand-alone", *config, "-o", "/srv/evidence2")
        self.assertIn("fipsrelay", self.call("fipsrelay", "completion", "bash"))

    def check_upgrade(self) -> None:
        """Under load, and no request fails; the configuration and the module stay."""
        kept = [self.path(CONFIG), self.path(f"{SLOT}/fips.so")]
        before = [(path.read_bytes(), path.stat()) for path in kept]
        newer, old = self.newer(), self.pid()
        with self.load() as sent:
            said = self.call("dpkg", "--install", newer)
            self.assertNotEqual(self.pid(), old, said)
            self.assertFalse(self.path(f"/proc/{old}").exists())
            sent.wait_for_more()
        self.assertEqual(sent.failures, [])
        self.assertTrue([(path.read_bytes(), path.stat()) for path in kept] == before)
        self.assertEqual(self.call("dpkg-query", "-W", "-f", "${Version}", "fipsrelay"), NEWER)
        self.relay_everything(self.intake)

    def check_end(self) -> None:
        """Removal keeps the configuration and the module, purge nothing."""
        pid = self.pid()
        self.service("stop")
        self.assertFalse(self.path(f"/proc/{pid}").exists())
        self.service("start")
        pid = self.pid()
        self.call("dpkg", "--remove", "fipsrelay")
        self.assertFalse(self.path(f"/proc/{pid}").exists(), "it runs on")
        for place, is_there in ((CONFIG, True), (f"{SLOT}/fips.so", True), ("/usr/bin/fipsrelay", False)):
            self.assertEqual(self.path(place).exists(), is_there, place)
        drop_in = self.machine.put(f"/etc/systemd/system/{UNIT}.d/override.conf", "[Service]\n")
        self.call("dpkg", "--purge", "fipsrelay")
        self.assertTrue(drop_in.exists(), "what an operator has written is gone")
        for place in PLACES:
            self.assertFalse(self.path(place).exists(), place)
        self.assertEqual(self.call("sh", "-c", "ls -d /etc/rc*.d/*fipsrelay 2>/dev/null || true"), "")
        self.assertEqual(self.call("find", "/etc/systemd", "-lname", "*fipsrelay*"), "")
        for kind in ("passwd", "group"):
            self.assertEqual(self.call("getent", kind, "fipsrelay", status=2), "")


class KeptTests(Bare):
    """What an installation finds of before."""

    def test_configuration_that_must_be_changed(self) -> None:
        """Said, and the service is there for when it has been."""
        self.machine.put(CONFIG, "nonsense: 1\n")
        said = self.call("dpkg", "--install", self.bring(package("deb")))
        self.assertIn(f"{CONFIG} must be changed before it can start", said)
        self.assertIn("/etc/rc2.d/S", self.call("sh", "-c", "ls /etc/rc2.d/*fipsrelay || true"))

    def test_module_that_is_not_allowed(self) -> None:
        """The suite's, which is on no list: an upgrade says why it does not start the relay."""
        self.call("dpkg", "--install", self.bring(package("deb")))
        self.call("fipsrelay", "module", "--install", self.bring(module.find("auto").path))
        said = self.call("dpkg", "--install", self.newer())
        self.assertIn("FIPS check module-unlisted failed", said)
        self.assertIn(f"no FIPS module that {CONFIG} allows", said)

    def test_disabled(self) -> None:
        """An upgrade does not start it."""
        self.call("dpkg", "--install", self.bring(package("deb")))
        self.configure()
        self.call("fipsrelay", "module", "--install", self.bring(module.find("auto").path))
        for disabled in (False, True):
            if disabled:
                self.call("service", "fipsrelay", "stop")
                self.call("update-rc.d", "fipsrelay", "disable")
            said = self.call("dpkg", "--install", self.newer())
            self.assertEqual(self.path(PIDFILE).exists(), not disabled, said)
            links = self.call("sh", "-c", "ls /etc/rc2.d")
            self.assertRegex(links, rf"(?m)^{'K' if disabled else 'S'}\d\dfipsrelay$")

    def test_agent_that_has_gone(self) -> None:
        """With it the user that ran the relay: an upgrade gives the relay its own."""
        places = ("/var/lib/fipsrelay", CONFIG)
        self.call("sh", "-c", "id dd-agent >/dev/null 2>&1 || useradd --system dd-agent")
        self.call("dpkg", "--install", self.bring(package("deb")))
        self.assertEqual(self.call("stat", "-c", "%U:%G", *places), "dd-agent:dd-agent\nroot:dd-agent\n")
        self.call("userdel", "dd-agent")
        self.call("dpkg", "--install", self.newer())
        self.assertEqual(self.call("stat", "-c", "%U:%G", *places), "fipsrelay:fipsrelay\nroot:fipsrelay\n")
        self.assertFalse(self.path(f"/etc/systemd/system/{UNIT}.d/user.conf").exists())


class SystemdTests(SystemdPackaged):
    def is_enabled_and_active(self) -> tuple[bool, bool]:
        return self.show("UnitFileState") == "enabled", self.show("ActiveState") == "active"

    def test_disabled(self) -> None:
        """What an operator has disabled stays so, through upgrades and a removal; otherwise it is started again."""
        self.call("dpkg", "--install", self.bring(package("deb")))
        self.assertEqual(self.is_enabled_and_active(), (True, False))  # there is no module
        self.configure()
        self.call("fipsrelay", "module", "--install", self.bring(module.find("auto").path))
        newer = self.newer()
        for enabled in (True, False, True):
            self.call("systemctl", "enable" if enabled else "disable", "--now", UNIT)
            for removed in (False, True):
                if removed:
                    self.call("dpkg", "--remove", "fipsrelay")
                said = self.call("dpkg", "--install", newer)
                self.assertEqual(self.is_enabled_and_active(), (enabled, enabled), said)
        self.call("systemctl", "disable", UNIT)
        pid = self.show("MainPID")
        self.call("dpkg", "--install", newer)
        self.assertEqual(self.is_enabled_and_active(), (False, True))
        self.assertNotEqual(self.show("MainPID"), pid, "the old program runs on")
        self.call("systemctl", "enable", UNIT)
        pid = self.show("MainPID")
        self.call("dpkg", "--purge", "fipsrelay")
        self.assert_nothing_left(pid)
