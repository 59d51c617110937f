"""The .rpm on a machine of its own with systemd, put there by rpm itself."""

from __future__ import annotations

from fipsrelay.crypto import module
from packages.tests.built import package
from packages.tests.hosted import CONFIG
from packages.tests.packaged import NEWER, SLOT, UNIT, SystemdPackaged

# Debian's rpm wants to be told that it is meant; what the package depends on, its database does not know.
RPM = ("rpm", "--force-debian", "--nodeps")


class RpmTests(SystemdPackaged):
    """One test, whose steps are a host's life."""

    def test_life(self) -> None:
        intake = self.start_intake()
        self.assertIn("FIPS check module-missing failed", self.call(*RPM, "--install", self.bring(package("rpm"))))
        self.configure()
        self.call("fipsrelay", "module", "--install", self.bring(module.find("auto").path))
        self.call("systemctl", "start", UNIT)
        self.relay_everything(intake)
        pid = self.show("MainPID")
        text = self.path(CONFIG).read_bytes()
        newer = self.newer("rpm")
        said = self.call(*RPM, "--upgrade", newer)
        self.assertNotEqual(self.show("MainPID"), pid, said)
        self.assertEqual(self.call("rpm", "-q", "--queryformat", "%{VERSION}", "fipsrelay"), NEWER)
        self.assertEqual((self.show("ActiveState"), self.path(CONFIG).read_bytes()), ("active", text))
        self.relay_everything(intake)
        self.call("systemctl", "disable", "--now", UNIT)
        said = self.call(*RPM, "--upgrade", "--force", newer)
        self.assertEqual((self.show("ActiveState"), self.show("UnitFileState")), ("inactive", "disabled"), said)
        self.call("systemctl", "enable", "--now", UNIT)
        pid = self.show("MainPID")
        self.call(*RPM, "--erase", "fipsrelay")
        self.assertEqual(self.call("find", "/etc/systemd", "-lname", "*fipsrelay*"), "")
        self.assertFalse(self.path(f"/proc/{pid}").exists(), "it runs on")
        self.assertFalse(self.path("/usr/bin/fipsrelay").exists())
        self.assertTrue(self.path(CONFIG).exists())
        self.assertTrue(self.path(f"{SLOT}/fips.so").exists())
