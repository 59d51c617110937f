"""Temporary folders with made-up FIPS modules."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

MAC = ":".join(["AB"] * 32)


def short_folder(at_end: Callable[..., object]) -> Path:
    """A folder with a short name, as the path of a socket wants it (sun_path holds 108 bytes).

    Args:
        at_end: a test's ``addCleanup``.
    """
    path = Path(tempfile.mkdtemp(prefix="fipsrelay-"))
    at_end(shutil.rmtree, path)
    return path


class Folders(SynchronousTestCase):
    """Tests that write files."""

    def folder(self) -> Path:
        path = Path(self.mktemp()).resolve()
        path.mkdir(parents=True)
        return path

    def put(self, path: Path, content: str = "not really a module") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def record(self, path: Path) -> Path:
        return self.put(path, f"[fips_sect]\nactivate = 1\nmodule-mac = {MAC}\n")
