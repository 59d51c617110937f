"""``fipsrelay evidence`` by the real program: of the running relay, and by itself; good, bad and refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from fipsrelay.crypto import module
from tests.scenarios.stage import HOST, TIMEOUT, Stage, read_head

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "evidence.schema.json").read_text())
SECRET = "not-to-be-shown"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class EvidenceTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        Draft202012Validator.check_schema(SCHEMA)
        self.output = self.folder / "evidence"

    def answer(self, connection: Any) -> None:
        with contextlib.suppress(OSError):  # a visit sends nothing, and may end in a reset
            if read_head(connection):
                connection.sendall(OK)

    def run_command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [self.route().python, "-m", "fipsrelay", "evidence", "-c", str(self.folder / "fipsrelay.yaml")]
        return subprocess.run(
            [*command, "-o", str(self.output), *words],
            capture_output=True,
            text=True,
            timeout=3 * TIMEOUT,
            check=False,
        )

    def read(self) -> dict[str, Any]:
        """The report, which is valid, and private."""
        report: dict[str, Any] = json.loads((self.output / "evidence.json").read_text())
        Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(report)
        for path, mode in ((self.output, 0o700), (self.output / "evidence.json", 0o600)):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)
        self.text = (self.output / "evidence.md").read_text()
        self.assertNotIn(SECRET, self.text + (self.output / "evidence.json").read_text())
        return report

    def assert_proven(self, report: Mapping[str, Any], source: str) -> None:
        found = module.find("auto")
        self.assertEqual((report["report"]["source"], report["failure"]), (source, None))
        self.assertEqual(report["module"]["path"], str(found.path))
        self.assertEqual(report["module"]["sha256"], module.digest(found.path))
        self.assertEqual(report["policy"]["suites"], report["offered"]["suites"])
        text = report["configuration"]["text"]
        self.assertEqual(report["configuration"]["sha256"], hashlib.sha256(text.encode()).hexdigest())
        for words in (report["module"]["sha256"], "## Policy", "## Not proven by this report", f"{HOST}:"):
            self.assertIn(words, self.text)

    def test_running(self) -> None:
        """Its figures are those of the traffic there was; again it replaces its files."""
        relay = self.start_relay(self.start_peer(self.answer).port)
        for count in (1, 2):
            agent = self.connect(self.http_port)
            agent.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(read_head(agent)[:15], b"HTTP/1.1 200 OK")
            done = self.run_command()
            self.assertEqual(done.returncode, 0, done.stderr)
            report = self.read()
            self.assert_proven(report, "running")
            self.assertEqual(report["report"]["pid"], relay.pid)
            [upstream] = report["upstreams"]
            self.assertEqual([each["count"] for each in upstream["handshakes"]], [count])
            self.assertEqual((upstream["host"], len(upstream["chain"]), upstream["refused"]), (HOST, 2, {}))
        self.assertEqual(sorted(path.name for path in self.output.iterdir()), ["evidence.json", "evidence.md"])

    def test_running_with_another_configuration(self) -> None:
        self.start_relay(self.start_peer(self.answer).port)
        file = self.folder / "fipsrelay.yaml"
        document = json.loads(file.read_text())
        document["limits"] = {"connections": 7}
        file.write_text(json.dumps(document))
        done = self.run_command()
        self.assertEqual((done.returncode, self.output.exists()), (1, False))
        self.assertIn("the running relay has another configuration", done.stderr)

    def test_something_else_on_the_port(self) -> None:
        json_head = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
        for said, words in (
            (b"HTTP/1.0 404 Not Found\r\n\r\n", "is no relay"),
            (json_head + b"{}", "is no fipsrelay"),
            (json_head + b"[1]", "is no fipsrelay"),
            (json_head + b"{", "gave no report"),
        ):
            self.said = said
            peer = self.start_plain_peer(self.say)
            document = self.document(1)
            document["listen"]["port_range_start"] = peer.port
            self.write_config(document)
            done = self.run_command()
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn(words, done.stderr)

    def say(self, connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(self.said)

    def test_no_place(self) -> None:
        self.write_config(self.document(self.start_peer(self.answer).port))
        self.output.write_text("a file")
        done = self.run_command()
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn(f"{self.output} cannot be written", done.stderr)

    def test_module_that_was_taken_away(self) -> None:
        """The relay goes on with what is mapped, and its report says what can be said."""
        found = module.find("auto")
        place = self.folder / "fips.so"
        shutil.copyfile(found.path, place)
        place.with_name("fipsmodule.cnf").write_text(f"module-mac = {found.mac}\n")
        document = self.document(self.start_peer(self.answer).port)
        document["fips"]["module"] = str(place)
        self.run_relay(document)
        place.unlink()
        done = self.run_command()
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.read()["module"]
        self.assertEqual((report["path"], report["mode"], report["owner_uid"]), (str(place), None, None))

    def test_stand_alone(self) -> None:
        """Each server is visited; what is refused is said, and is no failure of the report."""
        good = self.start_peer(self.answer)
        document = self.document(good.port)
        upstreams = document["upstreams"]
        [name] = upstreams
        upstreams["refused"] = {"host": HOST, "port": self.free_ports(1)[0], "addresses": ["127.0.0.1"]}
        upstreams["other"] = {"host": f"x.{HOST}", "port": good.port, "addresses": ["127.0.0.1"]}
        document["egress"] = {"proxy": f"http://user:{SECRET}@127.0.0.1:9", "no_proxy": ["*"]}
        self.write_config(document)
        done = self.run_command("--stand-alone")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.read()
        self.assert_proven(report, "stand-alone")
        found = {each["name"]: each for each in report["upstreams"]}
        self.assertEqual(found[name]["servers"], [{"address": f"127.0.0.1:{good.port}", "state": "UP", "failure": ""}])
        self.assertEqual([each["count"] for each in found[name]["handshakes"]], [1])
        self.assertEqual(found["refused"]["servers"][0]["state"], "DOWN")
        wrong = f"identity: the certificate is not valid for x.{HOST}"
        self.assertEqual((found["refused"]["refused"], found["other"]["refused"]), ({}, {wrong: 1}))
        self.assertIn(f"not valid for x.{HOST}", found["other"]["servers"][0]["failure"])

    def test_nobody_runs(self) -> None:
        """It does the work by itself then."""
        self.write_config(self.document(self.start_peer(self.answer).port))
        self.assertEqual(self.run_command().returncode, 0)
        self.assertEqual(self.read()["report"]["source"], "stand-alone")

    def test_no_fips(self) -> None:
        document = self.document(1)
        document["fips"] = {"module": str(self.folder / "missing.so")}
        self.write_config(document)
        done = self.run_command()
        self.assertEqual(done.returncode, 3)
        self.assertIn("not proven", done.stderr)
        report = self.read()
        self.assertEqual((report["failure"]["code"], "module" in report), ("module-missing", False))
        self.assertIn("## FAILED", self.text)

    def test_configuration(self) -> None:
        (self.folder / "fipsrelay.yaml").write_text("site: 7\n")
        done = self.run_command()
        self.assertEqual((done.returncode, self.output.exists()), (2, False))
        self.assertIn("fipsrelay.yaml:1: site", done.stderr)
