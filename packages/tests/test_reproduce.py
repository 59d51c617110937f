"""How two builds are compared; the builds themselves are ``make reproduce``."""

from __future__ import annotations

from packages.reproduce import differences
from tests.folders import Folders


class DifferencesTests(Folders):
    def test_none(self) -> None:
        first, second = self.folder(), self.folder()
        for folder in (first, second):
            self.put(folder / "relay.deb", "the same")
        self.assertEqual(differences(first, second), [])

    def test_named(self) -> None:
        """Other bytes, and what only one of the two has."""
        first, second = self.folder(), self.folder()
        for folder, text in ((first, "one"), (second, "two")):
            self.put(folder / "relay.deb", text)
            self.put(folder / "relay.rpm", "the same")
            self.put(folder / f"relay.{text}")
        self.assertEqual(differences(first, second), ["relay.deb", "relay.one", "relay.two"])
