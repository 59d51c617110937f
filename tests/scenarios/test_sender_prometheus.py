"""Prometheus that scrapes, and writes to another one by remote write."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
from typing import Any
from urllib.parse import quote

from tests.scenarios.senders import UNAVAILABLE, SenderStage, blocks, fields, messages, replaced
from tests.scenarios.stage import TIMEOUT, read_head

PROGRAM = "/usr/bin/prometheus"
TITLE = "Prometheus remote write"
SCRAPED = b'# TYPE orders counter\norders{country="pt"} 7\n'
QUERY = 'orders{country="pt"}'


def scraped(connection: socket.socket) -> None:
    """What a target answers."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
    if read_head(connection):
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(SCRAPED) + SCRAPED)


class PrometheusTests(SenderStage):
    def start_prometheus(self, stem: str, configuration: str, port: int, *options: str) -> subprocess.Popen[bytes]:
        """One that ends with the test, with all that it keeps in the test's folder."""
        path = self.folder / f"{stem}.yml"
        path.write_text(configuration)
        words = [f"--config.file={path}", f"--storage.tsdb.path={self.folder / stem}"]
        return self.start_program(
            [PROGRAM, *words, f"--web.listen-address=127.0.0.1:{port}", *options], self.folder / f"{stem}.log"
        )

    def start_sender(self, upstream_port: int) -> None:
        """The relay, a target, and what scrapes it."""
        intake, port = self.free_ports(2)
        self.start_by_page(TITLE, upstream_port, {"9201": intake})
        target = self.start_plain_peer(scraped).port
        text = replaced(blocks(TITLE, "yaml")[1], {"9201": intake, "localhost:9100": f"127.0.0.1:{target}"})
        self.start_prometheus("sender", text, port)

    def query(self, port: int, process: subprocess.Popen[bytes]) -> Any:
        """What the receiver knows; empty while it does not answer yet."""
        self.assertIsNone(process.poll(), (self.folder / "receiver.log").read_text())
        context = ssl.create_default_context(cafile=str(self.intake_paths.authority))
        context.check_hostname = False  # the certificate is for the page's name
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
        with contextlib.closing(connection), contextlib.suppress(ConnectionRefusedError):
            connection.request("GET", f"/api/v1/query?query={quote(QUERY)}")
            answer = connection.getresponse()
            if answer.status == 200:
                return json.load(answer)["data"]["result"]
        return []

    def test_sample(self) -> None:
        """What was scraped on one side is known on the other."""
        self.certify(TITLE)
        (port,) = self.free_ports(1)
        web = self.folder / "web.yml"
        files = {"cert_file": str(self.intake_paths.certificate), "key_file": str(self.intake_paths.key)}
        web.write_text(json.dumps({"tls_server_config": files}))
        options = ("--web.enable-remote-write-receiver", f"--web.config.file={web}")
        receiver = self.start_prometheus("receiver", "{}\n", port, *options)
        self.start_sender(port)
        self.wait_until(lambda: self.query(port, receiver), "the sample")
        (found,) = self.query(port, receiver)
        self.assertEqual((found["metric"]["job"], found["metric"]["country"]), ("shop", "pt"))
        self.assertEqual((found["metric"]["__name__"], found["value"][1]), ("orders", "7"))

    def test_unavailable(self) -> None:
        """A batch that was answered 503 comes again, and is the same."""
        recorder, port = self.start_recorder(TITLE, [UNAVAILABLE])
        self.start_sender(port)
        self.wait_until(lambda: len(messages(recorder)) > 1, "the second attempt")
        first, second = messages(recorder)[:2]
        self.assertEqual(first, second)
        self.assertEqual(first.first, b"POST /api/v1/write HTTP/1.1")
        wanted = {"host": f"prometheus.example.com:{port}", "content-encoding": "snappy"}
        self.assertLessEqual({*wanted.items()}, {*fields(first).items()})
