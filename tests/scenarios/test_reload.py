"""The real program reads its configuration again: what changes, what stays, and what is refused."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess, executable
from tests.folders import short_folder
from tests.scenarios.daemons import daemon
from tests.scenarios.processes import descriptors
from tests.scenarios.stage import GET, HOST, TIMEOUT, Stage, TlsPeer, read_exactly, read_head

RELOADS = 50
SWAPS = 11


class Reloads(Stage):
    """Peers that answer with their own name."""

    relay: RelayProcess

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = (self.named(name) for name in (b"one", b"two"))
        self.settings = self.document(self.one.port)

    def named(self, name: bytes, paths: certificates.Paths | None = None) -> TlsPeer:
        def answer(connection: ssl.SSLSocket) -> None:
            while read_head(connection):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + name)

        return self.start_peer(answer, self.server_context(paths))

    def ask(self, agent: socket.socket) -> bytes:
        """The name of who answers, or the whole answer."""
        agent.sendall(GET)
        head = read_head(agent)
        body = read_exactly(agent, 3)
        return body if head.startswith(b"HTTP/1.1 200 ") else head + body

    def reload(self, document: dict[str, Any], problem: str = "") -> dict[str, Any]:
        """Have it read this; the status when it has, and said so."""
        before = self.status()["reloads"]
        self.write_config(document)
        os.kill(self.relay.pid, signal.SIGHUP)
        self.wait_until(lambda: self.status()["reloads"] != before, "the reload")
        after = self.status()
        failed = after["reloads"]["failed"] - before["failed"]
        self.assertEqual(failed, int(bool(problem)), self.relay.output)
        self.assertIn(problem, after["reloads"]["problem"] or "")
        return after

    @contextlib.contextmanager
    def load(self, *clients: tuple[int, bool]) -> Iterator[list[set[bytes]]]:
        """Clients by port, and whether they keep their connection, who ask again and again; none of them may fail.

        Yields:
            What each has been answered.
        """
        over = threading.Event()
        found: list[set[bytes]] = [set() for _ in clients]
        failures: list[BaseException] = []

        def ask(port: int, keep: bool, answers: set[bytes]) -> None:
            try:
                agent = self.connect(port)
                while not over.is_set():
                    answers.add(self.ask(agent))
                    if not keep:
                        agent.close()
                        agent = self.connect(port)
                agent.close()
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=ask, args=(*client, answers))
            for client, answers in zip(clients, found, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            over.set()
            for thread in threads:
                thread.join(TIMEOUT)
            self.assertEqual(failures, [])


class ReloadTests(Reloads):
    def setUp(self) -> None:
        super().setUp()
        self.relay = self.run_relay(self.settings)

    def upstream(self, **changes: Any) -> dict[str, Any]:
        """The configuration with the only upstream changed."""
        [(name, upstream)] = self.settings["upstreams"].items()
        return {**self.settings, "upstreams": {name: {**upstream, **changes}}}

    def test_nothing(self) -> None:
        """The same file again: the upstream's connection stays, too."""
        agent = self.connect(self.http_port)
        self.assertEqual(self.ask(agent), b"one")
        before = self.status()
        after = self.reload(self.settings)
        self.assertEqual(self.ask(agent), b"one")
        self.assertEqual(self.one.accepted, 1)
        self.assertEqual(after["configuration"], before["configuration"])
        self.relay.wait_for("The configuration was read again: 2 intakes")

    def test_upstream(self) -> None:
        """The agent's connection stays, and its next request goes to the new upstream."""
        agent = self.connect(self.http_port)
        self.assertEqual(self.ask(agent), b"one")
        before = self.status()
        after = self.reload(self.upstream(port=self.two.port))
        self.assertNotEqual(after["configuration"], before["configuration"])
        self.assertEqual(self.ask(agent), b"two")
        [destination] = self.status()["destinations"]
        self.assertEqual((destination["port"], destination["upstreams"]), (self.two.port, ["peer"]))
        [web, _] = self.status()["intakes"]
        self.assertEqual((web["connections"], web["answers"]), (1, {"200": 2}))

    def test_request_under_way(self) -> None:
        """It ends where it began."""
        peer = self.start_played_peer()
        self.reload(self.upstream(port=peer.port))
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        upstream = peer.accept()
        read_head(upstream)
        self.reload(self.upstream(port=self.two.port))
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        self.assertTrue(read_head(agent).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(read_exactly(agent, 3), b"old")
        self.assertEqual(self.ask(agent), b"two")
        self.assertEqual(upstream.recv(1), b"")  # nobody keeps it for another request

    def test_trust(self) -> None:
        """A bundle of the same name with another authority in it counts for new connections."""
        other = self.folder / "other"
        other.mkdir()
        paths = certificates.write(other, [HOST])
        stranger = self.named(b"new", paths)
        agent = self.connect(self.http_port)
        self.reload(self.upstream(port=stranger.port))
        self.assertTrue(self.ask(agent).startswith(b"HTTP/1.1 502 "))
        agent.close()
        self.paths.authority.write_bytes(paths.authority.read_bytes())
        self.reload(self.upstream(port=stranger.port))
        self.assertEqual(self.ask(self.connect(self.http_port)), b"new")

    def test_intakes(self) -> None:
        """One goes and finishes what is under way, one comes, one stays with its connections."""
        [port] = self.free_ports(1)
        stays = self.connect(self.http_port)
        self.assertEqual(self.ask(stays), b"one")
        raw = self.connect(self.tcp_port)
        raw.sendall(GET)
        self.assertEqual(read_head(raw)[:12], b"HTTP/1.1 200")
        read_exactly(raw, 3)
        intakes = {"web": self.settings["intakes"]["web"], "more": {"port": port, "upstream": "peer"}}
        after = self.reload({**self.settings, "intakes": intakes})
        self.assertEqual([intake["name"] for intake in after["intakes"]], ["web", "more"])
        self.assertEqual(self.ask(self.connect(port)), b"one")
        self.assertEqual(self.ask(stays), b"one")
        raw.sendall(GET)
        self.assertEqual(read_head(raw)[:12], b"HTTP/1.1 200")
        self.assertRaises(ConnectionRefusedError, self.connect, self.tcp_port)

    def test_an_intake_goes_with_its_upstream(self) -> None:
        """What has begun is finished where it would have gone, also a request of which only half a head was there."""
        agent, begun = self.connect(self.http_port), self.connect(self.http_port)
        self.assertEqual(self.ask(agent), b"one")
        begun.sendall(GET[:10])
        self.assertEqual(self.ask(agent), b"one")  # so it has read that, too
        [upstream] = self.settings["upstreams"].values()
        raw = {**self.settings["intakes"]["raw"], "upstream": "other"}
        self.reload({**self.settings, "upstreams": {"other": upstream}, "intakes": {"raw": raw}})
        begun.sendall(GET[10:].replace(b"\r\n\r\n", b"\r\nNew: yes\r\n\r\n"))
        head = read_head(begun)
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        self.assertEqual(read_exactly(begun, 3), b"one")

    def test_port_changes_hands(self) -> None:
        """Two intakes swap their ports, and one of them its name: nobody is refused in between."""
        web, raw = self.settings["intakes"]["web"], self.settings["intakes"]["raw"]
        swapped = {"web": {**web, "port": self.tcp_port}, "new": {**raw, "port": self.http_port}}
        with self.load((self.http_port, False), (self.tcp_port, False)) as found:
            for number in range(SWAPS):
                after = self.reload({**self.settings, "intakes": swapped} if number % 2 == 0 else self.settings)
        self.assertEqual(found, [{b"one"}] * 2)
        places = [(intake["name"], intake["port"]) for intake in after["intakes"]]
        self.assertEqual(places, [("web", self.tcp_port), ("new", self.http_port)])
        self.assertEqual(self.ask(self.connect(self.tcp_port)), b"one")
        self.assertEqual(self.ask(self.connect(self.http_port)), b"one")

    def test_refused(self) -> None:
        """Whatever is wrong, the relay goes on as before, and says why."""
        agent = self.connect(self.http_port)
        held = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(held.close)
        [free] = self.free_ports(1)
        more = {"port": held.getsockname()[1], "upstream": "peer"}
        extra = {"port": free, "upstream": "peer"}
        intakes = self.settings["intakes"]
        before = self.status()["configuration"]
        for document, problem in (
            ({**self.settings, "site": 7}, "fipsrelay.yaml:1: site"),
            ({**self.settings, "tls": {"trust": "/nowhere"}}, "tls.trust: /nowhere cannot be read"),
            ({**self.settings, "intakes": {**intakes, "extra": extra, "more": more}}, "frontend more: cannot bind"),
            ({**self.settings, "fips": {"unlisted_module": "refuse"}}, "a restart is needed for fips"),
            ({**self.settings, "log": {"level": "debug"}}, "a restart is needed for log"),
        ):
            after = self.reload(document, problem)
            self.assertEqual(after["configuration"], before)
            self.assertEqual(self.ask(agent), b"one")
            self.relay.wait_for("The configuration stays as it was: ")
        socket.create_server(("127.0.0.1", free)).close()  # nothing is left bound
        self.assertIn("RELOAD FAILED: ", self.page())
        self.assertIsNone(self.reload(self.settings)["reloads"]["problem"])

    def test_command(self) -> None:
        command = [str(executable("fipsrelay")), "reload", "-c", str(self.folder / "fipsrelay.yaml")]

        def run() -> tuple[int, str]:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            return done.returncode, done.stdout + done.stderr

        self.write_config(self.upstream(port=self.two.port))
        status, output = run()
        self.assertEqual((status, output), (0, f"process {self.relay.pid} goes by {command[-1]} now\n"))
        self.assertEqual(self.ask(self.connect(self.http_port)), b"two")
        self.write_config({**self.settings, "log": {"level": "debug"}})
        self.assertEqual(
            run(), (1, f"fipsrelay: the configuration stays as it was: {command[-1]}: a restart is needed for log\n")
        )
        self.write_config({**self.settings, "site": 7})
        self.assertEqual(run()[0], 2)


class DaemonTests(Reloads):
    def test_daemon(self) -> None:
        """Whose working directory is another one, and who was told its configuration by a relative path."""
        self.write_config(self.settings)
        log = self.folder / "relay.log"
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        with daemon(self.folder, "fipsrelay.yaml", f"--rundir={elsewhere}"):
            self.wait_until(lambda: log.exists() and "fipsrelay is ready" in log.read_text(), "the start")
            self.assertEqual(self.ask(self.connect(self.http_port)), b"one")
            [(name, upstream)] = self.settings["upstreams"].items()
            path = self.write_config({**self.settings, "upstreams": {name: {**upstream, "port": self.two.port}}})
            program = [str(executable("fipsrelay")), "reload", "-c", str(path)]
            done = subprocess.run(program, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.ask(self.connect(self.http_port)), b"two")


class ManagerTests(Reloads):
    def test_told(self) -> None:
        """Type=notify-reload: RELOADING with the time, then READY."""
        path = str(short_folder(self.addCleanup) / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(path)
            listener.settimeout(TIMEOUT)
            self.relay = self.run_relay(self.settings, {"NOTIFY_SOCKET": path})
            while "READY=1" not in listener.recv(4096).decode():
                pass
            self.reload(self.settings)
            heard = [listener.recv(4096).decode()]
            while "READY=1" not in heard[-1]:
                heard.append(listener.recv(4096).decode())
            self.assertTrue(any(each.startswith("RELOADING=1\nMONOTONIC_USEC=") for each in heard), heard)
            self.relay.stop()


class UnderLoadTests(Reloads):
    def test_no_request_fails(self) -> None:
        """While the upstream, and the intakes beside it, change again and again."""
        relay = self.relay = self.run_relay(self.settings)
        [spare] = self.free_ports(1)
        [(name, upstream)] = self.settings["upstreams"].items()
        others = {**self.settings["intakes"], "spare": {"port": spare, "upstream": name}}
        changed = {**self.settings, "upstreams": {name: {**upstream, "port": self.two.port}}, "intakes": others}
        with self.load(*((self.http_port, keep) for keep in (True, False, True, False))) as found:
            for number in range(RELOADS):
                self.reload(changed if number % 2 == 0 else self.settings)
                if number == 0:  # a client that gets no processor time is not one that is led wrongly
                    self.wait_until(lambda: all(b"two" in answers for answers in found), "each client's way there")
        self.assertEqual(found, [{b"one", b"two"}] * 4)
        status = self.status()
        self.assertEqual((status["reloads"]["succeeded"], status["intakes"][0]["errors"]), (RELOADS, {}))
        self.assertLess(descriptors(relay), 60)
