"""Loads by wrk, which stands on core 1 beside the sink, and by plain sockets where wrk does not tell enough."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import attrs

from benchmarks.peers import HOST
from benchmarks.processes import BenchmarkError, program

# What an agent sends: half of it 2 KB, four tenths 100 KB, a tenth 2 MB, in turns.
_MIX = (2048, 102400, 2048, 102400, 2048, 102400, 2048, 102400, 2048, 2 * 1024 * 1024)
_POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Host"] = "{host}"
wrk.body = string.rep("x", {size})
"""
_MIXED = """
local sizes, made, turn = {{{sizes}}}, {{}}, 0
function init()
  for place, size in ipairs(sizes) do
    made[place] = wrk.format("POST", nil, {{["Host"] = "{host}"}}, string.rep("x", size))
  end
end
function request()
  turn = turn % #sizes + 1
  return made[turn]
end
"""
_GET = 'wrk.headers["Host"] = "{host}"\n'
_DONE = """
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("ERRORS connect %d, read %d, write %d, status %d, timeout %d\\n",
    e.connect, e.read, e.write, e.status, e.timeout))
  io.write(string.format("RESULT {\\"requests\\": %d, \\"errors\\": %d, \\"p50\\": %d, \\"p99\\": %d}\\n",
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@attrs.frozen
class Cell:
    """One load.

    Attributes:
        name: of it.
        protocol: the intake, http or tcp.
        size: bytes of a body, on the average.
        connections: of wrk.
        target: of the requests.
        script: for wrk.
    """

    name: str
    protocol: str
    size: int
    connections: int
    target: str = "/api/v2/series"
    script: str = _POST


def _cells() -> dict[str, Cell]:
    sizes = {"1k-1": (1024, 1), "1k-32": (1024, 32), "64k-8": (65536, 8), "2m-4": (2 * 1024 * 1024, 4)}
    cells = []
    for protocol in ("http", "tcp"):
        cells += [Cell(f"{protocol}-{name}", protocol, *each) for name, each in sizes.items()]
        if protocol == "http":
            cells.append(Cell("http-mix", protocol, sum(_MIX) // len(_MIX), 10, script=_MIXED))
        cells.append(Cell(f"{protocol}-get-2m", protocol, 2 * 1024 * 1024, 4, "/download", _GET))
    return {cell.name: cell for cell in cells}


CELLS = _cells()


@attrs.frozen
class Outcome:
    """Requests that got their 2xx answer, and microseconds."""

    requests: int
    p50: int
    p99: int


def load(cell: Cell, port: int, seconds: int, folder: Path) -> Outcome:
    """Run it.

    Raises:
        BenchmarkError: a request failed, or there was none.
    """
    script = folder / f"{cell.name}.lua"
    sizes = ", ".join(map(str, _MIX))
    script.write_text(cell.script.format(host=HOST, size=cell.size, sizes=sizes) + _DONE)
    command = [program("wrk"), "-t1", f"-c{cell.connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script)]
    finished = subprocess.run(
        [program("taskset"), "-c", "1", *command, f"http://127.0.0.1:{port}{cell.target}"],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    found = re.search(r"^RESULT (.*)$", finished.stdout, re.MULTILINE)
    if not found:
        raise BenchmarkError(f"wrk failed: {finished.stderr.strip() or finished.stdout.strip()}")
    result = json.loads(found[1])
    errors = result.pop("errors")
    if errors or not result["requests"]:
        kinds = re.search(r"^ERRORS (.*)$", finished.stdout, re.MULTILINE)
        raise BenchmarkError(f"{cell.name} on port {port}: {kinds and kinds[1]} in {result['requests']} requests")
    return Outcome(**result)


def counted(status: int) -> int:
    """Requests that the sink has had so far, by its own count at this port, which holds each of them twice."""
    with urllib.request.urlopen(f"http://127.0.0.1:{status}/", timeout=20) as answer:
        found = re.search(rb"^ \d+ \d+ (\d+)", answer.read(), re.MULTILINE)
    if not found:
        raise BenchmarkError("the sink does not say how many requests it has had")
    return int(found[1]) // 2


_REQUEST = f"POST /api/v2/series HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1024\r\n\r\n".encode() + b"x" * 1024


def ask(port: int) -> socket.socket:
    """A connection that has had its answer to one request.

    Raises:
        BenchmarkError: there was no answer, or not 202.
    """
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        with contextlib.ExitStack() as failed:
            failed.callback(sock.close)
            sock.sendall(_REQUEST)
            answer = b""
            while b"\r\n\r\n" not in answer and (data := sock.recv(65536)):
                answer += data
            if not answer.startswith(b"HTTP/1.1 202 "):
                raise BenchmarkError(f"port {port} answered {answer[:60]!r}")
            failed.pop_all()
    except OSError as error:
        raise BenchmarkError(f"port {port} does not answer: {error}") from error
    return sock


def first_answers(port: int, times: int) -> list[float]:
    """Microseconds from the beginning of a new connection to its first answer, one after the other."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        sock = ask(port)
        taken.append((time.perf_counter() - began) * 1e6)
        sock.close()
    return taken
