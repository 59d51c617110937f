"""Debian's sources of what the runtime is built from, from this machine's own mirror, with Debian's repairs."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from fipsrelay.crypto.obtain import apt
from fipsrelay.crypto.sources import mirror
from packages.commands import call, extract

SUITE = "bookworm"
# Patches that make Debian's layout or Debian's build of CPython; what else there is repairs something, and is wanted.
# fmt: off
DEBIAN_ONLY = frozenset((
    "deb-setup", "deb-locations", "distutils-install-layout", "locale-module", "distutils-link",
    "distutils-sysconfig", "sysconfig-debian-schemes", "tkinter-import", "gdbm-import", "link-opt", "setup-modules",
    "profiled-build", "langpack-gettext", "disable-sem-check", "lib-argparse", "ctypes-arm", "multiarch",
    "lib2to3-no-pickled-grammar", "ext-no-libpython-link", "test-no-random-order", "multiarch-extname",
    "tempfile-minimal", "disable-some-tests", "ensurepip-disabled", "mangle-fstack-protector",
    "reproducible-buildinfo", "pydoc-use-pager", "local-doc-references", "doc-build-texinfo", "argparse-no-shutil",
    "sysconfigdata-name", "hurd_kfreebsd_thread_native_id", "sphinx3", "destshared-location",
    "skip-xml-tests-expat-CVE-2023-52425",
))
# fmt: on


def fetch(names: Sequence[str], folder: Path) -> None:
    """Source packages into ``folder``, checked by apt's signatures."""
    state = folder / "state"
    call([*apt(state, mirror().stanza(SUITE, "deb-src")), "source", "--download-only", *names], folder)
    shutil.rmtree(state)


def unpack(name: str, folder: Path, into: Path, skip: Collection[str] = ()) -> Path:
    """The patched tree of a source package that was fetched into ``folder``.

    Args:
        name: of the package.
        folder: see ``fetch``.
        into: a folder that is not there yet.
        skip: names of patches, without what follows their dot.
    """
    into.mkdir(parents=True)
    extract(only(folder, f"{name}_*.orig.tar.*"), into)
    tree = only(into, "*")
    extract(only(folder, f"{name}_*.debian.tar.*"), tree)
    patches = tree / "debian" / "patches"
    series = (patches / "series").read_text() if (patches / "series").exists() else ""
    for line in series.splitlines():
        patch = line.partition("#")[0].split()
        if patch and patch[0].rpartition(".")[0] not in skip:
            call(["patch", "--batch", "--forward", "--strip=1", f"--input={patches / patch[0]}"], tree)
    return tree


def version(name: str, folder: Path) -> str:
    """Debian's, of a source package that was fetched into ``folder``."""
    lines = only(folder, f"{name}_*.dsc").read_text().splitlines()
    return next(line for line in lines if line.startswith("Version: ")).removeprefix("Version: ")


def only(folder: Path, pattern: str) -> Path:
    """The one path there.

    Raises:
        FileNotFoundError: there is none, or more than one.
    """
    found = [path for path in folder.glob(pattern) if not path.name.endswith(".asc")]
    if len(found) != 1:
        raise FileNotFoundError(f"one {pattern} expected in {folder}, {len(found)} found")
    return found[0]
