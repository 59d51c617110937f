"""What an installed wheel holds, and that it starts without the checkout that it was made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import fipsrelay
from fipsrelay.demo.peer import executable
from tests.scenarios.program import Program

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "fipsrelay", "twisted")


class WheelTests(Program):
    def build(self) -> Path:
        """The wheel's content as pip unpacks it; built from a copy, because building writes into the sources."""
        copy = self.folder / "sources"
        copy.mkdir()
        for name in SOURCES:
            source = CHECKOUT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
            else:
                shutil.copyfile(source, copy / name)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--no-build-isolation", "--no-index", "-w", str(self.folder), str(copy)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        [wheel] = self.folder.glob("fipsrelay-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.folder / "installed")
        shutil.rmtree(copy)
        return self.folder / "installed"

    def test_wheel(self) -> None:
        installed = self.build()
        for path in (CHECKOUT / "fipsrelay").rglob("*"):
            if path.suffix in (".py", ".yaml"):
                self.assertTrue((installed / path.relative_to(CHECKOUT)).is_file(), f"{path} is not in the wheel")
        self.assertTrue((installed / "twisted/plugins/fipsrelay_plugin.py").is_file())
        self.assertEqual(list(installed.glob("tests")), [])
        environ = {"PYTHONPATH": str(installed)}
        where = self.run_program(["-c", "import fipsrelay; print(fipsrelay.__file__)"], environ)
        self.assertEqual(where.stdout.strip(), str(installed / "fipsrelay/__init__.py"))
        version = self.run_program(["-c", "import fipsrelay; print(fipsrelay.__version__)"], environ)
        self.assertEqual(version.stdout.strip(), fipsrelay.__version__)
        words = [str(executable("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", self.config()]
        done = self.run_program(words, environ)
        # It has found its preset, certificate table and policy, and passed the gate, when it reaches the taken port.
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn(f"[127.0.0.1:{self.taken.getsockname()[1]}]", done.stderr)
