"""``fipsrelay agent`` on real files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from unittest import mock

from tests.commands import run
from tests.folders import Folders

BEFORE = "# The Agent's.\napi_key: abc\r\nfips: {enabled: false}  # off\n"
AFTER = "# The Agent's.\napi_key: abc\r\nfips: {port_range_start: 9803, https: false, enabled: true}  # off\n"


class AgentTests(Folders):
    def setUp(self) -> None:
        self.place = self.folder()
        self.file = self.place / "datadog.yaml"
        self.file.write_bytes(BEFORE.encode())
        self.file.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(self.file, 1234, 4321)

    def run_agent(self, *words: str) -> tuple[object, str]:
        status, output, errors = run("agent", *words)
        return status, output + errors

    def backups(self) -> list[Path]:
        return sorted(self.place.glob("*.bak"))

    def test_enable(self) -> None:
        """Owner, mode and a copy of what was there; nothing else is left in the folder."""
        before = self.file.stat()
        status, output = self.run_agent("enable", str(self.file))
        self.assertEqual(status, 0, output)
        self.assertEqual(self.file.read_bytes(), AFTER.encode())
        [backup] = self.backups()
        self.assertEqual(backup.read_bytes(), BEFORE.encode())
        self.assertIn(str(backup), output)
        self.assertIn("restart the Agent", output)
        for path in (self.file, backup):
            found = path.stat()
            self.assertEqual((found.st_uid, found.st_gid), (before.st_uid, before.st_gid))
            self.assertEqual(stat.S_IMODE(found.st_mode), 0o640)
        self.assertEqual(sorted(self.place.iterdir()), sorted([self.file, backup]))

    def test_twice(self) -> None:
        self.run_agent("enable", str(self.file))
        inode = self.file.stat().st_ino
        status, output = self.run_agent("enable", str(self.file))
        self.assertEqual((status, output), (0, f"{self.file} says so already\n"))
        self.assertEqual((self.file.stat().st_ino, len(self.backups())), (inode, 1))

    def test_disable(self) -> None:
        self.run_agent("enable", str(self.file))
        status, _ = self.run_agent("disable", str(self.file))
        self.assertEqual((status, self.file.read_bytes()), (0, AFTER.replace("d: true", "d: false").encode()))
        self.assertEqual(len(self.backups()), 2)

    def test_another_range(self) -> None:
        self.run_agent("enable", "--port-range-start", "9900", str(self.file))
        self.assertIn(b"port_range_start: 9900", self.file.read_bytes())

    def test_show(self) -> None:
        self.assertEqual(self.run_agent("show", str(self.file))[0], 1)
        self.run_agent("enable", str(self.file))
        status, output = self.run_agent("show", str(self.file))
        wanted = "fips.enabled: true\nfips.https: false\nfips.port_range_start: 9803\nfips.local_address: not set\n"
        self.assertEqual((status, output), (0, wanted))
        self.assertEqual(len(self.backups()), 1)
        for text in ("", "fips: {enabled: true}\n", "fips: {https: false}\n", "fips: {enabled: true, https: true}\n"):
            self.file.write_text(text)
            self.assertEqual(self.run_agent("show", str(self.file))[0], 1, text)

    def test_link(self) -> None:
        link = self.place / "link.yaml"
        link.symlink_to(self.file)
        self.assertEqual(self.run_agent("enable", str(link))[0], 0)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.file.read_bytes(), AFTER.encode())

    def test_folder_of_somebody_else(self) -> None:
        """Who may write there puts links in the place of new files: what they lead to stays as it is."""
        victim = self.put(self.folder() / "victim")
        victim.chmod(0o600)
        before = victim.stat()
        fchown = os.fchown

        def swap(handle: int, *owner: int) -> None:
            fchown(handle, *owner)
            for path in self.place.iterdir():
                if path != self.file:
                    path.unlink()
                    path.symlink_to(victim)

        with mock.patch.object(os, "fchown", swap):
            self.run_agent("enable", str(self.file))
        self.assertEqual(victim.stat(), before)

    def test_refused(self) -> None:
        """Whatever is wrong with it, it stays as it is."""
        for content, words in (
            (b"fips: [\n", "not YAML"),
            (b"\xff\n", "not UTF-8"),
            (b"fips: yes\n", "not a mapping"),
            (b"date: 2024-13-45\n", "a value that cannot be read"),
        ):
            self.file.write_bytes(content)
            for action in ("enable", "disable"):
                status, output = self.run_agent(action, str(self.file))
                self.assertEqual((status, self.file.read_bytes()), (2, content))
                self.assertIn(words, output)
        status, output = self.run_agent("enable", str(self.place / "none.yaml"))
        self.assertEqual(status, 2)
        self.assertIn("No such file", output)
        self.assertEqual(list(self.place.iterdir()), [self.file])

    def test_full_disk(self) -> None:
        """The last step fails: the file is as it was, and no half of a new one is left."""
        with mock.patch.object(os, "replace", side_effect=OSError(28, "No space left on device")):
            status, output = self.run_agent("enable", str(self.file))
        self.assertEqual((status, self.file.read_bytes()), (2, BEFORE.encode()))
        self.assertIn("No space left", output)
        self.assertEqual(list(self.place.iterdir()), [self.file])
