"""The relay's reactor, for tests that look at it."""

from __future__ import annotations

from collections.abc import Callable

from fipsrelay.wire.reactor import RelayReactor


def relay_reactor(at_end: Callable[..., object]) -> RelayReactor:
    """A reactor of the test's own.

    Args:
        at_end: the test's ``addCleanup``.
    """
    reactor = RelayReactor()
    at_end(reactor._poller.close)
    for waker in reactor._internalReaders:
        at_end(waker.connectionLost, None)
    return reactor
