"""The policy as an OpenSSL context, and what a finished handshake came to. Payload leaves only after ``examine``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname

from fipsrelay.config.model import LocalTls
from fipsrelay.crypto import controls
from fipsrelay.crypto.offer import Offer, differences, read
from fipsrelay.crypto.policy import GROUP_NAMES, CertificateFacts, HandshakeFacts, Policy, judge_chain
from fipsrelay.errors import ConfigError, FipsError, Problem

if TYPE_CHECKING:  # since cryptography 40
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# Where Debian and Alpine, RHEL, and SUSE keep the bundle that their tools maintain. A wheel's OpenSSL was compiled for
# none of these, and looks elsewhere without complaint; SSL_CERT_FILE does not count, for the configuration decides.
SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/var/lib/ca-certificates/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
_OTHERS = "use a FIPS module and an OpenSSL that offer it"
_LARGEST_HELLO = 1 << 14
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)


def build(trust: str, policy: Policy, crl: str = "") -> SSL.Context:
    """The one context of all upstream connections.

    Args:
        trust: ``system`` or the path of a PEM bundle.
        policy: what it is to offer, no more and no less.
        crl: path of a PEM file with a revocation list of every issuer; empty for no such check.

    Raises:
        FipsError: the library does not offer that, or refuses a setting.
        ConfigError: no trusted certificate, or no revocation list, can be read.
    """
    context = _approved(SSL.TLS_CLIENT_METHOD, policy)
    bundle = trust_bundle(trust)
    try:
        context.load_verify_locations(bundle)
    except SSL.Error as error:
        raise _distrust(f"{bundle} holds no certificate that can be read: a PEM bundle is wanted") from error
    if crl:
        _check_revocation(context, crl)
    context.set_verify(SSL.VERIFY_PEER)
    wrong = differences(offered(context), policy)
    if wrong:
        raise FipsError("offer", "a ClientHello that offers the policy", "; ".join(wrong), _OTHERS)
    return context


def build_local(tls: LocalTls, policy: Policy, path: str) -> SSL.Context:
    """The context of an intake that speaks TLS to its agents.

    Args:
        tls: its certificate and key.
        policy: what it is to accept.
        path: of its keys in the configuration, for messages.

    Raises:
        FipsError: as ``build``.
        ConfigError: they cannot be read, do not belong together, or are not what the policy allows.
    """
    context = _approved(SSL.TLS_SERVER_METHOD, policy)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_passwd_cb(lambda *_: b"")  # OpenSSL's own would ask at the terminal
    # In this order a key of another certificate shows at the check, and not as a key that cannot be read.
    for key, file, use in (
        ("key", tls.key, context.use_privatekey_file),
        ("certificate", tls.certificate, context.use_certificate_chain_file),
    ):
        try:
            Path(file).open("rb").close()
            use(file)
        except OSError as error:
            raise _wrong(f"{path}.{key}", f"{file} cannot be read ({error.strerror})") from error
        except SSL.Error as error:
            raise _unusable(path, key, file) from error
    try:
        context.check_privatekey()
    except SSL.Error as error:
        raise _wrong(f"{path}.key", f"{tls.key} is not the key of {tls.certificate}") from error
    try:
        chain = read_chain(Path(tls.certificate))
    except ValueError:  # OpenSSL reads more than cryptography does
        chain = []
    if not chain:  # and blocks of other names, of which what they hold could not be judged
        raise _unusable(path, "certificate", tls.certificate)
    # What an agent trusts is its own affair, so that there is no anchor to be left out: each signature counts.
    facts = [certificate_facts(certificate) for certificate in chain]
    broken = judge_chain([*facts, facts[-1]], policy)
    if broken:
        raise _wrong(f"{path}.certificate", f"{tls.certificate}: {'; '.join(dict.fromkeys(broken))}")
    # Last, because a context of which a connection was made takes no more settings (pyOpenSSL 26.2).
    found = set(SSL.Connection(context, None).get_cipher_list())
    if found != {*policy.tls12_suites, *policy.tls13_suites}:
        raise FipsError("suites", "exactly the approved suites", ", ".join(sorted(found)) or "none", _OTHERS)
    return context


def _unusable(path: str, key: str, file: str) -> ConfigError:
    return _wrong(
        f"{path}.{key}", f"{file} holds no {key} that can be used: PEM, of a kind that the policy allows, is wanted"
    )


def _check_revocation(context: SSL.Context, file: str) -> None:
    """Refuse what the lists of a file revoke, and chains with an issuer that has no valid list there.

    As HAProxy's ``crl-file`` does: a list that is missing or has run out refuses everything below its issuer.
    """
    try:
        kinds = {kind for kind, _ in read_pem(Path(file))}
    except OSError as error:
        raise _wrong("tls.crl", f"{file} cannot be read ({error.strerror})") from error
    if "X509 CRL" not in kinds:
        raise _wrong("tls.crl", f"{file} holds no revocation list: PEM is wanted")
    if len(kinds) > 1:  # certificates would be trusted
        found = ", ".join(sorted(kinds - {"X509 CRL"}))
        raise _wrong("tls.crl", f"{file} is to hold nothing but revocation lists, and holds {found}")
    store = context.get_cert_store()
    assert store is not None
    try:
        store.load_locations(file)
    except crypto.Error as error:
        raise _wrong("tls.crl", f"{file} holds a revocation list that cannot be read") from error
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)


def offered(context: SSL.Context) -> Offer:
    """What a connection of this context really offers: the ClientHello that it sends is read.

    Raises:
        FipsError: it sends none.
    """
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return read(connection.bio_read(_LARGEST_HELLO))
    except SSL.Error as error:
        raise FipsError("offer", "a ClientHello", str(error), _OTHERS) from error
    raise AssertionError("a handshake without the other side")


def _approved(method: int, policy: Policy) -> SSL.Context:
    """A context with the policy's versions, suites, groups and signatures."""
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION if "TLSv1.2" in policy.versions else SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(":".join(policy.tls12_suites).encode() + b":@SECLEVEL=2")
    for what, names, function in (
        ("suites", policy.tls13_suites, lib.SSL_CTX_set_ciphersuites),
        ("signature algorithms", policy.signature_algorithms, lib.SSL_CTX_set1_sigalgs_list),
    ):
        if function(context._context, ":".join(names).encode()) != 1:
            raise _refused(what, names)
    if not controls.set_groups(context, ":".join(policy.groups)):
        raise _refused("groups", policy.groups)
    return context


def read_pem(path: Path) -> list[tuple[str, bytes]]:
    """The blocks of a PEM file: their kinds, and the whole of each.

    Raises:
        OSError: it cannot be read.
    """
    return [(match[1].decode(), match[0]) for match in _PEM.finditer(path.read_bytes())]


def read_chain(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file.

    Raises:
        OSError: it cannot be read.
        ValueError: one of them cannot.
    """
    return [read_certificate(text) for kind, text in read_pem(path) if kind == "CERTIFICATE"]


def read_certificate(text: bytes) -> x509.Certificate:
    """One in PEM.

    Raises:
        ValueError: it cannot be read.
    """
    with _strictly():
        return x509.load_pem_x509_certificate(text)


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """Whatever ``cryptography`` does not take in a certificate is a ValueError, also a version of no standard."""
    try:
        yield
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """From when until when a certificate is valid, UTC."""
    start, end = utc(certificate, "not_valid_before"), utc(certificate, "not_valid_after")
    assert start is not None
    assert end is not None
    return start, end


def utc(thing: object, name: str) -> datetime | None:
    """A date of ``cryptography``'s, UTC; ``name`` is that of before version 42, when they had no zone."""
    if hasattr(thing, f"{name}_utc"):
        value: datetime | None = getattr(thing, f"{name}_utc")
        return value
    value = getattr(thing, name)
    return value and value.replace(tzinfo=timezone.utc)


def trust_bundle(setting: str, bundles: Sequence[Path] = SYSTEM_BUNDLES) -> Path:
    """The file of trusted certificates.

    Args:
        setting: ``system`` or a path.
        bundles: where the platform's may be.

    Raises:
        ConfigError: there is no such file, or it cannot be opened.
    """
    if setting != "system":
        path = Path(setting)
    else:
        found = next((bundle for bundle in bundles if bundle.is_file()), None)
        if found is None:
            raise _distrust("the platform has no certificates: install ca-certificates, or name a PEM bundle")
        path = found
    try:
        path.open("rb").close()
    except OSError as error:
        raise _distrust(f"{path} cannot be read ({error.strerror})") from error
    return path


def _distrust(message: str) -> ConfigError:
    return _wrong("tls.trust", message)


def _wrong(path: str, message: str) -> ConfigError:
    return ConfigError((Problem("configuration", 0, path, message),))


def _refused(what: str, names: Sequence[str]) -> FipsError:
    lib.ERR_clear_error()
    return FipsError("policy", f"{what} {':'.join(names)}", "OpenSSL refused them", "use an OpenSSL that knows them")


def verification_error(connection: SSL.Connection) -> str | None:
    """Why the chain was refused, in OpenSSL's words; None when the chain is not the reason."""
    code = lib.SSL_get_verify_result(connection._ssl)
    if code == lib.X509_V_OK:
        return None
    return str(ffi.string(lib.X509_verify_cert_error_string(code)).decode())


def identity_error(connection: SSL.Connection, host: str) -> str | None:
    """Why the certificate is not ``host``'s (RFC 6125), or None when it is."""
    try:
        verify_hostname(connection, host)
    except VerificationError:
        return f"the certificate is not valid for {host}"
    except CertificateError:
        return f"the certificate is not valid for {host}: it has no names, or malformed ones"
    return None


def examine(connection: SSL.Connection) -> HandshakeFacts:
    """What was negotiated on a finished handshake.

    Raises:
        ValueError: a certificate of the peer's cannot be read.
    """
    group = controls.group(connection)
    with _strictly():
        chain = [item.to_cryptography() for item in connection.get_verified_chain() or []]
    return HandshakeFacts(
        version=connection.get_protocol_version_name(),
        suite=connection.get_cipher_name() or "",
        group=GROUP_NAMES.get(group, group) if group else None,
        extended_master_secret=controls.has_extended_master_secret(connection),
        chain=tuple(map(certificate_facts, chain)),
    )


def certificate_facts(certificate: x509.Certificate) -> CertificateFacts:
    """What a certificate is, also one whose algorithms ``cryptography`` does not know."""
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        key = None
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if isinstance(key, rsa.RSAPublicKey):
        kind, bits = "rsa", key.key_size
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind, bits = GROUP_NAMES.get(key.curve.name, key.curve.name), key.key_size
    else:
        kind, bits = type(key).__name__.removesuffix("PublicKey").lower(), 0
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        key=kind,
        key_bits=bits,
        signature_hash=algorithm.name if algorithm else None,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        key_sha256=_key_digest(key) if key is not None else "",
        expires=validity(certificate)[1].isoformat(),
    )


def _key_digest(key: PublicKeyTypes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()
