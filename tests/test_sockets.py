"""The listening sockets: bound, or handed over."""

from __future__ import annotations

import errno
import socket
from typing import Any

import attrs
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Config
from fipsrelay.demo.peer import free_ports
from fipsrelay.errors import PortsError
from fipsrelay.relay import sockets
from tests.test_service import config


class Binds(SynchronousTestCase):
    def bind(self, wanted: Config, handed: sockets.Sockets | None = None) -> sockets.Sockets:
        """What is bound, to be closed in the end."""
        bound = sockets.bind(wanted, handed or {})
        for sock in (sock for each in bound.values() for sock in each):
            self.addCleanup(sock.close)
        return bound


class BindTests(Binds):
    def test_all(self) -> None:
        wanted = config("127.0.0.1", "127.0.0.2")
        bound = self.bind(wanted)
        names = {
            sockets.PAGE: wanted.listen.port_range_start,
            **{intake.name: intake.port for intake in wanted.intakes.values()},
        }
        self.assertEqual(
            {name: [sock.getsockname() for sock in each] for name, each in bound.items()},
            {name: [("127.0.0.1", port), ("127.0.0.2", port)] for name, port in names.items()},
        )

    def test_every_problem_at_once_and_nothing_stays_bound(self) -> None:
        wanted = config("127.0.0.1", "127.0.0.2", "192.0.2.1")
        taken = [
            socket.create_server(("127.0.0.1", wanted.intakes["web"].port)),
            socket.create_server(("127.0.0.2", wanted.listen.port_range_start)),
        ]
        for sock in taken:
            self.addCleanup(sock.close)
        error = self.assertRaises(PortsError, sockets.bind, wanted)
        found = [(problem.frontend, problem.address, problem.reason) for problem in error.problems]
        in_use, not_here = "Address already in use", "Cannot assign requested address"
        self.assertEqual(
            found,
            [
                ("web", "127.0.0.1", in_use),
                (sockets.PAGE, "127.0.0.2", in_use),
                *((name, "192.0.2.1", not_here) for name in (sockets.PAGE, "web", "logs")),
            ],
        )
        for sock in taken:
            sock.close()
        self.bind(attrs.evolve(wanted, listen=attrs.evolve(wanted.listen, addresses=("127.0.0.1", "127.0.0.2"))))

    def test_ipv6(self) -> None:
        """Where this host has it."""
        for addresses in (("127.0.0.1", "::1"), ("::1",)) if sockets._has_address("::1") else ():
            self.assertEqual({len(each) for each in self.bind(config(*addresses)).values()}, {len(addresses)})

    def test_a_host_without_ipv6(self) -> None:
        """Its Agent on 127.0.0.1 is served all the same, unless there is nothing but ::1."""
        create_server = socket.create_server

        def without_ipv6(address: tuple[str, int], **more: Any) -> socket.socket:
            if address[0] == "::1":
                raise OSError(errno.EADDRNOTAVAIL, "")
            return create_server(address, **more)

        self.patch(socket, "create_server", without_ipv6)
        with capturedLogs() as logs:
            self.assertEqual({len(each) for each in self.bind(config("127.0.0.1", "::1")).values()}, {1})
        self.assertEqual([event["address"] for event in logs], ["::1"])
        self.assertRaises(PortsError, sockets.bind, config("::1"))


class HandedTests(Binds):
    def listener(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        made = socket.create_server((address, port))
        self.addCleanup(made.close)
        return made

    def test_release(self) -> None:
        """Those that nobody has any more, one that has refused connections, too; and no others."""
        kept, gone, refusing = (self.listener(port) for port in free_ports(3))
        refusing.shutdown(socket.SHUT_RD)
        sockets.release(sockets.by_place((kept, gone, refusing)), {"web": [kept]})
        self.assertEqual([sockets.is_listening(each) for each in (kept, gone, refusing)], [True, False, False])

    def test_handed(self) -> None:
        """What is handed over is used; the rest is bound."""
        wanted = config("127.0.0.1", "127.0.0.2")
        held = self.listener(wanted.intakes["web"].port)
        bound = self.bind(wanted, {"web": [held]})
        self.assertEqual(bound["web"], [held])
        self.assertEqual({name: len(each) for name, each in bound.items()}, {sockets.PAGE: 2, "web": 1, "logs": 2})

    def test_of_one_unit(self) -> None:
        """Sockets that have the name of their unit, or none, are told apart by their ports."""
        wanted = config("127.0.0.1", "127.0.0.2")
        ports = {sockets.PAGE: wanted.listen.port_range_start, "web": wanted.intakes["web"].port}
        for unit in ("fipsrelay.socket", ""):
            held = {name: [self.listener(port), self.listener(port, "127.0.0.2")] for name, port in ports.items()}
            handed = {unit: [held["web"][0], *held[sockets.PAGE], held["web"][1]]}
            bound = sockets.bind(wanted, handed)
            self.assertEqual({name: list(bound[name]) for name in held}, held)
            self.assertEqual({sock.getsockname()[1] for sock in bound["logs"]}, {wanted.intakes["logs"].port})
            for sock in (sock for each in bound.values() for sock in each):
                sock.close()

    def test_of_one_unit_with_a_port_for_nothing(self) -> None:
        """Nobody would ever accept on it."""
        wanted = config()
        held = [self.listener(wanted.intakes["web"].port), self.listener(0)]
        number = held[1].getsockname()[1]
        error = self.assertRaises(PortsError, sockets.bind, wanted, {"fipsrelay.socket": held})
        [problem] = error.problems
        self.assertEqual((problem.frontend, problem.port), ("fipsrelay.socket", number))
        self.assertIn("a port that nothing is configured for", problem.reason)
        self.assertEqual([sock.fileno() for sock in held], [-1, -1])

    def test_refused(self) -> None:
        wanted = config()
        port = wanted.intakes["web"].port
        deaf = socket.socket()
        deaf.bind(("127.0.0.1", port))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for sock in (deaf, datagrams):
            self.addCleanup(sock.close)
        for name, sock, words in (
            ("web", deaf, "does not listen"),
            ("web", datagrams, "something else than a TCP socket"),
            ("web", self.listener(0), f"another port than the configured {port}"),
            ("else", self.listener(0), "a socket of this name; known: statistics, web, logs"),
            ("", socket.socket(socket.AF_UNIX), "something else than a TCP socket"),
        ):
            error = self.assertRaises(PortsError, sockets.bind, wanted, {name: [sock]})
            [problem] = error.problems
            self.assertIn(words, problem.reason)
            self.assertEqual(sock.fileno(), -1, words)

    def test_remote_plaintext(self) -> None:
        wanted = config()
        held = self.listener(wanted.intakes["web"].port, "0.0.0.0")
        error = self.assertRaises(PortsError, sockets.bind, wanted, {"web": [held]})
        self.assertIn("reachable from other machines", error.problems[0].reason)

    def test_remote_plaintext_is_allowed(self) -> None:
        wanted = config()
        wanted = attrs.evolve(wanted, listen=attrs.evolve(wanted.listen, allow_remote_plaintext=True))
        held = self.listener(wanted.intakes["web"].port, "0.0.0.0")
        bound = self.bind(wanted, {"web": [held]})
        self.assertEqual(bound["web"], [held])

    def test_of_another_process(self) -> None:
        """Who is given its environment by mistake."""
        given = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}
        self.assertEqual(sockets.handed_over(given), {})
        self.assertEqual(sockets.handed_over({}), {})
