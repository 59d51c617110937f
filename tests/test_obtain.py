"""Getting a module."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

from fipsrelay.crypto import module, obtain
from tests.folders import Folders


class RecordTests(Folders):
    """``obtain``'s own computation of the integrity value."""

    def test_agrees_with_openssl(self) -> None:
        found = module.find("auto")
        path = self.folder() / "fipsmodule.cnf"
        command = ["openssl", "fipsinstall", "-quiet", "-module", str(found.path), "-out", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        self.put(path.with_name("ours"), obtain.record(found.path))
        self.assertEqual(module._first_mac([path.with_name("ours")]), module._first_mac([path]))

    def test_place_is_repeatable(self) -> None:
        source, folder = self.put(self.folder() / "some.so"), self.folder() / "share"
        obtain.place(source, folder)
        obtain.place(source, folder)
        self.assertEqual(sorted(path.name for path in folder.iterdir()), ["fips.so", "fipsmodule.cnf"])
        self.assertEqual(module.find(str(folder / "fips.so")).path, folder / "fips.so")

    def test_no_room_for_it(self) -> None:
        """What was there before stays whole: a module does not start with another one's record."""
        folder = self.folder()
        obtain.place(self.put(self.folder() / "some.so", "before"), folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        large = self.put(self.folder() / "large.so", "after" * 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            self.assertRaises(OSError, obtain.place, large, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual({path.name: path.read_bytes() for path in folder.iterdir()}, before)


class PresentTests(Folders):
    """``obtain.present``: whether anything has to be obtained."""

    def setUp(self) -> None:
        self.root, self.own = self.folder(), self.folder()

    def platform(self) -> Path:
        return self.put(self.root / "usr/lib64/ossl-modules/fips.so")

    def test_nothing(self) -> None:
        self.assertFalse(obtain.present(self.root, self.own))
        self.assertEqual(list(self.own.iterdir()), [])

    def test_ours(self) -> None:
        obtain.place(self.put(self.folder() / "some.so"), self.own)
        self.assertTrue(obtain.present(self.root, self.own))

    def test_the_platforms_is_recorded_once(self) -> None:
        path = self.platform()
        self.assertTrue(obtain.present(self.root, self.own))
        found = module.find("auto", self.root, self.own)
        self.assertEqual(found.path, path)
        # A file that changes afterwards does not get a new record by itself.
        self.put(path, "changed")
        self.assertTrue(obtain.present(self.root, self.own))
        self.assertEqual(module.find("auto", self.root, self.own), found)

    def test_the_platforms_own_record(self) -> None:
        self.platform()
        self.record(self.root / "etc/ssl/fipsmodule.cnf")
        self.assertTrue(obtain.present(self.root, self.own))
        self.assertEqual(list(self.own.iterdir()), [])

    def test_ours_without_its_record(self) -> None:
        """Half of an installation: it is obtained again, and the platform's record would not fit it."""
        self.platform()
        self.put(self.own / "fips.so")
        self.assertFalse(obtain.present(self.root, self.own))
