"""The compiler of PyPI's ``ppbt``: what it builds needs no younger glibc than 2.17."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from pathlib import Path

import attrs

from packages.commands import extract

TRIPLET = f"{platform.machine()}-linux-gnu"


@attrs.frozen
class Toolchain:
    """An unpacked one.

    Attributes:
        root: its folder.
    """

    root: Path

    @property
    def sysroot(self) -> Path:
        """The glibc that it builds for."""
        return self.root / TRIPLET / "sysroot"

    @property
    def strip(self) -> Path:
        """The program."""
        return self.root / "bin" / f"{TRIPLET}-strip"

    def environ(self, libraries: Path) -> dict[str, str]:
        """For configure: this compiler, and static libraries below a prefix, but nothing of the host's."""
        tool = self.root / "bin" / TRIPLET
        return {
            "CC": f"{tool}-gcc",
            "CXX": f"{tool}-g++",
            "AR": f"{tool}-ar",
            "RANLIB": f"{tool}-ranlib",
            "CFLAGS": "-O2 -fPIC",
            "CPPFLAGS": f"-I{libraries}/include",
            "LDFLAGS": f"-L{libraries}/lib",
            "PKG_CONFIG_LIBDIR": f"{libraries}/lib/pkgconfig",
        }


def unpack(folder: Path) -> Toolchain:
    """Put it there, unless it is.

    Raises:
        FileNotFoundError: ``ppbt`` is not installed, or has no compiler for this machine.
    """
    spec = importlib.util.find_spec("ppbt")
    locations = list(spec.submodule_search_locations or ()) if spec else []
    archive = Path(*locations[:1], "_toolchain", f"{TRIPLET}.tar.xz")
    if not archive.is_file():
        raise FileNotFoundError(f"ppbt has no compiler for {TRIPLET}: pip install ppbt")
    toolchain = Toolchain(folder / TRIPLET)
    if not toolchain.root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            extract(archive, Path(name))
            (Path(name) / TRIPLET).rename(toolchain.root)
    return toolchain
