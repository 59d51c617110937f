"""Debian's squid as the forward proxy of scenarios: on loopback, with its own configuration, for root and plain users.

It asks no name server, and knows the hosts that the test names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.scenarios.stage import HOST, TIMEOUT

_PROGRAM = "/usr/sbin/squid"
# Debian's user for it: squid does not run as root. A plain user's squid ignores the line.
_USER = "proxy"
# All paths are relative to its folder: what lies above it may be closed to _USER.
# Nobody listens on the name server's address, and it is not asked for long.
_CONFIGURATION = f"""
cache_effective_user {_USER}
pid_filename none
coredump_dir none
netdb_filename none
pinger_enable off
cache_log /dev/null
access_log stdio:access.log CONNECT
hosts_file hosts
dns_nameservers 127.255.255.254
dns_retransmit_interval 200 milliseconds
dns_timeout 1 second
visible_hostname squid.test
"""


class Squid:
    """A running squid, ready. It ends with :meth:`stop`.

    Args:
        folder: is made, for its files.
        port: to listen on, at 127.0.0.1.
        targets: the ports that a tunnel may lead to; others are answered 403.
        users: passwords by name for Basic authentication; empty to let everybody in.
        hosts: IP addresses by the names that it knows.

    Attributes:
        port: as given.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        targets: Iterable[int],
        users: Mapping[str, str] | None = None,
        hosts: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        self._folder = folder
        folder.mkdir()
        (folder / "squid.conf").write_text(_configuration(port, targets, bool(users)))
        (folder / "hosts").write_text(_lines(f"{ip} {name}" for name, ip in (hosts or {HOST: "127.0.0.1"}).items()))
        (folder / "passwords").write_text(_lines(f"{user}:{_hashed(word)}" for user, word in (users or {}).items()))
        if os.geteuid() == 0:
            shutil.chown(folder, _USER)
        # The name becomes that of its shared memory, which two of them (or the system's own) must not share.
        self._name = f"suite{port}"
        with (folder / "squid.log").open("wb") as log:
            self._process = subprocess.Popen(
                [_PROGRAM, "-N", "-d", "1", "-n", self._name, "-f", "squid.conf"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal belongs to the suite
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def log(self) -> str:
        """Its access log. A tunnel stands there when it has ended, a refusal at once."""
        return _read(self._folder / "access.log")

    def stop(self) -> None:
        """End it at once. It has nothing to save, and would take two seconds for its own way to end."""
        self._process.kill()
        self._process.wait()
        for left in Path("/dev/shm").glob(f"{self._name}-*"):
            left.unlink()

    def _wait(self) -> None:
        end = time.monotonic() + TIMEOUT
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"squid did not start; it said:\n{_read(self._folder / 'squid.log')}")
            time.sleep(0.01)  # nobody tells when a port is opened


def _configuration(port: int, targets: Iterable[int], known_only: bool) -> str:
    rules = [f"http_port 127.0.0.1:{port}", f"acl targets port {' '.join(map(str, targets))}"]
    if known_only:
        rules += [
            "auth_param basic program /usr/lib/squid/basic_ncsa_auth passwords",
            "auth_param basic children 1 startup=1",
            "acl known proxy_auth REQUIRED",
            "http_access deny !known",
        ]
    rules += ["http_access deny !targets", "http_access allow CONNECT", "http_access deny all"]
    return _CONFIGURATION + _lines(rules)


def _hashed(password: str) -> str:
    """As crypt(3) does it with SHA-256, which basic_ncsa_auth asks to check it."""
    command = ["openssl", "passwd", "-5", "-stdin"]
    done = subprocess.run(command, input=f"{password}\n", text=True, check=True, capture_output=True, timeout=TIMEOUT)
    return done.stdout.strip()


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
