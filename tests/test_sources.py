"""Reading apt's configuration."""

from __future__ import annotations

from fipsrelay.crypto import sources
from fipsrelay.errors import FipsError
from tests.folders import Folders


class MirrorTests(Folders):
    """``sources.mirror``."""

    def test_deb822(self) -> None:
        folder = self.folder()
        self.put(
            folder / "sources.list.d/debian.sources",
            "Types: deb\n# a remark\nURIs: http://mirror.example/debian-security\nSuites: a\nComponents: main\n"
            "\nTypes: deb\nURIs: http://off.example/debian\nSuites: a\nComponents: main\nEnabled: no\n"
            "\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: a b\nComponents: main contrib\n"
            "Signed-By:\n -----BEGIN\n .\n abc\n",
        )
        found = sources.mirror(folder)
        self.assertEqual(found.uri, "http://mirror.example/debian")
        self.assertEqual(found.signed_by, "-----BEGIN\n .\n abc")
        self.assertIn("\nSuites: trixie\n", found.stanza("trixie"))

    def test_one_line(self) -> None:
        folder = self.folder()
        self.put(
            folder / "sources.list",
            "# deb http://off.example/debian a main\ndeb-src http://src.example/debian a main\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ a main # why\n",
        )
        self.assertEqual(sources.mirror(folder), sources.Mirror("http://mirror.example/debian/", "/k.gpg"))

    def test_several_addresses(self) -> None:
        uris = "http://mirror.example/debian-security\thttp://mirror.example/debian\n http://other.example/debian"
        folder = self.folder()
        self.put(folder / "sources.list.d/a.sources", f"Types: deb\nURIs: {uris}\nSuites: a\nComponents: main\n")
        self.assertEqual(sources.mirror(folder).uri, "http://mirror.example/debian")

    def test_none(self) -> None:
        self.assertEqual(self.assertRaises(FipsError, sources.mirror, self.folder()).code, "mirror-missing")
