"""``python -m fipsrelay``."""

from __future__ import annotations

import sys

from fipsrelay.cli import main

if __name__ == "__main__":
    sys.exit(main())
