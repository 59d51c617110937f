"""The policy as an OpenSSL context, and what a finished handshake came to. Payload leaves only after ``examine``."""

from __future__ import annotations

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address

from fipsrelay.config.model import Tls
from fipsrelay.crypto import policy
from fipsrelay.errors import FipsError


def build(tls: Tls) -> SSL.Context:
    """The one context of all upstream connections.

    Raises:
        FipsError: the library does not offer exactly the approved suites, or refuses a setting.
        OSError: the trust bundle cannot be read.
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
    offered = set(SSL.Connection(context, None).get_cipher_list())
    if offered != {*policy.TLS12_SUITES, *policy.TLS13_SUITES} and offered != set(policy.TLS13_SUITES):
        raise FipsError(
            "suites",
            "exactly the approved suites",
            ", ".join(sorted(offered)) or "none",
            "use a FIPS module and OpenSSL that offer them",
        )
    if tls.trust == "system":
        context.set_default_verify_paths()
    else:
        try:
            context.load_verify_locations(tls.trust)
        except SSL.Error as error:
            raise OSError(f"tls.trust: {tls.trust} is not a readable PEM bundle") from error
    context.set_verify(SSL.VERIFY_PEER)
    return context


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
        if isIPAddress(host) or isIPv6Address(host):
            verify_ip_address(connection, host)
        else:
            verify_hostname(connection, host)
    except VerificationError as error:
        return f"the certificate is not valid for {host} ({type(error.errors[0]).__name__})"
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
        chain=tuple(_certificate(item.to_cryptography()) for item in chain),
    )


def _certificate(certificate: x509.Certificate) -> policy.CertificateFacts:
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
        kind, bits = "ec", key.key_size
    else:
        kind, bits = type(key).__name__.lower(), 0
    return policy.CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        key_type=kind,
        key_bits=bits,
        signature_hash=algorithm.name if algorithm else None,
        self_signed=certificate.issuer == certificate.subject,
    )
