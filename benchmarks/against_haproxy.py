"""CPU time of the relay against HAProxy's, in the same run on the same machine.

Wall-clock throughput on a shared machine follows the neighbours, so the figure is the user and system time of the
proxy's own process per request and per GB, and what counts is the ratio of rounds that ran one after the other.
The proxy stands on core 0; nginx (the TLS upstream: TLS 1.3, AES-128-GCM, reads the whole body, answers 202) and wrk
(POST, keep-alive) share core 1. Needs Debian's haproxy, nginx-light and wrk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import yaml

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import free_ports

HOST = "intake.ddog-gov.com"
PROGRAMS = {"haproxy": "haproxy", "nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
# Debian keeps servers out of a plain user's PATH.
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
TICK = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 20.0


@attrs.frozen
class Cell:
    """One load: ``size`` bytes a request over ``connections``, through the http or the tcp intake."""

    name: str
    protocol: str
    size: int
    connections: int


CELLS = (
    Cell("http-1k", "http", 1024, 32),
    Cell("http-2m", "http", 2 * 1024 * 1024, 4),
    Cell("tcp-1k", "tcp", 1024, 32),
    Cell("tcp-2m", "tcp", 2 * 1024 * 1024, 4),
)


@attrs.frozen
class Sample:
    """What one round cost: CPU seconds of the proxy, and how many requests got their 2xx answer."""

    cpu: float
    requests: int

    @property
    def microseconds(self) -> float:
        """CPU time of a request."""
        return self.cpu / self.requests * 1e6

    def seconds_per_gigabyte(self, size: int) -> float:
        """CPU time of 10⁹ bytes of bodies."""
        return self.cpu / (self.requests * size) * 1e9


class BenchmarkError(Exception):
    """The benchmark cannot run, or a proxy did not do its work; one line for the person at the terminal."""


class Proxy:
    """A process under measurement and its two ports."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, ports: dict[str, int], core: str) -> None:
        self.name, self.ports = name, ports
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program("taskset"), "-c", core, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        deadline = time.monotonic() + START_TIMEOUT
        for port in ports.values():
            while not _accepts(port):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = self._log.read_text(errors="replace")[-2000:]
                    self.stop()
                    raise BenchmarkError(f"{name} does not listen on port {port}; it said:\n{said}")
                time.sleep(0.05)

    def cpu(self) -> float:
        """User and system seconds so far, of this process (which has no workers) and all its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def stop(self) -> None:
        """End it; SIGKILL after a bound."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0; 1 when something is missing or failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="length of one round")
    parser.add_argument("--cells", default="http-1k,http-2m", help=f"of {','.join(cell.name for cell in CELLS)}")
    parser.add_argument("--peer-only", action="store_true", help="HAProxy alone: what this machine gives today")
    options = parser.parse_args(argv)
    names = options.cells.split(",")
    if unknown := set(names) - {cell.name for cell in CELLS}:
        parser.error(f"no cell {', '.join(sorted(unknown))}; there are {', '.join(cell.name for cell in CELLS)}")
    cells = [cell for cell in CELLS if cell.name in names]
    missing = sorted(package for program, package in PROGRAMS.items() if not shutil.which(program, path=SEARCH))
    if missing:
        print(f"benchmark: Debian's {' '.join(missing)} needed: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    proxies: list[Proxy] = []
    with tempfile.TemporaryDirectory(prefix="fipsrelay-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        paths = certificates.write(folder, [HOST])
        try:
            upstream = start_nginx(folder, paths)
            proxies.append(upstream)
            port = upstream.ports["sink"]
            measured = [] if options.peer_only else [_start_relay(folder, paths, port)]
            proxies.extend(measured)
            peer = _start_haproxy(folder, paths, port)
            proxies.append(peer)
            for cell in cells:
                _measure(cell, [*measured, peer], options.rounds, options.seconds, folder)
        except BenchmarkError as error:
            print(f"benchmark: {error}", file=sys.stderr)
            return 1
        finally:
            for proxy in reversed(proxies):
                proxy.stop()
    return 0


def _measure(cell: Cell, proxies: Sequence[Proxy], rounds: int, seconds: int, folder: Path) -> None:
    print(
        f"{cell.name}: {cell.size} bytes x {cell.connections} connections, {rounds} rounds of {seconds} s", flush=True
    )
    samples: dict[str, list[Sample]] = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:
        _load(cell, proxy.ports[cell.protocol], 1, folder)  # warms caches and the pools of upstream connections
    for _ in range(rounds):
        for proxy in proxies:
            before = proxy.cpu()
            requests = _load(cell, proxy.ports[cell.protocol], seconds, folder)
            samples[proxy.name].append(Sample(proxy.cpu() - before, requests))
    for name, taken in samples.items():
        _print(f"  {name}", "µs CPU/request", [sample.microseconds for sample in taken])
        _print(f"  {name}", "CPU s/GB", [sample.seconds_per_gigabyte(cell.size) for sample in taken])
    if "relay" in samples:
        pairs = zip(samples["relay"], samples["haproxy"], strict=True)
        _print("  ratio", "relay / haproxy", [ours.microseconds / theirs.microseconds for ours, theirs in pairs])


def _print(name: str, unit: str, values: Sequence[float]) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:<11}{unit:<17}min {low:9.3f}  median {middle:9.3f}  max {high:9.3f}", flush=True)


def _load(cell: Cell, port: int, seconds: int, folder: Path) -> int:
    script = folder / f"{cell.name}.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/octet-stream"\n'
        f'wrk.headers["Host"] = "{HOST}"\nwrk.body = string.rep("x", {cell.size})\n'
        "done = function(summary)\n"
        "  local e = summary.errors\n"
        '  io.write(string.format("RESULT {\\"requests\\": %d, \\"errors\\": %d}\\n", summary.requests,'
        " e.connect + e.read + e.write + e.status + e.timeout))\nend\n"
    )
    command = [program("wrk"), "-t1", f"-c{cell.connections}", f"-d{seconds}s", "-s", str(script)]
    finished = subprocess.run(
        [program("taskset"), "-c", "1", *command, f"http://127.0.0.1:{port}/api/v2/series"],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    found = re.search(r"^RESULT (.*)$", finished.stdout, re.MULTILINE)
    if not found:
        raise BenchmarkError(f"wrk failed: {finished.stderr.strip() or finished.stdout.strip()}")
    result = json.loads(found[1])
    if result["errors"] or not result["requests"]:
        raise BenchmarkError(f"{cell.name} on port {port}: {result['errors']} errors in {result['requests']} requests")
    requests: int = result["requests"]
    return requests


def start_nginx(folder: Path, paths: certificates.Paths) -> Proxy:
    port, sink = free_ports(2)
    temporary = "".join(f"  {kind}_temp_path {folder};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    file = folder / "nginx.conf"
    # `return 202` at once would answer before the body is read, which no intake does: so proxy to a second server,
    # unbuffered, after the whole body has been read.
    file.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr error;\n"
        "events { worker_connections 1024; }\n"
        f"http {{\n  access_log off;\n{temporary}  client_body_temp_path {folder}/bodies;\n"
        "  client_max_body_size 0;\n  client_body_buffer_size 3m;\n  keepalive_requests 100000000;\n"
        f"  upstream done {{ server 127.0.0.1:{sink}; keepalive 64; }}\n"
        f"  server {{ listen 127.0.0.1:{sink}; keepalive_requests 100000000; return 202; }}\n"
        f"  server {{\n    listen 127.0.0.1:{port} ssl;\n    server_name {HOST};\n"
        f"    ssl_certificate {paths.certificate};\n    ssl_certificate_key {paths.key};\n"
        "    ssl_protocols TLSv1.3;\n    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"
        "    ssl_ecdh_curve prime256v1;\n"
        "    location / {\n      proxy_pass http://done;\n      proxy_pass_request_body off;\n"
        '      proxy_method GET;\n      proxy_set_header Content-Length "";\n      proxy_http_version 1.1;\n'
        '      proxy_set_header Connection "";\n    }\n  }\n}\n'
    )
    command = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file)]
    return Proxy("nginx", command, folder, {"sink": port}, core="1")


def _start_haproxy(folder: Path, paths: certificates.Paths, upstream: int) -> Proxy:
    http, tcp = free_ports(2)
    verification = f"ssl verify required ca-file {paths.authority} verifyhost {HOST} sni str({HOST})"
    server = f"server s1 127.0.0.1:{upstream} {verification}"
    file = folder / "haproxy.cfg"
    file.write_text(
        "global\n  nbthread 1\n  maxconn 4096\n  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n"
        "  ssl-default-server-options ssl-min-ver TLSv1.2\n"
        "defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend fh\n  mode http\n  bind 127.0.0.1:{http}\n  default_backend bh\n"
        f"backend bh\n  mode http\n  http-reuse always\n  {server}\n"
        f"frontend ft\n  mode tcp\n  bind 127.0.0.1:{tcp}\n  default_backend bt\n"
        f"backend bt\n  mode tcp\n  {server}\n"
    )
    # -db: no worker process, so that one pid has all the CPU time.
    command = [program("haproxy"), "-db", "-f", str(file)]
    return Proxy("haproxy", command, folder, {"http": http, "tcp": tcp}, core="0")


def _start_relay(folder: Path, paths: certificates.Paths, upstream: int) -> Proxy:
    page, http, tcp = free_ports(3)
    file = folder / "fipsrelay.yaml"
    document = {
        "listen": {"addresses": ["127.0.0.1"], "port_range_start": page},
        "fips": {"unlisted_module": "warn"},
        "tls": {"trust": str(paths.authority)},
        "upstreams": {"sink": {"host": HOST, "port": upstream, "addresses": ["127.0.0.1"]}},
        "intakes": {
            "http": {"port": http, "protocol": "http", "upstream": "sink"},
            "tcp": {"port": tcp, "protocol": "tcp", "upstream": "sink"},
        },
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", str(file)]
    return Proxy("relay", command, folder, {"http": http, "tcp": tcp}, core="0")


def program(name: str) -> str:
    return shutil.which(name, path=SEARCH) or name


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
