"""ddtrace, and datadog-serverless-compat in the Agent's place: both as an Azure Function has them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from fipsrelay.demo.payloads import FAKE_KEY
from tests.scenarios.recorder import Message, Recorder
from tests.scenarios.senders import UNAVAILABLE, SenderStage, blocks, environment, fields, messages, replaced
from tests.scenarios.stage import TIMEOUT

TITLE = "Datadog's own libraries"
# What makes it take this machine for an Azure Function.
AZURE = {"FUNCTIONS_EXTENSION_VERSION": "~4", "FUNCTIONS_WORKER_RUNTIME": "python", "WEBSITE_SITE_NAME": "shop"}
# It also wants a file below /home, which this machine has not to be given: it gets a /home of its own, and is run by a
# descriptor, because its own file may lie below the real one.
WRAPPER = """#!/bin/sh
exec unshare --user --map-root-user --mount sh -c '
  exec 9<"$0" && mount -t tmpfs none /home && mkdir -p /home/site/wwwroot &&
  echo "{{}}" >/home/site/wwwroot/host.json && exec /proc/self/fd/9
' {binary}
"""
# Between the start and the first trace a Function waits for its first call.
WAIT = """
import socket, time
for _ in range(1000):
    try:
        socket.create_connection(("127.0.0.1", {port})).close()
        break
    except ConnectionRefusedError:
        time.sleep(0.01)  # nobody tells when a port is opened; where it never is, no trace arrives
"""
TRACED = """
with tracer.trace("checkout", service="shop", resource="/cart") as span:
    span.set_tag("country", "pt")
"""
ENDED = "tracer.shutdown()\n"


class TraceTests(SenderStage):
    def send(self, *answers: bytes) -> tuple[Recorder, int]:
        """One trace, by a program that ends while what it has started goes on."""
        recorder, upstream = self.start_recorder(TITLE, answers)
        self.start_by_page(TITLE, upstream, {})
        (port,) = self.free_ports(1)
        environ = environment(replaced(blocks("ddtrace", "sh")[0], {"9805": self.first + 2, "8126": port}))
        wrapper = self.folder / "wrapper"
        wrapper.write_text(WRAPPER.format(binary=self.binary()))
        environ["DD_SERVERLESS_COMPAT_PATH"] = str(wrapper)
        (block,) = blocks("ddtrace", "python")
        process = subprocess.Popen(
            [sys.executable, "-c", block + WAIT.format(port=port) + TRACED + ENDED],
            env=self.environ({**AZURE, **environ}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its child can be ended by its id, too
        )
        self.addCleanup(end_group, process)
        self.wait_until(lambda: len(traces(recorder)) > len(answers), "the trace")
        return recorder, upstream

    def binary(self) -> Path:
        """The program in the package, which is not executable there."""
        spec = find_spec("datadog_serverless_compat")
        assert spec is not None
        assert spec.origin is not None
        copy = self.folder / "datadog-serverless-compat"
        shutil.copy(Path(spec.origin).with_name("bin") / "linux-amd64" / copy.name, copy)
        copy.chmod(0o700)
        return copy

    def test_trace(self) -> None:
        recorder, port = self.send()
        (message,) = traces(recorder)
        found = fields(message)
        self.assertEqual((found["host"], found["dd-api-key"]), (f"trace.agent.ddog-gov.com:{port}", FAKE_KEY))
        self.assertEqual((found["content-type"], found["datadog-meta-lang"]), ("application/x-protobuf", "python"))
        # datadog/trace/agent_payload.proto: AgentPayload.tracerPayloads.chunks.spans
        (span,) = nested(message.body, 5, 6, 3)
        texts = {number: value.decode() for number, value in parts(span) if number in (1, 2, 3)}
        self.assertEqual(texts, {1: "shop", 2: "checkout", 3: "/cart"})
        tags = [dict(parts(tag)) for tag in nested(span, 10)]
        self.assertIn({1: b"country", 2: b"pt"}, tags)

    def test_unavailable(self) -> None:
        """What was answered 503 comes again, and is the same."""
        recorder, _ = self.send(UNAVAILABLE)
        first, second = traces(recorder)
        self.assertEqual(first.body, second.body)


def traces(recorder: Recorder) -> list[Message]:
    """Requests with traces; statistics come on their own."""
    return [message for message in messages(recorder) if message.first == b"POST /api/v0.2/traces HTTP/1.1"]


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started; its output ends with the last of them."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=TIMEOUT)


def varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of Protobuf, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 128:
            return value, place


def parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message of Protobuf that have a length, by their numbers."""
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        if key & 7 == 2:
            size, place = varint(data, place)
            yield key >> 3, data[place : place + size]
            place += size
        elif key & 7 == 0:
            _, place = varint(data, place)
        else:
            place += {1: 8, 5: 4}[key & 7]


def nested(data: bytes, *numbers: int) -> list[bytes]:
    """All messages at a path of field numbers."""
    found = [data]
    for number in numbers:
        found = [value for message in found for each, value in parts(message) if each == number]
    return found
