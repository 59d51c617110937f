"""The log of the real program in every format, with keys in every place where an Agent puts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import threading
from typing import Any

from fipsrelay.demo.peer import RelayProcess
from tests.folders import short_folder
from tests.scenarios.daemons import daemon
from tests.scenarios.stage import EMPTY, TIMEOUT, Stage, read_head
from tests.test_logs import read_journal

KEY = "0123456789abcdef0123456789abcdef"
HEADS = (
    f"POST /api/v2/series?api_key={KEY} HTTP/1.1\r\nHost: h\r\n",
    f"POST /v1/input/{KEY} HTTP/1.1\r\nHost: h\r\n",
    f"POST /v1/input/pub{KEY}?ddsource=x HTTP/1.1\r\nHost: h\r\n",
    f"POST /x HTTP/1.1\r\nHost: h\r\nDD-API-KEY: {KEY}\r\n",
    f"POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\nX-Api-Key: {KEY}\r\nCookie: {KEY}\r\n",
    f"GET /api/v1/validate?application_key={KEY}{KEY[:8]} HTTP/1.1\r\nHost: {KEY}.example\r\n",
)
BROKEN = (
    f"POST /{KEY} HTTP/9.9\r\nDD-API-KEY: {KEY}\r\n\r\n",
    f"POST /x HTTP/1.1\r\nHost: h\r\nDD-API-KEY {KEY}\r\n\r\n",
    f"{KEY} /x HTTP/1.1\r\nHost: h\r\nContent-Length: {KEY}\r\n\r\n",
    f"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}{KEY}\r\n",
)


class LogTests(Stage):
    """Requests that succeed, that are refused, and that find no upstream."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_peer(self.answer)

    def answer(self, connection: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):  # the relay resets a request that is broken in its body
            while read_head(connection):
                connection.recv(len(KEY))
                connection.sendall(EMPTY)

    def settings(self, **log: str) -> dict[str, Any]:
        """The intake ``web`` works, ``dead`` leads to a port where nobody listens."""
        [nobody, port] = self.free_ports(2)
        document = self.document(self.peer.port, log=log)
        self.dead_port = port
        document["upstreams"]["dead"] = {**document["upstreams"]["peer"], "port": nobody}
        document["intakes"]["dead"] = {"port": port, "upstream": "dead"}
        return document

    def talk(self) -> None:
        """With keys everywhere."""
        agent, other = self.connect(self.http_port), self.connect(self.dead_port)
        for head in HEADS:
            agent.sendall(f"{head}Content-Length: {len(KEY)}\r\n\r\n{KEY}".encode())
            self.assertEqual(read_head(agent), EMPTY)
        other.sendall(HEADS[0].encode() + b"\r\n")
        self.assertNotIn(KEY.encode(), self.read_refusal(other))
        for message in BROKEN:
            agent = self.connect(self.http_port)
            agent.sendall(message.encode())
            self.assertNotIn(KEY.encode(), self.read_refusal(agent))
            agent.close()  # or the relay would wait for what is still to come

    def read_refusal(self, agent: socket.socket) -> bytes:
        head = read_head(agent)
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None, head
        return head + agent.recv(int(length[1]), socket.MSG_WAITALL)

    def run_and_stop(self, document: dict[str, Any]) -> str:
        """All of the relay's output, once it has been talked to."""
        relay = RelayProcess(self.write_config(document))
        self.addCleanup(relay.stop)
        self.wait_until(self.is_up, "the statistics page")
        self.talk()
        relay.terminate()
        self.assertEqual(relay.wait(), 0, relay.output)
        self.assertNotIn(KEY, relay.output)
        return relay.output

    def is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.page_port)) == 0

    def test_text(self) -> None:
        """One line for each request, as far as there is nothing to hide in it."""
        output = self.run_and_stop(self.settings(level="debug"))
        self.assertRegex(output, r"(?m)^20\S+ \[fipsrelay\.\S+#debug\] web: POST /api/v2/series 200 in [\d.]+ ms$")
        self.assertRegex(output, r"web: POST /v1/input/\*\*\* 200 in")
        self.assertRegex(output, r"web: POST /v1/input/pub\*\*\* 200 in")
        self.assertRegex(output, r"dead: POST /api/v2/series 503 in")
        self.assertRegex(output, r"#warn\] dead: upstream dead \(.*\) failed at connect")

    def test_levels(self) -> None:
        """Only what is at least so bad; requests by themselves are for debug only."""
        for level, present, absent in (
            ("info", ("fipsrelay is ready", "bad-head", "failed at connect"), ("#debug", "/api/v2/series")),
            ("warn", ("failed at connect",), ("fipsrelay is ready", "#info", "#debug")),
            ("critical", (), ("failed at connect", "#")),
        ):
            output = self.run_and_stop(self.settings(level=level))
            for words in present:
                self.assertIn(words, output, level)
            for words in absent:
                self.assertNotIn(words, output, level)

    def test_json(self) -> None:
        """Every line is an object with the same first names, and the fields of what it says."""
        output = self.run_and_stop(self.settings(level="debug", format="json"))
        found = [json.loads(line) for line in output.splitlines()]
        for each in found:
            self.assertLessEqual({"time", "level", "logger", "message"}, set(each))
        [series] = [each for each in found if each.get("path") == "/api/v2/series" and each["intake"] == "web"]
        self.assertEqual((series["method"], series["status"], series["level"]), ("POST", 200, "debug"))
        failures = [each for each in found if each.get("code") == "connect-refused"]
        self.assertEqual([(each["intake"], each["level"]) for each in failures], [("dead", "warn")])

    def datagrams(self, log: str) -> list[bytes]:
        """What is sent to the socket of this format; the kernel's queue is short, so that somebody has to read."""
        found: list[bytes] = []
        path = str(short_folder(self.addCleanup) / "log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(path)
            reader = threading.Thread(target=lambda: found.extend(iter(lambda: listener.recv(1 << 20), b"end")))
            reader.start()
            try:
                settings = self.settings(level="debug", format=log, socket=path)
                self.assertEqual(self.run_and_stop(settings), "")
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                    last.sendto(b"end", path)
                reader.join(TIMEOUT)
        return found

    def test_journald(self) -> None:
        found = [read_journal(data) for data in self.datagrams("journald")]
        text = json.dumps(found)
        self.assertNotIn(KEY, text)
        ready = [each for each in found if each["MESSAGE"].startswith("fipsrelay is ready")]
        self.assertEqual([(each["PRIORITY"], each["SYSLOG_IDENTIFIER"]) for each in ready], [("6", "fipsrelay")])
        [failure] = [each for each in found if each.get("FIPSRELAY_CODE") == "connect-refused"]
        self.assertEqual((failure["PRIORITY"], failure["FIPSRELAY_INTAKE"]), ("4", "dead"))
        self.assertIn('"FIPSRELAY_PATH": "/v1/input/***"', text)

    def test_syslog(self) -> None:
        found = [data.decode() for data in self.datagrams("syslog")]
        self.assertNotIn(KEY, "".join(found))
        for each in found:
            self.assertRegex(each, r"^<\d+>1 20\d\d-\d\d-\d\dT\S+\+00:00 \S+ fipsrelay \d+ - - \S")
        self.assertTrue(any(each.startswith("<30>") and "fipsrelay is ready" in each for each in found))
        self.assertTrue(any(each.startswith("<28>") and "failed at connect" in each for each in found))

    def test_daemon_with_a_file(self) -> None:
        """The format holds for twistd's own log file too, through a rotation by SIGUSR1."""
        config = self.write_config(self.settings(format="json"))
        log = self.folder / "relay.log"
        with daemon(self.folder, str(config)) as pid:
            self.wait_until(lambda: log.exists() and "fipsrelay is ready" in log.read_text(), "the start")
            os.kill(pid, signal.SIGUSR1)
            self.wait_until(lambda: (self.folder / "relay.log.1").exists(), "the rotation")
            self.talk()
        for path in (log, self.folder / "relay.log.1"):
            text = path.read_text()
            self.assertNotIn(KEY, text)
            for line in text.splitlines():
                self.assertIn("message", json.loads(line))
        self.assertIn("connect-refused", log.read_text())
