"""All targets, one after the other: ``python -m tests.fuzz --seconds 600``.

What is found is thrown away again, unless it is a failure, or ``--keep`` adds to the corpus what reaches something new.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.guided import CORPUS, command

TARGETS = ("framing", "exchange")


def main() -> int:
    """Returns how many targets failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz framing and exchanges.")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (default: 600)")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches something new")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one")
    options = parser.parse_args()
    targets = options.target or TARGETS
    folder = Path(tempfile.mkdtemp(prefix="fipsrelay-fuzz-"))
    failed = [name for name in targets if not run(name, options.seconds // len(targets), folder, keep=options.keep)]
    if failed:
        print(f"failed: {', '.join(failed)}; the inputs are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return len(failed)


def run(name: str, seconds: int, folder: Path, *, keep: bool) -> bool:
    """Fuzz one target for so long; whether nothing was found."""
    print(f"{name}: {seconds} seconds", file=sys.stderr, flush=True)
    found = folder / name
    found.mkdir()
    target = f"tests.fuzz.{name}.check"
    limits = (f"-max_total_time={max(1, seconds)}", f"-artifact_prefix={folder}/{name}-", "-print_final_stats=1")
    status = subprocess.run(command(target, *limits, str(found), str(CORPUS / name)), check=False).returncode
    if status == 0 and keep:
        subprocess.run(command(target, "-merge=1", str(CORPUS / name), str(found)), check=True)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
