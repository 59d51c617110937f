"""What only a process with a proven module can ask: trust, certificates, and every server of every upstream."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fipsrelay.config.model import Config
from fipsrelay.crypto import context
from fipsrelay.crypto.policy import demanded
from fipsrelay.errors import ConfigError, FipsError, UpstreamError
from fipsrelay.observe import visits
from fipsrelay.observe.findings import FAIL, OK, SKIP, WARN, Finding
from fipsrelay.upstream.egress import gateway
from fipsrelay.upstream.visit import Visit

_SOON_UPSTREAM, _SOON_LOCAL = timedelta(days=14), timedelta(days=30)
_ONE_IS_ENOUGH = "requests go to the others; see why this one cannot be used"
_DATES = ("certificate has expired", "certificate is not yet valid")
_REMEDIES = {
    "resolve": "see resolver and the host's DNS",
    "connect": "see firewalls and routes, or name the way out under egress",
    "proxy": "see egress and the proxy's own log",
    "handshake": "see who is in the way: a proxy that breaks TLS open, or another server",
    "identity": "see whether DNS or addresses lead to the right server",
    "policy": "the server or its certificate is not what the policy allows",
}


def examine(config: Config) -> Iterator[Finding]:
    """All of it."""
    policy = demanded(config.tls)
    try:
        tls = context.build(config.tls.trust, policy, config.tls.crl)
        way = gateway(config.egress)
    except (ConfigError, FipsError) as error:
        remedy = error.remedy if isinstance(error, FipsError) else "correct the configuration or the file"
        yield Finding("TLS", FAIL, str(error), remedy)
        yield Finding("upstreams", SKIP, "nothing can be reached without that")
        return
    yield Finding("policy", OK, f"{config.tls.profile}: {', '.join(policy.versions)}; {', '.join(policy.groups)}")
    if policy.hybrid_groups:
        found = f"no certificate covers {', '.join(policy.hybrid_groups)}"
        yield Finding("policy", WARN, found, "take tls.hybrid_groups away where that matters")
    yield _trust(config)
    yield from _local(config)
    if way is not None:
        yield Finding("egress", OK, f"through {way}, but for what no_proxy exempts")
    backends, came = visits.visit_all(config, tls, policy, way)
    for name, backend in backends.items():
        yield from _upstream(name, backend.upstream.host, came[backend.cluster])


def _trust(config: Config) -> Finding:
    bundle = context.trust_bundle(config.tls.trust)
    certificates = [text for kind, text in context.read_pem(bundle) if kind == "CERTIFICATE"]
    current = sum(map(_is_valid_now, certificates))
    text = f"{bundle}: {current} of {len(certificates)} certificates are valid now"
    if not current:
        return Finding("trust", FAIL, text, "install ca-certificates, or see the clock")
    return Finding("trust", OK, text)


def _is_valid_now(text: bytes) -> bool:
    now = datetime.now(timezone.utc)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some authorities' certificates are older than the rules
            certificate = context.read_certificate(text)
    except ValueError:
        return False
    start, end = context.validity(certificate)
    return start <= now <= end


def _local(config: Config) -> Iterator[Finding]:
    """Certificates of intakes."""
    for name, intake in config.intakes.items():
        if intake.tls is None:
            continue
        topic = f"TLS of {name}"
        try:
            context.build_local(intake.tls, demanded(config.tls), f"intakes.{name}.tls")
        except (ConfigError, FipsError) as error:
            yield Finding(topic, FAIL, str(error), "give it a certificate and key that the policy allows")
            continue
        leaf = context.read_chain(Path(intake.tls.certificate))[0]
        yield _expiry(topic, context.validity(leaf)[1], _SOON_LOCAL)


def _expiry(topic: str, end: datetime, soon: timedelta) -> Finding:
    left = end - datetime.now(timezone.utc)
    text = f"the certificate ends {end:%Y-%m-%d %H:%M} UTC"
    if left < timedelta(0):
        return Finding(topic, FAIL, text, "renew it")
    return (
        Finding(topic, WARN, text, "renew it, and have the relay reload") if left < soon else Finding(topic, OK, text)
    )


def _remedy(error: UpstreamError) -> str:
    if any(words in error.detail for words in _DATES):  # OpenSSL's
        now = datetime.now(timezone.utc)
        return f"set this host's clock, if it is not {now:%Y-%m-%d %H:%M} UTC; else it is for its owner to renew it"
    return _REMEDIES.get(error.step, "")


def _upstream(name: str, host: str, came: Sequence[Visit]) -> Iterator[Finding]:
    if not came:
        yield Finding(name, FAIL, f"{host} has no address (DNS)", _REMEDIES["resolve"])
    works = any(one.error is None for one in came)
    for one in came:
        if one.error is not None:
            found = f"{one.place} failed at {one.error.step}: {one.error.detail}"
            remedy = _ONE_IS_ENOUGH if works else _remedy(one.error)
            yield Finding(name, WARN if works else FAIL, found, remedy)
            continue
        assert one.facts is not None
        assert one.connected is not None
        times = f"TCP {one.connected * 1000:.0f} ms, TLS {(one.finished - one.connected) * 1000:.0f} ms"
        yield Finding(name, OK, f"{one.place}: {' '.join(one.facts.parameters)}, {times}")
        end = datetime.fromisoformat(one.facts.chain[0].expires)
        if end - datetime.now(timezone.utc) < _SOON_UPSTREAM:
            text = f"the certificate of {one.place} ends {end:%Y-%m-%d %H:%M} UTC"
            yield Finding(name, WARN, text, "it is for its owner to renew it")
