"""What a process that reaches upstreams has once, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from fipsrelay.config.model import Config
from fipsrelay.crypto.policy import Policy
from fipsrelay.upstream import resolve
from fipsrelay.upstream.connect import Means
from fipsrelay.upstream.names import Names
from fipsrelay.wire.deadlines import Deadlines
from fipsrelay.wire.streams import Buffers

_SWEEP = 0.5  # seconds


def prepare(config: Config, context: SSL.Context, policy: Policy, reactor: Any, chance: Callable[[], float]) -> Means:
    """Means whose deadlines are not watched yet.

    Args:
        config: of the operator.
        context: with the policy.
        policy: what handshakes are judged by.
        reactor: Twisted's.
        chance: a number from 0 to 1, another one at each call.
    """
    servers = config.resolver.nameservers
    ask = resolve.nameservers(reactor, servers) if servers else resolve.system(reactor)
    names = Names(reactor, ask, config.resolver.refresh, chance)
    return Means(reactor, Buffers(), Deadlines(reactor, _SWEEP), context, policy, config.timeouts, names)
