"""TLS that arrives on a plaintext port: how it is known, and how it is told no in its own words."""

from __future__ import annotations

HANDSHAKE = 0x16  # the first byte of a ClientHello's record (RFC 8446 §5.1); no HTTP begins with it
# RFC 8446 §6: a fatal handshake_failure, in the record version that every TLS client accepts.
ALERT = b"\x15\x03\x01\x00\x02\x02\x28"
_CLIENT_HELLO = 1


def refusal(peer: str) -> tuple[str, str]:
    """Code and text for what came from ``peer``."""
    return "tls-to-plaintext", f"TLS on a plaintext port, from {peer}; set fips.https: false in the Agent"


def is_hello(view: memoryview) -> bool:
    """Whether the first bytes of a connection, as they were read, are a ClientHello's.

    A client sends all of it in one write, so that what is too short to tell is none.
    """
    return len(view) > 5 and view[0] == HANDSHAKE and view[1] == 3 and view[5] == _CLIENT_HELLO
