"""A throw-away machine: this one's files under an overlay, with mounts, processes and a network of its own.

Nothing that is done in it stays: not what is installed, not what it starts. Its first process is systemd, or one that
only buries the dead. It takes root and a Linux with overlayfs; no container engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = ("/lib/systemd/systemd", "--system", "--unit=machine.target", "--show-status=no")
TIMEOUT = 120
_SETUP = Path(__file__).with_name("machine.sh")
_CLONE_NEWNET = 0x40000000
# Buries the dead, as a first process has to; before that, it brings up the loopback interface.
_REAPER = """
import fcntl, os, signal, socket, struct
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
with socket.socket() as sock:
    fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1))
print("ready", flush=True)
while signal.sigwait({signal.SIGCHLD}):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""


class Machine:
    """Started by its making, and ended by :meth:`stop` with everything in it.

    Args:
        systemd: whether it is the first process.

    Attributes:
        root: its files, as this process sees them.
    """

    def __init__(self, *, systemd: bool = False) -> None:
        if os.geteuid():
            raise RuntimeError("a machine of its own takes root")
        groups = _cgroups()
        self._folder = tempfile.mkdtemp(prefix="fipsrelay-machine-")
        self._group = groups / os.path.basename(self._folder)
        self._group.mkdir()
        first = SYSTEMD if systemd else (sys.executable, "-I", "-c", _REAPER)
        kinds = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
        command = ["unshare", *kinds, "sh", str(_SETUP), self._folder, *first]
        enter = f'echo $$ >{self._group}/cgroup.procs; exec "$@"'
        self._started: list[subprocess.Popen[str]] = []
        self._process = subprocess.Popen(
            ["sh", "-c", enter, "sh", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for word in ("made",) if systemd else ("made", "ready"):
            line = self._process.stdout.readline()
            if line != f"{word}\n":
                self.stop()
                raise RuntimeError(f"no machine of its own: {line!r}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._first = int(children.read_text())
        self.root = Path(f"/proc/{self._first}/root")

    def run(self, *words: str, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a program in it, as root.

        Args:
            words: program and arguments.
            check: the exit status that is wanted; None for any.

        Raises:
            AssertionError: it was another one.
        """
        done = subprocess.run(
            self._enter(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if check is not None and done.returncode != check:
            raise AssertionError(f"{' '.join(words)}: {done.returncode}, not {check}: {done.stdout}{done.stderr}")
        return done

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """Start a program in it, as root; all that it says is in its pipe. It ends with the machine at the latest."""
        process = subprocess.Popen(
            self._enter(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._started.append(process)
        return process

    def _enter(self, words: Sequence[str]) -> list[str]:
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
        return ["nsenter", "-t", str(self._first), *spaces, "--wd", "env", "-i", f"PATH={PATH}", *words]

    def put(self, place: str, text: str, mode: int = 0o644) -> Path:
        """Write a file in it, and the folders that it needs."""
        path = self.root / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """This thread, and what it starts, is in the machine's network meanwhile."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter_network(f"/proc/{self._first}/ns/net")
            yield
        finally:
            _enter_network(f"/proc/self/fd/{own}")
            os.close(own)

    def stop(self) -> None:
        """End it."""
        self._process.kill()  # its first process goes with unshare, and all others with that
        for process in (self._process, *self._started):
            process.wait(TIMEOUT)
            assert process.stdout is not None
            process.stdout.close()
        os.rmdir(self._folder)
        _remove_group(self._group)


def _remove_group(group: Path) -> None:
    """The kernel takes away what its processes have left, a moment after they have."""
    for each in [*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group]:
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                each.rmdir()
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)


def _cgroups() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise RuntimeError("a machine of its own takes cgroup2")


def _enter_network(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
    finally:
        os.close(descriptor)
