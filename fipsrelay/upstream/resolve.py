"""Host names to addresses, by the system resolver, off the reactor's thread."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution, IReactorPluggableNameResolver, IResolutionReceiver
from zope.interface import implementer


@implementer(IResolutionReceiver)
class _Receiver:
    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.done: Deferred[tuple[str, ...]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        if address.host not in self.addresses:
            self.addresses.append(address.host)

    def resolutionComplete(self) -> None:
        self.done.callback(tuple(self.addresses))


def resolve(reactor: IReactorPluggableNameResolver, host: str) -> Deferred[tuple[str, ...]]:
    """Ask for ``host``; fires with its IPv4 and IPv6 addresses in the resolver's order, empty when there are none."""
    receiver = _Receiver()
    reactor.nameResolver.resolveHostName(receiver, host)
    return receiver.done
