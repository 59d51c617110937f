"""Other senders than the Agent, set up by the very blocks of ``docs/senders.md``.

What a block says about ports and files is replaced by what a test has, value by value; the rest stays. Senders run as
children: some patch what they find, and all of them would load OpenSSL their own way.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from docs.site.pages import DOCS, read
from fipsrelay.config.load import load_text
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.recorder import Message, Recorder, Recording, careless_requests
from tests.scenarios.stage import TIMEOUT, Stage, free_range

PAGE = DOCS / "senders.md"
#: The relay's own ports in the page, of which the first is that of the statistics page.
FIRST_PORT = 9803
PORTS = 22


def blocks(title: str, language: str) -> list[str]:
    """The blocks of a language right under a heading of the page.

    Raises:
        LookupError: there is none.
    """
    found = [block.text for block in read(PAGE).blocks if (block.section, block.language) == (title, language)]
    if not found:
        raise LookupError(f"no block of {language} under '{title}'")
    return found


def replaced(text: str, table: Mapping[str, object]) -> str:
    """A block with a test's values.

    Args:
        text: of the block.
        table: what stands there, and what is to stand there.

    Raises:
        LookupError: something does not stand there.
    """
    for documented in table:
        if documented not in text:
            raise LookupError(f"'{documented}' does not stand in:\n{text}")
    if not table:
        return text
    # All at once, so that a port that has been put in is not taken for a documented one.
    pattern = "|".join(map(re.escape, sorted(table, key=len, reverse=True)))
    return re.sub(pattern, lambda match: str(table[match[0]]), text)


class SenderStage(Stage):
    """The relay by a block of the page, and what its upstreams got.

    Attributes:
        intake_paths: certificate for the hosts of the relay's configuration.
        first: the port that stands for ``FIRST_PORT``, with its followers.
    """

    def start_by_page(self, title: str, upstream_port: int, table: Mapping[str, object]) -> RelayProcess:
        """The real program on the first block of YAML under a heading, with all upstreams at a port of this machine."""
        text = replaced(blocks(title, "yaml")[0], table)
        document: dict[str, Any] = yaml.safe_load(text)
        document["fips"] = self.fips()
        document["tls"] = {"trust": str(self.paths.authority)}
        document["listen"] = {"port_range_start": self.first}
        upstreams = document.setdefault("upstreams", {})
        for name in load_text(text, title).upstreams:
            upstreams.setdefault(name, {}).update(addresses=["127.0.0.1"], port=upstream_port)
        return self.run_relay(document)

    def setUp(self) -> None:
        super().setUp()
        self.first = free_range(PORTS)

    def certify(self, title: str) -> None:
        """Make ``intake_paths``."""
        hosts = {upstream.host for upstream in load_text(blocks(title, "yaml")[0], title).upstreams.values()}
        self.intake_paths = certificates.write(self.folder, sorted(hosts), stem="intake")

    def start_recorder(self, title: str, answers: Sequence[bytes] = ()) -> tuple[Recorder, int]:
        """An intake for the hosts under a heading, and its port.

        Args:
            title: the heading.
            answers: to the first requests; later ones are answered 202 with an empty object.
        """
        left = list(answers)

        def reply(sock: Any, recording: Recording, place: int) -> None:
            sock.sendall(left.pop(0) if left else ACCEPTED)

        self.certify(title)
        recorder = Recorder(reply)
        return recorder, self.start_peer(recorder.serve, self.server_context(self.intake_paths)).port

    def run_sender(self, program: str, environ: Mapping[str, object] | None = None) -> str:
        """Run Python on a block up to its end; its exit status has to be 0. What it printed is returned."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=self.environ(environ or {}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout + done.stderr

    def environ(self, more: Mapping[str, object]) -> dict[str, str]:
        """Nothing but what is given: a proxy that is set here would be asked for the way to the relay."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "TMPDIR": str(self.folder), **{k: str(v) for k, v in more.items()}}

    def start_program(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """A program that ends with the test, by its process id."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=self.environ({}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the terminal belongs to the suite
            )
        self.addCleanup(end, process)
        return process


ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; SIGKILL for one that takes too long."""
    process.terminate()
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def messages(recorder: Recorder) -> list[Message]:
    """All requests that a recorder has got, connection by connection."""
    return [message for recording in recorder.recordings for message in careless_requests(bytes(recording.raw))[0]]


def fields(message: Message) -> dict[str, str]:
    """A request's fields by their names in small letters."""
    lines = message.head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def environment(text: str) -> dict[str, str]:
    """What a block of assignments, one a line, puts into the environment."""
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def of_json(message: Message) -> Any:
    """A body that is JSON and not compressed."""
    return json.loads(message.body)
