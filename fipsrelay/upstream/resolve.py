"""Host names to addresses, off the reactor's thread: by the system's resolver, or by name servers of one's own.

Keeps nothing and logs nothing: ``names`` does.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IHostResolution,
    IReactorPluggableNameResolver,
    IReadDescriptor,
    IResolutionReceiver,
)
from twisted.internet.protocol import ClientCreator, connectionDone
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

# Asks for a host; fires with its addresses in the resolver's order, empty when there are none. Never errs.
Resolve = Callable[[str], Deferred[tuple[str, ...]]]

# Seconds; each round asks every name server, and they share its time. So all silent ones together cost 9 seconds.
ROUNDS = (1.5, 3.0, 4.5)
# Of a datagram: more than RFC 1035 §4.2.1 allows.
_LONGEST = 4096


def system(reactor: IReactorPluggableNameResolver) -> Resolve:
    """The system's resolver: files, DNS and whatever else this host is told to ask."""

    def resolve(host: str) -> Deferred[tuple[str, ...]]:
        receiver = _Receiver()
        reactor.nameResolver.resolveHostName(receiver, host)
        return receiver.done

    return resolve


def nameservers(reactor: Any, servers: Sequence[tuple[str, int]]) -> Resolve:
    """Recursive name servers, and nothing else that this host is told to ask: no files, no search list.

    A and AAAA are asked at the same time, and one does without the other. The answer has IPv6 and IPv4 addresses by
    turns, beginning with IPv6 (RFC 8305 §4).

    Messages are Twisted's, but not its ``names.client``: that resolver logs four lines a question, stays with a server
    that says SERVFAIL, leaves TCP connections open, and never again answers a question for which it once got no socket.

    Args:
        reactor: Twisted's.
        servers: IP address and port of each, in the order in which they are asked.
    """

    def resolve(host: str) -> Deferred[tuple[str, ...]]:
        families = (Deferred.fromCoroutine(_ask(reactor, servers, host, kind)) for kind in (dns.AAAA, dns.A))
        return gatherResults(families).addCallback(_by_turns)

    return resolve


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


def _by_turns(families: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, chain.from_iterable(zip_longest(*families)))))


async def _ask(reactor: Any, servers: Sequence[tuple[str, int]], host: str, kind: int) -> tuple[str, ...]:
    left = list(servers)
    for seconds in ROUNDS:
        for server in tuple(left):
            asked = Deferred.fromCoroutine(_Question(host, kind).ask(reactor, server))
            try:
                message = await asked.addTimeout(seconds / len(servers), reactor)
            except Exception:
                # Silence, a refusal, no way there, no socket: whatever it is, others may answer, or it may later on.
                continue
            if message.rCode in (dns.OK, dns.ENAME):
                return _addresses(host, kind, message.answers)
            left.remove(server)
    return ()


def _addresses(host: str, kind: int, answers: Sequence[Any]) -> tuple[str, ...]:
    """The records of a host, or of what its chain of aliases leads to; records come in any order."""
    aliases = {each.name.name.lower(): each.payload.name.name.lower() for each in answers if each.type == dns.CNAME}
    name = host.encode("ascii")
    while name in aliases:
        name = aliases.pop(name)
    found = (each.payload.address for each in answers if each.type == kind and each.name.name.lower() == name)
    return tuple(str(ip_address(address)) for address in found)


class _Question:
    """One question to one server, from a port and with a number of its own (RFC 5452 §4)."""

    def __init__(self, host: str, kind: int) -> None:
        self._message = dns.Message(secrets.randbits(16), recDes=1)
        self._message.addQuery(host, kind)

    async def ask(self, reactor: Any, server: tuple[str, int]) -> dns.Message:
        """Ask by UDP, and again by TCP when the answer was cut."""
        message = await self._ask_by_udp(reactor, server)
        return await self._ask_by_tcp(reactor, server) if message.trunc else message

    async def _ask_by_udp(self, reactor: Any, server: tuple[str, int]) -> dns.Message:
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            # Connected: the kernel drops what others send, and tells when the server's port is closed.
            sock.connect(server)
            sock.send(self._message.toStr())
            while True:
                await _Arrival(reactor, sock).happened
                message = self._answer(sock.recv(_LONGEST))
                if message is not None:
                    return message

    async def _ask_by_tcp(self, reactor: Any, server: tuple[str, int]) -> dns.Message:
        stream = await ClientCreator(reactor, _Stream).connectTCP(*server)
        try:
            stream.sendString(self._message.toStr())
            message = self._answer(await stream.received)
        finally:
            stream.transport.abortConnection()
        if message is None:
            raise ValueError("not the answer to the question")
        return message

    def _answer(self, data: bytes) -> dns.Message | None:
        """The message in ``data`` if it answers the question."""
        message = dns.Message()
        try:
            message.fromStr(data)
        except (EOFError, ValueError):
            return None
        asked = self._message
        return message if message.answer and message.id == asked.id and message.queries == asked.queries else None


@implementer(IReadDescriptor)
class _Arrival:
    """That there is something to read on a socket, be it an error."""

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        self.happened: Deferred[None] = Deferred(lambda _: reactor.removeReader(self))
        self._reactor = reactor
        self._socket = sock
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "DNS"

    def doRead(self) -> None:
        self._reactor.removeReader(self)
        self.happened.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        self.happened.callback(None)


class _Stream(Int16StringReceiver):
    """A connection to a name server; ``received`` fires with its first message, or with nothing at its end."""

    def __init__(self) -> None:
        self.received: Deferred[bytes] = Deferred()

    def stringReceived(self, string: bytes) -> None:
        if not self.received.called:
            self.received.callback(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.stringReceived(b"")
