"""``install.sh``: with the real .deb under a real systemd, and with stand-ins for what other platforms have."""

from __future__ import annotations

from fipsrelay.crypto import module
from packages.tests.built import package
from packages.tests.hosted import CONFIG
from packages.tests.machine import CHECKOUT, PATH
from packages.tests.packaged import NEWER, UNIT, Packaged, SystemdPackaged

INSTALL = CHECKOUT / "packages" / "install.sh"
AGENT = "/etc/datadog-agent/datadog.yaml"
PLATFORMS = {
    "deb": "debian ubuntu linuxmint:debian",
    "rpm": "rhel centos fedora rocky almalinux ol amzn sles opensuse-leap:suse mystery:fedora",
}


def install(host: Packaged, *words: str, status: int = 0, **environ: str) -> str:
    """Run it; returns what it said."""
    settings = [f"{name}={value}" for name, value in environ.items()]
    return host.call("env", *settings, "sh", host.bring(INSTALL), *words, status=status)


class SystemdTests(SystemdPackaged):
    """One test, whose steps are a host's life."""

    def test_life(self) -> None:
        intake = self.start_intake()
        file = self.bring(package("deb"))
        brought = self.bring(module.find("auto").path)
        self.machine.put(AGENT, "api_key: secret\n")
        said = install(self, "--dry-run", file, FIPSRELAY_MODULE=brought, FIPSRELAY_AGENT="1")
        self.assertIn(f"would run: dpkg --install {file}", said)
        self.assertFalse(self.path("/opt/fipsrelay").exists())
        self.assertEqual(self.path(AGENT).read_text(), "api_key: secret\n")
        # A module that is on no list is what the shipped configuration refuses.
        said = install(self, file, status=1, FIPSRELAY_MODULE=brought)
        self.assertIn(f"no FIPS module that {CONFIG} allows", said)
        self.assertEqual(self.show("ActiveState"), "inactive")
        self.configure()
        self.call("mv", AGENT, "/srv")
        said = install(self, file, status=1, FIPSRELAY_MODULE=brought, FIPSRELAY_AGENT="1")
        self.assertIn("the Agent is as it was", said)
        self.call("mv", "/srv/datadog.yaml", AGENT)
        for _ in range(2):
            said = install(self, file, FIPSRELAY_MODULE=brought, FIPSRELAY_AGENT="1")
            self.assertIn("is installed already", said)
            self.assertEqual(self.show("ActiveState"), "active")
        self.assertEqual(self.call("systemctl", "is-enabled", UNIT).strip(), "enabled")
        self.assertIn("https: false", self.path(AGENT).read_text())
        self.assertEqual(self.path(AGENT).read_text().count("fips:"), 1)
        self.relay_everything(intake)
        self.check_sockets()
        self.relay_everything(intake)
        self.check_end()

    def check_sockets(self) -> None:
        """With systemd's sockets an upgrade under load fails no request; and doctor knows whose the ports are."""
        self.call("systemctl", "stop", UNIT)
        self.call("systemctl", "enable", "--now", "fipsrelay.socket")
        # Which asks the page first, and so has systemd start it.
        self.assertIn("the relay listens on all 15", self.call("fipsrelay", "doctor", "-c", CONFIG))
        newer, old = self.newer(), self.show("MainPID")
        with self.load() as sent:
            said = self.call("dpkg", "--install", newer)
            self.assertNotEqual(self.show("MainPID"), old, said)
            sent.wait_for_more()
        self.assertEqual(sent.failures, [])
        self.assertEqual(self.call("dpkg-query", "-W", "-f", "${Version}", "fipsrelay"), NEWER)

    def check_end(self) -> None:
        pid = self.show("MainPID")
        self.call("dpkg", "--purge", "fipsrelay")
        self.assert_nothing_left(pid)


class StandInTests(Packaged):
    """What it would do elsewhere; where it cannot, that nothing is done."""

    def platform(self, name: str) -> str:
        """The file of a platform: its id, and what it is like."""
        platform, _, like = name.partition(":")
        place = "/srv/os-release"
        self.machine.put(place, f'ID="{platform}"\nID_LIKE="{like}"\nPRETTY_NAME="{platform.title()} 1"\n')
        return place

    def stand_in(self, name: str, text: str) -> None:
        self.machine.put(f"/srv/bin/{name}", f"#!/bin/sh\n{text}\n", 0o755)

    def install(self, *words: str, platform: str = "debian", status: int = 0) -> str:
        return install(self, *words, status=status, OS_RELEASE=self.platform(platform), PATH=f"/srv/bin:{PATH}")

    def test_platforms(self) -> None:
        for kind, names in PLATFORMS.items():
            file = self.bring(package(kind))
            for name in names.split():
                said = self.install("--dry-run", file, platform=name)
                self.assertRegex(said, rf"would run: .*{file}\n", name)
        for name in ("arch", "alpine", "gentoo:x"):
            said = self.install("--dry-run", file, platform=name, status=3)
            self.assertIn(f"{name.partition(':')[0].title()} 1 is not supported", said)
        self.assertFalse(self.path("/opt/fipsrelay").exists())

    def test_which_tool(self) -> None:
        """The platform's own, the newest that there is."""
        file = self.bring(package("rpm"))
        for tool, words in (
            ("rpm", "--upgrade"),
            ("yum", "--assumeyes install"),
            ("dnf", "--assumeyes install"),
            ("zypper", "--non-interactive install --allow-unsigned-rpm"),
        ):
            if tool != "rpm":
                self.stand_in(tool, "exit 1")
            self.assertIn(f"would run: {tool} {words} {file}", self.install("--dry-run", file, platform="rhel"))

    def test_refused(self) -> None:
        """With what is wrong, before anything is done."""
        deb, rpm = (self.bring(package(kind)) for kind in ("deb", "rpm"))
        for words, platform, status, said in (
            ([], "debian", 2, "Usage: install.sh"),
            (["--nonsense"], "debian", 2, "what is --nonsense?"),
            ([deb, rpm], "debian", 2, "one package, not two"),
            (["/srv/none.deb"], "debian", 2, "there is no file /srv/none.deb"),
            (["/etc/passwd"], "debian", 2, "neither a .deb nor an .rpm"),
            ([rpm], "ubuntu", 3, "takes a .deb"),
            ([deb], "rhel", 3, "takes a .rpm"),
        ):
            self.assertIn(said, self.install(*words, platform=platform, status=status))
        said = install(self, deb, status=3, OS_RELEASE="/srv/nowhere")
        self.assertIn("there is no /srv/nowhere", said)
        self.assertIn("--dry-run", install(self, "--help"))
        self.assertFalse(self.path("/opt/fipsrelay").exists())

    def test_another_machine(self) -> None:
        file = self.bring(package("deb"))
        self.stand_in("dpkg", "echo arm64")
        self.assertIn("is for amd64, and this machine is arm64", self.install(file, status=3))

    def test_old_glibc(self) -> None:
        file = self.bring(package("deb"))
        for version, status in (("2.16", 3), ("2.17", 0), ("2.36", 0), ("3.0", 0), ("1.99", 3)):
            self.stand_in("getconf", f"echo glibc {version}")
            said = self.install("--dry-run", file, status=status)
            self.assertEqual("or newer is needed" in said, bool(status), version)
        self.stand_in("getconf", "exit 1")
        self.assertIn("has no glibc", self.install("--dry-run", file, status=3))

    def test_failed_step(self) -> None:
        """Whatever the program's own status is."""
        file = self.bring(package("rpm"))
        self.stand_in("zypper", "exit 104")
        said = self.install(file, platform="sles", status=1)
        self.assertIn(f"{file} could not be installed", said)

    def test_only_root(self) -> None:
        file, script = self.bring(package("deb")), self.bring(INSTALL)
        self.assertIn("only root may install", self.call("setpriv", "--reuid=65534", "sh", script, file, status=1))
        self.call("setpriv", "--reuid=65534", "sh", script, "--dry-run", file)
