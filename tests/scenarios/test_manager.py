"""The real program under a service manager: what it tells, and sockets that outlive it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fipsrelay.demo.peer import RelayProcess, executable
from tests.folders import short_folder
from tests.scenarios.processes import running
from tests.scenarios.stage import EMPTY, GET, HOST, TIMEOUT, Stage, read_head

# As a manager does it: descriptors from 3 on, and the process's own id in the environment.
HAND_OVER = """
import os, sys
descriptors, names, words = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
copies = [os.dup(int(descriptor)) for descriptor in descriptors]
for place, copy in enumerate(copies):
    os.dup2(copy, 3 + place)
    os.set_inheritable(3 + place, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)), LISTEN_FDNAMES=names)
os.execv(words[0], words)
"""
# A signal that holds the reactor's thread, and no other, until somebody opens the door.
STICK = """
import signal

def stick():
    print("stuck", flush=True)
    open("door", "rb").close()

signal.signal(signal.SIGUSR2, lambda *_: stick())
"""


def answer(connection: Any) -> None:
    while read_head(connection):
        connection.sendall(EMPTY)


class NotifyTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.heard: list[str] = []
        self.spoke = threading.Event()
        self.path = str(short_folder(self.addCleanup) / "notify")
        self.peer = self.start_peer(answer)

    def listen(self, address: str) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(address)

        def read() -> None:
            with listener:
                for data in iter(lambda: listener.recv(4096), b"end"):
                    self.heard.append(data.decode())
                    self.spoke.set()

        reader = threading.Thread(target=read)
        reader.start()

        def end() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", address)
            reader.join(TIMEOUT)

        self.addCleanup(end)

    def test_life(self) -> None:
        """Ready only when the ports are open, and stopping while a request is under way."""
        self.listen(self.path)
        timeouts = {"drain": 100.5}
        relay = self.run_relay(self.document(self.peer.port, timeouts=timeouts), {"NOTIFY_SOCKET": self.path})
        self.wait_until(lambda: self.heard, "READY=1")
        line = "connections, 0 requests; upstreams without a server: none"
        self.assertEqual(self.heard[0], f"READY=1\nSTATUS=ready: 0 {line}")
        agent = self.connect(self.http_port)
        agent.sendall(GET[:10])
        self.wait_until(lambda: self.row("web")[2] == "10", "half a request")
        relay.terminate()
        self.wait_until(lambda: any("STOPPING=1" in each for each in self.heard), "STOPPING=1")
        self.assertNotIn("WATCHDOG", "".join(self.heard))
        self.assertIn("\nEXTEND_TIMEOUT_USEC=110500000", self.heard[-1])
        agent.sendall(GET[10:])
        self.assertIn(b" 200 OK\r\n", read_head(agent))
        self.assertEqual(relay.wait(), 0)

    def test_names_that_are_not_known_yet(self) -> None:
        """That nobody has answered yet is no reason to say that there is no server."""
        self.listen(self.path)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            resolver = {"nameservers": [f"127.0.0.1:{silent.getsockname()[1]}"]}
            upstreams = {"peer": {"host": HOST, "port": self.peer.port}}
            document = self.document(self.peer.port, resolver=resolver, upstreams=upstreams)
            self.run_relay(document, {"NOTIFY_SOCKET": self.path})
            self.wait_until(lambda: self.heard, "READY=1")
        self.assertTrue(self.heard[0].endswith("upstreams without a server: none"), self.heard[0])

    def test_watchdog(self) -> None:
        """Fed by the reactor, twice as often as it has to be: no longer when that is stuck and the process is not."""
        address = f"\0fipsrelay-test-{os.getpid()}"
        self.listen(address)
        (self.folder / "sitecustomize.py").write_text(STICK)
        door = self.folder / "door"
        os.mkfifo(door)
        environ = {"NOTIFY_SOCKET": f"@{address[1:]}", "WATCHDOG_USEC": "400000", "PYTHONPATH": str(self.folder)}
        relay = self.run_relay(self.document(self.peer.port), environ)
        self.wait_until(lambda: sum("WATCHDOG=1" in each for each in self.heard) >= 5, "five times")
        os.kill(relay.pid, signal.SIGUSR2)
        relay.wait_for("stuck")  # what it sent before that is in the queue, in front of the mark
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"mark", address)
        self.wait_until(lambda: "mark" in self.heard, "the mark")
        self.spoke.clear()
        self.assertFalse(self.spoke.wait(1.0), "in a time in which it would be fed five times")
        door.open("wb").close()  # who waits to open it goes on
        self.assertTrue(self.spoke.wait(TIMEOUT))

    def test_nobody_listens(self) -> None:
        """That is no reason to stop."""
        relay = self.run_relay(self.document(self.peer.port), {"NOTIFY_SOCKET": self.path})
        relay.wait_for("The service manager was not told READY=1")
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        self.assertEqual(read_head(agent), EMPTY)


class ActivationTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_peer(answer)
        self.settings = self.document(self.peer.port)
        self.held: dict[str, Any] = {
            name: socket.create_server(("127.0.0.1", port), backlog=64)
            for name, port in (("web", self.http_port), ("statistics", self.page_port))
        }
        for sock in self.held.values():
            self.addCleanup(sock.close)

    def start(self, environ: Mapping[str, str] | None = None) -> RelayProcess:
        descriptors = [sock.fileno() for sock in self.held.values()]
        prefix = [sys.executable, "-c", HAND_OVER, ",".join(map(str, descriptors)), ":".join(self.held)]
        config = self.write_config(self.settings)
        return RelayProcess(config, environ, prefix, descriptors=descriptors)

    def asked(self, made: Callable[[], socket.socket]) -> socket.socket:
        agent = made()
        agent.sendall(GET)
        return agent

    def test_restart(self) -> None:
        """Who comes while nobody runs waits, and is served; what is not handed over is bound as ever."""
        for _ in range(2):
            waiting = [self.asked(lambda: self.connect(self.http_port)) for _ in range(5)]
            relay = self.start()
            self.addCleanup(relay.stop)
            relay.wait_for()
            for agent in waiting:
                self.assertEqual(read_head(agent), EMPTY)
            self.assertIn("ready", self.page())
            raw = self.connect(self.tcp_port)
            raw.sendall(GET)
            self.assertEqual(read_head(raw), EMPTY)
            raw.close()
            for agent in waiting:
                agent.close()
            self.assertEqual(relay.stop(), 0, relay.output)

    def test_with_another_plugin(self) -> None:
        """Twisted looks into every plugin that it does not know yet, and one may have it read the variables itself."""
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "another.py").write_text("from twisted.internet import endpoints\n")
        waiting = self.asked(lambda: self.connect(self.http_port))
        relay = self.start({"PYTHONPATH": str(self.folder)})
        self.addCleanup(relay.stop)
        relay.wait_for()
        self.assertEqual(read_head(waiting), EMPTY)

    def test_unknown_name(self) -> None:
        self.held["wep"] = self.held.pop("web")
        relay = self.start()
        self.assertEqual(relay.wait(), 4)
        words = "Starting frontend wep: cannot bind socket (the service manager has handed over a socket of this name"
        self.assertIn(words, relay.output)

    def test_no_socket(self) -> None:
        with (self.folder / "file").open("w") as file:
            self.held = {"web": file}
            relay = self.start()
            self.assertEqual(relay.wait(), 4)
        self.assertIn(
            "frontend web: cannot bind socket (the service manager has handed over descriptor 3", relay.output
        )

    def test_systemds_own(self) -> None:
        """systemd-socket-activate, which starts the program at the first connection."""
        for sock in self.held.values():
            sock.close()
        config = self.write_config(self.settings)
        command = ["systemd-socket-activate", f"--listen=127.0.0.1:{self.http_port}", "--fdname=web"]
        service = [str(executable("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", str(config)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with running([*command, *service], cwd=self.folder, **streams) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if "Listening on" in line)
            agent = self.asked(lambda: self.connect(self.http_port))
            self.assertEqual(read_head(agent), EMPTY)
            agent.close()
            process.terminate()
            output, _ = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, 0, output)
