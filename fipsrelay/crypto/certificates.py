"""Looks a module up in ``certificates.yaml``."""

from __future__ import annotations

from importlib import resources

import attrs
import yaml


@attrs.frozen
class Certificate:
    """One row of the table.

    Attributes:
        number: of the CMVP certificate.
        name, version, build_info: what the module reports; None where that is not known.
        standard: ``FIPS 140-2`` or ``FIPS 140-3``.
        status: ``active``, ``historical`` or ``unconfirmed``.
    """

    number: str
    name: str | None
    version: str
    build_info: str | None
    standard: str
    status: str

    def __str__(self) -> str:
        return f"#{self.number} ({self.standard}, {self.status})"


def table() -> tuple[Certificate, ...]:
    """Every row, in the file's order."""
    text = resources.files("fipsrelay.crypto").joinpath("certificates.yaml").read_text(encoding="utf-8")
    return tuple(
        Certificate(
            number=str(row["certificate"]),
            name=row["name"],
            version=str(row["version"]),
            build_info=row["build_info"],
            standard=row["standard"],
            status=row["status"],
        )
        for row in yaml.safe_load(text)
    )


def lookup(name: str, version: str, build_info: str) -> Certificate | None:
    """The row whose three words are exactly these, or None."""
    wanted = (name, version, build_info)
    return next((row for row in table() if (row.name, row.version, row.build_info) == wanted), None)
