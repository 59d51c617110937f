"""The program as a daemon: ``twistd`` without ``-n``."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fipsrelay.demo.peer import executable
from tests.scenarios.stage import TIMEOUT


@contextlib.contextmanager
def daemon(folder: Path, config: str, *options: str) -> Iterator[int]:
    """Start it in a folder, where it logs to ``relay.log``; stop it by SIGTERM, or else by SIGKILL.

    Args:
        folder: its working directory, and that of its files.
        config: path of its configuration, as it is to be told.
        options: of twistd.

    Yields:
        Its process id. It need not be ready yet.

    Raises:
        AssertionError: it does not start in silence, does not end, or leaves its pidfile behind.
    """
    pidfile = folder / "relay.pid"
    files = (f"--logfile={folder / 'relay.log'}", f"--pidfile={pidfile}")
    command = [str(executable("twistd")), *files, *options, "fipsrelay", "-c", config]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode or done.stdout or done.stderr:
        raise AssertionError(f"status {done.returncode}: {done.stdout}{done.stderr}")
    pid = int(pidfile.read_text())
    ended = os.pidfd_open(pid)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        is_over = select.select([ended], [], [], TIMEOUT)[0]
        if not is_over:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)
    if not is_over or pidfile.exists():
        raise AssertionError("the daemon did not end" if not is_over else "it left its pidfile")
