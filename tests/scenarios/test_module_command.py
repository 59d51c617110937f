"""``fipsrelay module`` in a Python environment of its own, where it may put and replace modules."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from fipsrelay.crypto import module
from tests.folders import Folders

# As OpenSSL's: Configure is run in the folder to build in, and the module is one target of the Makefile that it writes.
CONFIGURE = """
die "no fips" unless "@ARGV" eq "enable-fips no-tests";
open(my $file, ">", "Makefile") or die;
print $file "build_generated:\\n\\ttouch generated\\nproviders/fips.so: generated\\n";
print $file "\\tmkdir providers\\n\\tcp $ENV{BUILT} providers/fips.so\\n";
"""


class ModuleCommandTests(Folders):
    """Exit statuses, what is printed, and what stands in the data folder afterwards."""

    def setUp(self) -> None:
        self.place = self.folder()
        self.prefix = self.place / "environment"
        venv.EnvBuilder(symlinks=True).create(self.prefix)
        self.data = self.prefix / "share" / "fipsrelay"
        self.good = module.find("auto").path
        self.bad = self.put(self.place / "bad.so")

    def command(self, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.run(
            [str(self.prefix / "bin" / "python"), "-m", "fipsrelay", "module", *words],
            env={**os.environ, "PYTHONPATH": paths, **(environ or {})},
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def assert_failed(self, done: subprocess.CompletedProcess[str], *words: str) -> None:
        """Exit status 3 and one line that holds ``words``."""
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (3, "", 1), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def tools(self, *names: str) -> dict[str, str]:
        """A PATH with only these programs; ``cc`` is one that does nothing."""
        folder = self.folder()
        for name in names:
            found = shutil.which(name)
            if name == "cc":
                (folder / name).write_text("#!/bin/sh\n")
                (folder / name).chmod(0o755)
            else:
                assert found, f"the suite needs {name}"
                (folder / name).symlink_to(found)
        return {"PATH": str(folder)}

    def test_install(self) -> None:
        done = self.command("--install", str(self.good))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        self.assertEqual(lines["module"], str(self.data / "fips.so"))
        self.assertEqual(lines["sha256"], module.digest(self.good))
        self.assertEqual(sorted(path.name for path in self.data.iterdir()), ["fips.so", "fipsmodule.cnf"])
        modes = {stat.S_IMODE(path.stat().st_mode) for path in self.data.iterdir()}
        self.assertEqual(modes, {0o644})

    def test_quiet(self) -> None:
        done = self.command("--install", str(self.good), "--quiet")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        # With one in place nothing is fetched: there is no tool to fetch it with.
        done = self.command("--quiet", environ=self.tools())
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_a_bad_module_replaces_no_good_one(self) -> None:
        self.command("--install", str(self.good), "--quiet")
        self.assert_failed(
            self.command("--install", str(self.bad)), "module-unproven", "could not load the shared library"
        )
        self.assertEqual(module.digest(self.data / "fips.so"), module.digest(self.good))
        self.assertEqual(self.command().returncode, 0)

    def test_nothing_to_install(self) -> None:
        self.assert_failed(self.command("--install", "nowhere.so"), "module-missing", "nowhere.so")

    def test_data_folder_that_cannot_be_made(self) -> None:
        self.put(self.prefix / "share", "a file")
        self.assert_failed(self.command("--install", str(self.good)), f"could not be put into {self.data}")

    def source(self, configure: str = CONFIGURE) -> Path:
        return self.put(self.place / "openssl" / "Configure", configure).parent

    def test_source(self) -> None:
        source = self.source()
        environ = {**self.tools("perl", "make", "cc", "sh", "touch", "mkdir", "cp"), "BUILT": str(self.good)}
        done = self.command("--source", str(source), environ=environ)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"sha256: {module.digest(self.good)}\n", done.stdout)
        self.assertEqual([path.name for path in source.iterdir()], ["Configure"])

    def test_source_that_does_not_build(self) -> None:
        source = self.source('die "this compiler is too old\\n";')
        done = self.command("--source", str(source), environ=self.tools("perl", "make", "cc"))
        self.assert_failed(done, "perl", "this compiler is too old")

    def test_source_that_is_none(self) -> None:
        done = self.command("--source", str(self.place), environ=self.tools("perl", "make", "cc"))
        self.assert_failed(done, f"{self.place} holds no Configure")

    def test_missing_tools_are_named_with_their_packages(self) -> None:
        for there, missing, package in (
            ([], "perl", "perl"),
            (["perl"], "make", "build-essential"),
            (["perl", "make"], "cc", "build-essential"),
        ):
            done = self.command("--source", str(self.source()), environ=self.tools(*there))
            self.assert_failed(done, f"the program {missing}", f"install the Debian package {package}")
