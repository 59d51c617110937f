"""The relay's wheel: the same bytes from the same commit."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from packages.commands import call

PROJECT = Path(__file__).resolve().parents[1]
_PARTS = ("fipsrelay", "twisted", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_OLDEST_OF_ZIP = "315532800"  # which wheels are


def wheel(folder: Path) -> Path:
    """The relay's, built from a copy: what an earlier build has left in the checkout would get into it."""
    tree = folder / "tree"
    tree.mkdir()
    for name in _PARTS:
        path = PROJECT / name
        if path.is_dir():
            shutil.copytree(path, tree / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(path, tree)
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(tree)]
    call([sys.executable, "-m", "pip", *command], folder, {"SOURCE_DATE_EPOCH": epoch()})
    (built,) = folder.glob("*.whl")
    return built


@cache
def epoch() -> str:
    """Seconds that all files of a package bear as their time: of the environment, of the last commit, or of 1980."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    if not (PROJECT / ".git").exists():  # sources without their history
        return _OLDEST_OF_ZIP
    return call(["git", "log", "-1", "--format=%ct"], PROJECT).strip()
