"""Upstreams whose servers come, go, move and misbehave: what the agent gets, what the log says, who got the payload."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.intakes import Intake, NameServer, closing, full_listener, silent_listener
from tests.scenarios.stage import HOST, TIMEOUT, Stage, TlsPeer, read_head

FIRST, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Upstreams(Stage):
    """Servers on several addresses of loopback.

    Attributes:
        port: of all of them.
        intakes: by address.
        peers: those that run, by address.
    """

    def setUp(self) -> None:
        super().setUp()
        (self.port,) = self.free_ports(1)
        self.intakes = {address: Intake(address.encode()) for address in (FIRST, SECOND, THIRD)}
        self.peers: dict[str, TlsPeer] = {}
        self.addCleanup(lambda: self.kill(*self.peers))

    def bring_up(self, *addresses: str) -> None:
        for address in addresses:
            context = self.server_context()
            self.peers[address] = TlsPeer(self.intakes[address].serve, context, address, self.port)

    def kill(self, *addresses: str) -> None:
        for address in list(addresses):
            self.peers.pop(address).stop()

    def run_with(self, *addresses: str, interval: int = 1, **sections: Any) -> RelayProcess:
        """The relay with one upstream, checked every second; without addresses its name is resolved."""
        upstreams = {"peer": {"host": HOST, "port": self.port, "addresses": addresses}}
        probes = {"enabled": True, "interval": interval}
        return self.start_relay(self.port, upstreams=upstreams, probes=probes, **sections)

    def ask(self, body: bytes = b"payload") -> tuple[int, str]:
        """Status, and who answered or why nobody did."""
        agent = self.agent()
        agent.request("POST", "/", body)
        answer = agent.getresponse()
        text = answer.read().decode()
        agent.close()
        return answer.status, answer.headers.get("Fipsrelay-Error") or text

    def ask_all(self, count: int) -> set[tuple[int, str]]:
        """Four at a time."""
        with ThreadPoolExecutor(4) as threads:
            return set(threads.map(lambda _: self.ask(), range(count)))


class ServerTests(Upstreams):
    def test_vanish_and_return(self) -> None:
        self.bring_up(FIRST, SECOND, THIRD)
        relay = self.run_with(FIRST, SECOND, THIRD)
        relay.wait_for(f"Server peer/mothership3 is {THIRD}:{self.port}")
        self.assertEqual({status for status, _ in self.ask_all(20)}, {200})
        self.kill(SECOND)
        self.assertEqual(self.ask_all(20) - {(200, FIRST), (200, THIRD)}, set())
        line = relay.wait_for("Server peer/mothership2 is DOWN")
        self.assertRegex(
            line,
            r"mothership2 is DOWN, reason: Layer4 connection problem, info: \"Connection refused\", "
            r"check duration: \d+ms\. 2 active and 0 backup servers left\.$",
        )
        self.assertIn("peer/mothership2", self.page())
        self.kill(FIRST, THIRD)
        relay.wait_for("0 active and 0 backup servers left.")
        relay.wait_for("backend 'peer' has no server available!")
        self.assertEqual(self.ask(), (503, "connect-refused"))
        self.bring_up(SECOND)
        line = relay.wait_for("Server peer/mothership2 is UP")
        self.assertRegex(
            line,
            r"mothership2 is UP, reason: Layer6 check passed, check duration: \d+ms\. "
            r"1 active and 0 backup servers online\.$",
        )
        relay.wait_for("backend 'peer' has a server available again.")
        self.assertEqual(self.ask_all(20), {(200, SECOND)})

    def test_first_request_after_a_wrong_check(self) -> None:
        """While every server counts as down, one request at a time still tries: it need not wait for a probe."""
        relay = self.run_with(FIRST, interval=3600)
        self.assertEqual(self.ask(), (503, "connect-refused"))
        relay.wait_for("backend 'peer' has no server available!")
        self.bring_up(FIRST)
        self.assertEqual(self.ask(), (200, FIRST))
        relay.wait_for("Server peer/mothership1 is UP, reason: Layer6 check passed")

    def test_restart_between_requests(self) -> None:
        """Connections that the server closed are not used; a request waits out a short restart."""
        self.bring_up(FIRST)
        relay = self.run_with(FIRST)
        self.assertEqual(self.ask(), (200, FIRST))
        self.kill(FIRST)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(self.ask)
            self.wait_until(lambda: "connect-refused:1" in self.page(), "the first refusal")
            self.bring_up(FIRST)
            self.assertEqual(waiting.result(), (200, FIRST))
        self.assertEqual(self.intakes[FIRST].requests, [b"payload"] * 2)
        self.assertNotIn("connect-refused]", relay.output)


class MisbehaviourTests(Upstreams):
    """One of two servers does something wrong: the other one gets every payload, and the log says what was wrong."""

    def test_all_kinds(self) -> None:
        expired = certificates.write(self.folder, [HOST], stem="expired", expired=True)
        foreign = certificates.write(self.folder, ["other.ddog-gov.com"], stem="other")
        seen = Intake(b"never")
        kinds: dict[str, tuple[Any, str]] = {
            "refuses": (None, 'Layer4 connection problem, info: "Connection refused"'),
            "drops": (full_listener, "Layer4 timeout"),
            "silent": (silent_listener, "Layer6 timeout"),
            "closes": (closing(b""), 'Layer6 invalid response, info: "the connection was closed"'),
            "resets": (closing(b"", resets=True), 'Layer6 invalid response, info: "the connection was closed"'),
            "no-tls": (closing(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "Layer6 invalid response, info: "),
            "expired": (expired, 'Layer6 invalid response, info: "certificate refused, certificate has expired"'),
            "foreign": (foreign, f'Layer6 invalid response, info: "the certificate is not valid for {HOST}"'),
        }
        ports = dict(zip(kinds, self.free_ports(len(kinds)), strict=True))
        upstreams, intakes = {}, {}
        agents = dict(zip(kinds, self.free_ports(len(kinds)), strict=True))
        good = Intake(b"good")
        for name, (kind, _) in kinds.items():
            port = ports[name]
            self.keep(TlsPeer(good.serve, self.server_context(), FIRST, port))
            if isinstance(kind, certificates.Paths):
                self.keep(TlsPeer(seen.serve, self.server_context(kind), SECOND, port))
            elif kind in (full_listener, silent_listener):
                kind(self.addCleanup, SECOND, port)
            elif kind is not None:
                self.keep(TlsPeer(kind, None, SECOND, port))
            upstreams[name] = {"host": HOST, "port": port, "addresses": [SECOND, FIRST]}
            intakes[name] = {"port": agents[name], "upstream": name}
        sections = {"upstreams": upstreams, "intakes": intakes, "timeouts": {"connect": 1, "handshake": 1}}
        relay = self.start_relay(9, probes={"enabled": True, "interval": 1}, **sections)
        for name, port in agents.items():
            self.http_port = port
            self.assertEqual(self.ask_all(8), {(200, "good")}, name)
        for name, (_, reason) in kinds.items():
            line = relay.wait_for(f"Server {name}/mothership1 is DOWN")
            self.assertIn(f"Server {name}/mothership1 is DOWN, reason: {reason}", line)
            self.assertRegex(line, r", check duration: \d+ms\. 1 active and 0 backup servers left\.$")
        self.assertEqual((len(good.requests), seen.requests), (8 * len(kinds), []))

    def test_a_family_without_a_way_out(self) -> None:
        """Happy Eyeballs: the other family's server is tried long before the connect timeout, which here is longer than
        the agent waits."""
        self.bring_up(FIRST)
        full_listener(self.addCleanup, "::1", self.port)
        self.run_with("::1", FIRST, interval=3600, timeouts={"connect": 10 * TIMEOUT})
        self.assertEqual(self.ask_all(8), {(200, FIRST)})
        self.assertRegex(self.page(), rf"mothership1 +\[::1\]:{self.port} +not checked ")

    def keep(self, peer: TlsPeer) -> None:
        self.addCleanup(peer.stop)


class NameTests(Upstreams):
    """The upstream is known by its name; the test is the name server."""

    def setUp(self) -> None:
        super().setUp()
        self.names = NameServer()
        self.addCleanup(self.names.stop)
        self.resolver = {"nameservers": [f"127.0.0.1:{self.names.port}"], "refresh": 1}

    def test_moves(self) -> None:
        """Requests follow; one that is under way on the old address is finished there."""
        self.names.addresses = (FIRST,)
        played = self.start_played_peer()
        self.port = played.port
        relay = self.run_with(resolver=self.resolver)
        relay.wait_for(f"Server peer/mothership1 is {FIRST}:{self.port}")
        slow = self.agent()
        slow.request("POST", "/", b"slow")
        old = played.accept()
        while not read_head(old):
            old = played.accept()  # a probe came first
        self.bring_up(SECOND)
        self.names.addresses = (SECOND,)
        relay.wait_for(f"mothership1 is going DOWN for maintenance, {FIRST}:{self.port} is no longer an address of")
        self.assertEqual(self.ask_all(10), {(200, SECOND)})
        old.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        self.assertEqual(slow.getresponse().read(), b"old")
        old.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        self.assertEqual(old.recv(100), b"slow")
        self.assertEqual(old.recv(1), b"")  # given back, and closed in order

    def test_no_dns_at_the_start_and_later(self) -> None:
        """The relay starts without it; what was known is used while it is gone."""
        self.names.addresses = None
        self.bring_up(FIRST)
        relay = self.run_with(resolver=self.resolver)
        self.assertEqual(self.ask(), (503, "resolve"))
        relay.wait_for(f"{HOST} does not resolve")
        self.assertRegex(self.page(), rf"\n{HOST} has not resolved for \d s\n")
        self.names.addresses = (FIRST,)
        relay.wait_for(f"{HOST} resolves to {FIRST}")
        self.assertEqual(self.ask(), (200, FIRST))
        self.names.silent = True
        relay.wait_for(f"what is used until it does: {FIRST}")
        self.assertEqual(self.ask(), (200, FIRST))
