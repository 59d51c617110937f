"""What is in the packages: everything that the relay needs but glibc, for hosts as old as glibc 2.17."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from packages.interpreter import PREFIX
from packages.runtime import binaries
from packages.tests.built import package
from packages.wheel import PROJECT
from tests.folders import Folders

MEGABYTE = 1_000_000
# glibc's, and the compiler's run-time library, which is part of every system that has one.
HOST = {"libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libgcc_s.so.1"}
LOADER = re.compile(r"ld-linux[-\w]*\.so\.\d$")
OLDEST = (2, 17)


def run(*command: object) -> str:
    """What it says; it must succeed."""
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


class Unpacked(Folders):
    """The .deb's files below ``root``."""

    def setUp(self) -> None:
        self.root: Path = self.folder()
        run("dpkg-deb", "-x", package("deb"), self.root)
        self.prefix = self.root / PREFIX.relative_to("/")


class BinaryTests(Unpacked):
    def test_symbols(self) -> None:
        """No function of a glibc that is younger than 2.17."""
        found = list(binaries(self.root))
        self.assertGreater(len(found), 40)
        for path in found:
            for match in re.finditer(r"\bGLIBC_(\d+)\.(\d+)", run("readelf", "--wide", "--version-info", path)):
                self.assertLessEqual((int(match[1]), int(match[2])), OLDEST, f"{path.name} needs {match[0]}")

    def test_libraries(self) -> None:
        for path in binaries(self.root):
            needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "--wide", "--dynamic", path)))
            foreign = {name for name in needed - HOST if not LOADER.match(name)}
            self.assertEqual(foreign, set(), path.name)

    def test_no_openssl_but_the_bindings(self) -> None:
        """A second one would read the module's configuration, too."""
        names = {path.name for path in binaries(self.root)}
        self.assertFalse([name for name in names if re.match(r"_ssl|_hashlib|libssl|libcrypto", name)])


class RecordTests(Unpacked):
    def test_records(self) -> None:
        """What libraries say of their files is true of those that are here, and of nothing else."""
        packages = self.prefix / "lib" / "python3.11" / "site-packages"
        records = list(packages.glob("*.dist-info/RECORD"))
        self.assertGreater(len(records), 10)
        for record in records:
            for name, digest, size in csv.reader(record.read_text().splitlines()):
                data = (packages / name).read_bytes()
                if digest:
                    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
                    self.assertEqual((digest, int(size)), (f"sha256={found}", len(data)), f"{record}: {name}")


class SizeTests(Unpacked):
    def test_size(self) -> None:
        self.assertLessEqual(package("deb").stat().st_size, 40 * MEGABYTE)
        self.assertLessEqual(package("rpm").stat().st_size, 40 * MEGABYTE)

    def test_installed_size(self) -> None:
        size = sum(path.lstat().st_size for path in self.root.rglob("*") if not path.is_dir())
        self.assertLessEqual(size, 130 * MEGABYTE)


class ReproducibleTests(Folders):
    def test_once_more(self) -> None:
        """The same files from the same commit, interpreter and pins, whenever and wherever they are put together."""
        place = self.folder()
        command = [sys.executable, "-m", "packages.build", "--output", place / "dist", "--stage", place / "root"]
        subprocess.run([str(word) for word in command], cwd=PROJECT, check=True, capture_output=True)
        again = place / "dist" / package("deb").name
        self.assertEqual(digests(again).items() ^ digests(package("deb")).items(), set())
        for kind in ("deb", "rpm"):
            first = package(kind)
            self.assertTrue((place / "dist" / first.name).read_bytes() == first.read_bytes(), first.name)


def digests(deb: Path) -> dict[str, str]:
    """Of what is in a .deb, by name."""
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive if entry.isfile()}
        return {name: hashlib.sha256(file.read()).hexdigest() for name, file in files.items() if file is not None}


class RpmTests(SynchronousTestCase):
    def test_files(self) -> None:
        """The same as in the .deb, but for the place of the unit, and what only Debian's init systems read."""
        said = run("rpm", "--query", "--package", "--queryformat", "[%{FILEDIGESTS} %{FILENAMES}\n]", package("rpm"))
        listed = {name: digest for digest, _, name in (line.partition(" ") for line in said.splitlines())}
        wanted = {
            re.sub("^./lib/", "/usr/lib/", name).removeprefix("."): digest
            for name, digest in digests(package("deb")).items()
            if not name.startswith(("./etc/init", "./etc/logrotate.d/"))
        }
        self.assertIn(f"{PREFIX}/bin/twistd", wanted)
        self.assertEqual({(name, digest) for name, digest in listed.items() if digest} ^ wanted.items(), set())
        for name in (f"{PREFIX}/share/fipsrelay", "/usr/bin/fipsrelay"):  # a folder, and a link
            self.assertIn(name, listed)

    def test_scripts(self) -> None:
        said = run("rpm", "--query", "--package", "--scripts", package("rpm"))
        for part in ("postinstall scriptlet", "preuninstall scriptlet", "postuninstall scriptlet"):
            self.assertIn(part, said)

    def test_requirements(self) -> None:
        said = run("rpm", "--query", "--package", "--requires", package("rpm"))
        self.assertIn("glibc >= 2.17", said)
