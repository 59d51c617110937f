"""Certificates that OpenSSL takes, and cryptography does not."""

from __future__ import annotations

from ssl import DER_cert_to_PEM_cert

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fipsrelay.demo.certificates import Paths

_VERSION_3, _VERSION_4 = bytes.fromhex("a003020102"), bytes.fromhex("a003020103")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_SEQUENCE, _BIT_STRING = 0x30, 0x03


def of_version_4(paths: Paths) -> None:
    """Make a self-signed certificate one of a version that there is not, signed by its key as before."""
    key = serialization.load_pem_private_key(paths.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    said = x509.load_pem_x509_certificate(paths.certificate.read_bytes()).tbs_certificate_bytes
    said = said.replace(_VERSION_3, _VERSION_4, 1)
    signature = _der(_BIT_STRING, b"\0" + key.sign(said, ec.ECDSA(hashes.SHA256())))
    paths.certificate.write_text(DER_cert_to_PEM_cert(_der(_SEQUENCE, said + _ECDSA_WITH_SHA256 + signature)))


def _der(kind: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return bytes([kind]) + length + content
