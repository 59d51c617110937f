"""Page, text, JSON, CSV and metrics of the real program say the same, and what the client itself has counted."""

from __future__ import annotations

import csv
import json
import ssl
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from tests.scenarios.neighbours import Neighbour
from tests.scenarios.stage import Stage, read_exactly, read_head
from tests.test_status import SCHEMA

REQUESTS, CLIENTS = 10_000, 4
STATUSES = (200, 202, 404, 429, 500)
BODY = b"x" * 100


class SurfaceTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        peer = self.start_peer(self.answer)
        self.relay = self.start_relay(peer.port, probes={"enabled": True})

    def answer(self, connection: ssl.SSLSocket) -> None:
        """With the status that is the path."""
        while head := read_head(connection):
            read_exactly(connection, len(BODY))
            connection.sendall(b"HTTP/1.1 %b .\r\nContent-Length: 2\r\n\r\nok" % head.split()[1][1:])

    def ask(self, client: int) -> Counter[str]:
        """One client's share: statuses that it has seen, and bytes that it has sent and received."""
        counted: Counter[str] = Counter()
        agent = self.connect(self.http_port)
        for number in range(client, REQUESTS, CLIENTS):
            message = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" % STATUSES[number % 5] + BODY
            agent.sendall(message)
            head = read_head(agent)
            body = read_exactly(agent, 2)
            counted.update({head.split()[1].decode(): 1, "sent": len(message), "received": len(head + body)})
        agent.close()
        return counted

    def get(self, path: str, accept: str = "*/*") -> str:
        connection = self.agent(self.page_port)
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        text = answer.read().decode()
        self.assertEqual(answer.status, 200, text)
        return text

    def test_they_agree(self) -> None:
        counted: Counter[str] = Counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for each in clients.map(self.ask, range(CLIENTS)):
                counted += each
        answers = {str(status): counted[str(status)] for status in STATUSES}
        self.assertEqual(answers, {str(status): REQUESTS // 5 for status in STATUSES})

        def status() -> dict[str, object]:
            return json.loads(self.get("/status"))["intakes"][0]  # type: ignore[no-any-return]

        self.wait_until(lambda: status()["open_connections"] == 0, "the end of the connections")
        document = json.loads(self.get("/status"))
        Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(document)
        web = document["intakes"][0]
        self.assertEqual(web["answers"], answers)
        self.assertEqual((web["connections"], web["errors"], web["retries"]), (CLIENTS, {}, {}))
        self.assertEqual((web["bytes_in"], web["bytes_out"]), (counted["sent"], counted["received"]))
        self.assertEqual(web["latency"]["count"], REQUESTS)

        rows = csv.DictReader(self.get("/;csv")[2:].splitlines())
        [row] = [row for row in rows if (row["pxname"], row["svname"]) == ("web", "FRONTEND")]
        hundreds = {name: int(row[f"hrsp_{name}"]) for name in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")}
        fifth = REQUESTS // 5
        self.assertEqual(hundreds, {"1xx": 0, "2xx": 2 * fifth, "3xx": 0, "4xx": 2 * fifth, "5xx": fifth, "other": 0})
        found = [int(row[name]) for name in ("stot", "scur", "req_tot", "bin", "bout")]
        self.assertEqual(found, [CLIENTS, 0, REQUESTS, counted["sent"], counted["received"]])

        metrics = {
            (sample.name, sample.labels.get("code")): sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
            if sample.labels.get("intake") == "web" and "le" not in sample.labels
        }
        for name, code, value in (
            *(("fipsrelay_requests_total", code, count) for code, count in answers.items()),
            ("fipsrelay_connections_accepted_total", None, CLIENTS),
            ("fipsrelay_connections", None, 0),
            ("fipsrelay_received_bytes_total", None, counted["sent"]),
            ("fipsrelay_sent_bytes_total", None, counted["received"]),
            ("fipsrelay_request_duration_seconds_count", None, REQUESTS),
        ):
            self.assertEqual(metrics[name, code], value, name)

        words = " ".join(f"{status}:{count}" for status, count in answers.items())
        self.assertRegex(self.get("/"), rf"\nweb +0 +{CLIENTS} +{counted['sent']} +{counted['received']} .* {words} ")
        page = self.get("/", "text/html").replace("</span>", "")
        for code, count in answers.items():
            self.assertIn(f"{code}: {count} ", page)

    def test_curl(self) -> None:
        """Which sends no Accept but ``*/*``, and reads plain text."""
        command = ["curl", "--silent", "--show-error", "--fail", f"http://localhost:{self.page_port}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"^fipsrelay \S+, ready, up ")

    def test_columns_of_haproxy(self) -> None:
        """Ours are the first of HAProxy's, by the same names and in the same order."""
        [port] = self.free_ports(1)
        text = f"listen stats\n  mode http\n  bind 127.0.0.1:{port}\n  stats enable\n  stats uri /\n"
        times = "defaults\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        command = ("haproxy", "-db", "-f", "haproxy.cfg")
        neighbour = Neighbour(self.folder / "haproxy", command, {"haproxy.cfg": times + text}, [port])
        self.addCleanup(neighbour.stop)
        connection = self.agent(port)
        connection.request("GET", "/;csv")
        theirs = connection.getresponse().read().decode().splitlines()[0]
        ours = self.get("/;csv").splitlines()[0]
        self.assertEqual(theirs[: len(ours)], ours)
