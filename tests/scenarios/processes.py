"""Processes of a test: what the kernel says of the relay, and programs that end with what they are used for."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.stage import TIMEOUT


def descriptors(relay: RelayProcess) -> int:
    """How many files and sockets the relay has open."""
    return len(os.listdir(f"/proc/{relay.pid}/fd"))


def memory(relay: RelayProcess, key: str = "VmRSS") -> int:
    """Bytes of the relay's process: VmRSS is resident now, VmHWM was resident at most."""
    match = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{relay.pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that is killed if it still runs at the end, or for longer than a test may read what it says.

    Args:
        command: of it.
        options: of ``Popen``.
    """
    with subprocess.Popen(command, **options) as process:
        limit = threading.Timer(3 * TIMEOUT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()
