"""What a client offers, read from the ClientHello that it sends, and compared with the policy.

A library drops names that it does not know without a word, and adds what it likes; its lists say what was asked of it.
Pure. Sources: RFC 8446 §4 and the TLS registries of IANA.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs

from fipsrelay.crypto.policy import Policy

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
}
_GROUPS = {"P-256": 23, "P-384": 24, "P-521": 25, "SecP256r1MLKEM768": 0x11EB, "SecP384r1MLKEM1024": 0x11ED}
_SIGNATURES = {
    "ECDSA+SHA256": 0x0403,
    "ECDSA+SHA384": 0x0503,
    "ECDSA+SHA512": 0x0603,
    "RSA-PSS+SHA256": 0x0804,
    "RSA-PSS+SHA384": 0x0805,
    "RSA-PSS+SHA512": 0x0806,
    "RSA+SHA256": 0x0401,
    "RSA+SHA384": 0x0501,
    "RSA+SHA512": 0x0601,
}
# TLS_EMPTY_RENEGOTIATION_INFO_SCSV is no suite, but says that renegotiation would be secure (RFC 5746).
_SIGNALS = frozenset({0x00FF})
_GROUPS_EXTENSION, _SIGNATURES_EXTENSION, _VERSIONS_EXTENSION = 10, 13, 43


@attrs.frozen
class Offer:
    """Code points, each list in its order on the wire.

    Attributes:
        versions: without the field supported_versions, what the head says.
        suites: signals left out.
        groups, signatures: of the extensions of these names.
        compressions: methods.
        extensions: types.
    """

    versions: tuple[int, ...]
    suites: tuple[int, ...]
    groups: tuple[int, ...]
    signatures: tuple[int, ...]
    compressions: tuple[int, ...]
    extensions: tuple[int, ...]

    def named(self) -> dict[str, list[str]]:
        """Names of what is offered, in hexadecimal what has none here."""
        return {
            "versions": _names(self.versions, _VERSIONS),
            "suites": _names(self.suites, _SUITES),
            "groups": _names(self.groups, _GROUPS),
            "signature_algorithms": _names(self.signatures, _SIGNATURES),
        }


def differences(offer: Offer, policy: Policy) -> tuple[str, ...]:
    """What an offer has too much or too little of; empty when it is the policy's."""
    wanted = {
        "versions": policy.versions,
        "suites": policy.suites,
        "groups": policy.groups,
        "signature_algorithms": policy.signature_algorithms,
    }
    found = offer.named()
    wrong = []
    for what, names in wanted.items():
        wrong += [f"{what} lack {name}" for name in names if name not in found[what]]
        wrong += [f"{what} include {name}" for name in found[what] if name not in names]
    if offer.compressions != (0,):
        wrong.append("compression is offered")
    return tuple(wrong)


def read(data: bytes) -> Offer:
    """Read what a client sent first.

    Args:
        data: its records, of which the ClientHello may fill several.

    Raises:
        ValueError: it is no whole ClientHello.
    """
    try:
        return _read(_handshake(data))
    except (struct.error, IndexError) as error:
        raise ValueError("a ClientHello that is cut") from error


def _handshake(data: bytes) -> bytes:
    """The body of the handshake message that the records carry."""
    message = b""
    while data:
        kind, _, size = struct.unpack_from(">BHH", data)
        if kind != 22:
            raise ValueError(f"a record of type {kind}")
        message += data[5 : 5 + size]
        data = data[5 + size :]
    size = int.from_bytes(message[1:4], "big")
    if message[:1] != b"\x01" or len(message) != 4 + size:
        raise ValueError("no ClientHello alone")
    return message[4:]


def _read(body: bytes) -> Offer:
    (version,) = struct.unpack_from(">H", body)
    _, rest = _vector(body[34:], 1)
    suites, rest = _vector(rest, 2)
    compressions, rest = _vector(rest, 1)
    extensions = dict(_extensions(_vector(rest, 2)[0])) if rest else {}
    versions = _vector(extensions.get(_VERSIONS_EXTENSION, b"\0"), 1)[0]
    return Offer(
        versions=_codes(versions) or (version,),
        suites=tuple(code for code in _codes(suites) if code not in _SIGNALS),
        groups=_codes(_vector(extensions.get(_GROUPS_EXTENSION, b"\0\0"), 2)[0]),
        signatures=_codes(_vector(extensions.get(_SIGNATURES_EXTENSION, b"\0\0"), 2)[0]),
        compressions=tuple(compressions),
        extensions=tuple(extensions),
    )


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        (kind,) = struct.unpack_from(">H", data)
        content, data = _vector(data[2:], 2)
        yield kind, content


def _vector(data: bytes, size: int) -> tuple[bytes, bytes]:
    """A vector behind its length of ``size`` bytes, and what follows it."""
    end = size + int.from_bytes(data[:size], "big")
    if len(data) < max(end, size):
        raise IndexError
    return data[size:end], data[end:]


def _codes(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


def _names(codes: tuple[int, ...], known: dict[str, int]) -> list[str]:
    names = {code: name for name, code in known.items()}
    return [names.get(code, f"0x{code:04X}") for code in codes]
