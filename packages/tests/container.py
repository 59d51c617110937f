"""The image as an engine runs it: by an OCI runtime (crun), on a throw-away machine, by the words of its Dockerfile.

Only the engine's part is made here: /proc, /dev, /sys, the files that say where it is, a read-only root, no privilege.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from dockerfile_parse import DockerfileParser

from packages.tests.machine import TIMEOUT, Machine
from packages.wheel import PROJECT

DOCKERFILE = PROJECT / "packages" / "image" / "Dockerfile"
# What engines give every container (OCI runtime specification, Linux, Default Filesystems), with /dev/shm, see below.
_MOUNTS: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
)
_CRUN = ("crun", "--cgroup-manager=disabled")
_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


@attrs.frozen
class Image:
    """What the Dockerfile's last stage says of how it runs.

    Attributes:
        user, group: numbers.
        environ: of its processes.
        command: what is run.
        check: the command that says whether it is well.
    """

    user: int
    group: int
    environ: Mapping[str, str]
    command: Sequence[str]
    check: Sequence[str]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, in order."""
    with DOCKERFILE.open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    return [(each["instruction"], each["value"]) for each in structure if each["instruction"] != "COMMENT"]


def image() -> Image:
    """What the Dockerfile says."""
    found = instructions()
    last = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    stage = dict(found[last:])
    user, group = stage["USER"].split(":")
    options, _, check = stage["HEALTHCHECK"].partition(" CMD ")
    assert all(word.startswith("--") for word in options.split()), options
    return Image(
        int(user),
        int(group),
        dict(word.split("=", 1) for word in shlex.split(stage["ENV"])),
        [*json.loads(stage["ENTRYPOINT"]), *json.loads(stage["CMD"])],
        json.loads(check),
    )


class Container:
    """One container, not started yet.

    Args:
        machine: where it runs; its network is the container's, as a pod's is.
        root: the image's root on it.
        mounts: files and folders of the machine by their places in the container, read-only.
        environ: what is added to the image's.
        command: instead of the image's.
        scratch: where there is a tmpfs; everything else is read-only.

    Attributes:
        output: what it has said so far, as far as that was waited for.
    """

    name = "relay"

    def __init__(
        self,
        machine: Machine,
        root: Path,
        mounts: Mapping[str, str],
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        scratch: str = "/dev/shm",
    ) -> None:
        self._machine = machine
        self._image = image()
        document = self._document(root, mounts, {**self._image.environ, **(environ or {})}, command)
        options = ["nosuid", "noexec", "nodev", "mode=1777"]
        document["mounts"].append({"destination": scratch, "type": "tmpfs", "source": "tmpfs", "options": options})
        machine.put(f"/run/{self.name}/config.json", json.dumps(document))
        self._process: subprocess.Popen[str] | None = None
        self.output = ""

    def _document(
        self, root: Path, mounts: Mapping[str, str], environ: Mapping[str, str], command: Sequence[str]
    ) -> dict[str, Any]:
        """A bundle's config.json."""
        bound = [
            {"destination": place, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid", "nodev"]}
            for place, source in mounts.items()
        ]
        words = list(command or self._image.command)
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": self._image.user, "gid": self._image.group},
                "cwd": "/",
                "args": words,
                "env": [f"{name}={value}" for name, value in environ.items()],
                "capabilities": {name: [] for name in _SETS},
                "noNewPrivileges": True,
            },
            "root": {"path": str(root), "readonly": True},
            "mounts": [*_MOUNTS, *bound],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }

    def start(self) -> None:
        """Start it."""
        self._process = self._machine.popen(*_CRUN, "run", f"--bundle=/run/{self.name}", self.name)

    def pid(self) -> int:
        """Of its first process, as the machine counts."""
        state = json.loads(self._machine.run(*_CRUN, "state", self.name).stdout)
        return int(state["pid"])

    def kill(self, signal: str) -> None:
        """Send its first process a signal."""
        self._machine.run(*_CRUN, "kill", self.name, signal)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program beside it, as an engine runs a health check."""
        return self._machine.run(*_CRUN, "exec", self.name, *words, check=None)

    def wait_for(self, words: str) -> None:
        """Until it has said them.

        Raises:
            AssertionError: it has ended, or takes too long.
        """
        end = time.monotonic() + TIMEOUT
        while words not in self.output:
            if not self._read(end):
                raise AssertionError(f"it ended without '{words}': {self.output}")

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        end = time.monotonic() + TIMEOUT
        while self._read(end):
            pass
        assert self._process is not None
        return self._process.wait(TIMEOUT)

    def _read(self, end: float) -> bool:
        """More of its output, until its end."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            raise AssertionError(f"nothing more within {TIMEOUT} s: {self.output}")
        data = os.read(pipe, 1 << 16)
        self.output += data.decode(errors="replace")
        return bool(data)
