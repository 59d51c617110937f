"""The addresses of hosts: asked for again and again in the background, and the last good answer kept.

A request never waits for a name that was resolved once. While a name does not resolve, what was known goes on being
used, because an intake's addresses outlive most troubles of DNS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from fipsrelay.upstream.resolve import resolve

# Each wait is spread by this part of it to both sides, so that a fleet of hosts does not ask in step.
_SPREAD = 0.1

_log = Logger()


class Names:
    """Every name that this process uses.

    Args:
        reactor: Twisted's, with its resolver.
        refresh: seconds from an answer to the next question.
        chance: a number from 0 to 1, another one at each call.
    """

    def __init__(self, reactor: Any, refresh: float, chance: Callable[[], float]) -> None:
        self._reactor = reactor
        self._refresh = refresh
        self._chance = chance
        self._names: dict[str, _Name] = {}

    def start(self, hosts: Iterable[str]) -> None:
        """Ask for these from now on."""
        for host in hosts:
            name = self._name(host)
            name.refreshed = True
            name.ask()

    def stop(self) -> None:
        """Ask no more."""
        for name in self._names.values():
            name.stop()

    def find(self, host: str) -> Deferred[tuple[str, ...]]:
        """The addresses of ``host`` in the resolver's order; at once when there was an answer before.

        Fires with nothing when there is no address and never was.
        """
        return self._name(host).find()

    def _name(self, host: str) -> _Name:
        if host not in self._names:
            self._names[host] = _Name(host, self._reactor, self._wait)
        return self._names[host]

    def _wait(self) -> float:
        return self._refresh * (1 + _SPREAD * (2 * self._chance() - 1))


class _Name:
    """One of them.

    Attributes:
        refreshed: whether to go on asking.
    """

    def __init__(self, host: str, reactor: Any, wait: Callable[[], float]) -> None:
        self.refreshed = False
        self._host = host
        self._reactor = reactor
        self._wait = wait
        self._addresses: tuple[str, ...] = ()
        self._failing = False
        self._asking = False
        self._waiting: list[Deferred[tuple[str, ...]]] = []
        self._next: IDelayedCall | None = None

    def find(self) -> Deferred[tuple[str, ...]]:
        if self._addresses:
            return succeed(self._addresses)
        found: Deferred[tuple[str, ...]] = Deferred()
        self._waiting.append(found)
        self.ask()
        return found

    def ask(self) -> None:
        if not self._asking:
            self._asking = True
            resolve(self._reactor, self._host).addCallback(self._answered)

    def stop(self) -> None:
        self.refreshed = False
        self._cancel()

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _answered(self, addresses: tuple[str, ...]) -> None:
        self._asking = False
        if addresses:
            self._learn(addresses)
        elif not self._failing:
            self._failing = True
            known = ", ".join(self._addresses) or "nothing, for it never did"
            _log.warn("{host} does not resolve; what is used until it does: {known}", host=self._host, known=known)
        if self.refreshed:
            self._cancel()
            self._next = self._reactor.callLater(self._wait(), self.ask)
        waiting, self._waiting = self._waiting, []
        for found in waiting:
            found.callback(self._addresses)

    def _learn(self, addresses: tuple[str, ...]) -> None:
        # The order changes with every answer of a round-robin name; that is no news.
        if self._failing or set(addresses) != set(self._addresses):
            _log.info("{host} resolves to {addresses}", host=self._host, addresses=", ".join(addresses))
        self._failing = False
        self._addresses = addresses
