"""Names to addresses: by a resolver that the test plays, and by name servers on loopback.

The servers are real ones, with Twisted's messages over real sockets; only the time that silence takes is the test's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from fipsrelay.upstream.resolve import ROUNDS, nameservers, system

reactor: Any = _reactor
HOST = "intake.example"
Server = TypeVar("Server", bound="NameServer")


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


class SystemTests(SynchronousTestCase):
    """``system``."""

    def setUp(self) -> None:
        self.resolver = Resolver()
        self.found = system(cast(Any, self.resolver))(HOST)
        self.receiver, self.host = self.resolver.asked[0]

    def test_order_of_the_resolver_without_repetition(self) -> None:
        self.assertEqual(self.host, HOST)
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


class Timed(Clock):
    """The real reactor, but for the time: what is put off waits for the test."""

    addReader = staticmethod(reactor.addReader)
    removeReader = staticmethod(reactor.removeReader)
    connectTCP = staticmethod(reactor.connectTCP)

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any:
        later = super().callLater if delay else reactor.callLater
        return later(delay, callable, *args, **kw)


def records(name: str, *contents: str) -> list[dns.RRHeader]:
    """Address records, or aliases where the content is a name."""
    found = []
    for content in contents:
        if ":" in content:
            payload: Any = dns.Record_AAAA(content)
        else:
            payload = dns.Record_A(content) if content[-1].isdigit() else dns.Record_CNAME(content)
        found.append(dns.RRHeader(name, payload.TYPE, payload=payload))
    return found


# Do not fit a datagram of 512 bytes.
MANY = records(HOST, *[f"192.0.2.{number}" for number in range(1, 101)])


async def until(happened: Callable[[], object]) -> None:
    """Let the reactor run until something has happened; the test's own timeout is the bound."""
    while not happened():
        await deferLater(reactor, 0)


class NameServer(DNSServerFactory):
    """A name server on one loopback port, UDP and TCP.

    Attributes:
        answers: by type of question, its code and records; silence for a type that is not there. Answers by UDP are
            cut after 512 bytes, as RFC 1035 wants.
        asked: type of each question and the port that it came from, 0 for TCP.
        numbers: of the questions.
    """

    noisy = False

    def __init__(self, answers: dict[int, tuple[int, list[dns.RRHeader]]], address: str = "127.0.0.1") -> None:
        super().__init__()
        self.answers = answers
        self.asked: list[tuple[int, int]] = []
        self.numbers: set[int] = set()
        self._ports: list[Any] = []
        self.server = self._listen(address)

    def _listen(self, address: str) -> tuple[str, int]:
        while True:
            stream = reactor.listenTCP(0, self, interface=address)
            self._ports.append(stream)
            number = stream.getHost().port
            try:
                self._ports.append(reactor.listenUDP(number, dns.DNSDatagramProtocol(self, reactor), interface=address))
            except CannotListenError:
                # Somebody has that port for UDP; another one will do.
                continue
            return address, number

    async def refuse_streams(self) -> None:
        """Serve UDP only."""
        await self._ports.pop(-2).stopListening()  # before it are those for which there was no port for UDP

    async def stop(self) -> None:
        for port in self._ports:
            await port.stopListening()
        for protocol in self.connections:
            protocol.transport.abortConnection()
        await until(lambda: not self.connections)

    def handleQuery(self, message: dns.Message, protocol: Any, address: tuple[str, int] | None) -> None:
        kind = message.queries[0].type
        self.asked.append((kind, address[1] if address else 0))
        self.numbers.add(message.id)
        # Who does not ask for recursion gets none.
        if kind in self.answers and message.recDes:
            self.reply(message, protocol, address)

    def reply(self, message: dns.Message, protocol: Any, address: tuple[str, int] | None) -> None:
        code, answers = self.answers[message.queries[0].type]
        reply = dns.Message(message.id, answer=1, recAv=1, rCode=code, maxSize=512 if address else 0)
        reply.queries, reply.answers = message.queries, answers
        protocol.writeMessage(reply, *([address] if address else []))


class NameServerTests(TestCase):
    """``nameservers``."""

    timeout = 20

    def setUp(self) -> None:
        self.clock = Timed()

    def serve(
        self,
        v4: Sequence[dns.RRHeader] | int | None = (),
        v6: Sequence[dns.RRHeader] | int | None = (),
        address: str = "127.0.0.1",
    ) -> NameServer:
        """A name server with these records, these error codes or, for None, silence."""
        answers = {}
        for kind, wanted in ((dns.A, v4), (dns.AAAA, v6)):
            if wanted is not None:
                answers[kind] = (wanted, []) if isinstance(wanted, int) else (dns.OK, list(wanted))
        return self.started(NameServer(answers, address))

    def started(self, server: Server) -> Server:
        """The same, to be stopped in the end."""
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    def find(self, *servers: NameServer) -> Deferred[tuple[str, ...]]:
        return nameservers(self.clock, [server.server for server in servers])(HOST)

    async def heard(self, server: NameServer, count: int) -> None:
        """Wait until a server was asked so often."""
        await until(lambda: len(server.asked) >= count)

    def kinds(self, server: NameServer) -> list[int]:
        return sorted(kind for kind, _ in server.asked)

    async def test_families_take_turns(self) -> None:
        server = self.serve(
            records(HOST, "192.0.2.1", "192.0.2.2", "192.0.2.3"), records(HOST, "2001:db8::1", "2001:db8::2")
        )
        expected = ("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3")
        self.assertEqual(await self.find(server), expected)
        self.assertEqual(self.kinds(server), [dns.A, dns.AAAA])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_repeated_records(self) -> None:
        self.assertEqual(await self.find(self.serve(records(HOST, "192.0.2.1", "192.0.2.1"))), ("192.0.2.1",))

    async def test_each_question_has_a_port_and_a_number_of_its_own(self) -> None:
        """So that nobody who does not see it can answer it. Numbers are random; four cannot be the same by chance."""
        server = self.serve()
        await self.find(server)
        self.assertEqual(len({port for _, port in server.asked}), 2)
        await self.find(server)
        self.assertGreater(len(server.numbers), 1)

    async def test_nothing_is_logged(self) -> None:
        server = self.serve(MANY)
        with capturedLogs() as events:
            await self.find(server)
        self.assertEqual(events, [])

    async def test_nothing_is_kept(self) -> None:
        server = self.serve(records(HOST, "192.0.2.1"))
        self.assertEqual(await self.find(server), ("192.0.2.1",))
        server.answers[dns.A] = (dns.OK, records(HOST, "192.0.2.2"))
        self.assertEqual(await self.find(server), ("192.0.2.2",))

    async def test_one_family(self) -> None:
        self.assertEqual(await self.find(self.serve(records(HOST, "192.0.2.1"))), ("192.0.2.1",))
        self.assertEqual(await self.find(self.serve((), records(HOST, "2001:db8::1"))), ("2001:db8::1",))

    async def test_an_error_of_the_other_family(self) -> None:
        for code in (dns.ESERVER, dns.EREFUSED, dns.EFORMAT, dns.ENOTIMP, dns.ENAME):
            self.assertEqual(await self.find(self.serve(records(HOST, "192.0.2.1"), code)), ("192.0.2.1",))
            self.assertEqual(await self.find(self.serve(code, records(HOST, "2001:db8::1"))), ("2001:db8::1",))

    async def test_silence_of_the_other_family(self) -> None:
        server = self.serve(records(HOST, "192.0.2.1"), None)
        found = self.find(server)
        for number, seconds in enumerate(ROUNDS, 2):
            await self.heard(server, number)
            # The other family's timer has gone.
            await until(lambda: len(self.clock.getDelayedCalls()) == 1)
            self.clock.advance(seconds)
        self.assertEqual(await found, ("192.0.2.1",))
        self.assertEqual(self.kinds(server), [dns.A, *[dns.AAAA] * len(ROUNDS)])

    async def test_unknown_name(self) -> None:
        """Whoever knows that there is none is believed; others are not asked."""
        first, second = self.serve(dns.ENAME, dns.ENAME), self.serve(records(HOST, "192.0.2.1"))
        self.assertEqual(await self.find(first, second), ())
        self.assertEqual(self.kinds(first), [dns.A, dns.AAAA])
        self.assertEqual(second.asked, [])

    async def test_no_address(self) -> None:
        self.assertEqual(await self.find(self.serve()), ())

    async def test_failing_server(self) -> None:
        """The next one is asked at once, and the failing one not again."""
        first, second = self.serve(dns.ESERVER, dns.EREFUSED), self.serve(records(HOST, "192.0.2.1"))
        self.assertEqual(await self.find(first, second), ("192.0.2.1",))
        self.assertEqual(await self.find(first), ())
        self.assertEqual(self.kinds(first), [dns.A, dns.A, dns.AAAA, dns.AAAA])

    async def test_silent_server(self) -> None:
        server = self.serve(None, None)
        found = self.find(server)
        for number, seconds in enumerate(ROUNDS, 1):
            await self.heard(server, 2 * number)
            self.assertEqual(
                [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()], [seconds] * 2
            )
            self.clock.advance(seconds)
        self.assertEqual(await found, ())
        self.assertEqual(self.kinds(server), [dns.A] * len(ROUNDS) + [dns.AAAA] * len(ROUNDS))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_all_silent_servers_together_take_no_longer(self) -> None:
        servers = [self.serve(None, None) for _ in range(3)]
        found = self.find(*servers)
        for number, seconds in enumerate(ROUNDS, 1):
            for server in servers:
                await self.heard(server, 2 * number)
                self.clock.advance(seconds / len(servers))
        self.assertEqual(await found, ())
        self.assertAlmostEqual(self.clock.seconds(), sum(ROUNDS))
        self.assertLess(sum(ROUNDS), 10)

    async def test_late_server(self) -> None:
        """Silent at first, as after a lost datagram."""
        first, second = self.serve(None, None), self.serve(None, None)
        found = self.find(first, second)
        for server in (first, second):
            await self.heard(server, 2)
            self.clock.advance(ROUNDS[0] / 2)
        first.answers = {dns.A: (dns.OK, records(HOST, "192.0.2.1")), dns.AAAA: (dns.OK, [])}
        self.assertEqual(await found, ("192.0.2.1",))

    async def test_closed_port(self) -> None:
        """The kernel tells, and the next server is asked at once."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            closed = taken.getsockname()
        server = self.serve(records(HOST, "192.0.2.1"))
        self.assertEqual(await nameservers(self.clock, [closed, server.server])(HOST), ("192.0.2.1",))

    async def test_no_way_to_a_server(self) -> None:
        """A link-local address without its link."""
        server = self.serve(records(HOST, "192.0.2.1"))
        self.assertEqual(await nameservers(self.clock, [("fe80::1", 53), server.server])(HOST), ("192.0.2.1",))
        self.assertEqual(await nameservers(self.clock, [("fe80::1", 53)])(HOST), ())

    async def test_ipv6_server(self) -> None:
        """By UDP and by TCP."""
        server = self.serve(MANY, records(HOST, "2001:db8::1"), "::1")
        self.assertEqual(len(await self.find(server)), 101)

    async def test_aliases(self) -> None:
        """Records in any order, names in any case; records of other names are not the host's."""
        answers = [
            *records("c.example", "192.0.2.1"),
            *records("other.example", "192.0.2.9"),
            *records("B.Example", "C.example"),
            *records("c.EXAMPLE", "192.0.2.2"),
            *records("Intake.Example", "b.example"),
        ]
        self.assertEqual(await self.find(self.serve(answers)), ("192.0.2.1", "192.0.2.2"))

    async def test_aliases_without_end(self) -> None:
        loop = [*records(HOST, "b.example"), *records("b.example", HOST)]
        self.assertEqual(await self.find(self.serve(loop, records(HOST, HOST))), ())
        nowhere = self.serve(records(HOST, "b.example"), records(HOST, "b.example"))
        self.assertEqual(await self.find(nowhere), ())

    async def test_more_addresses_than_fit_a_datagram(self) -> None:
        v4 = [f"192.0.2.{number}" for number in range(1, 251)]
        v6 = [f"2001:db8::{number:x}" for number in range(1, 251)]
        server = self.serve(records(HOST, *v4), records(HOST, *v6))
        found = await self.find(server)
        self.assertEqual((found[::2], found[1::2]), (tuple(v6), tuple(v4)))
        streams = sorted(kind for kind, port in server.asked if not port)
        self.assertEqual((self.kinds(server), streams), ([dns.A] * 2 + [dns.AAAA] * 2, [dns.A, dns.AAAA]))

    async def test_connections_are_closed(self) -> None:
        server = self.serve(MANY)
        self.assertEqual(len(await self.find(server)), 100)
        await until(lambda: not server.connections)

    async def test_cut_answer_without_tcp(self) -> None:
        """A part is no answer (RFC 2181 §9); another server may have the whole."""
        first, second = self.serve(MANY), self.serve(records(HOST, "192.0.2.1"))
        await first.refuse_streams()
        self.assertEqual(await self.find(first, second), ("192.0.2.1",))

    async def test_stream_that_ends(self) -> None:
        server = self.started(HalfServer({dns.A: (dns.OK, MANY), dns.AAAA: (dns.OK, [])}, closes=True))
        self.assertEqual(await self.find(server), ())
        self.assertEqual([port for kind, port in server.asked if kind == dns.A and not port], [0] * len(ROUNDS))

    async def test_silent_stream(self) -> None:
        """Takes no longer than silence by UDP, and is closed."""
        server = self.started(HalfServer({dns.A: (dns.OK, MANY), dns.AAAA: (dns.OK, [])}, closes=False))
        found = self.find(server)
        for number, seconds in enumerate(ROUNDS, 1):
            await self.heard(server, 1 + 2 * number)
            self.clock.advance(seconds)
        self.assertEqual(await found, ())
        await until(lambda: not server.connections)

    async def test_only_the_answer_counts(self) -> None:
        server = self.started(ForgingServer({dns.A: (dns.OK, records(HOST, "192.0.2.1")), dns.AAAA: (dns.OK, [])}))
        self.assertEqual(await self.find(server), ("192.0.2.1",))


class HalfServer(NameServer):
    """Answers by UDP only, and closes TCP connections instead or leaves them."""

    def __init__(self, answers: dict[int, tuple[int, list[dns.RRHeader]]], closes: bool) -> None:
        self._closes = closes
        super().__init__(answers)

    def reply(self, message: dns.Message, protocol: Any, address: tuple[str, int] | None) -> None:
        if address:
            super().reply(message, protocol, address)
        elif self._closes:
            protocol.transport.loseConnection()


class ForgingServer(NameServer):
    """Sends, before each answer, what looks like one."""

    def reply(self, message: dns.Message, protocol: Any, address: tuple[str, int] | None) -> None:
        bad = records(HOST, "192.0.2.66")
        for number, answer, name in ((message.id ^ 1, 1, HOST), (message.id, 0, HOST), (message.id, 1, "b.example")):
            forged = dns.Message(number, answer=answer)
            forged.addQuery(name, message.queries[0].type)
            forged.answers = bad
            protocol.writeMessage(forged, address)
        protocol.transport.write(b"", address)
        protocol.transport.write(b"\0" * 11, address)
        protocol.transport.write(forged.toStr()[:12] + b"\xc0\x0c" * 8, address)
        super().reply(message, protocol, address)
