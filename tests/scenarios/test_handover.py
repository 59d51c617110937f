"""The real program takes the listening sockets from the one that runs, under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from functools import partial
from typing import Any

from fipsrelay.demo.peer import RelayProcess
from fipsrelay.observe import audit
from tests.folders import short_folder
from tests.scenarios.stage import EMPTY, GET, TIMEOUT, Stage, read_head

SUCCESSORS = 5


def answer(connection: Any) -> None:
    while read_head(connection):
        connection.sendall(EMPTY)


class HandoverTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_peer(answer)
        self.settings = self.document(self.peer.port)
        self.path = short_folder(self.addCleanup) / "handover"

    def start(self, **changes: Any) -> RelayProcess:
        return self.run_relay({**self.settings, **changes}, options=("--handover", str(self.path)))

    def pid(self) -> int:
        """Of the relay that answers."""
        connection = self.agent(self.page_port)
        connection.request("GET", audit.PATH)
        found: int = json.loads(connection.getresponse().read())["report"]["pid"]
        connection.close()
        return found

    def has(self, answers: list[int], enough: int) -> bool:
        return len(answers) >= enough

    def ask(self) -> None:
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        self.assertIn(b" 200 OK\r\n", read_head(agent))
        agent.close()

    def test_under_load(self) -> None:
        """Successors one after the other: every request is answered."""
        answers: list[int] = []
        failures: list[Exception] = []
        over = threading.Event()

        def send() -> None:
            try:
                while not over.is_set():
                    agent = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=TIMEOUT)
                    agent.request("GET", "/", headers={"Connection": "close"})
                    answers.append(agent.getresponse().status)
                    agent.close()
            except Exception as error:
                failures.append(error)

        relay = self.start()
        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(SUCCESSORS):
                successor = self.start()
                self.assertEqual(relay.stop(), 0, relay.output)
                self.assertEqual(self.pid(), successor.pid)
                enough = len(answers) + 20
                self.wait_until(partial(self.has, answers, enough), "answers of the successor")
                relay = successor
        finally:
            over.set()
            for sender in senders:
                sender.join()
        self.assertEqual((failures, set(answers)), ([], {200}))

    def test_the_one_before_finishes(self) -> None:
        """What it has begun it finishes, and what is in the kernel's queue when it goes is served by the next."""
        relay = self.start()
        under_way = self.connect(self.http_port)
        under_way.sendall(GET[:10])
        self.wait_until(lambda: self.row("web")[2] == "10", "half a request")
        successor = self.start()
        relay.terminate()
        relay.wait_for("Received SIGTERM")
        for _ in range(5):
            self.ask()
        under_way.sendall(GET[10:])
        self.assertIn(b" 200 OK\r\n", read_head(under_way))
        self.assertEqual(relay.wait(), 0)
        self.assertEqual(self.pid(), successor.pid)

    def test_another_configuration(self) -> None:
        """A port that was not there is bound, and one that is no more is closed with the one before."""
        [port] = self.free_ports(1)
        relay = self.start()
        web = self.settings["intakes"]["web"]
        successor = self.start(intakes={"web": web, "more": {**web, "port": port}})
        self.assertEqual(relay.stop(), 0)
        self.connect(port).close()
        self.ask()
        self.assertRaises(ConnectionRefusedError, self.connect, self.tcp_port)
        self.assertEqual(self.pid(), successor.pid)

    def test_after_a_reload(self) -> None:
        """What came with it is handed over, too."""
        [port] = self.free_ports(1)
        relay = self.start()
        intakes = self.settings["intakes"]
        more = {**self.settings, "intakes": {**intakes, "more": {**intakes["web"], "port": port}}}
        self.write_config(more)
        os.kill(relay.pid, signal.SIGHUP)
        relay.wait_for("The configuration was read again")
        successor = self.start(**more)
        relay.wait_for("4 listening sockets were handed over")
        self.assertEqual(relay.stop(), 0)
        self.connect(port).close()
        self.assertEqual(self.pid(), successor.pid)

    def test_a_successor_that_cannot_start(self) -> None:
        """The one that runs goes on, and can be succeeded."""
        relay = self.start()
        [taken] = self.free_ports(1)
        web = self.settings["intakes"]["web"]
        with socket.create_server(("127.0.0.1", taken)):
            config = self.write_config({**self.settings, "intakes": {"web": web, "more": {**web, "port": taken}}})
            failing = RelayProcess(config, options=("--handover", str(self.path)))
            self.assertEqual(failing.wait(), 4)
        self.assertIn(f"cannot bind socket (Address already in use) [127.0.0.1:{taken}]", failing.output)
        self.ask()
        self.assertEqual(self.pid(), relay.pid)
        successor = self.start()
        self.assertEqual(relay.stop(), 0)
        self.assertEqual(self.pid(), successor.pid)

    def test_without_asking(self) -> None:
        """Ports of a relay that runs are taken for who does not say so."""
        relay = self.start()
        other = RelayProcess(self.write_config(self.settings))
        self.assertEqual(other.wait(), 4)
        self.assertEqual(self.pid(), relay.pid)

    def test_what_a_dead_one_has_left(self) -> None:
        """A file behind which nobody listens."""
        self.assertEqual(self.start().stop(), 0)
        self.assertTrue(self.path.is_socket())
        self.start()
        self.ask()
        self.assertEqual([path.name for path in self.path.parent.iterdir()], ["handover"])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_no_place_for_it(self) -> None:
        missing = self.path.parent / "missing" / "handover"
        relay = RelayProcess(self.write_config(self.settings), options=("--handover", str(missing)))
        self.assertEqual(relay.wait(), 4)
        self.assertIn(f"{missing}.new: No such file or directory", relay.output)
