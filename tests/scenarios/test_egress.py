"""The way out through a real forward proxy, squid."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.intakes import Intake, closing
from tests.scenarios.squid import Squid
from tests.scenarios.stage import HOST, TIMEOUT, Stage, read_all

# What an operator may have to write percent-encoded in a URL, and more than ASCII.
USER, PASSWORD = "relay", "pass: wörd/@%"


class Egress(Stage):
    """An intake, and a squid that may lead to it and asks for a password.

    Attributes:
        intake: what it has got.
        peer: its server.
        denied: a port that squid does not lead to.
        closed: one that it leads to and where nobody listens.
    """

    def setUp(self) -> None:
        super().setUp()
        self.intake = Intake(b"the intake")
        self.peer = self.start_peer(self.intake.serve)
        self.denied, self.closed = self.free_ports(2)

    def start_squid(self, **options: Any) -> Squid:
        """It ends with the test; ``options`` are those of ``Squid``."""
        (port,) = self.free_ports(1)
        given = {"targets": (self.peer.port, self.closed), "users": {USER: PASSWORD}, **options}
        squid = Squid(self.folder / f"squid-{port}", port, **given)
        self.addCleanup(squid.stop)
        return squid


class SquidTests(Egress):
    """That the proxy of the scenarios does what they take for granted, seen by another client than the relay."""

    def setUp(self) -> None:
        super().setUp()
        self.squid = self.start_squid()

    def ask(self, host: str, port: int, password: str | None = PASSWORD) -> bytes:
        """Send a request through the tunnel, and return the answer; OSError when squid refuses."""
        context = ssl.create_default_context(cafile=str(self.paths.authority))
        client = http.client.HTTPSConnection("127.0.0.1", self.squid.port, timeout=TIMEOUT, context=context)
        self.addCleanup(client.close)
        credentials = base64.b64encode(f"{USER}:{password}".encode()).decode()
        client.set_tunnel(host, port, {} if password is None else {"Proxy-Authorization": f"Basic {credentials}"})
        client.request("POST", "/", b"payload")
        body = client.getresponse().read()
        client.close()
        return body

    def assert_refused(self, status: int, host: str, port: int, password: str | None = PASSWORD) -> None:
        with self.assertRaisesRegex(OSError, f"^Tunnel connection failed: {status} "):
            self.ask(host, port, password)
        self.wait_until(lambda: f"/{status} " in self.squid.log, "the line in squid's log")
        self.assertEqual((self.peer.accepted, self.intake.requests), (0, []))

    def test_tunnel(self) -> None:
        """By a name that squid alone knows; TLS runs between the client and the intake."""
        self.assertEqual(self.ask(HOST, self.peer.port), b"the intake")
        self.assertEqual(self.intake.requests, [b"payload"])
        self.wait_until(lambda: "TCP_TUNNEL/200" in self.squid.log, "the line in squid's log")
        self.assertIn(f" CONNECT {HOST}:{self.peer.port} {USER} HIER_DIRECT/127.0.0.1 ", self.squid.log)

    def test_everybody(self) -> None:
        self.squid = self.start_squid(users={})
        self.assertEqual(self.ask(HOST, self.peer.port, None), b"the intake")

    def test_no_credentials(self) -> None:
        self.assert_refused(407, HOST, self.peer.port, None)

    def test_wrong_password(self) -> None:
        self.assert_refused(407, HOST, self.peer.port, PASSWORD[:-1])

    def test_denied(self) -> None:
        self.assert_refused(403, HOST, self.denied)

    def test_destination_refuses(self) -> None:
        self.assert_refused(503, HOST, self.closed)

    def test_unknown_name(self) -> None:
        """Squid has no name server; with one that denies the name its answer would be 503."""
        self.assert_refused(500, "elsewhere.ddog-gov.com", self.peer.port)

    def test_end(self) -> None:
        """Nothing of it is left, and its port can be used again while another one runs."""

        def shared_memory() -> list[Path]:
            return list(Path("/dev/shm").glob(f"*{self.squid.port}-*"))

        other = self.start_squid()
        self.assertNotEqual(shared_memory(), [])
        self.squid.stop()
        self.assertEqual(shared_memory(), [])
        again = Squid(self.folder / "again", self.squid.port, (self.peer.port,))
        self.addCleanup(again.stop)
        for self.squid in (again, other):
            self.assertEqual(self.ask(HOST, self.peer.port), b"the intake")


class Relayed(Egress):
    """The relay, whose upstream has no addresses of its own."""

    def start(self, proxy: str, upstream: dict[str, Any] | None = None, **sections: Any) -> RelayProcess:
        """The relay with a proxy; ``upstream`` and ``sections`` are laid on its configuration."""
        peer = {"host": HOST, "port": self.peer.port, "addresses": [], **(upstream or {})}
        egress = {"proxy": f"http://{proxy}", **sections.pop("egress", {})}
        return self.start_relay(self.peer.port, upstreams={"peer": peer}, egress=egress, **sections)

    def start_open_squid(self) -> str:
        """One that asks for no password; its endpoint."""
        return f"127.0.0.1:{self.start_squid(users={}).port}"

    def ask_relay(self) -> tuple[int, str, str]:
        """Status, code and text of an answer."""
        agent = self.agent()
        agent.request("POST", "/", b"payload")
        answer = agent.getresponse()
        text = answer.read().decode()
        agent.close()
        return answer.status, answer.headers.get("Fipsrelay-Error", ""), text


class TunnelTests(Relayed):
    def test_requests_and_raw_tcp(self) -> None:
        self.start(self.start_open_squid())
        for _ in range(3):
            self.assertEqual(self.ask_relay(), (200, "", "the intake"))
        self.assertEqual((self.intake.requests, self.peer.accepted), ([b"payload"] * 3, 1))
        self.assertIn(f"peer/mothership1  {HOST}:{self.peer.port}  UP", self.page())
        raw = self.connect(self.tcp_port)
        raw.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nraw")
        self.assertTrue(raw.recv(65536).startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(self.intake.requests[3:], [b"raw"])

    def test_addresses(self) -> None:
        """Configured ones are what the proxy is asked for."""
        self.start(self.start_open_squid(), {"addresses": ["127.0.0.1"]})
        self.assertEqual(self.ask_relay(), (200, "", "the intake"))

    def test_probes(self) -> None:
        """They go the same way."""
        proxy = self.start_open_squid()
        relay = self.start(proxy, {"port": self.denied}, probes={"enabled": True, "interval": 1})
        line = relay.wait_for("Server peer/mothership1 is DOWN")
        self.assertIn(f"reason: the proxy {proxy} answered CONNECT with 403 Forbidden, check", line)

    def test_no_proxy(self) -> None:
        """Straight to the intake; a proxy that is not there is not missed."""
        upstream = {"addresses": ["127.0.0.1"]}
        self.start(f"127.0.0.1:{self.closed}", upstream, egress={"no_proxy": ["ddog-gov.com"]})
        self.assertEqual(self.ask_relay(), (200, "", "the intake"))


class BlameTests(Relayed):
    """A refusal of the proxy is told apart from one of the upstream."""

    def assert_blamed(self, code: str, words: str, status: int = 503) -> None:
        found, found_code, text = self.ask_relay()
        self.assertEqual((found, found_code), (status, code), text)
        self.assertIn(words, text)
        self.assertIn(f"upstream peer ({HOST}:", text)

    def test_proxy_forbids(self) -> None:
        proxy = self.start_open_squid()
        self.start(proxy, {"port": self.denied})
        said = f"failed at proxy: the proxy {proxy} answered CONNECT with 403 Forbidden"
        self.assert_blamed("proxy-refused", said)
        self.assertRaises(ConnectionResetError, lambda: read_all(self.connect(self.tcp_port)))

    def test_proxy_finds_nobody(self) -> None:
        self.start(self.start_open_squid(), {"port": self.closed})
        self.assert_blamed("proxy-refused", "answered CONNECT with 503 Service Unavailable")

    def test_nobody_is_the_proxy(self) -> None:
        self.start(f"127.0.0.1:{self.closed}")
        self.assert_blamed("proxy-connect", f"the proxy 127.0.0.1:{self.closed}: Connection refused")

    def test_proxy_says_nothing(self) -> None:
        silent = self.start_plain_peer(read_quietly)
        self.start(f"127.0.0.1:{silent.port}", timeouts={"connect": 1})
        self.assert_blamed("proxy-timeout", f"the proxy 127.0.0.1:{silent.port} did not answer in time")

    def test_no_http_proxy(self) -> None:
        ssh = self.start_plain_peer(closing(b"SSH-2.0-x\r\n\r\n", take=4096))
        self.start(f"127.0.0.1:{ssh.port}")
        self.assert_blamed("proxy-connect", "the answer to CONNECT cannot be used: it is not HTTP/1.1")

    def test_no_tls_behind_it(self) -> None:
        plain = self.start_plain_peer(closing(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        squid = self.start_squid(users={}, targets=[plain.port])
        self.start(f"127.0.0.1:{squid.port}", {"port": plain.port})
        self.assert_blamed("tls", "failed at handshake: Layer6 invalid response", status=502)


class PasswordTests(Relayed):
    """Basic authentication; the password is nowhere to be read."""

    def setUp(self) -> None:
        super().setUp()
        self.squid = self.start_squid()

    def assert_secret(self, relay: RelayProcess, *more: str) -> None:
        encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        for text in (relay.output, self.page(), *more):
            for secret in (PASSWORD, quote(PASSWORD, safe=""), "rd/@%", "wrong", encoded):
                self.assertNotIn(secret, text)

    def test_in_the_url(self) -> None:
        relay = self.start(f"{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.squid.port}")
        self.assertEqual(self.ask_relay(), (200, "", "the intake"))
        self.assert_secret(relay)

    def test_in_a_file(self) -> None:
        file = self.folder / "password"
        file.write_text(f"{PASSWORD}\n")
        relay = self.start(f"{USER}@127.0.0.1:{self.squid.port}", egress={"password_file": str(file)})
        self.assertEqual(self.ask_relay(), (200, "", "the intake"))
        self.assert_secret(relay)

    def test_wrong(self) -> None:
        for credentials in ("", f"{USER}:wrong@"):
            relay = self.start(f"{credentials}127.0.0.1:{self.squid.port}")
            status, code, text = self.ask_relay()
            self.assertEqual((status, code), (503, "proxy-auth"), text)
            self.assertIn("answered CONNECT with 407 Proxy Authentication Required", text)
            self.assert_secret(relay, text)
        self.assertEqual(self.intake.requests, [])

    def test_no_file(self) -> None:
        """Said at the start, with status 2."""
        proxy = f"http://{USER}@127.0.0.1:{self.squid.port}"
        egress = {"proxy": proxy, "password_file": str(self.folder / "none")}
        relay = RelayProcess(self.write_config(self.document(self.peer.port, egress=egress)))
        self.assertEqual(relay.wait(), 2, relay.output)
        self.assertIn("egress.password_file: ", relay.output)
        self.assertIn("cannot be read: No such file or directory", relay.output)


def read_quietly(sock: socket.socket) -> None:
    """Take everything, and say nothing."""
    with contextlib.suppress(OSError):
        read_all(sock)
