"""Throw-away certificates for the demo and the tests: good ones, and each kind that the relay has to refuse.

Nothing made here may be trusted outside the folder it was written to: the keys lie unencrypted beside the certificates.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_CURVES: dict[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "p224": ec.SECP224R1(),
    "secp256k1": ec.SECP256K1(),
    "brainpool256": ec.BrainpoolP256R1(),
}

#: Names of the keys that :func:`write` makes. From ``rsa1024`` on they are of kinds that the relay has to refuse.
KEYS = ("p256", "p384", "p521", "rsa2048", "rsa3072", "rsa1024", "p224", "secp256k1", "brainpool256", "ed25519")


@attrs.frozen
class Paths:
    """PEM files of one server and of the authority that clients should trust.

    Attributes:
        authority: certificate to trust; for a self-signed server an authority that did not sign it.
        certificate: the server's certificate.
        key: the server's private key, without a password.
    """

    authority: Path
    certificate: Path
    key: Path


def write(
    folder: Path,
    hosts: Sequence[str],
    *,
    key: str = "p256",
    expired: bool = False,
    premature: bool = False,
    self_signed: bool = False,
    hash_name: str = "sha256",
    stem: str = "server",
    intermediate: str | None = None,
    authority: str = "p256",
) -> Paths:
    """Make an authority (unless ``folder`` holds one already) and a server certificate signed by it.

    A wrong name needs no switch of its own: give ``hosts`` that are not the one connected to.

    Args:
        folder: an existing folder; ``authority.pem`` in it is reused, so that several servers share one trust anchor.
        hosts: names and IP addresses for the subject alternative name.
        key: one of :data:`KEYS`; ``rsa1024`` is below what ``@SECLEVEL=2`` and FIPS 186-5 allow.
        expired: a certificate that ended yesterday.
        premature: a certificate that begins tomorrow.
        self_signed: signed by its own key instead of the authority.
        hash_name: hash of the server certificate's signature, ``sha256``, ``sha384`` or ``sha512``.
        stem: file name before the ending.
        intermediate: one of :data:`KEYS`: an authority with such a key, ``STEM-intermediate.pem``, stands between the
            two, and its certificate follows the server's in the server's file.
        authority: one of :data:`KEYS`, for an authority that is made.
    """
    issuer, signer = _authority(folder, authority)
    chain = b""
    if intermediate:
        issuer, signer = _make_authority(folder, f"{stem}-intermediate", intermediate, (issuer, signer))
        chain = issuer.public_bytes(serialization.Encoding.PEM)
    server_key = _generate(key)
    name = _name("fipsrelay demo intake")
    now = datetime.datetime.now(datetime.timezone.utc)
    start = now + datetime.timedelta(days=1 if premature else -2)
    end = now + datetime.timedelta(days=-1 if expired else 7)
    signer, issuer_name = (server_key, name) if self_signed else (signer, issuer.subject)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(server_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, _hash(hash_name, signer))
    )
    paths = Paths(folder / "authority.pem", folder / f"{stem}.pem", folder / f"{stem}.key")
    paths.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + chain)
    _write_key(paths.key, server_key)
    return paths


def _authority(folder: Path, kind: str) -> tuple[x509.Certificate, _PrivateKey]:
    certificate_path, key_path = folder / "authority.pem", folder / "authority.key"
    if certificate_path.exists():
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(certificate_path.read_bytes()), loaded
    return _make_authority(folder, "authority", kind)


def _make_authority(
    folder: Path, stem: str, kind: str, issuer: tuple[x509.Certificate, _PrivateKey] | None = None
) -> tuple[x509.Certificate, _PrivateKey]:
    """Write an authority's files, signed by ``issuer`` or else by itself."""
    key = _generate(kind)
    name = _name(f"fipsrelay throw-away {stem}")
    issuer_name, signer = (issuer[0].subject, issuer[1]) if issuer else (name, key)
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now + datetime.timedelta(days=8))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, _hash("sha256", signer))
    )
    _write_key(folder / f"{stem}.key", key)
    (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _generate(key: str) -> _PrivateKey:
    if key in _CURVES:
        return ec.generate_private_key(_CURVES[key])
    if key == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key in KEYS:
        return rsa.generate_private_key(public_exponent=65537, key_size=int(key.removeprefix("rsa")))
    raise ValueError(f"key must be one of {', '.join(KEYS)}, found {key!r}")


def _hash(name: str, signer: _PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    choices: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
    }
    return None if isinstance(signer, ed25519.Ed25519PrivateKey) else choices[name]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: _PrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
