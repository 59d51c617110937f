"""What a libcrypto says about its providers, and which of them it is left with."""

from __future__ import annotations

import ctypes

import attrs

from fipsrelay.crypto.library import Library
from fipsrelay.errors import FipsError

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
_VISIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


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


def active(library: Library) -> frozenset[str]:
    """Names of all active providers."""
    names: set[str] = set()

    def visit(provider: int, _: object) -> int:
        names.add(library.text("OSSL_PROVIDER_get0_name", provider))
        return 1

    callback = _VISIT(visit)
    library.call("OSSL_PROVIDER_do_all", None, ctypes.cast(callback, ctypes.c_void_p), None)
    return frozenset(names)


def unload_others(library: Library) -> None:
    """Deactivate ``default``, which ``cryptography`` always loads, and ``legacy``, which it does before version 39.

    It has no interface for that. The cipher is leaked on purpose: it holds the reference to ``default`` that
    ``cryptography`` still believes to own and gives back when the interpreter ends; without it that would be a use
    after free. (Those versions that cannot be told to leave ``legacy`` alone give nothing back.)
    """
    if library.call("OSSL_PROVIDER_available", None, b"default"):
        library.call("EVP_CIPHER_fetch", None, b"AES-256-GCM", b"provider=default,-fips")
        _unload(library, b"default")
    if library.call("OSSL_PROVIDER_available", None, b"legacy"):
        _unload(library, b"legacy")


def _unload(library: Library, name: bytes) -> None:
    """Give back a reference of our own, and the one that somebody else has."""
    provider = library.call("OSSL_PROVIDER_load", None, name)
    library.call("OSSL_PROVIDER_unload", provider)
    library.call("OSSL_PROVIDER_unload", provider)


def facts(library: Library, *, test: bool = True) -> ProviderFacts:
    """Ask everything.

    Args:
        library: whose providers are meant.
        test: run the self-tests again, which takes a tenth of a second.

    Raises:
        FipsError: ``cipher-missing`` when AES-256-GCM cannot be had at all.
    """
    cipher = library.call("EVP_CIPHER_fetch", None, b"AES-256-GCM", None)
    if not cipher:
        raise FipsError("cipher-missing", "AES-256-GCM from the module", "no such cipher", "replace the module")
    provider = library.call("EVP_CIPHER_get0_provider", cipher)
    found = ProviderFacts(
        provider=library.text("OSSL_PROVIDER_get0_name", provider),
        name=_words(library, provider, b"name"),
        version=_words(library, provider, b"version"),
        build_info=_words(library, provider, b"buildinfo"),
        status=_number(library, provider, b"status"),
        self_test=library.number("OSSL_PROVIDER_self_test", provider) if test else None,
        active=active(library),
        missing=tuple(name for function, name in _NEEDED if not _has(library, function, name)),
        forbidden=tuple(name for function, name in _FORBIDDEN if _has(library, function, name)),
        library=library.text("OpenSSL_version", 0),
    )
    library.call("EVP_CIPHER_free", cipher)
    # Of each algorithm that cannot be had. OpenSSL 3 would take it for one of the next connection that reads or writes.
    library.call("ERR_clear_error")
    return found


def _has(library: Library, function: str, name: str) -> bool:
    """Whether an algorithm can be fetched. What was is not freed: OpenSSL keeps one of each, and counts."""
    return bool(library.call(function, None, name.encode(), None))


def _words(library: Library, provider: object, key: bytes) -> str:
    value = ctypes.c_char_p()
    _get(library, provider, key, _PARAM_UTF8_PTR, value)
    return (value.value or b"").decode("utf-8", "replace")


def _number(library: Library, provider: object, key: bytes) -> int:
    value = ctypes.c_int()
    _get(library, provider, key, _PARAM_INTEGER, value)
    return value.value


def _get(library: Library, provider: object, key: bytes, kind: int, value: ctypes.c_char_p | ctypes.c_int) -> None:
    params = (_Param * 2)()
    params[0] = _Param(key, kind, ctypes.addressof(value), ctypes.sizeof(value), 0)
    library.call("OSSL_PROVIDER_get_params", provider, ctypes.byref(params))
