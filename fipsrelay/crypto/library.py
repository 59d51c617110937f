"""The libcrypto and libssl that pyOpenSSL uses, called through ctypes where pyOpenSSL has no name for a function.

The PyPI wheel of ``cryptography`` carries a static OpenSSL whose functions are not exported, so that they are found by
name in the file's symbol table. Distributions' packages of it use the shared libraries, as the interpreter does.
Beside a wheel, ``ctypes.CDLL("libcrypto.so.3")`` would ask the interpreter's other library. Nothing here loads OpenSSL
but ``load``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from fipsrelay.errors import FipsError

# Result and arguments; every pointer is void*, so that ctypes never cuts one to an int.
_P, _S, _I, _L = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_long
_SIGNATURES: Mapping[str, tuple[type, ...]] = {
    "OpenSSL_version": (_S, _I),
    "OSSL_PROVIDER_available": (_I, _P, _S),
    "OSSL_PROVIDER_load": (_P, _P, _S),
    "OSSL_PROVIDER_unload": (_I, _P),
    "OSSL_PROVIDER_get0_name": (_S, _P),
    "OSSL_PROVIDER_get_params": (_I, _P, _P),
    "OSSL_PROVIDER_self_test": (_I, _P),
    "OSSL_PROVIDER_do_all": (_I, _P, _P, _P),
    "EVP_default_properties_is_fips_enabled": (_I, _P),
    "EVP_CIPHER_fetch": (_P, _P, _S, _S),
    "EVP_CIPHER_get0_provider": (_P, _P),
    "EVP_CIPHER_free": (None, _P),  # type: ignore[dict-item]
    "EVP_MD_fetch": (_P, _P, _S, _S),
    "EVP_MAC_fetch": (_P, _P, _S, _S),
    "EVP_KDF_fetch": (_P, _P, _S, _S),
    "EVP_KEYEXCH_fetch": (_P, _P, _S, _S),
    "EVP_SIGNATURE_fetch": (_P, _P, _S, _S),
    "ERR_clear_error": (None,),  # type: ignore[dict-item]
    "BIO_ctrl": (_L, _P, _I, _L, _P),
    "BIO_up_ref": (_I, _P),
    "BUF_MEM_new": (_P,),
    "SSL_get_rbio": (_P, _P),
    "SSL_set0_wbio": (None, _P, _P),  # type: ignore[dict-item]
    "SSL_ctrl": (_L, _P, _I, _L, _P),
    "SSL_CTX_ctrl": (_L, _P, _I, _L, _P),
    "SSL_has_pending": (_I, _P),
    "SSL_group_to_name": (_S, _P, _I),
}
_STEMS = ("libcrypto.", "libssl.")
_REINSTALL = "install cryptography's own wheel, or the distribution's package of it"


class Library:
    """The functions of one OpenSSL.

    Args:
        addresses: function name to address in this process.
    """

    def __init__(self, addresses: Mapping[str, int]) -> None:
        self._addresses = addresses
        self._functions = {
            name: ctypes.CFUNCTYPE(*signature)(addresses[name]) for name, signature in _SIGNATURES.items()
        }

    def call(self, name: str, *arguments: object) -> object:
        """Call ``name``; see ``_SIGNATURES``."""
        return self._functions[name](*arguments)

    def address(self, name: str) -> int:
        """Of ``name``, for bindings that are faster than ctypes."""
        return self._addresses[name]

    def number(self, name: str, *arguments: object) -> int:
        """``call`` of what gives a number."""
        value = self.call(name, *arguments)
        assert isinstance(value, int)
        return value

    def text(self, name: str, *arguments: object) -> str:
        """``call`` of what gives a text; empty for none."""
        value = self.call(name, *arguments)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

    def is_fips_enabled(self) -> bool:
        """Whether algorithms are asked for with the property ``fips=yes``. That alone proves nothing, see ``gate``."""
        return self.number("EVP_default_properties_is_fips_enabled", None) == 1


@cache
def load() -> Library:
    """Load the bindings of ``cryptography``, whose OpenSSL then reads its configuration.

    The bindings come alone: ``cryptography.x509``, which pyOpenSSL imports, imports hashlib, whose libcrypto would
    read the same configuration and share the module's image.

    Raises:
        FipsError: ``library-unreadable`` when it cannot be told which functions are meant.
    """
    from cryptography.hazmat.bindings import _rust
    from cryptography.hazmat.bindings.openssl.binding import Binding

    Binding()
    bindings = Path(str(_rust.__file__))
    offsets = symbols(bindings, _SIGNATURES)
    if len(offsets) == len(_SIGNATURES):
        base = _base(bindings)
        return Library({name: base + offset for name, offset in offsets.items()})
    files = {stem: [path for path in mapped() if os.path.basename(path).startswith(stem)] for stem in _STEMS}
    if any(len(paths) != 1 for paths in files.values()):
        shared = ", ".join(path for paths in files.values() for path in sorted(paths)) or "none"
        found = f"{len(offsets)} of {len(_SIGNATURES)} functions in {bindings}, and shared: {shared}"
        raise FipsError("library-unreadable", "one OpenSSL", found, _REINSTALL)
    # What is looked up in libssl is looked up in the libcrypto that it was linked with, too.
    functions = ctypes.CDLL(files["libssl."][0])
    return Library({name: _address(functions, name) for name in _SIGNATURES})


def _address(functions: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(functions, name), ctypes.c_void_p).value or 0


def mapped(maps: Path = Path("/proc/self/maps")) -> frozenset[str]:
    """Every file that is mapped into this process."""
    lines = (line.split(None, 5) for line in maps.read_text(errors="surrogateescape").splitlines())
    return frozenset(fields[5] for fields in lines if len(fields) == 6 and fields[5].startswith("/"))


def _base(path: Path) -> int:
    """Where the loader has mapped the file's first byte, from which its symbols count.

    The loader's mappings are private; ``symbols`` in another thread may share one at the same time.
    """
    wanted = os.path.realpath(path)
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5] == wanted and fields[1].endswith("p") and int(fields[2], 16) == 0:
            return int(fields[0].split("-")[0], 16)
    raise FipsError("library-unreadable", f"{wanted} mapped", "it is not", _REINSTALL)


def symbols(path: Path, wanted: Collection[str]) -> dict[str, int]:
    """Offsets of functions in the ``.symtab`` of a 64-bit little-endian ELF shared object.

    Names that are not there, or not functions with a body, are left out; so a stripped file gives an empty answer.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        if image[:6] != b"\x7fELF\x02\x01":
            return {}
        start, size, strings = _symbol_table(image)
        return _functions(image, start, size, strings, {name.encode(): name for name in wanted})


def is_cut(path: Path) -> bool:
    """Whether a 64-bit little-endian ELF file ends before its table of sections, which linkers put last, does.

    To load such a file (a copy on a full disk) ends the process with SIGBUS and without a word.
    """
    with path.open("rb") as file:
        head = file.read(0x40).ljust(0x40, b"\0")
        if head[:6] != b"\x7fELF\x02\x01":
            return False
        (sections,) = struct.unpack_from("<Q", head, 0x28)
        entry, count = struct.unpack_from("<HH", head, 0x3A)
        return bool(file.seek(0, os.SEEK_END) < sections + entry * count)


def _symbol_table(image: mmap.mmap) -> tuple[int, int, int]:
    """File offset and size of ``.symtab`` (SHT_SYMTAB = 2) and the offset of its strings."""
    (sections,) = struct.unpack_from("<Q", image, 0x28)
    entry, count = struct.unpack_from("<HH", image, 0x3A)
    for index in range(count):
        _, kind, _, _, start, size, link = struct.unpack_from("<IIQQQQI", image, sections + index * entry)
        if kind == 2:
            (strings,) = struct.unpack_from("<Q", image, sections + link * entry + 0x18)
            return start, size, strings
    return 0, 0, 0


def _functions(image: mmap.mmap, start: int, size: int, strings: int, wanted: Mapping[bytes, str]) -> dict[str, int]:
    """Elf64_Sym is 24 bytes: name, info (type in the low half, STT_FUNC = 2), other, section, value, size."""
    found = {}
    longest = max(map(len, wanted), default=0) + 1
    for name, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", image[start : start + size]):
        if info & 15 == 2 and section:
            text = image[strings + name : strings + name + longest].split(b"\0", 1)[0]
            if text in wanted:
                found[wanted[text]] = value
    return found
