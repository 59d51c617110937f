"""What SP 800-52 Rev. 2 and this project allow on a TLS connection, as data, and the judgement of what was negotiated.

Pure: no OpenSSL here. Source of each list: SP 800-52 Rev. 2 §3.3 (suites), SP 800-56A Rev. 3 (groups),
SP 800-131A Rev. 2 (signatures and key sizes); RFC 9151 and RFC 8603 for CNSA.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from fipsrelay.config.model import Tls

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

# With ML-KEM, beside the curve that each contains; no module's certificate covers them yet. X25519MLKEM768 is none of
# them: X25519 is not approved.
HYBRID_GROUPS = {"P-256": "SecP256r1MLKEM768", "P-384": "SecP384r1MLKEM1024"}

# OpenSSL names the same curves in more than one way.
GROUP_NAMES = {"prime256v1": "P-256", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@attrs.frozen
class Policy:
    """What is allowed.

    Attributes:
        versions: OpenSSL's names of them.
        tls12_suites, tls13_suites: of these versions.
        groups: for the key exchange, the preferred one first.
        signature_algorithms: of handshakes.
        certificate_curves: of keys in certificates.
        certificate_hashes: of signatures on certificates.
        minimum_rsa_bits: of keys in certificates.
        stapled: whether a server has to staple an OCSP answer that its certificate is good.
    """

    versions: tuple[str, ...] = VERSIONS
    tls12_suites: tuple[str, ...] = TLS12_SUITES
    tls13_suites: tuple[str, ...] = TLS13_SUITES
    groups: tuple[str, ...] = GROUPS
    signature_algorithms: tuple[str, ...] = SIGNATURE_ALGORITHMS
    certificate_curves: tuple[str, ...] = GROUPS
    certificate_hashes: frozenset[str] = CERTIFICATE_HASHES
    minimum_rsa_bits: int = MINIMUM_RSA_BITS
    stapled: bool = False

    @property
    def suites(self) -> tuple[str, ...]:
        """Of all versions that are allowed."""
        return (*self.tls13_suites, *(self.tls12_suites if "TLSv1.2" in self.versions else ()))

    @property
    def hybrid_groups(self) -> tuple[str, ...]:
        """Those of the groups that no module's certificate covers."""
        return tuple(group for group in self.groups if group in HYBRID_GROUPS.values())


SP800_52 = Policy()
CNSA = Policy(
    tls12_suites=("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    tls13_suites=("TLS_AES_256_GCM_SHA384",),
    groups=("P-384",),
    signature_algorithms=("ECDSA+SHA384", "RSA-PSS+SHA384", "RSA+SHA384"),
    certificate_curves=("P-384",),
    certificate_hashes=frozenset({"sha384", "sha512"}),
    minimum_rsa_bits=3072,
)
PROFILES = {"sp800-52": SP800_52, "cnsa": CNSA}


def demanded(tls: Tls) -> Policy:
    """What the operator's settings come to."""
    policy = PROFILES[tls.profile]
    if tls.minimum_version == "1.3":
        policy = attrs.evolve(policy, versions=("TLSv1.3",))
    if tls.hybrid_groups:
        hybrid = tuple(HYBRID_GROUPS[group] for group in policy.groups if group in HYBRID_GROUPS)
        policy = attrs.evolve(policy, groups=(*hybrid, *policy.groups))
    return attrs.evolve(policy, stapled=tls.ocsp_stapling == "require")


@attrs.frozen
class CertificateFacts:
    """One certificate of the verified chain.

    Attributes:
        subject: for messages only.
        key: ``rsa``, the name of a curve as in ``GROUPS``, or of another kind of key.
        key_bits: size of the public key.
        signature_hash: ``sha256`` and the like; None where the algorithm names none.
        sha256: digest of the certificate, hexadecimal.
        key_sha256: the same of its public key (SubjectPublicKeyInfo).
        expires: ISO date and time, UTC.
    """

    subject: str
    key: str
    key_bits: int
    signature_hash: str | None
    sha256: str = ""
    key_sha256: str = ""
    expires: str = ""


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


def judge(facts: HandshakeFacts, policy: Policy = SP800_52) -> tuple[str, ...]:
    """Name every rule that a handshake with a server breaks; an empty tuple means that payload may leave."""
    return (*judge_session(facts, policy), *judge_chain(facts.chain, policy))


def judge_session(facts: HandshakeFacts, policy: Policy = SP800_52) -> tuple[str, ...]:
    """The same without its certificates: of a client that shows none."""
    broken = []
    if facts.version not in policy.versions:
        broken.append(f"version {facts.version} is not allowed")
    if facts.suite not in (policy.tls13_suites if facts.version == "TLSv1.3" else policy.tls12_suites):
        broken.append(f"suite {facts.suite} is not approved")
    if facts.group not in policy.groups:
        broken.append(f"group {facts.group or 'unknown'} is not approved")
    if facts.version == "TLSv1.2" and not facts.extended_master_secret:
        broken.append("TLS 1.2 without extended master secret (RFC 7627)")
    return tuple(broken)


def judge_chain(chain: Sequence[CertificateFacts], policy: Policy = SP800_52) -> tuple[str, ...]:
    """Name every rule that a chain breaks, leaf first, trust anchor last."""
    broken = [] if chain else ["no verified certificate chain"]
    for certificate in chain:
        broken.extend(_judge_key(certificate, policy))
    # The trust anchor is believed for being in the bundle: its own signature proves nothing.
    for certificate in chain[:-1]:
        if certificate.signature_hash not in policy.certificate_hashes:
            broken.append(f"certificate {certificate.subject} is signed with {certificate.signature_hash}")
    return tuple(broken)


def judge_pins(chain: Sequence[CertificateFacts], pins: frozenset[str]) -> str | None:
    """Why a chain is not what an operator has pinned, or None when it is, or nothing is pinned."""
    keys = [certificate.key_sha256 for certificate in chain]
    if not pins or not pins.isdisjoint(keys):
        return None
    return f"no pinned key in the chain, which has {', '.join(keys)}"


def _judge_key(certificate: CertificateFacts, policy: Policy) -> list[str]:
    if certificate.key == "rsa" and certificate.key_bits < policy.minimum_rsa_bits:
        return [f"certificate {certificate.subject} has an RSA key of {certificate.key_bits} bits"]
    if certificate.key != "rsa" and certificate.key not in policy.certificate_curves:
        return [f"certificate {certificate.subject} has a {certificate.key} key"]
    return []
