"""The policy as an OpenSSL context, and what a finished handshake came to. Payload leaves only after ``examine``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname

from fipsrelay.config.model import Tls
from fipsrelay.crypto import policy
from fipsrelay.errors import ConfigError, FipsError, Problem

# Where Debian and Alpine, RHEL, and SUSE keep the bundle that their tools maintain. A wheel's OpenSSL was compiled for
# none of these, and looks elsewhere without complaint; SSL_CERT_FILE does not count, for the configuration decides.
SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)


def build(tls: Tls) -> SSL.Context:
    """The one context of all upstream connections.

    Raises:
        FipsError: the library does not offer exactly the approved suites, or refuses a setting.
        ConfigError: no trusted certificate can be read.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if tls.minimum_version == "1.3" else SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(":".join(policy.TLS12_SUITES).encode() + b":@SECLEVEL=2")
    context.set_tls13_ciphersuites(":".join(policy.TLS13_SUITES).encode())
    _set(lib.SSL_CTX_set1_curves_list, context, ":".join(policy.GROUPS), "groups")
    _set(lib.SSL_CTX_set1_sigalgs_list, context, ":".join(policy.SIGNATURE_ALGORITHMS), "signature algorithms")
    bundle = trust_bundle(tls.trust)
    try:
        context.load_verify_locations(bundle)
    except SSL.Error as error:
        raise _distrust(f"{bundle} holds no certificate that can be read: a PEM bundle is wanted") from error
    context.set_verify(SSL.VERIFY_PEER)
    # Last, because a context of which a connection was made takes no more settings (pyOpenSSL 26.2).
    # Names that OpenSSL does not know are dropped from both lists without a word.
    offered = set(SSL.Connection(context, None).get_cipher_list())
    if offered != {*policy.TLS12_SUITES, *policy.TLS13_SUITES}:
        raise FipsError(
            "suites",
            "exactly the approved suites",
            ", ".join(sorted(offered)) or "none",
            "use a FIPS module and OpenSSL that offer them",
        )
    return context


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
    return ConfigError((Problem("configuration", 0, "tls.trust", message),))


def _set(function: object, context: SSL.Context, value: str, what: str) -> None:
    if function(context._context, value.encode()) != 1:  # type: ignore[operator]
        lib.ERR_clear_error()
        raise FipsError("policy", f"{what} {value}", "OpenSSL refused them", "use an OpenSSL that knows them")


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


def examine(connection: SSL.Connection) -> policy.HandshakeFacts:
    """What was negotiated on a finished handshake."""
    group = connection.get_group_name()
    chain = connection.get_verified_chain() or []
    return policy.HandshakeFacts(
        version=connection.get_protocol_version_name(),
        suite=connection.get_cipher_name() or "",
        group=policy.GROUP_NAMES.get(group, group) if group else None,
        extended_master_secret=lib.SSL_get_extms_support(connection._ssl) == 1,
        chain=tuple(certificate_facts(item.to_cryptography()) for item in chain),
    )


def certificate_facts(certificate: x509.Certificate) -> policy.CertificateFacts:
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
        kind, bits = policy.GROUP_NAMES.get(key.curve.name, key.curve.name), key.key_size
    else:
        kind, bits = type(key).__name__.removesuffix("PublicKey").lower(), 0
    return policy.CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        key=kind,
        key_bits=bits,
        signature_hash=algorithm.name if algorithm else None,
    )
