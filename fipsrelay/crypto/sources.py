"""This machine's own Debian mirror, read from its apt configuration. No mirror's name is written down here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from fipsrelay.errors import FipsError

FOLDER = Path("/etc/apt")


@attrs.frozen
class Mirror:
    """One archive.

    Attributes:
        uri: base address.
        signed_by: the value of ``Signed-By`` as found, possibly a whole key on many lines; empty for apt's own keys.
    """

    uri: str
    signed_by: str = ""

    def stanza(self, suite: str, kind: str = "deb") -> str:
        """One deb822 paragraph for the packages of ``suite``; ``kind``: ``deb`` or ``deb-src``."""
        signed = f"Signed-By: {self.signed_by}\n" if self.signed_by else ""
        return f"Types: {kind}\nURIs: {self.uri}\nSuites: {suite}\nComponents: main\n{signed}"


def mirror(folder: Path = FOLDER) -> Mirror:
    """The first enabled archive that carries Debian's ``main``, the one-line file before the folder's files."""
    for fields in _entries(folder):
        for uri in fields.get("uris", "").split():
            if _is_debian(fields, uri):
                return Mirror(uri, fields.get("signed-by", ""))
    remedy = "bring a module with --install or --source"
    raise FipsError("mirror-missing", f"a Debian mirror in {folder}", "none that is enabled", remedy)


def _is_debian(fields: Mapping[str, str], uri: str) -> bool:
    enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0", "off", "without", "disable"}
    binary = "deb" in fields.get("types", "").split()
    main = "main" in fields.get("components", "").split()
    return enabled and binary and main and uri.rstrip("/").endswith("/debian")


def _entries(folder: Path) -> Iterator[dict[str, str]]:
    parts = folder / "sources.list.d"
    for path in (folder / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))):
        if path.is_file():
            text = path.read_text(errors="replace")
            yield from _paragraphs(text) if path.suffix == ".sources" else _lines(text)


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n[ \t]*\n", kept):
        fields = re.findall(r"^([\w-]+):[ \t]*((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        if fields:
            yield {name.lower(): value.strip() for name, value in fields}


def _lines(text: str) -> Iterator[dict[str, str]]:
    pattern = re.compile(r"\s*(deb(?:-src)?)\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)")
    for match in filter(None, map(pattern.match, text.splitlines())):
        types, options, uri, suites, components = match.groups(default="")
        fields = dict(word.split("=", 1) for word in shlex.split(options) if "=" in word)
        yield fields | {"types": types, "uris": uri, "suites": suites, "components": components}
