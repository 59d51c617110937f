"""The OCSP answer that a server staples to its handshake (RFC 6960, RFC 6066 §8), and whether it says enough.

OpenSSL hands the bytes over and judges nothing. Only the server's own certificate is asked about.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from fipsrelay.crypto.context import certificate_facts, utc, validity
from fipsrelay.crypto.policy import Policy, judge_chain

if TYPE_CHECKING:  # since cryptography 40
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_SKEW = datetime.timedelta(minutes=5)  # between this host's clock and the responder's


def check(connection: SSL.Connection, policy: Policy) -> str | None:
    """``problem`` of a finished handshake, in which ``Connection.request_ocsp`` asked for the answer, as of now."""
    pointer = ffi.new("unsigned char **")
    size = lib.SSL_get_tlsext_status_ocsp_resp(connection._ssl, pointer)
    data = bytes(ffi.buffer(pointer[0], size)) if size > 0 else b""
    chain = [item.to_cryptography() for item in connection.get_verified_chain() or []]
    return problem(data, chain, policy, datetime.datetime.now(datetime.timezone.utc))


def problem(data: bytes, chain: Sequence[x509.Certificate], policy: Policy, now: datetime.datetime) -> str | None:
    """Why a stapled answer does not show that a certificate is good, or None when it does.

    Args:
        data: the answer, DER; empty when there was none.
        chain: verified, the certificate in question first.
        policy: for the hash of its signature.
        now: the time, with a zone.
    """
    if not data:
        return "the server stapled no OCSP answer"
    if len(chain) < 2:
        return "the server's certificate has no issuer who could vouch for it"
    certificate, issuer = chain[:2]
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return f"the stapled OCSP answer is {response.response_status.name.lower().replace('_', ' ')}"
        return _problem_of(response, certificate, issuer, policy, now)
    except (ValueError, UnsupportedAlgorithm):
        return "the stapled OCSP answer cannot be read"


def _problem_of(
    response: ocsp.OCSPResponse,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    policy: Policy,
    now: datetime.datetime,
) -> str | None:
    algorithm = response.signature_hash_algorithm
    if algorithm is None or algorithm.name not in policy.certificate_hashes:
        return f"the stapled OCSP answer is signed with {algorithm.name if algorithm else 'an unknown hash'}"
    signed = response.signature, response.tbs_response_bytes
    if not any(_is_signature(key, *signed, algorithm) for key in _signers(response, issuer, policy, now)):
        return "the stapled OCSP answer is not signed by the certificate's issuer"
    single = next((each for each in response.responses if _is_about(each, certificate, issuer)), None)
    if single is None:
        return "the stapled OCSP answer is about another certificate"
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        return f"the certificate is {single.certificate_status.name.lower()} (OCSP)"
    start, until = utc(single, "this_update"), utc(single, "next_update")
    if start is None or now + _SKEW < start or until is None or until < now - _SKEW:
        return f"the stapled OCSP answer is valid from {start} until {until}"
    return None


def _signers(
    response: ocsp.OCSPResponse, issuer: x509.Certificate, policy: Policy, now: datetime.datetime
) -> Iterator[PublicKeyTypes]:
    """The issuer's key, and those of responders to whom it has delegated (RFC 6960 §4.2.2.2)."""
    yield issuer.public_key()
    for responder in response.certificates:
        try:
            usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            algorithm = responder.signature_hash_algorithm
        except (x509.ExtensionNotFound, UnsupportedAlgorithm, ValueError):
            continue
        start, end = validity(responder)
        if (
            ExtendedKeyUsageOID.OCSP_SIGNING in usages
            and start <= now <= end
            and responder.issuer == issuer.subject
            and algorithm is not None
            and not judge_chain([certificate_facts(responder), certificate_facts(issuer)], policy)
            and _is_signature(issuer.public_key(), responder.signature, responder.tbs_certificate_bytes, algorithm)
        ):
            yield responder.public_key()


def _is_signature(key: PublicKeyTypes, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(algorithm))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _is_about(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    wanted = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, single.hash_algorithm).build()
    return (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
        wanted.serial_number,
        wanted.issuer_name_hash,
        wanted.issuer_key_hash,
    )
