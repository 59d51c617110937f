"""What connections took is free again when they have ended, without a collection of Python's, and goes to the host.

A ``sitecustomize`` stops collections at a signal, tells at another one what only they would have freed, and gives back
at a third what otherwise is given back within a minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.intakes import Intake
from tests.scenarios.squid import Squid
from tests.scenarios.stage import EMPTY, GET, HOST, Stage, half_close, read_all, read_exactly, read_head, reset_at_close
from tests.scenarios.test_egress import Egress

POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{"

LOOK = """
import collections, gc, json, os, pathlib, signal

OURS = ("fipsrelay.relay.", "fipsrelay.upstream.", "fipsrelay.wire.", "OpenSSL.")

def begin():
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    tell([])

def tell(garbage):
    kinds = (f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in garbage)
    draft = pathlib.Path(os.environ["GARBAGE"] + ".draft")
    draft.write_text(json.dumps(collections.Counter(kind for kind in kinds if kind.startswith(OURS))))
    draft.replace(os.environ["GARBAGE"])

def end():
    gc.collect()
    tell(gc.garbage)

def trim():
    from fipsrelay.relay.memory import Trimming
    (trimming,) = (thing for thing in gc.get_objects() if isinstance(thing, Trimming))
    trimming.trim()
    tell([])

signal.signal(signal.SIGRTMIN, lambda *_: trim())
signal.signal(signal.SIGUSR1, lambda *_: begin())
signal.signal(signal.SIGUSR2, lambda *_: end())
"""


class Watched(Stage):
    """A relay that can be asked what is left of connections that have ended."""

    def watch(self, document: Mapping[str, Any]) -> RelayProcess:
        (self.folder / "sitecustomize.py").write_text(LOOK)
        self.garbage = self.folder / "garbage"
        paths = os.pathsep.join((str(self.folder), os.environ.get("PYTHONPATH", "")))
        self.relay = self.run_relay(document, {"PYTHONPATH": paths, "GARBAGE": str(self.garbage)})
        self.look(signal.SIGUSR1)
        return self.relay

    def look(self, number: signal.Signals) -> dict[str, int]:
        self.garbage.unlink(missing_ok=True)
        os.kill(self.relay.pid, number)
        self.wait_until(self.garbage.exists, "the garbage")
        kinds: dict[str, int] = json.loads(self.garbage.read_text())
        return kinds

    def assert_nothing_left(self) -> None:
        self.wait_until(lambda: self.status()["connections"]["open"] == 0, "the end of all connections")
        self.assertEqual(self.look(signal.SIGUSR2), {})


class TrafficTests(Watched):
    def setUp(self) -> None:
        super().setUp()
        self.local = certificates.write(self.folder, ["localhost"], stem="local")
        self.peer = self.start_played_peer()
        document = self.document(self.peer.port)
        (self.tls_port,) = self.free_ports(1)
        tls = {"certificate": str(self.local.certificate), "key": str(self.local.key)}
        document["intakes"]["local"] = {"port": self.tls_port, "protocol": "http", "upstream": "peer", "tls": tls}
        self.watch(document)

    def posting(self) -> tuple[socket.socket, ssl.SSLSocket]:
        """An agent in the middle of a request, and the upstream's connection."""
        agent = self.connect(self.http_port)
        agent.sendall(POST)
        upstream = self.peer.accept()
        read_head(upstream)
        return agent, upstream

    def bridged(self) -> tuple[socket.socket, ssl.SSLSocket]:
        """The two sides of a raw TCP conversation, which has begun."""
        agent = self.connect(self.tcp_port)
        upstream = self.peer.accept()
        agent.sendall(b"to")
        self.assertEqual(read_exactly(upstream, 2), b"to")
        upstream.sendall(b"fro")
        self.assertEqual(read_exactly(agent, 3), b"fro")
        return agent, upstream

    def test_http(self) -> None:
        for reset in (False, True):
            agent, upstream = self.answered(self.peer)
            if reset:
                reset_at_close(agent)
                reset_at_close(upstream)
            upstream.close()
            agent.close()
        self.assert_nothing_left()

    def test_http_cut(self) -> None:
        """By the agent in its request, by the upstream in its answer, and by it before."""
        agent, upstream = self.posting()
        reset_at_close(agent)
        agent.close()
        self.assertEqual(upstream.recv(1), b"{")
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(upstream.recv(1), b"")
        for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nO"):
            agent, upstream = self.posting()
            upstream.sendall(answer)
            reset_at_close(upstream)
            upstream.close()
            with contextlib.suppress(ConnectionError):
                agent.sendall(b"}")
                read_head(agent)
            agent.close()
        self.assert_nothing_left()

    def test_http_refused(self) -> None:
        """By the relay: what is no HTTP, what is TLS, and what goes to an upstream that does not accept."""
        for request in (b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):
            agent = self.connect(self.http_port)
            agent.sendall(request)
            read_all(agent)
            agent.close()
        self.peer.stop_listening()
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        self.assertIn(b" 503 ", read_head(agent))
        agent.close()
        self.assert_nothing_left()

    def test_raw_tcp(self) -> None:
        """In order, by either side first."""
        for first, second in ((0, 1), (1, 0)):
            sides = self.bridged()
            for number in (first, second):
                if number:
                    half_close(sides[1])
                else:
                    sides[0].shutdown(socket.SHUT_WR)
            self.assertEqual(sides[0].recv(1), b"")
        self.assert_nothing_left()

    def test_raw_tcp_cut(self) -> None:
        """By either side; and refused, because the agent speaks TLS."""
        for number in (0, 1):
            sides = self.bridged()
            reset_at_close(sides[number])
            sides[number].close()
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(sides[1 - number].recv(1), b"")
        agent = self.connect(self.tcp_port)
        self.peer.accept()
        agent.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        read_all(agent)
        self.assert_nothing_left()

    def test_agent_in_tls(self) -> None:
        """One request, and a handshake that comes to nothing."""
        context = ssl.create_default_context(cafile=str(self.paths.authority))
        agent = context.wrap_socket(self.connect(self.tls_port), server_hostname="localhost")
        agent.sendall(GET)
        upstream = self.peer.accept()
        read_head(upstream)
        upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)
        upstream.close()
        agent.close()
        plain = self.connect(self.tls_port)
        plain.sendall(GET)
        with contextlib.suppress(ConnectionResetError):
            read_all(plain)
        self.assert_nothing_left()


class ProbeTests(Watched):
    def test_checks(self) -> None:
        """Of servers that are up, that close, and that have another's certificate."""
        other = certificates.write(self.folder, ["other.test"], stem="other")
        up = self.start_peer(Intake(b"up").serve)
        closing = self.start_plain_peer(lambda connection: None)
        wrong = self.start_peer(Intake(b"wrong").serve, self.server_context(other))
        servers = {"closing": closing.port, "wrong": wrong.port}
        upstreams = {name: {"host": HOST, "port": port, "addresses": ["127.0.0.1"]} for name, port in servers.items()}
        self.watch(self.document(up.port, upstreams=upstreams, probes={"enabled": True, "interval": 1}))
        peers = (up, closing, wrong)
        wanted = [peer.accepted + 2 for peer in peers]
        self.wait_until(
            lambda: all(peer.accepted >= count for peer, count in zip(peers, wanted, strict=True)), "two checks of each"
        )
        self.assert_nothing_left()


class ProxyTests(Watched, Egress):
    def is_logged(self, squid: Squid, word: str) -> bool:
        return squid.log.count(word) > 2

    def test_tunnels(self) -> None:
        """One that leads to the intake, and one that does not; checks go through them, too."""
        squid = self.start_squid(users={})
        upstreams = {"denied": {"host": HOST, "port": self.denied}, "peer": {"host": HOST, "port": self.peer.port}}
        document = self.document(self.peer.port, upstreams=upstreams, probes={"enabled": True, "interval": 1})
        document["egress"] = {"proxy": f"http://127.0.0.1:{squid.port}"}
        self.watch(document)
        agent = self.agent()
        agent.request("GET", "/")
        self.assertEqual(agent.getresponse().read(), b"the intake")
        agent.close()
        for word in ("TCP_TUNNEL/200", "TCP_DENIED/403"):
            self.wait_until(partial(self.is_logged, squid, word), word)
        self.assert_nothing_left()


class ReturnTests(Watched):
    def test_goes_to_the_host(self) -> None:
        """Most of what raw TCP connections take, each with a TLS connection of its own."""
        count = 400

        def wait(connection: ssl.SSLSocket) -> None:
            connection.sendall(b"!")
            connection.recv(1)

        peer = self.start_peer(wait)
        relay = self.watch(self.document(peer.port))

        def resident() -> int:
            fields = Path(f"/proc/{relay.pid}/statm").read_text().split()
            return int(fields[1]) * resource.getpagesize()

        before = resident()
        agents = [self.connect(self.tcp_port) for _ in range(count)]
        for agent in agents:
            self.assertEqual(read_exactly(agent, 1), b"!")
        taken = resident() - before
        self.assertGreater(taken, count * 30_000)
        for agent in agents:
            agent.close()
        self.wait_until(lambda: self.status()["connections"]["open"] == 0, "the end of all connections")
        self.look(signal.SIGRTMIN)
        self.assertLess(resident() - before, taken / 2)
