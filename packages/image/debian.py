"""What the image has of Debian: libraries of glibc, the certificates to trust, and their licences."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs

from fipsrelay.crypto.obtain import apt
from packages.commands import call
from packages.sources import only

# What a program for glibc may name, the operator's FIPS module too. The loader has the architecture in its name;
# libgcc_s is named by wheels, and loaded by glibc itself.
LIBRARIES = {
    "libc6": (
        *("libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2"),
        "ld-linux*.so.*",
    ),
    "libgcc-s1": ("libgcc_s.so.1",),
}
# os-release, by which those who look for vulnerabilities know whose packages these are, and the licences' texts.
_BASE = "base-files"
_CERTIFICATES = "ca-certificates"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@attrs.frozen
class Package:
    """One of Debian's packages, unpacked.

    Attributes:
        name: its name.
        control: its description, as dpkg keeps it.
        files: folder of what is in it.
    """

    name: str
    control: str
    files: Path

    @property
    def documents(self) -> Path:
        """The folder of its licence, as a root has it; of another package's where it is made from the same source."""
        place = Path("usr/share/doc", self.name)
        link = self.files / place
        return place.with_name(link.readlink().name) if link.is_symlink() else place


def install(root: Path, folder: Path) -> None:
    """Lay into ``root`` what the image has of Debian, of the release and by the sources of this machine's own apt.

    Args:
        root: changed.
        folder: for what is downloaded; not in ``root``.
    """
    command = apt(folder)  # with security updates, where the machine's apt has them
    packages = {package.name: package for package in fetch([*LIBRARIES, _CERTIFICATES, _BASE], folder, command)}
    for name, patterns in LIBRARIES.items():
        for pattern in patterns:
            _copy(packages[name].files, pattern, root)
    certificates = sorted((packages[_CERTIFICATES].files / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / _BUNDLE
    bundle.parent.mkdir(parents=True)
    bundle.write_text("".join(path.read_text().rstrip("\n") + "\n" for path in certificates))
    base = packages[_BASE].files / "usr"
    shutil.copytree(base / "share/common-licenses", root / "usr/share/common-licenses", symlinks=True)
    shutil.copy(base / "lib/os-release", root / "etc")
    others = {package.documents.name for package in packages.values()} - set(packages)
    for package in (*packages.values(), *fetch(sorted(others), folder, command)):
        _record(package, root)


def fetch(names: list[str], folder: Path, command: list[str]) -> Iterator[Package]:
    """Download packages by apt-get, checked by its signatures, and unpack them into ``folder``."""
    call([*command, "download", *names], folder)
    for name in names:
        file = only(folder, f"{name}_*.deb")
        call(["dpkg-deb", "-x", file, folder / name], folder)
        yield Package(name, call(["dpkg-deb", "--field", file], folder), folder / name)


def _copy(files: Path, pattern: str, root: Path) -> None:
    """A library, under every name that the package has for it; below /lib, where programs name the loader."""
    found = sorted(files.rglob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {files}")
    for path in found:
        place = root.joinpath(*(part for part in path.relative_to(files).parts if part != "usr"))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place, follow_symlinks=False)


def _record(package: Package, root: Path) -> None:
    """Its licence, and its description where an image without dpkg has it for scanners."""
    licence = package.documents / "copyright"
    if (package.files / licence).exists():
        (root / licence).parent.mkdir(parents=True)
        shutil.copy(package.files / licence, root / licence)
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True, exist_ok=True)
    (status / package.name).write_text(package.control)
