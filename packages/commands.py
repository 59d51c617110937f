"""Programs that a build runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class BuildError(Exception):
    """A step of the build failed; what it said."""


def call(command: Sequence[str | Path], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run to the end; returns its output.

    Raises:
        BuildError: it failed; with the last lines of what it said.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise BuildError(f"{' '.join(words)}\nfailed in {folder} with status {done.returncode}:\n{said}")
    return done.stdout


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a folder, by the program: Debian 12's Python (3.11.2) has no filters for it.

    Raises:
        BuildError: it cannot be unpacked.
    """
    call(["tar", "--extract", "--no-same-owner", "--no-same-permissions", f"--file={archive}"], folder)
