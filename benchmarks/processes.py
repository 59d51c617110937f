"""Processes under measurement, and the programs that a benchmark needs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

# Debian keeps servers out of a plain user's PATH.
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_TIMEOUT = 20.0
PACKAGES = {
    "haproxy": "haproxy",
    "ip": "iproute2",
    "nginx": "nginx",
    "taskset": "util-linux",
    "unshare": "util-linux",
    "wrk": "wrk",
}
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
# $1 for its TCP; then the rest of the command.
_PREPARE = f"""
ip link set lo up || exit
if ! (echo "$1" > {_CONGESTION}) 2>/dev/null; then
    echo "benchmark: this kernel does not let TCP use $1: see sysctl net.ipv4.tcp_allowed_congestion_control" >&2
    exit 1
fi
shift
exec "$@"
"""


class BenchmarkError(Exception):
    """The benchmark cannot run, or a proxy did not do its work; one line for the person at the terminal."""


class Proxy:
    """A process under measurement and its ports.

    Attributes:
        name: of the process.
        ports: by what they serve.
        pid: of the process.
        started: seconds until all ports were open, measured by a look every millisecond.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        ports: dict[str, int],
        core: str,
        environ: Mapping[str, str] = {},
    ) -> None:
        self.name, self.ports = name, ports
        began = time.monotonic()
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [program("taskset"), "-c", core, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environ},
            )
        self.pid = self._process.pid
        for port in ports.values():
            while not _accepts(port):
                if self._process.poll() is not None or time.monotonic() > began + START_TIMEOUT:
                    said = log.read_text(errors="replace")[-2000:]
                    self.stop()
                    raise BenchmarkError(f"{name} does not listen on port {port}; it said:\n{said}")
                time.sleep(0.001)
        self.started = time.monotonic() - began

    def cpu(self) -> float:
        """User and system seconds so far, of this process (which has no workers) and all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> int:
        """Bytes that are resident."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE

    def stop(self) -> None:
        """End it; SIGKILL after a bound."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def program(name: str) -> str:
    """Where it is.

    Raises:
        BenchmarkError: it is missing.
    """
    found = shutil.which(name, path=SEARCH)
    if found is None:
        raise BenchmarkError(f"Debian's {PACKAGES[name]} needed: apt-get install {PACKAGES[name]}")
    return found


def missing_packages() -> list[str]:
    """Debian's packages of programs that are not there."""
    return sorted(package for name, package in PACKAGES.items() if not shutil.which(name, path=SEARCH))


def go_on_alone(congestion: str, command: Sequence[str]) -> NoReturn:
    """Become ``command`` in a network of its own, whose TCP has this congestion control, whatever the machine's has."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    os.execv(program("unshare"), ["unshare", "--net", *user, "sh", "-c", _PREPARE, "sh", congestion, *command])


def congestion_control() -> str:
    """Of this network's TCP."""
    return _CONGESTION.read_text().strip()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
