"""The image as an engine runs it: by an OCI runtime (crun), on a throw-away machine, by the words of its Dockerfile.

Only the engine's own part is made here: /proc, /dev, /sys, the files that say who and where it is, a read-only root, and
no privilege at all.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from dockerfile_parse import DockerfileParser

from packages.build import PROJECT
from packages.tests.machine import TIMEOUT, Machine

DOCKERFILE = PROJECT / "packages" / "image" / "Dockerfile"
# What engines give every container, by the OCI's runtime specification; Kubernetes and Docker keep /dev/shm writable
# beside a read-only root.
_MOUNTS: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
)
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


def image() -> Image:
    """Read from the Dockerfile."""
    with DOCKERFILE.open("rb") as file:
        parser = DockerfileParser(fileobj=file)
        instructions = [(each["instruction"], each["value"]) for each in parser.structure]
    last = max(at for at, (name, _) in enumerate(instructions) if name == "FROM")
    stage = dict(instructions[last:])
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
    """

    name = "relay"

    def __init__(
        self,
        machine: Machine,
        root: Path,
        mounts: Mapping[str, str],
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self._machine = machine
        self._image = image()
        document = self._document(root, mounts, {**self._image.environ, **(environ or {})}, command)
        machine.put(f"/run/{self.name}/config.json", json.dumps(document))
        self._process: subprocess.Popen[str] | None = None

    def _document(
        self, root: Path, mounts: Mapping[str, str], environ: Mapping[str, str], command: Sequence[str]
    ) -> dict[str, Any]:
        """A bundle's config.json."""
        bound = [
            {"destination": place, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid", "nodev"]}
            for place, source in mounts.items()
        ]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": self._image.user, "gid": self._image.group},
                "cwd": "/",
                "args": list(command or self._image.command),
                "env": [f"{name}={value}" for name, value in environ.items()],
                "capabilities": {name: [] for name in _SETS},
                "noNewPrivileges": True,
            },
            "root": {"path": str(root), "readonly": True},
            "mounts": [*_MOUNTS, *bound],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }

    @cached_property
    def _crun(self) -> list[str]:
        return ["crun", "--cgroup-manager=disabled"]

    def start(self) -> subprocess.Popen[str]:
        """Start it; its output is in the process's pipe."""
        words = [*self._crun, "run", f"--bundle=/run/{self.name}", self.name]
        self._process = self._machine.popen(*words)
        return self._process

    def kill(self, signal: str) -> None:
        """Send its first process a signal."""
        self._machine.run(*self._crun, "kill", self.name, signal)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program beside it, as an engine runs a health check."""
        return self._machine.run(*self._crun, "exec", self.name, *words, check=None)

    def wait(self) -> tuple[int, str]:
        """Its exit status, and all that it has said that was not read before; killed when it takes too long."""
        assert self._process is not None
        said, _ = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode, said
