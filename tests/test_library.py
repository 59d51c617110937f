"""Finding libcrypto's functions."""

from __future__ import annotations

import mmap
from importlib import util
from pathlib import Path

from fipsrelay.crypto import library
from tests.folders import Folders


class SymbolTests(Folders):
    """``library.symbols``."""

    def test_bindings(self) -> None:
        spec = util.find_spec("cryptography.hazmat.bindings._rust")
        assert spec is not None
        assert spec.origin is not None
        found = library.symbols(Path(spec.origin), {"OSSL_PROVIDER_available", "no_such_function"})
        self.assertEqual(list(found), ["OSSL_PROVIDER_available"])
        self.assertGreater(found["OSSL_PROVIDER_available"], 0)

    def test_not_elf(self) -> None:
        self.assertEqual(library.symbols(self.put(self.folder() / "file"), {"main"}), {})

    def test_stripped(self) -> None:
        path = self.folder() / "file"
        path.write_bytes(b"\x7fELF\x02\x01".ljust(64, b"\0"))
        self.assertEqual(library.symbols(path, {"main"}), {})


class BaseTests(Folders):
    """``library._base``."""

    def test_read_at_the_same_time(self) -> None:
        """Who maps the file only to read it, as another thread's ``symbols`` does, is not the loader."""
        from cryptography.hazmat.bindings import _rust

        path = Path(str(_rust.__file__))
        loaded = library._base(path)
        with path.open("rb") as file:
            maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for _ in range(3)]
        try:
            self.assertEqual(library._base(path), loaded)
        finally:
            for each in maps:
                each.close()


class CutTests(Folders):
    """``library.is_cut``."""

    def test_bindings(self) -> None:
        spec = util.find_spec("cryptography.hazmat.bindings._rust")
        assert spec is not None
        assert spec.origin is not None
        self.assertFalse(library.is_cut(Path(spec.origin)))

    def test_cut(self) -> None:
        """A header that announces two sections of 64 bytes, 4096 bytes into the file."""
        head = bytearray(b"\x7fELF\x02\x01".ljust(64, b"\0"))
        head[0x28:0x30], head[0x3A:0x3E] = (4096).to_bytes(8, "little"), bytes([64, 0, 2, 0])
        path = self.folder() / "file"
        for size, cut in ((4096 + 128, False), (4096 + 127, True), (64, True)):
            path.write_bytes(bytes(head).ljust(size, b"\0"))
            self.assertEqual(library.is_cut(path), cut)

    def test_no_module_at_all(self) -> None:
        """That is for the loader to say."""
        self.assertFalse(library.is_cut(self.put(self.folder() / "file", "")))
