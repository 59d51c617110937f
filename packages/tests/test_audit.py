"""``make audit`` fails on a library with a known vulnerability, and when nobody can be asked."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from packages.wheel import PROJECT

VULNERABLE = "pyyaml"


class Server(http.server.ThreadingHTTPServer):
    """Of advisories.

    Attributes:
        asked: libraries, in order.
        vulnerable: one against which something is known.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Advisories)
        self.asked: list[str] = []
        self.vulnerable = ""


class Advisories(http.server.BaseHTTPRequestHandler):
    """Speaks as much of the OSV interface as is asked for."""

    server: Server

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        self.server.asked.append(wanted)
        found: dict[str, Any] = {"vulns": []}
        if wanted == self.server.vulnerable:
            found["vulns"].append({"id": "TEST-1", "summary": "a hole", "affected": []})
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not to the terminal."""


class AuditTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()

        def stop() -> None:
            self.server.shutdown()
            thread.join()
            self.server.server_close()

        self.addCleanup(stop)

    def audit(self) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.server_port}/v1/query"
        command = ["make", "--no-print-directory", "audit", f"AUDIT=--vulnerability-service osv --osv-url {url}"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_good(self) -> None:
        """Each pinned library is asked for."""
        status, said = self.audit()
        self.assertEqual(status, 0, said)
        pins = (PROJECT / "packages" / "requirements.txt").read_text()
        self.assertEqual(
            sorted(self.server.asked), sorted(line.partition("==")[0] for line in pins.split("\n") if "==" in line)
        )

    def test_vulnerable(self) -> None:
        self.server.vulnerable = VULNERABLE
        status, said = self.audit()
        self.assertNotEqual(status, 0)
        self.assertIn("TEST-1", said)

    def test_nobody_answers(self) -> None:
        """That is not taken for good news."""
        self.server.server_close()
        status, said = self.audit()
        self.assertNotEqual(status, 0, said)
