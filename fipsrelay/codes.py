"""The stable codes of failures: what each means, and what to do. They stand in answers, log, metrics and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class Code:
    """What a code says.

    Attributes:
        statuses: of the answers that an agent gets with it; empty where it is not answered by HTTP.
        meaning: what has happened.
        remedy: what an operator does about it.
    """

    statuses: tuple[int, ...]
    meaning: str
    remedy: str


# The agent keeps its payload and tries again. In the order of the way to an upstream.
UPSTREAM: Final[Mapping[str, Code]] = {
    "fips": Code((503,), "The relay has lost its FIPS state.", "Read the log's reason, mend it, restart the relay."),
    "resolve": Code((503,), "The upstream's name has no address.", "Mend DNS, or set `resolver` or `addresses`."),
    "no-server": Code(
        (503,), "All servers of the upstream are down.", "Read the last reason: it stands in the answer and in the log."
    ),
    "local": Code((503,), "The relay could not open a socket.", "Raise its limit of descriptors, or look at the host."),
    "connect-refused": Code(
        (503,), "The server refused the connection.", "Look for a firewall that rejects; check host and port."
    ),
    "connect": Code((503,), "The server could not be reached.", "Look at routes and firewalls on the way."),
    "connect-timeout": Code(
        (503,), "The server did not accept the connection in time.", "Look for a firewall that drops what leaves."
    ),
    "proxy-resolve": Code((503,), "The egress proxy's name has no address.", "Mend DNS, or `egress.proxy`."),
    "proxy-connect": Code(
        (503,), "The egress proxy could not be reached, or broke off.", "Check `egress.proxy` and the way there."
    ),
    "proxy-timeout": Code((503,), "The egress proxy did not answer in time.", "Look at the proxy and its own way out."),
    "proxy-auth": Code((503,), "The egress proxy wants other credentials.", "Correct user and password."),
    "proxy-refused": Code(
        (503,), "The egress proxy refused the tunnel.", "Have it allow CONNECT to the upstream's host and port."
    ),
    "tls": Code(
        (502,), "The handshake failed.", "Look for a middlebox that breaks TLS, or a server without approved suites."
    ),
    "tls-timeout": Code((502,), "The handshake was not finished in time.", "Look for a middlebox that stalls TLS."),
    "certificate": Code(
        (502,),
        "The server's certificate is not trusted, expired or revoked, or cannot be read.",
        "Correct the clock or `tls.trust`; look for a proxy that opens TLS.",
    ),
    "identity": Code(
        (502,), "The certificate is for another host.", "Correct `host`; look for a proxy that opens TLS."
    ),
    "policy": Code(
        (502,), "What was negotiated is not allowed by the policy.", "Have the server offer what `tls.profile` allows."
    ),
    "pin": Code((502,), "No key of the chain is pinned.", "Compare the new key with its owner's word; renew `pins`."),
    "ocsp": Code(
        (502,), "The server stapled no good OCSP answer.", "Mend that server, or set `tls.ocsp_stapling: ignore`."
    ),
    "answer-timeout": Code(
        (504,), "The upstream did not answer in time.", "Nothing, if it passes; else ask the intake."
    ),
    "upstream-closed": Code(
        (502,), "The upstream closed the connection before its answer was complete.", "Nothing, if it passes."
    ),
    "upstream-http": Code((502,), "The upstream's answer is not HTTP that has one reading.", "Ask the intake's owner."),
}

# What no agent sends that is in order; except for those about TLS.
AGENT: Final[Mapping[str, Code]] = {
    "bad-head": Code((400, 501), "The request's head is broken or ambiguous.", "Mend the sender."),
    "bad-method": Code((501,), "CONNECT, or a method that is not all capital letters.", "Mend the sender."),
    "bad-target": Code((400,), "The request's target is no path.", "Mend the sender."),
    "bad-version": Code((505,), "Another version than HTTP/1.0 or HTTP/1.1.", "Have the sender speak HTTP/1.1."),
    "bad-expect": Code((417,), "An expectation other than 100-continue.", "Mend the sender."),
    "bad-chunk": Code((400,), "The chunked body is broken.", "Mend the sender."),
    "head-too-large": Code(
        (431,), "The head has too many bytes or lines.", "Raise `limits.head_size` or `limits.header_lines`."
    ),
    "head-timeout": Code((408,), "The request's head did not arrive in time.", "Look at the sender."),
    "body-timeout": Code((408,), "The request's body stopped arriving.", "Look at the sender."),
    "agent-closed": Code(
        (), "The agent left in the middle of a request, or before it had its answer.", "Look at the agent."
    ),
    "agent-timeout": Code((), "The agent did not take its answer in time.", "Look at the agent."),
    "tunnel-timeout": Code(
        (),
        "A raw TCP connection was silent for too long.",
        "Raise `timeouts.tunnel`, or have the sender say something.",
    ),
    "tls-to-plaintext": Code(
        (), "The agent speaks TLS to a plaintext port.", "Set `fips.https: false` in the Agent, or `tls` of the intake."
    ),
    "plaintext-to-tls": Code(
        (), "The agent speaks plaintext to a TLS port.", "Set `fips.https: true` in the Agent, or take `tls` away."
    ),
    "agent-tls": Code(
        (), "The handshake with the agent failed.", "Have the agent trust the certificate, and offer AES-GCM."
    ),
    "agent-tls-timeout": Code((), "The handshake with the agent took too long.", "Look at the agent."),
}

# The relay does not start, or stops sending. Each comes with what was expected and found, and its own remedy.
FIPS: Final[Mapping[str, str]] = {
    "module-missing": "There is no module where it should be.",
    "module-unreadable": "The module's file cannot be read.",
    "module-owner": "Others than root and the relay's user could exchange the module.",
    "module-sha256": "The module is not the one that `fips.sha256` pins.",
    "module-cut": "The module's file ends too early.",
    "module-mac-missing": "There is no record (`fipsmodule.cnf`) of the module's integrity beside it.",
    "module-inactive": "OpenSSL did not activate the module; its own words say why.",
    "module-not-mapped": "Not this module, or not this one alone, is in the process.",
    "module-changed": "The module's file was exchanged while it was loaded.",
    "module-unlisted": "No active certificate is known for the module.",
    "module-unproven": "A module that was to be installed does not pass the gate.",
    "module-unobtainable": "A module could not be downloaded or built.",
    "source-missing": "What was named is no source tree of OpenSSL.",
    "mirror-missing": "The machine's apt knows no Debian archive to take a module from.",
    "tool-missing": "A program that is needed to obtain a module is not there.",
    "runtime-folder": "There is no private folder for OpenSSL's configuration.",
    "early-import": "OpenSSL was in the process before the module could be.",
    "gate-skipped": "The service was to be run without the gate.",
    "library-unreadable": "The functions of the OpenSSL in use cannot be found.",
    "library-unusable": "The bindings to OpenSSL cannot be loaded.",
    "fips-not-enabled": "OpenSSL runs without FIPS properties.",
    "cipher-missing": "The module has no AES-256-GCM.",
    "cipher-provider": "AES-256-GCM comes from elsewhere than the module.",
    "provider-status": "The module says that it is not in order.",
    "provider-self-test": "The module's self-tests failed.",
    "provider-others": "Other providers than the module and `base` are active.",
    "algorithm-missing": "The module lacks an algorithm that TLS needs.",
    "algorithm-allowed": "Something that is not approved is not refused.",
    "chacha20-allowed": "ChaCha20, which is not approved, is not refused.",
    "suites": "The context has other suites than the approved ones.",
    "offer": "The ClientHello offers something else than the policy.",
}
