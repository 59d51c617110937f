"""The packages' description, scripts and pins agree with what is there."""

from __future__ import annotations

import re
import subprocess

import yaml
from twisted.trial.unittest import SynchronousTestCase

from packages.build import HERE
from packages.wheel import PROJECT


class DescriptionTests(SynchronousTestCase):
    def test_files(self) -> None:
        description = yaml.safe_load((HERE / "nfpm.yaml").read_text())
        sources = [entry["src"] for entry in description["contents"] if entry.get("type") != "symlink"]
        for name in (*sources, *description["scripts"].values()):
            if "$" not in name:
                self.assertTrue((PROJECT / name).is_file(), name)

    def test_every_library_has_digests(self) -> None:
        pins = (HERE / "requirements.txt").read_text()
        pinned = re.split(r"\n(?=\w)", pins.strip())
        wanted = re.findall(r"^[\w.-]+", (HERE / "requirements.in").read_text(), re.MULTILINE)
        self.assertTrue({name.replace(".", "-") for name in wanted} <= {pin.partition("==")[0] for pin in pinned})
        for pin in pinned:
            self.assertIn("--hash=sha256:", pin)

    def test_no_index_is_named(self) -> None:
        for path in (HERE / "requirements.txt", HERE / "requirements.in"):
            self.assertNotIn("http", path.read_text())

    def test_scripts(self) -> None:
        scripts = sorted(HERE.glob("scripts/*.sh"))
        self.assertEqual(len(scripts), 3)
        done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
