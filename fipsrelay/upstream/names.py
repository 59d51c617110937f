"""The addresses of hosts: asked for again and again in the background, and the last good answer kept.

A request never waits for a name that was resolved once. While a name does not resolve, what was known goes on being
used, because an intake's addresses outlive most troubles of DNS.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from fipsrelay.upstream.resolve import Resolve

# Each wait is spread by this part of it to both sides, so that a fleet of hosts does not ask in step.
_SPREAD = 0.1
# For so many seconds "no such name" is an answer too: every request that fails for it would ask again.
_NEGATIVE = 1.0

_log = Logger()


class Names:
    """Every name that this process uses.

    Args:
        clock: Twisted's reactor.
        resolve: asks for one name.
        refresh: seconds from an answer to the next question.
        chance: a number from 0 to 1, another one at each call.
    """

    def __init__(self, clock: IReactorTime, resolve: Resolve, refresh: float, chance: Callable[[], float]) -> None:
        self._clock = clock
        self._resolve = resolve
        self._refresh = refresh
        self._chance = chance
        self._names: dict[str, _Name] = {}

    def failing(self) -> dict[str, float]:
        """The names that do not resolve, and since when, in the clock's seconds."""
        names = self._names.items()
        return {host: name.failing_since for host, name in names if name.failing_since is not None}

    def follow(self, host: str, told: Callable[[tuple[str, ...]], None]) -> None:
        """Ask for ``host`` again and again from now on, and tell every answer that has addresses."""
        name = self._name(host)
        name.told.append(told)
        name.refreshed = True
        name.ask()

    def forget(self, host: str, told: Callable[[tuple[str, ...]], None]) -> None:
        """Tell this one no more; a name that nobody follows is asked for no more."""
        name = self._names[host]
        name.told.remove(told)
        if not name.told:
            name.stop()
            del self._names[host]

    def stop(self) -> None:
        """Ask no more."""
        for name in self._names.values():
            name.stop()

    def find(self, host: str) -> Deferred[tuple[str, ...]]:
        """The addresses of ``host`` in the resolver's order; at once when there was an answer before.

        Fires with nothing when there is no address and never was. An address stands for itself.
        """
        if is_address(host):
            return succeed((host,))
        return self._name(host).find()

    def _name(self, host: str) -> _Name:
        if host not in self._names:
            self._names[host] = _Name(host, self._clock, self._resolve, self._wait)
        return self._names[host]

    def _wait(self) -> float:
        return self._refresh * (1 + _SPREAD * (2 * self._chance() - 1))


def is_address(host: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class _Name:
    """One of them.

    Attributes:
        refreshed: whether to go on asking.
        told: who hears of every good answer.
        failing_since: when it first did not resolve; None while it does.
    """

    def __init__(self, host: str, clock: IReactorTime, resolve: Resolve, wait: Callable[[], float]) -> None:
        self.refreshed = False
        self.told: list[Callable[[tuple[str, ...]], None]] = []
        self.failing_since: float | None = None
        self._host = host
        self._clock = clock
        self._resolve = resolve
        self._wait = wait
        self._addresses: tuple[str, ...] = ()
        self._asking = False
        self._failed = float("-inf")  # when it last did not resolve
        self._waiting: list[Deferred[tuple[str, ...]]] = []
        self._next: IDelayedCall | None = None

    def find(self) -> Deferred[tuple[str, ...]]:
        if self._addresses or self._clock.seconds() - self._failed < _NEGATIVE:
            return succeed(self._addresses)
        found: Deferred[tuple[str, ...]] = Deferred()
        self._waiting.append(found)
        self.ask()
        return found

    def ask(self) -> None:
        if not self._asking:
            self._asking = True
            self._resolve(self._host).addCallback(self._answered)

    def stop(self) -> None:
        self.refreshed = False
        self.told.clear()
        self._cancel()

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _answered(self, addresses: tuple[str, ...]) -> None:
        self._asking = False
        if addresses:
            self._learn(addresses)
        else:
            self._fail()
        if self.refreshed:
            self._cancel()
            self._next = self._clock.callLater(self._wait(), self.ask)
        waiting, self._waiting = self._waiting, []
        for found in waiting:
            found.callback(self._addresses)

    def _learn(self, addresses: tuple[str, ...]) -> None:
        # The order changes with every answer of a round-robin name; that is no news.
        if self.failing_since is not None or set(addresses) != set(self._addresses):
            _log.info("{host} resolves to {addresses}", host=self._host, addresses=", ".join(addresses))
        self.failing_since = None
        self._addresses = addresses
        for told in self.told:
            told(addresses)

    def _fail(self) -> None:
        self._failed = self._clock.seconds()
        if self.failing_since is None:
            self.failing_since = self._failed
            known = ", ".join(self._addresses) or "nothing, for it never did"
            _log.warn("{host} does not resolve; what is used until it does: {known}", host=self._host, known=known)
