"""A normal client's latency with and without a disturbance, by rounds that take turns: what two benchmarks share.

The relay stands on core 0; nginx (the good intake), wrk and, at a lower priority, whatever disturbs share core 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from benchmarks.peers import HOST
from benchmarks.processes import BenchmarkError, Proxy, program
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import free_ports

CONNECTIONS = 8  # to the good intake
THINK = 5  # milliseconds that each of them pauses after an answer: a saturated core measures only itself


@attrs.frozen
class Latency:
    """Microseconds, of one round of so many requests."""

    requests: int
    p50: int
    p99: int


def load(port: int, seconds: int, folder: Path, connections: int = CONNECTIONS, think: int = THINK) -> Latency:
    """Closed loop: each connection sends its next request ``think`` milliseconds after it has the answer."""
    script = folder / "latency.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["Host"] = "{HOST}"\nwrk.body = string.rep("x", 1024)\n'
        f"function delay() return {think} end\n"
        "function done(summary, latency)\n"
        "  local e = summary.errors\n"
        '  io.write(string.format("RESULT %d %d %d %d\\n", e.connect + e.read + e.write + e.status + e.timeout,'
        " summary.requests, latency:percentile(50), latency:percentile(99)))\nend\n"
    )
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    finished = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/api/v2/series"], capture_output=True, text=True, timeout=seconds + 30
    )
    errors, *numbers = finished.stdout.partition("RESULT ")[2].split() or ["no result"]
    if errors != "0":
        raise BenchmarkError(f"wrk failed, {errors} errors: {finished.stderr or finished.stdout}")
    return Latency(*map(int, numbers))


def print_changes(name: str, alone: Sequence[Latency], beside: Sequence[Latency]) -> None:
    """What the medians of these rounds say."""
    for key in ("p50", "p99"):
        without, together = ([getattr(each, key) for each in taken] for taken in (alone, beside))
        change = statistics.median(together) / statistics.median(without) - 1
        print(f"  {name:<14} {key} in µs: {_spread(without)}, with it {_spread(together)}: {change:+.1%}", flush=True)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


@contextlib.contextmanager
def place(*hosts: str) -> Iterator[tuple[Path, certificates.Paths, contextlib.ExitStack]]:
    """A folder that nginx may read, certificates for these hosts in it, and what ends with the benchmark."""
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory(prefix="fipsrelay-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder, certificates.write(folder, hosts), stack


@contextlib.contextmanager
def disturbing(work: Callable[..., Any], niceness: int, *arguments: Any) -> Iterator[None]:
    """Run a coroutine function in a process of its own, behind wrk and nginx.

    Raises:
        BenchmarkError: it failed.
    """
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(work, niceness, *arguments), daemon=True)
    process.start()
    try:
        yield
        if process.exitcode:
            raise BenchmarkError("what was to disturb failed")
    finally:
        process.kill()
        process.join()


def _run(work: Callable[..., Any], niceness: int, *arguments: Any) -> None:
    os.nice(niceness)
    asyncio.run(work(*arguments))


class Relay(Proxy):
    """The relay with an intake, of the same name, for every upstream of ``document``.

    Attributes:
        page: port of the statistics page.
        pid: of the process.
    """

    def __init__(self, name: str, folder: Path, paths: certificates.Paths, document: dict[str, Any]) -> None:
        upstreams = document["upstreams"]
        self.page, *ports = free_ports(1 + len(upstreams))
        intakes = dict(zip(upstreams, ports, strict=True))
        complete = {
            "listen": {"addresses": ["127.0.0.1"], "port_range_start": self.page},
            "fips": {"unlisted_module": "warn"},
            "tls": {"trust": str(paths.authority)},
            "intakes": {each: {"port": port, "upstream": each} for each, port in intakes.items()},
            **document,
        }
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(complete, sort_keys=False))
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", str(file)]
        super().__init__(name, command, folder, intakes, core="0")
