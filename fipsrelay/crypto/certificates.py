"""Looks a module up in ``certificates.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

import yaml

from fipsrelay.config.model import Certificate


def table() -> tuple[Certificate, ...]:
    """Every row, in the file's order."""
    text = resources.files("fipsrelay.crypto").joinpath("certificates.yaml").read_text(encoding="utf-8")
    return tuple(Certificate(**row) for row in yaml.safe_load(text))


def lookup(name: str, version: str, build_info: str, own: Iterable[Certificate] = ()) -> Certificate | None:
    """The row whose three words are exactly these, or None; ``own`` rows of the operator come first."""
    wanted = (name, version, build_info)
    rows = (*own, *table())
    return next((row for row in rows if (row.name, row.version, row.build_info) == wanted), None)
