"""What OpenSSL does by macros, for which pyOpenSSL has no name, or only its newest versions on the newest OpenSSL."""

from __future__ import annotations

from OpenSSL import SSL
from OpenSSL._util import ffi

from fipsrelay.crypto import library

# openssl/ssl.h; numbers of the binary interface, the same since 1.1.1 and 3.0.
_SET_GROUPS_LIST, _GET_EXTMS_SUPPORT, _GET_NEGOTIATED_GROUP = 92, 122, 134


def set_groups(context: SSL.Context, groups: str) -> bool:
    """Offer exactly these, names with colons between them; False when OpenSSL does not know one of them."""
    pointer = _address(context._context)
    return library.load().number("SSL_CTX_ctrl", pointer, _SET_GROUPS_LIST, 0, groups.encode()) == 1


def group(connection: SSL.Connection) -> str | None:
    """OpenSSL's name of the group of a finished handshake's key exchange; None without one."""
    pointer = _address(connection._ssl)
    number = library.load().number("SSL_ctrl", pointer, _GET_NEGOTIATED_GROUP, 0, None)
    return library.load().text("SSL_group_to_name", pointer, number) or None


def has_extended_master_secret(connection: SSL.Connection) -> bool:
    """Whether the session of TLS 1.2 has one (RFC 7627)."""
    return library.load().number("SSL_ctrl", _address(connection._ssl), _GET_EXTMS_SUPPORT, 0, None) == 1


def _address(pointer: object) -> int:
    return int(ffi.cast("uintptr_t", pointer))
