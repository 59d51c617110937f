"""Sources: which patches are applied to those made here; and what is left of a download that fails."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from fipsrelay.errors import FipsError
from packages import interpreter, toolchain
from packages.commands import BuildError
from packages.sources import only, unpack
from tests.folders import Folders

PATCH = """--- a/greeting
+++ b/greeting
@@ -1 +1 @@
-{old}
+{new}
"""


class UnpackTests(Folders):
    def setUp(self) -> None:
        self.place = self.folder()
        self.write("hello_1.orig.tar.gz", {"hello-1/greeting": "one\n"})

    def write(self, name: str, files: dict[str, str]) -> None:
        with tarfile.open(self.place / name, "w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))

    def repairs(self, **patches: tuple[str, str]) -> None:
        """In this order, from and to a greeting."""
        files = {f"debian/patches/{name}.diff": PATCH.format(old=old, new=new) for name, (old, new) in patches.items()}
        series = "# a comment\n" + "".join(f"{name}.diff\n" for name in patches)
        self.write("hello_1-2.debian.tar.gz", {**files, "debian/patches/series": series})

    def unpacked(self, *skip: str) -> Path:
        return unpack("hello", self.place, self.place / "tree", skip)

    def test_in_order(self) -> None:
        self.repairs(first=("one", "two"), second=("two", "three"))
        self.assertEqual((self.unpacked() / "greeting").read_text(), "three\n")

    def test_left_out(self) -> None:
        self.repairs(layout=("one", "two"), repair=("one", "three"))
        self.assertEqual((self.unpacked("layout") / "greeting").read_text(), "three\n")

    def test_one_that_does_not_fit(self) -> None:
        """A repair that is not in would be missed by nobody."""
        self.repairs(repair=("two", "three"))
        self.assertRaises(BuildError, self.unpacked)

    def test_two_of_a_kind(self) -> None:
        (self.place / "hello_2.orig.tar.gz").touch()
        self.assertRaises(FileNotFoundError, only, self.place, "hello_*.orig.tar.*")


class InterruptedTests(Folders):
    """What fails is not taken for what is there: the next build begins it again."""

    def stand_in(self, name: str, text: str) -> None:
        program = self.put(self.folder() / name, f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        os.environ["PATH"] = f"{program.parent}:{path}"

    def test_sources(self) -> None:
        self.stand_in("apt-get", "exit 100")
        folder = self.folder()
        compiler = toolchain.Toolchain(folder / "compiler")
        self.assertRaises(FipsError, interpreter.build, compiler, folder / "sources", folder / "work")
        self.assertFalse((folder / "sources").exists())

    def test_toolchain(self) -> None:
        self.stand_in("tar", f"mkdir {toolchain.TRIPLET}; exit 2")
        folder = self.folder()
        for _ in range(2):
            self.assertRaises(BuildError, toolchain.unpack, folder)
        self.assertEqual(list(folder.iterdir()), [])
