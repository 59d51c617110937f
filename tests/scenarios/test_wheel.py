"""What an installed wheel holds, and that it starts without the checkout that it was made of."""

from __future__ import annotations

import shutil
import zipfile

import fipsrelay
from fipsrelay.demo.peer import executable
from packages.wheel import PROJECT, wheel
from tests.scenarios.program import Program


class WheelTests(Program):
    def test_wheel(self) -> None:
        folder = self.folder / "built"
        folder.mkdir()
        installed = self.folder / "installed"
        with zipfile.ZipFile(wheel(folder)) as archive:  # as pip unpacks it
            archive.extractall(installed)
        shutil.rmtree(folder)
        for path in (PROJECT / "fipsrelay").rglob("*"):
            if path.suffix in (".py", ".yaml"):
                self.assertTrue((installed / path.relative_to(PROJECT)).is_file(), f"{path} is not in the wheel")
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

    def test_the_same_twice(self) -> None:
        """From the same commit come the same bytes."""
        built = []
        for name in ("one", "two"):
            (self.folder / name).mkdir()
            built.append(wheel(self.folder / name))
        self.assertEqual(built[0].read_bytes(), built[1].read_bytes())
