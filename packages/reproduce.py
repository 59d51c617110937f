"""Build the packages of the last commit twice, in two folders of different names, and compare them.

``python -m packages.reproduce`` makes two clones with a ``.venv`` and a ``.cache`` of their own, which takes minutes.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from packages.commands import BuildError, call
from packages.wheel import PROJECT

KEPT = PROJECT / "build" / "reproduce"
# What builds in each: niceness is one of the things that must not count.
_BUILDS = {"one": ("make",), "another-name": ("nice", "-n", "19", "make")}


def main() -> int:
    """Build twice and print digests; returns 0, or 1 when something differs, which is named, or a build failed."""
    shutil.rmtree(KEPT, ignore_errors=True)
    try:
        commit = call(["git", "rev-parse", "HEAD"], PROJECT).strip()
        first, second = (_build(commit, name, command) for name, command in _BUILDS.items())
    except (BuildError, OSError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 1
    for path in sorted(first.iterdir()):
        print(f"{_digest(path)}  {path.name}")
    differing = differences(first, second)
    for name in differing:
        print(f"reproduce: {name} differs, see {first} and {second}", file=sys.stderr)
    return 1 if differing else 0


def differences(first: Path, second: Path) -> list[str]:
    """Names of the files in two folders that are in one of them only, or are not the same bytes."""
    before, after = ({path.name: _digest(path) for path in folder.iterdir()} for folder in (first, second))
    return sorted({name for name, _ in before.items() ^ after.items()})


def _build(commit: str, name: str, command: tuple[str, ...]) -> Path:
    """A clone's packages, kept in a folder of this name; of what is here it takes nothing but the commit."""
    with tempfile.TemporaryDirectory(prefix="fipsrelay-") as folder:
        clone = Path(folder) / name
        call(["git", "clone", "--quiet", "--no-checkout", PROJECT, clone], PROJECT)
        call(["git", "checkout", "--quiet", "--detach", commit], clone)  # there may be a later one meanwhile
        call([*command, "packages"], clone)
        return Path(shutil.copytree(clone / "dist", KEPT / name))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
