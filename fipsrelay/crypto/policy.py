"""What SP 800-52 Rev. 2 and this project allow on a TLS connection, as data, and the judgement of what was negotiated.

Pure: no OpenSSL here. Source of each list: SP 800-52 Rev. 2 §3.3 (suites), SP 800-56A Rev. 3 (groups),
SP 800-131A Rev. 2 (signatures and key sizes).
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

VERSIONS = ("TLSv1.2", "TLSv1.3")
TLS12_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
TLS13_SUITES = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256")
GROUPS = ("P-256", "P-384", "P-521")
SIGNATURE_ALGORITHMS = (
    "ECDSA+SHA256",
    "ECDSA+SHA384",
    "ECDSA+SHA512",
    "RSA-PSS+SHA256",
    "RSA-PSS+SHA384",
    "RSA-PSS+SHA512",
    "RSA+SHA256",
    "RSA+SHA384",
    "RSA+SHA512",
)
CERTIFICATE_HASHES = frozenset({"sha256", "sha384", "sha512"})
MINIMUM_RSA_BITS = 2048

# OpenSSL names the same curves in more than one way.
GROUP_NAMES = {"prime256v1": "P-256", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@attrs.frozen
class CertificateFacts:
    """One certificate of the verified chain.

    Attributes:
        subject: for messages only.
        key: ``rsa``, the name of a curve as in ``GROUPS``, or of another kind of key.
        key_bits: size of the public key.
        signature_hash: ``sha256`` and the like; None where the algorithm names none.
        sha256: digest of the certificate, hexadecimal.
    """

    subject: str
    key: str
    key_bits: int
    signature_hash: str | None
    sha256: str = ""


@attrs.frozen
class HandshakeFacts:
    """What a finished handshake came to.

    Attributes:
        version: ``TLSv1.2`` or ``TLSv1.3``.
        suite: OpenSSL's name.
        group: ``P-256`` and the like; None when the library could not tell.
        extended_master_secret: RFC 7627; meaningful for TLS 1.2 only.
        chain: the verified chain, leaf first, trust anchor last.
    """

    version: str
    suite: str
    group: str | None
    extended_master_secret: bool
    chain: tuple[CertificateFacts, ...]

    @property
    def parameters(self) -> tuple[str, str, str]:
        """Version, suite and group."""
        return self.version, self.suite, self.group or "unknown"


def judge(facts: HandshakeFacts, minimum_version: str = "1.2") -> tuple[str, ...]:
    """Name every rule that a handshake with a server breaks; an empty tuple means that payload may leave."""
    return (*judge_session(facts, minimum_version), *judge_chain(facts.chain))


def judge_session(facts: HandshakeFacts, minimum_version: str = "1.2") -> tuple[str, ...]:
    """The same without its certificates: of a client that shows none."""
    broken = []
    if facts.version not in VERSIONS or (minimum_version == "1.3" and facts.version != "TLSv1.3"):
        broken.append(f"version {facts.version} is not allowed")
    if facts.suite not in (TLS13_SUITES if facts.version == "TLSv1.3" else TLS12_SUITES):
        broken.append(f"suite {facts.suite} is not approved")
    if facts.group not in GROUPS:
        broken.append(f"group {facts.group or 'unknown'} is not approved")
    if facts.version == "TLSv1.2" and not facts.extended_master_secret:
        broken.append("TLS 1.2 without extended master secret (RFC 7627)")
    return tuple(broken)


def judge_chain(chain: Sequence[CertificateFacts]) -> tuple[str, ...]:
    """Name every rule that a chain breaks, leaf first, trust anchor last."""
    broken = [] if chain else ["no verified certificate chain"]
    for certificate in chain:
        broken.extend(_judge_key(certificate))
    # The trust anchor is believed for being in the bundle: its own signature proves nothing.
    for certificate in chain[:-1]:
        if certificate.signature_hash not in CERTIFICATE_HASHES:
            broken.append(f"certificate {certificate.subject} is signed with {certificate.signature_hash}")
    return tuple(broken)


def _judge_key(certificate: CertificateFacts) -> list[str]:
    if certificate.key == "rsa" and certificate.key_bits < MINIMUM_RSA_BITS:
        return [f"certificate {certificate.subject} has an RSA key of {certificate.key_bits} bits"]
    if certificate.key != "rsa" and certificate.key not in GROUPS:
        return [f"certificate {certificate.subject} has a {certificate.key} key"]
    return []
