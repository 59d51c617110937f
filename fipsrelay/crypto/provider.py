"""What the libcrypto that pyOpenSSL uses says about its providers, asked through ctypes.

The PyPI wheel of ``cryptography`` carries a static OpenSSL whose functions are not exported, so that they are found by
name in the file's symbol table. ``ctypes.CDLL("libcrypto.so.3")`` would ask the interpreter's other library.
Nothing here may be imported by what runs before ``OpenSSL.SSL`` except for its plain functions.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import attrs

from fipsrelay.errors import FipsError

# Result and arguments; every pointer is void*, so that ctypes never cuts one to an int.
_P, _S, _I = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: Mapping[str, tuple[type, ...]] = {
    "OpenSSL_version": (_S, _I),
    "OSSL_PROVIDER_available": (_I, _P, _S),
    "OSSL_PROVIDER_load": (_P, _P, _S),
    "OSSL_PROVIDER_unload": (_I, _P),
    "OSSL_PROVIDER_get0_name": (_S, _P),
    "OSSL_PROVIDER_get_params": (_I, _P, _P),
    "OSSL_PROVIDER_self_test": (_I, _P),
    "OSSL_PROVIDER_do_all": (_I, _P, _P, _P),
    "EVP_CIPHER_fetch": (_P, _P, _S, _S),
    "EVP_CIPHER_get0_provider": (_P, _P),
    "EVP_CIPHER_free": (None, _P),  # type: ignore[dict-item]
    "EVP_MD_fetch": (_P, _P, _S, _S),
    "EVP_MAC_fetch": (_P, _P, _S, _S),
    "EVP_KDF_fetch": (_P, _P, _S, _S),
    "EVP_KEYEXCH_fetch": (_P, _P, _S, _S),
    "EVP_SIGNATURE_fetch": (_P, _P, _S, _S),
}
# What TLS by the policy is made of, and what no FIPS module may serve. (X25519 is not among these: 3.0 modules do.)
_NEEDED = (
    ("EVP_CIPHER_fetch", "AES-128-GCM"),
    ("EVP_CIPHER_fetch", "AES-256-GCM"),
    ("EVP_MD_fetch", "SHA2-256"),
    ("EVP_MD_fetch", "SHA2-384"),
    ("EVP_MAC_fetch", "HMAC"),
    ("EVP_KDF_fetch", "TLS1-PRF"),
    ("EVP_KDF_fetch", "TLS13-KDF"),
    ("EVP_KEYEXCH_fetch", "ECDH"),
    ("EVP_SIGNATURE_fetch", "ECDSA"),
    ("EVP_SIGNATURE_fetch", "RSA"),
)
_FORBIDDEN = (
    ("EVP_CIPHER_fetch", "ChaCha20-Poly1305"),
    ("EVP_CIPHER_fetch", "RC4"),
    ("EVP_CIPHER_fetch", "CAMELLIA-256-CBC"),
    ("EVP_MD_fetch", "MD5"),
    ("EVP_MD_fetch", "SM3"),
    ("EVP_MAC_fetch", "POLY1305"),
    ("EVP_KDF_fetch", "SCRYPT"),
)
_PARAM_INTEGER, _PARAM_UTF8_PTR = 1, 6
_VISIT = ctypes.CFUNCTYPE(_I, _P, _P)


class _Param(ctypes.Structure):
    """``OSSL_PARAM`` of openssl/core.h."""

    _fields_ = [
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    ]


@attrs.frozen
class ProviderFacts:
    """What the provider behind AES-256-GCM says about itself.

    Attributes:
        provider: the name under which it was loaded; ``fips`` is wanted.
        name, version, build_info: its own words.
        status: 1 when it is in working order.
        self_test: 1 when its self-tests passed again just now; None when they were not run.
        active: every active provider's name.
        missing: algorithms that TLS needs and that cannot be had.
        forbidden: algorithms that are not approved and can be had.
        library: libcrypto's own version text.
    """

    provider: str
    name: str
    version: str
    build_info: str
    status: int
    self_test: int | None
    active: frozenset[str]
    missing: tuple[str, ...]
    forbidden: tuple[str, ...]
    library: str


class Library:
    """The functions of one libcrypto.

    Args:
        addresses: function name to address in this process.
    """

    def __init__(self, addresses: Mapping[str, int]) -> None:
        self._functions = {
            name: ctypes.CFUNCTYPE(*signature)(addresses[name]) for name, signature in _SIGNATURES.items()
        }

    def call(self, name: str, *arguments: object) -> object:
        """Call ``name``; see ``_SIGNATURES``."""
        return self._functions[name](*arguments)

    def active(self) -> frozenset[str]:
        """Names of all active providers."""
        names: set[str] = set()

        def visit(provider: int, _: object) -> int:
            names.add(_text(self.call("OSSL_PROVIDER_get0_name", provider)))
            return 1

        callback = _VISIT(visit)
        self.call("OSSL_PROVIDER_do_all", None, ctypes.cast(callback, ctypes.c_void_p), None)
        return frozenset(names)

    def unload_default(self) -> None:
        """Deactivate ``default``, which ``cryptography`` always loads; it has no interface for that.

        The cipher is leaked on purpose. It holds the reference that ``cryptography`` still believes to own and gives
        back when the interpreter ends; without it that would be a use after free.
        """
        if not self.call("OSSL_PROVIDER_available", None, b"default"):
            return
        self.call("EVP_CIPHER_fetch", None, b"AES-256-GCM", b"provider=default,-fips")
        provider = self.call("OSSL_PROVIDER_load", None, b"default")
        self.call("OSSL_PROVIDER_unload", provider)
        self.call("OSSL_PROVIDER_unload", provider)

    def facts(self, *, test: bool = True) -> ProviderFacts:
        """Ask everything.

        Args:
            test: run the self-tests again, which takes a tenth of a second.

        Raises:
            FipsError: ``cipher-missing`` when AES-256-GCM cannot be had at all.
        """
        cipher = self.call("EVP_CIPHER_fetch", None, b"AES-256-GCM", None)
        if not cipher:
            raise FipsError("cipher-missing", "AES-256-GCM from the module", "no such cipher", "replace the module")
        provider = self.call("EVP_CIPHER_get0_provider", cipher)
        facts = ProviderFacts(
            provider=_text(self.call("OSSL_PROVIDER_get0_name", provider)),
            name=self._words(provider, b"name"),
            version=self._words(provider, b"version"),
            build_info=self._words(provider, b"buildinfo"),
            status=self._number(provider, b"status"),
            self_test=_number(self.call("OSSL_PROVIDER_self_test", provider)) if test else None,
            active=self.active(),
            missing=tuple(name for function, name in _NEEDED if not self._has(function, name)),
            forbidden=tuple(name for function, name in _FORBIDDEN if self._has(function, name)),
            library=_text(self.call("OpenSSL_version", 0)),
        )
        self.call("EVP_CIPHER_free", cipher)
        return facts

    def _has(self, function: str, name: str) -> bool:
        """Whether an algorithm can be fetched. What was is not freed: OpenSSL keeps one of each, and counts."""
        return bool(self.call(function, None, name.encode(), None))

    def _words(self, provider: object, key: bytes) -> str:
        value = ctypes.c_char_p()
        self._get(provider, key, _PARAM_UTF8_PTR, value)
        return _text(value.value)

    def _number(self, provider: object, key: bytes) -> int:
        value = ctypes.c_int()
        self._get(provider, key, _PARAM_INTEGER, value)
        return value.value

    def _get(self, provider: object, key: bytes, kind: int, value: ctypes.c_char_p | ctypes.c_int) -> None:
        params = (_Param * 2)()
        params[0] = _Param(key, kind, ctypes.addressof(value), ctypes.sizeof(value), 0)
        self.call("OSSL_PROVIDER_get_params", provider, ctypes.byref(params))


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


@cache
def library(bindings: Path) -> Library:
    """The libcrypto of ``bindings`` (``cryptography``'s extension module): inside that file, or the mapped shared one.

    Raises:
        FipsError: ``library-unreadable`` when it cannot be told which functions are meant.
    """
    offsets = symbols(bindings, _SIGNATURES)
    if len(offsets) == len(_SIGNATURES):
        base = _base(bindings)
        return Library({name: base + offset for name, offset in offsets.items()})
    shared = sorted(path for path in mapped() if os.path.basename(path).startswith("libcrypto"))
    if len(shared) != 1:
        found = f"{len(offsets)} of {len(_SIGNATURES)} functions in {bindings} and {len(shared)} shared ones"
        raise FipsError("library-unreadable", "one libcrypto", found, "install cryptography's own wheel")
    functions = ctypes.CDLL(shared[0])
    return Library({name: _address(functions, name) for name in _SIGNATURES})


def _address(functions: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(functions, name), ctypes.c_void_p).value or 0


def mapped(maps: Path = Path("/proc/self/maps")) -> frozenset[str]:
    """Every file that is mapped into this process."""
    lines = (line.split(None, 5) for line in maps.read_text(errors="surrogateescape").splitlines())
    return frozenset(fields[5] for fields in lines if len(fields) == 6 and fields[5].startswith("/"))


def _base(path: Path) -> int:
    """Where the file's first byte is mapped; for a shared object its symbols count from there."""
    wanted = os.path.realpath(path)
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5] == wanted and int(fields[2], 16) == 0:
            return int(fields[0].split("-")[0], 16)
    raise FipsError("library-unreadable", f"{wanted} mapped", "it is not", "install cryptography's own wheel")


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
