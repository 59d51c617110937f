"""What does a configuration come to: all that it names, read and checked, before anything goes by it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from OpenSSL import SSL

from fipsrelay.config.model import Config
from fipsrelay.config.values import is_loopback
from fipsrelay.crypto import context
from fipsrelay.crypto.offer import Offer
from fipsrelay.crypto.policy import Policy, demanded
from fipsrelay.observe.evidence import digest
from fipsrelay.upstream.connect import Gateway
from fipsrelay.upstream.egress import gateway


@attrs.frozen
class Parts:
    """What a configuration comes to, once all that it names has been read and checked.

    Attributes:
        config: of the operator.
        digest: of its effective text.
        warnings: what follows from it that an operator should know.
        policy: what handshakes are judged by.
        tls: context with it, for upstreams.
        offer: what that really offers.
        files: digest of the contents of the files that it was made of.
        local: by intake, the contexts of those that speak TLS to their agents.
        way: the egress proxy, if there is one.
    """

    config: Config
    digest: str
    warnings: tuple[str, ...]
    policy: Policy
    tls: SSL.Context
    offer: Offer
    files: str
    local: Mapping[str, SSL.Context]
    way: Gateway | None


def cautions(config: Config, policy: Policy) -> Iterator[str]:
    """What a configuration does to that which is claimed about FIPS: sentences for the log, the page and reports."""
    if policy.hybrid_groups:
        yield f"No certificate covers key exchange by {', '.join(policy.hybrid_groups)} (tls.hybrid_groups)."
    remote = [address for address in config.listen.addresses if not is_loopback(address)]
    if remote:
        yield f"Agents may send plaintext from other machines to {', '.join(remote)} (listen.allow_remote_plaintext)."


def assemble(config: Config) -> Parts:
    """Read and check all that a configuration names.

    Raises:
        FipsError: OpenSSL does not take the policy.
        ConfigError: the trust bundle, the revocation lists, an intake's certificate, or the password of the egress
            proxy, cannot be used.
    """
    policy = demanded(config.tls)
    tls = context.build(config.tls.trust, policy, config.tls.crl)
    local = {
        name: context.build_local(intake.tls, policy, f"intakes.{name}.tls")
        for name, intake in config.intakes.items()
        if intake.tls is not None
    }
    files = [context.trust_bundle(config.tls.trust), *([Path(config.tls.crl)] if config.tls.crl else [])]
    contents = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
    return Parts(
        config,
        digest(config),
        tuple(cautions(config, policy)),
        policy,
        tls,
        context.offered(tls),
        contents,
        local,
        gateway(config.egress),
    )
