"""The service files as far as they can be judged without running them; ``test_init`` and ``test_systemd`` run them."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from fipsrelay import cli
from fipsrelay.config.load import load_text
from fipsrelay.config.model import Config, Limits, Timeouts
from packages.tests.machine import CHECKOUT
from tests.folders import Folders

SERVICES = CHECKOUT / "packages" / "services"
LARGEST_EXPOSURE = 1.5
# The stanzas of init(5) that a job of Ubuntu 14.04 (upstart 1.12) may have.
STANZAS = {
    *("apparmor", "author", "cgroup", "chdir", "chroot", "console", "debug", "description", "emits", "env", "exec"),
    *("expect", "export", "instance", "kill", "limit", "manual", "nice", "normal", "oom", "post-start", "post-stop"),
    *("pre-start", "pre-stop", "reload", "respawn", "script", "setgid", "setuid", "start", "stop", "task", "umask"),
    *("usage", "version"),
}
# System calls of Linux 6.7 that later versions of systemd have in @system-service.
FUTEX2 = frozenset({"futex_requeue", "futex_wait", "futex_wake"})


def call(*command: str | Path, status: int = 0) -> str:
    """What a program says."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != status:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}, not {status}: {done.stdout}")
    return done.stdout


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in (SERVICES / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def shipped() -> Config:
    return load_text((CHECKOUT / "conf" / "proxy.yaml").read_text(), "proxy.yaml")


class UnitTests(Folders):
    def root(self) -> Path:
        """The units where systemd looks for them, and their programs, as far as that it can find them."""
        root = self.folder()
        for name in ("fipsrelay.service", "fipsrelay.socket"):
            self.put(root / "lib/systemd/system" / name, (SERVICES / name).read_text())
        for name in ("sysinit", "basic", "shutdown", "network", "nss-lookup", "multi-user", "sockets"):
            self.put(root / f"lib/systemd/system/{name}.target", "[Unit]\nDescription=x\n")
        for unit in ("system.slice", "-.slice", "-.mount"):
            self.put(root / f"lib/systemd/system/{unit}", "[Unit]\nDescription=x\n")
        for program in ("twistd", "fipsrelay"):
            self.put(root / "opt/fipsrelay/bin" / program, "#!/bin/sh\n").chmod(0o755)
        return root

    def test_verify(self) -> None:
        """Nothing that systemd does not know, and nothing that is not there."""
        for name in ("fipsrelay.service", "fipsrelay.socket"):
            said = call("systemd-analyze", "--man=no", f"--root={self.root()}", "verify", name)
            self.assertEqual(said, "", name)

    def test_verify_would_say_so(self) -> None:
        root = self.root()
        path = root / "lib/systemd/system/fipsrelay.service"
        path.write_text(path.read_text().replace("KillMode=", "KilMode="))
        said = call("systemd-analyze", "--man=no", f"--root={root}", "verify", "fipsrelay.service")
        self.assertIn("KilMode", said)

    def test_exposure(self) -> None:
        said = call("systemd-analyze", "security", "--offline=true", SERVICES / "fipsrelay.service")
        found = re.search(r"Overall exposure level for fipsrelay.service: ([\d.]+)", said)
        assert found is not None, said
        self.assertLessEqual(float(found[1]), LARGEST_EXPOSURE)

    def test_times_and_limits(self) -> None:
        """It may stop for longer than it drains, and has the descriptors that the connections need."""
        unit = settings("fipsrelay.service")
        self.assertGreater(float(unit["TimeoutStopSec"][0].rstrip("s")), Timeouts().drain)
        self.assertGreater(int(unit["LimitNOFILE"][0]), 2 * Limits().connections)
        default = (SERVICES / "fipsrelay.default").read_text()
        self.assertIn(f"#STOP_TIMEOUT={unit['TimeoutStopSec'][0].rstrip('s')}\n", default)
        upstart = (SERVICES / "fipsrelay.upstart").read_text()
        self.assertIn(f"\nkill timeout {unit['TimeoutStopSec'][0].rstrip('s')}\n", upstart)
        for text in (upstart, (SERVICES / "fipsrelay.init").read_text()):
            self.assertIn(unit["LimitNOFILE"][0], text)

    def test_sockets_are_those_of_the_configuration(self) -> None:
        config = shipped()
        ports = sorted([config.listen.port_range_start, *(intake.port for intake in config.intakes.values())])
        wanted = [
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            for port in ports
            for address in config.listen.addresses
        ]
        self.assertEqual(settings("fipsrelay.socket")["ListenStream"], wanted)


class SystemCallTests(Folders):
    """What the filter leaves, by systemd's own lists."""

    def groups(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in call("systemd-analyze", "syscall-filter").splitlines():
            if line.startswith("@"):
                name = line.strip()
                found[name] = set()
            elif line.startswith("    ") and not line.strip().startswith("#"):
                found[name].add(line.strip())
            elif line.startswith("#"):
                name = "rest"
                found.setdefault(name, set())

        def flat(words: set[str]) -> set[str]:
            return set().union(*(flat(found[word]) if word.startswith("@") else {word} for word in words))

        return {name: flat(words) for name, words in found.items()}

    def test_no_more_than_system_service(self) -> None:
        groups = self.groups()
        denied: set[str] = set()
        for value in settings("fipsrelay.service")["SystemCallFilter"]:
            words = value.removeprefix("~").split()
            names = set().union(*(groups[word] if word.startswith("@") else {word} for word in words))
            denied = denied | names if value.startswith("~") else denied - names
        headers = Path("/usr/include").glob("*/asm/unistd_64.h")
        here = {name for header in headers for name in re.findall(r"__NR_(\w+)", header.read_text())}
        self.assertGreater(len(here), 300)
        left = (groups["@known"] & here) - denied
        self.assertEqual(left - groups["@system-service"] - FUTEX2, set())
        # That it is enough for the relay, test_systemd shows.
        self.assertLessEqual({"prlimit64", "accept4", "epoll_wait", "futex", "mmap"}, left)

    def test_forbids_and_does_not_allow(self) -> None:
        """A systemd that does not know a group leaves it out: of a list of what is allowed, nothing would be left."""
        first, *others = settings("fipsrelay.service")["SystemCallFilter"]
        self.assertTrue(first.startswith("~"), first)
        self.assertEqual([value for value in others if not value.startswith("~")], ["prlimit64"])


class ScriptTests(Folders):
    def test_shellcheck(self) -> None:
        for path in (
            SERVICES / "fipsrelay.init",
            CHECKOUT / "packages/install.sh",
            CHECKOUT / "packages/tests/machine.sh",
        ):
            call("shellcheck", "--external-sources", f"--source-path={CHECKOUT}", path)

    def test_lsb_header(self) -> None:
        text = (SERVICES / "fipsrelay.init").read_text()
        header = re.search(r"(?s)### BEGIN INIT INFO\n(.*)### END INIT INFO\n", text)
        assert header is not None
        found = dict(re.findall(r"(?m)^# ([A-Z][\w-]+): +(.*)$", header[1]))
        self.assertEqual(
            (found["Provides"], found["Default-Start"], found["Default-Stop"]), ("fipsrelay", "2 3 4 5", "0 1 6")
        )
        for name in ("Required-Start", "Required-Stop", "Short-Description", "Description"):
            self.assertTrue(found[name])

    def stanzas(self, text: str) -> Iterator[str]:
        """The first words of a job's lines, without what is the shell's."""
        lines = iter(text.replace("\\\n", " ").splitlines())
        for line in lines:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            yield words[0]
            if "script" in words[:2]:
                body = []
                for each in lines:
                    if each == "end script":
                        break
                    body.append(each)
                else:
                    self.fail("a script without its end")
                path = self.put(self.folder() / "script", "\n".join(body))
                call("sh", "-e", "-n", path)

    def test_upstart(self) -> None:
        """Only stanzas that upstart has. No upstart is at hand to run it."""
        found = list(self.stanzas((SERVICES / "fipsrelay.upstart").read_text()))
        self.assertEqual(set(found) - STANZAS, set())
        for name in ("description", "start", "stop", "respawn", "script"):
            self.assertIn(name, found)

    def test_same_user_everywhere(self) -> None:
        """Init script and upstart job read the user from where the package writes it for systemd."""
        line = "$(sed -n 's/^User=//p' /etc/systemd/system/fipsrelay.service.d/user.conf 2>/dev/null | tail -n 1)"
        for name in ("fipsrelay.init", "fipsrelay.upstart"):
            self.assertIn(f"user={line}\n", (SERVICES / name).read_text())
        self.assertIn(
            "/etc/systemd/system/fipsrelay.service.d/user.conf",
            (CHECKOUT / "packages/scripts/postinstall.sh").read_text(),
        )

    def test_default(self) -> None:
        """As it stands it changes nothing, and with all its lines it is still one NAME=VALUE a line."""
        text = (SERVICES / "fipsrelay.default").read_text()
        self.assertEqual([line for line in text.splitlines() if line and not line.startswith("#")], [])
        for line in re.findall(r"(?m)^#(\w.*)$", text):
            self.assertRegex(line, r"^[A-Z_]+=\w*$")

    def test_agent_logs(self) -> None:
        [source] = yaml.safe_load((SERVICES / "agent-logs.yaml").read_text())["logs"]
        self.assertEqual((source["type"], source["include_units"]), ("journald", ["fipsrelay.service"]))
        other = re.sub(r"(?m)^#(?=  )", "", (SERVICES / "agent-logs.yaml").read_text())
        [_, source] = yaml.safe_load(other)["logs"]
        self.assertEqual((source["type"], source["path"]), ("file", "/var/log/fipsrelay/fipsrelay.log"))


class ManualTests(Folders):
    path = SERVICES / "fipsrelay.8"

    def commands(self) -> dict[str, argparse.ArgumentParser]:
        for action in cli.parser()._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        raise AssertionError("no commands")

    def test_clean(self) -> None:
        self.assertEqual(call("mandoc", "-T", "lint", "-W", "warning", self.path), "")
        self.assertEqual(call("man", "--warnings", "--local-file", "-Tutf8", self.path).count("warning"), 0)

    def test_complete(self) -> None:
        """Every command and every option, in the synopsis, and no others."""
        text = self.path.read_text()
        synopsis = text[text.index(".Sh SYNOPSIS") : text.index(".Sh DESCRIPTION")].replace("\\-", "-")
        found: dict[str, set[str]] = {}
        for part in synopsis.split(".Nm\n")[1:]:
            first, *_ = part.splitlines()
            for name in first.removeprefix(".Cm ").split(" | "):
                found.setdefault(name, set()).update(re.findall(r"Fl (-[\w-]+|\w)", part))
        wanted = {}
        for name, parser in self.commands().items():
            options = {option.removeprefix("-") for action in parser._actions for option in action.option_strings}
            # Of a pair the short one stands there.
            wanted[name] = options - {"h", "-help"} - {"-config", "-output"}
        self.assertEqual(found, wanted)
        for name in wanted:
            self.assertRegex(text, rf"(?m)^\.It Cm {name}$")
