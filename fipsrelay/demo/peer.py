"""The demo's processes as their parent sees them: start, ask, stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fipsrelay.demo.certificates import Paths
from fipsrelay.demo.intake import CONTROL_HOST, RECORDS_PATH

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
READY = "fipsrelay is ready"


class RelayError(Exception):
    """The relay did not do what was waited for; the text says what it said."""


class IntakeProcess:
    """A running ``fipsrelay.demo.intake``. It ends with :meth:`stop`, or by itself when this process ends.

    Attributes:
        port: TCP port it listens on.
        pid: its process id.
    """

    def __init__(self, paths: Paths, *, address: str = "127.0.0.1", port: int = 0, options: Sequence[str] = ()) -> None:
        self._address = address
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fipsrelay.demo.intake"),
                *("--certificate", str(paths.certificate), "--key", str(paths.key)),
                *("--address", address, "--port", str(port)),
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A Ctrl-C at the terminal belongs to the parent, which stops its children in order.
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the intake did not start, it exited with status {self._process.wait()}")
        self.port: int = json.loads(line)["port"]

    def records(self) -> list[dict[str, Any]]:
        """The intake's records, in order of arrival; the keys are the attributes of ``intake.Record``."""
        # The control request proves nothing about identity: any certificate will do, tests use broken ones.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(self._address, self.port, timeout=10, context=context)
        try:
            connection.request("GET", RECORDS_PATH, headers={"Host": CONTROL_HOST})
            records: list[dict[str, Any]] = json.load(connection.getresponse())
            return records
        finally:
            connection.close()

    def close_input(self) -> int:
        """Do what this process's death would do, and return the intake's exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(10)

    def stop(self) -> int:
        """End it, and return its exit status (0 when all is well)."""
        process = self._process
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        return process.returncode


class RelayProcess:
    """The relay's process, started as users start it: ``twistd -n --pidfile= fipsrelay -c FILE``.

    It ends with :meth:`stop`; a Ctrl-C at the terminal belongs to the parent, which stops its children in order.

    Args:
        config_file: its configuration.
        environ: what to add to the environment.
        prefix: a program that starts it, with its arguments.
        python: the interpreter beside which it is installed.
        descriptors: that it inherits.
        options: more of ``fipsrelay``'s own.

    Attributes:
        pid: its process id.
    """

    def __init__(
        self,
        config_file: Path,
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        python: str = sys.executable,
        descriptors: Sequence[int] = (),
        options: Sequence[str] = (),
    ) -> None:
        twistd = [str(Path(python).with_name("twistd")), "-n", "--pidfile="]
        self._process = subprocess.Popen(
            [*prefix, *twistd, "fipsrelay", "-c", str(config_file), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            cwd=config_file.parent,
            start_new_session=True,
            pass_fds=tuple(descriptors),
        )
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """Everything that it has printed so far."""
        with self._changed:
            return "\n".join(self._lines)

    def wait_for(self, words: str = READY, timeout: float = START_TIMEOUT) -> str:
        """The first line with ``words`` in it, as soon as there is one.

        Raises:
            RelayError: the relay ended, or took longer than ``timeout`` seconds.
        """

        def found() -> str | None:
            return next((line for line in self._lines if words in line), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._ended, timeout)
            line = found()
            said = "\n".join(self._lines[-12:])
            ended = self._ended
        if line is not None:
            return line
        if ended:
            raise RelayError(f"the relay ended with status {self._process.wait()}; it said:\n{said}")
        raise RelayError(f"no line with '{words}' within {timeout:.0f} s; the relay said:\n{said}")

    def check_alive(self) -> None:
        """Raise RelayError when the relay has ended by itself."""
        if self._process.poll() is not None:
            raise RelayError(f"the relay ended with status {self._process.returncode}; it said:\n{self.output}")

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Its exit status, when it has ended by itself; killed after ``timeout`` seconds."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status

    def stop(self) -> int:
        """SIGTERM, and its exit status; killed after a bound that is longer than the drain."""
        self.terminate()
        return self.wait()


def executable(name: str) -> Path:
    """A program installed beside this interpreter, as users call it."""
    return Path(sys.executable).with_name(name)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, of a range of this process's own.

    Those that the kernel gives away begin above: it might have given one to a connection by the time it is used.

    Raises:
        OSError: there are not so many.
    """
    start = 20_000 + os.getpid() % 60 * 200
    ports: list[int] = []
    for port in random.sample(range(start, start + 200), 200):
        if len(ports) == count:
            break
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    if len(ports) < count:
        raise OSError(f"no {count} of the ports from {start} on are free")
    return ports
