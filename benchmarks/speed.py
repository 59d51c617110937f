"""What the relay costs beside the proxies in C and C++, in the same run on the same machine: ``docs/performance.md``.

Wall-clock throughput on a shared machine follows the neighbours, so the figure is the user and system time of the
proxy's own process per request, and what counts is the ratio of rounds that ran one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from benchmarks import report
from benchmarks.load import CELLS, Cell, ask, counted, first_answers, load
from benchmarks.peers import HOST, PEERS, start_peer, start_relay, start_sink, version
from benchmarks.processes import BenchmarkError, Proxy, congestion_control, go_on_alone, missing_packages
from fipsrelay import __version__
from fipsrelay.demo import certificates
from fipsrelay.relay.memory import INTERVAL

_QUICK = "http-1k-32,http-2m-4,tcp-1k-32,tcp-2m-4"
_GROWTH = (32, 1000, 4000)
_TOGETHER = 500  # connections that are opened each second, until all are there
_SETTLING = 3  # seconds, until the first look
_LOOKS, _LOOK = 5, 2  # and the seconds between two
_IDLE = 4000  # agent connections
_INTAKES = 16
_RETURN = INTERVAL + 5  # seconds, until what has been freed has gone back to the host


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0; 1 when something is missing or failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of one round")
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--quick", action="store_true", help="one round of one second, four cells, no growth")
    parser.add_argument(
        "--congestion", default="cubic", help="congestion control of TCP: cubic (Linux's default), or bbr"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the measurements there")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="renew performance.md and its plots there")
    given = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(given)
    cells, peers = (_QUICK if options.quick else options.cells).split(","), options.peers.split(",")
    if unknown := {*cells} - {*CELLS} | {*peers} - {*PEERS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*CELLS, *PEERS))}")
    if missing := missing_packages():
        print(f"benchmark: Debian's {' '.join(missing)} needed: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    if not options.alone:
        go_on_alone(options.congestion, [sys.executable, "-m", "benchmarks.speed", "--alone", *given])
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    found: dict[str, Any] = {"machine": _machine(), "rounds": rounds, "seconds": seconds}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        _measure(found, [CELLS[name] for name in cells], peers, full=not options.quick)
    except BenchmarkError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    finally:
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.write:
        report.write(options.write, found)
    return 0


def _measure(found: dict[str, Any], cells: Sequence[Cell], peers: Sequence[str], *, full: bool) -> None:
    rounds, seconds = found["rounds"], found["seconds"]
    versions = {"relay": f"fipsrelay {__version__}, Python {platform.python_version()}"}
    versions.update({peer: version(peer) for peer in peers})
    found.update(versions=versions, cells={})
    with tempfile.TemporaryDirectory(prefix="fipsrelay-bench-") as name:
        bench = Bench(Path(name), peers)
        try:
            bench.start()
            for cell in cells:
                found["cells"][cell.name] = bench.cpu(cell, rounds, seconds)
            found["latency"] = bench.latency(rounds, seconds)
            found["first_answer"] = bench.first_answer(rounds)
            if full:
                found["growth"] = bench.growth()
                found["idle"] = bench.idle()
            found["start"] = bench.starts(5 if full else 1)
        finally:
            bench.stop()
    for line in report.idle_lines(found):
        print(line, flush=True)


class Bench:
    """The relay and the others, all running."""

    def __init__(self, folder: Path, peers: Sequence[str]) -> None:
        folder.chmod(0o755)
        self._folder = folder
        self._paths = certificates.write(folder, [HOST])
        self._peers = peers
        self._proxies: dict[str, Proxy] = {}

    def start(self) -> None:
        """Start them."""
        sink = self._proxies["sink"] = start_sink(self._folder, self._paths)
        self._sink = sink.ports["sink"]
        self._proxies["relay"] = start_relay(self._folder, self._paths, self._sink)
        for peer in self._peers:
            self._proxies[peer] = start_peer(peer, self._folder, self._paths, self._sink)
        self._measured = {name: proxy for name, proxy in self._proxies.items() if name != "sink"}

    def stop(self) -> None:
        """End them, the sink last."""
        for proxy in reversed(self._proxies.values()):
            proxy.stop()

    def cpu(self, cell: Cell, rounds: int, seconds: int) -> dict[str, list[float]]:
        """Microseconds of CPU time for each request, by proxy, of rounds that take turns."""
        taken: dict[str, list[float]] = {name: [] for name in self._measured}
        for proxy in self._measured.values():
            load(cell, proxy.ports[cell.protocol], 1, self._folder)  # warms caches and the pools of connections
        for _ in range(rounds):
            for name, proxy in self._measured.items():
                taken[name].append(self._round(cell, proxy, seconds))
        for line in report.cell_lines(cell, taken):
            print(line, flush=True)
        return taken

    def _round(self, cell: Cell, proxy: Proxy, seconds: int) -> float:
        before = proxy.cpu()
        requests = load(cell, proxy.ports[cell.protocol], seconds, self._folder).requests
        return (proxy.cpu() - before) / requests * 1e6

    def latency(self, rounds: int, seconds: int) -> dict[str, list[tuple[int, int]]]:
        """Microseconds of p50 and p99 at one connection, by proxy, HTTP."""
        taken: dict[str, list[tuple[int, int]]] = {name: [] for name in self._measured}
        for _ in range(rounds):
            for name, proxy in self._measured.items():
                outcome = load(CELLS["http-1k-1"], proxy.ports["http"], seconds, self._folder)
                taken[name].append((outcome.p50, outcome.p99))
        for name, pairs in taken.items():
            middle = [statistics.median(each) for each in zip(*pairs, strict=True)]
            print(f"latency at 1 connection, {name}: p50 {middle[0]:.0f} µs, p99 {middle[1]:.0f} µs", flush=True)
        return taken

    def first_answer(self, rounds: int, times: int = 100) -> dict[str, list[float]]:
        """Microseconds from a new agent connection to its first answer, by proxy and protocol, medians of rounds."""
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, proxy in self._measured.items():
                for protocol in ("http", "tcp"):
                    each = first_answers(proxy.ports[protocol], times)
                    taken.setdefault(f"{name} {protocol}", []).append(statistics.median(each))
        for name, values in taken.items():
            print(f"new connection to first answer, {name}: {statistics.median(values):.0f} µs", flush=True)
        return taken

    def growth(self) -> dict[str, dict[int, list[float]]]:
        """Microseconds for each request, by proxy and protocol, and by the number of connections.

        Of the relay, and of HAProxy, which shows what of it is the kernel's and the processor's. All connections are
        there before the first look, so that what it costs to open them is not in it.
        """
        found: dict[str, dict[int, list[float]]] = {}
        for name in ("relay", "haproxy"):
            for protocol in ("http", "tcp") if name in self._measured else ():
                taken = found[f"{name} {protocol}"] = {}
                for connections in _GROWTH:
                    cell = attrs.evolve(CELLS[f"{protocol}-1k-32"], connections=connections)
                    values = taken[connections] = self._looks(cell, self._measured[name])
                    print(f"{name} {protocol} x {connections}: {report.spread(values)} µs/request", flush=True)
        return found

    def _looks(self, cell: Cell, proxy: Proxy) -> list[float]:
        status, port = self._proxies["sink"].ports["status"], proxy.ports[cell.protocol]
        parts = [min(_TOGETHER, cell.connections - begun) for begun in range(0, cell.connections, _TOGETHER)]
        left = len(parts) + _SETTLING + (_LOOKS + 1) * _LOOK
        with ThreadPoolExecutor(len(parts)) as pool:
            running = []
            for part in parts:
                running.append(pool.submit(load, attrs.evolve(cell, connections=part), port, left, self._folder))
                time.sleep(1)
                left -= 1
            time.sleep(_SETTLING)
            looks = [(proxy.cpu(), counted(status))]
            for _ in range(_LOOKS):
                time.sleep(_LOOK)
                looks.append((proxy.cpu(), counted(status)))
            if any(each.done() for each in running):
                raise BenchmarkError(f"{cell.name}: a load ended before the last look")
            for each in running:
                each.result()
        return [(after[0] - before[0]) / (after[1] - before[1]) * 1e6 for before, after in pairwise(looks)]

    def idle(self) -> dict[str, Any]:
        """Bytes of an idle agent connection, by protocol, and the part that stays when all have gone.

        And resident bytes and share of a core with 16 intakes.
        """
        connection, left = {}, {}
        for protocol in ("http", "tcp"):
            proxy = self._fresh({protocol: protocol})
            ask(proxy.ports[protocol]).close()
            before = proxy.memory()
            agents = [ask(proxy.ports[protocol]) for _ in range(_IDLE)]
            connection[protocol] = (proxy.memory() - before) / len(agents)
            for agent in agents:
                agent.close()
            time.sleep(_RETURN)
            left[protocol] = (proxy.memory() - before) / len(agents)
            proxy.stop()
        proxy = self._fresh({f"intake-{place}": "http" for place in range(_INTAKES)})
        time.sleep(5)
        cpu = proxy.cpu()
        time.sleep(_RETURN)
        core = (proxy.cpu() - cpu) / _RETURN
        found = {"connection": connection, "left": left, "memory": proxy.memory(), "core": core}
        proxy.stop()
        return found

    def starts(self, times: int) -> list[float]:
        """Seconds from the program's start until its ports are open."""
        found = []
        for _ in range(times):
            proxy = self._fresh()
            found.append(proxy.started)
            proxy.stop()
        return found

    def _fresh(self, protocols: Mapping[str, str] = {"http": "http"}) -> Proxy:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        proxy = start_relay(folder, self._paths, self._sink, protocols)
        self._proxies["fresh"] = proxy
        return proxy


def _machine() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    kernel = platform.release().partition("-")[0]
    return {
        "processor": f"{os.cpu_count()} × {model}",
        "kernel": kernel,
        "congestion": congestion_control(),
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
