"""Commands that ask the running relay, and the one that runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess

from jsonschema import Draft202012Validator

from fipsrelay import __version__
from fipsrelay.demo.peer import executable
from tests.scenarios.processes import running
from tests.scenarios.stage import EMPTY, GET, TIMEOUT, Stage, read_head
from tests.test_status import SCHEMA


class CommandTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_played_peer()
        self.settings = self.document(self.peer.port)
        self.program = str(executable("fipsrelay"))
        self.config = str(self.write_config(self.settings))

    def run_command(self, *words: str) -> tuple[int, str, str]:
        command = [self.program, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_status(self) -> None:
        relay = self.run_relay(self.settings)
        status, output, errors = self.run_command("status", "-c", self.config)
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(output, rf"^fipsrelay \S+, ready, up \d+ s, process {relay.pid}\n")
        timeless = [re.sub(r"\d+ s\b", "", text) for text in (output, self.page())]
        self.assertEqual(*timeless)

    def test_json(self) -> None:
        relay = self.run_relay(self.settings)
        status, output, errors = self.run_command("status", "-c", self.config, "--json")
        self.assertEqual((status, errors), (0, ""))
        document = json.loads(output)
        Draft202012Validator(SCHEMA).validate(document)
        self.assertEqual((document["program"]["pid"], document["state"]), (relay.pid, "ready"))

    def test_draining(self) -> None:
        """It answers to the end, and says that this is near."""
        relay = self.run_relay(self.settings)
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        upstream = self.peer.accept()
        read_head(upstream)
        relay.terminate()
        self.wait_until(lambda: self.run_command("status", "-c", self.config)[0] == 1, "another state")
        _, output, _ = self.run_command("status", "-c", self.config)
        self.assertIn(", draining, up ", output)
        connection = self.agent(self.page_port)
        connection.request("GET", "/readyz")
        self.assertEqual(connection.getresponse().status, 503)
        upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY[:-2] + b"Connection: close\r\n\r\n")
        self.assertEqual(relay.wait(), 0, relay.output)

    def test_nobody(self) -> None:
        status, output, errors = self.run_command("status", "-c", self.config)
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(errors, f"fipsrelay: nothing listens on port {self.page_port}: it does not run\n")

    def test_somebody_else(self) -> None:
        with socket.create_server(("127.0.0.1", self.page_port)) as listener:
            listener.settimeout(TIMEOUT)
            command = [self.program, "status", "-c", self.config]
            with running(command, stderr=subprocess.PIPE, text=True) as process:
                stranger, _ = listener.accept()
                with stranger:
                    stranger.recv(4096)
                    stranger.sendall(b"220 mail.example ESMTP\r\n")
                    stranger.shutdown(socket.SHUT_WR)
                    self.assertIn("is no relay that has /status", process.communicate(timeout=TIMEOUT)[1])
                self.assertEqual(process.returncode, 1)

    def test_broken_configuration(self) -> None:
        for command in ("status", "top"):
            status, _, errors = self.run_command(command, "-c", "nowhere.yaml")
            self.assertEqual((status, errors), (2, "nowhere.yaml: cannot be read: No such file or directory\n"))

    def test_top(self) -> None:
        """As much as the terminal holds, again and again, until Ctrl-C."""
        self.run_relay(self.settings)
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        environ = {**os.environ, "COLUMNS": "40", "LINES": "10"}
        with running([self.program, "top", "-c", self.config], stdout=theirs, env=environ) as process:
            os.close(theirs)
            shown = b""
            while shown.count(b"\x1b[H\x1b[2J") < 3:
                shown += os.read(ours, 4096)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(TIMEOUT), 0)
        screen = shown.split(b"\x1b[H\x1b[2J")[1].decode().splitlines()
        self.assertRegex(screen[0], r"^fipsrelay \S+, ready, up ")
        self.assertEqual(len(screen), 9)
        self.assertLessEqual(max(map(len, screen)), 40)

    def test_run(self) -> None:
        """The same as ``twistd -n``: it relays, and SIGTERM ends it in order."""
        command = [self.program, "run", "-c", self.config]
        with running(command, stdout=subprocess.PIPE, text=True, cwd=self.folder) as process:
            assert process.stdout is not None
            self.assertTrue(any("fipsrelay is ready" in line for line in process.stdout))
            agent, _ = self.answered(self.peer)
            agent.close()
            process.terminate()
            process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, 0)

    def test_version(self) -> None:
        self.assertEqual(self.run_command("version"), (0, f"fipsrelay {__version__}\n", ""))
