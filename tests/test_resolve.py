"""Names to addresses, by a resolver that the test plays."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from fipsrelay.upstream.resolve import resolve


@implementer(IHostnameResolver)
class Resolver:
    """Remembers who asked, as ``reactor.nameResolver``."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str]] = []
        self.nameResolver = self

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, hostName: str, *more: Any, **named: Any
    ) -> IHostResolution:
        self.asked.append((resolutionReceiver, hostName))
        resolution = cast(IHostResolution, object())
        resolutionReceiver.resolutionBegan(resolution)
        return resolution


class ResolveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = Resolver()
        self.found = resolve(cast(Any, self.resolver), "a.example")
        self.receiver, self.host = self.resolver.asked[0]

    def test_order_of_the_resolver_without_repetition(self) -> None:
        self.assertEqual(self.host, "a.example")
        for address in (
            IPv6Address("TCP", "2001:db8::1", 0),
            IPv4Address("TCP", "192.0.2.1", 0),
            IPv6Address("TCP", "2001:db8::1", 0),
        ):
            self.receiver.addressResolved(address)
            self.assertNoResult(self.found)
        self.receiver.resolutionComplete()
        self.assertEqual(self.successResultOf(self.found), ("2001:db8::1", "192.0.2.1"))

    def test_none(self) -> None:
        self.receiver.resolutionComplete()
        self.assertEqual(self.successResultOf(self.found), ())
