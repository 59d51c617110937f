"""Put the image's root together: ``python -m packages.image ROOT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fipsrelay.errors import FipsError
from packages.commands import BuildError
from packages.image.root import ROOT, assemble


def main() -> int:
    """Assemble it, name its folder, and return 0; 1 when a step failed."""
    parser = argparse.ArgumentParser(prog="python -m packages.image", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=ROOT, metavar="ROOT", help="folder for it; replaced")
    parser.add_argument("--module", type=Path, metavar="FIPS_SO", help="the FIPS module to put into it (default: none)")
    options = parser.parse_args()
    try:
        assemble(options.root.resolve(), options.module)
    except (BuildError, FipsError, OSError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(options.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
