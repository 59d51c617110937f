"""The packages that ``make packages`` has built."""

from __future__ import annotations

from pathlib import Path

from packages.build import DIST


def package(kind: str) -> Path:
    """The one of this kind, ``deb`` or ``rpm``.

    Raises:
        AssertionError: it has not been built.
    """
    found = sorted(DIST.glob(f"fipsrelay_*.{kind}"))
    if len(found) != 1:
        raise AssertionError(f"one .{kind} expected in {DIST}, {len(found)} found: make packages")
    return found[0]
