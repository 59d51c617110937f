"""The intake process as its parent sees it: start, ask for the records, stop."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fipsrelay.demo.certificates import Paths
from fipsrelay.demo.intake import CONTROL_HOST, RECORDS_PATH


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


def executable(name: str) -> Path:
    """A program installed beside this interpreter, as users call it."""
    return Path(sys.executable).with_name(name)
