"""Senders other than the Agent: real programs, told what the guide says, and receivers that speak TLS."""

from __future__ import annotations

import gzip
import re
import ssl
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
import zstandard

from docs.site.pages import DOCS, read
from fipsrelay.demo import certificates
from fipsrelay.demo.peer import RelayProcess
from tests.scenarios.recorder import Recorder, Recording
from tests.scenarios.stage import TIMEOUT, Stage, TlsPeer

_INFLATE: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\x28\xb5": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    b"\x78": zlib.decompress,
}
PAGE = "senders.md"


def block(section: str, language: str, place: int = 0) -> str:
    """One block of the guide's page, by its heading, language and place among these."""
    return [each.text for each in read(DOCS / PAGE).blocks if (each.section, each.language) == (section, language)][
        place
    ]


def inflated(body: bytes) -> bytes:
    """A body without whatever compression it has."""
    for magic, inflate in _INFLATE.items():
        if body.startswith(magic):
            return inflate(body)
    return body


class Receiver:
    """A server of HTTP over TLS that answers everything alike, and records it.

    Args:
        answer: what it sends.
        context: of TLS.
    """

    def __init__(self, answer: bytes, context: ssl.SSLContext) -> None:
        self._recorder = Recorder(lambda sock, recording, place: sock.sendall(answer))
        self.peer = TlsPeer(self._recorder.serve, context)

    @property
    def recordings(self) -> Sequence[Recording]:
        """Everything that has been sent to it."""
        return self._recorder.recordings

    def bodies(self, target: str) -> list[bytes]:
        """Bodies of requests for this target, without their compression."""
        found = [request for recording in self.recordings for request in recording.requests]
        return [inflated(body) for _, where, body in found if where.decode().partition("?")[0] == target]


class SenderStage(Stage):
    """A relay as the guide has it, and programs that send through it."""

    def receiver(self, host: str, answer: bytes) -> Receiver:
        """One with a certificate for this host; it ends with the test."""
        made = Receiver(answer, self.server_context(certificates.write(self.folder, [host], stem=host)))
        self.addCleanup(made.peer.stop)
        return made

    def relay_of(self, section: str, upstream_port: int) -> tuple[RelayProcess, dict[str, int]]:
        """The relay with the configuration that stands under a heading, on ports of the test's own.

        Returns:
            The relay, and the port of each intake.
        """
        document: dict[str, Any] = yaml.safe_load(block(section, "yaml"))
        page, *ports = self.free_ports(1 + len(document["intakes"]))
        document |= {
            "listen": {"addresses": ["127.0.0.1"], "port_range_start": page},
            "fips": self.fips(),
            "tls": {"trust": str(self.paths.authority)},
        }
        for upstream in document["upstreams"].values():
            upstream |= {"addresses": ["127.0.0.1"], "port": upstream_port}
        for intake, port in zip(document["intakes"].values(), ports, strict=True):
            intake["port"] = port
        self.page_port = page
        return self.run_relay(document), dict(zip(document["intakes"], ports, strict=True))

    def run_python(self, code: str, ports: Mapping[str, int], **environ: str) -> str:
        """Run a program of the page in a process of its own; it must succeed.

        Args:
            code: its text.
            ports: by each that the page has, the test's own.
            environ: more of its environment.

        Returns:
            What it printed, on both of its outputs.
        """
        done = subprocess.run(
            [sys.executable, "-c", self.moved(code, ports)],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * TIMEOUT,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def moved(self, text: str, ports: Mapping[str, int]) -> str:
        """A text of the page with other ports; each has to be in it."""
        for written, port in ports.items():
            text, count = re.subn(rf"\b(localhost:|port=\"){written}\b", rf"\g<1>{port}", text)
            self.assertGreater(count, 0, f"{written} is not there: {text}")
        return text

    def start(self, *command: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A program that ends with the test; what it says is in a file of its name."""
        log = self.folder / f"{command[0].rpartition('/')[2]}-{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=None if environ is None else dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the terminal belongs to the suite
            )
        self.addCleanup(process.wait, TIMEOUT)
        self.addCleanup(process.terminate)
        return process
