"""OpenTelemetry's SDK for Python: traces, metrics and logs by OTLP over HTTP."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from typing import Any

from tests.scenarios.recorder import Message
from tests.scenarios.senders import (
    UNAVAILABLE,
    SenderStage,
    blocks,
    environment,
    fields,
    messages,
    replaced,
)
from tests.scenarios.stage import TIMEOUT

TITLE = "OpenTelemetry"
SENT = """
with traces.get_tracer("shop").start_as_current_span("checkout") as span:
    span.set_attribute("items", 3)
print(format(span.get_span_context().trace_id, "032x"))
metrics.get_meter("shop").create_counter("orders").add(7, {"country": "pt"})
logs.get_logger("shop").emit(body="paid ✓", severity_text="INFO")
for provider in (traces, metrics, logs):
    provider.shutdown()
"""
# The messages of Protobuf, as JSON: the classes are not loaded into the suite's own process.
DECODE = """
import sys
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest as logs
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as metrics
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as traces
kinds = {"logs": logs, "metrics": metrics, "traces": traces}
print(MessageToJson(kinds[sys.argv[1]].FromString(sys.stdin.buffer.read())))
"""


class OpenTelemetryTests(SenderStage):
    def send(self, port: int) -> str:
        """Start the relay, and send one of each by it; the trace's id, and what the exporter said."""
        (intake,) = self.free_ports(1)
        self.start_by_page(TITLE, port, {"4318": intake})
        environ = environment(replaced(blocks(TITLE, "sh")[0], {"4318": intake}))
        return self.run_sender("".join(blocks(TITLE, "python")) + SENT, environ)

    def decoded(self, message: Message) -> tuple[str, Any]:
        """The last word of the path, and the first thing in the first scope of the first resource."""
        kind = message.first.split()[1].decode().removeprefix("/v1/")
        done = subprocess.run(
            [sys.executable, "-c", DECODE, kind],
            input=gzip.decompress(message.body),
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
        found = json.loads(done.stdout)
        names = {
            "traces": ("resourceSpans", "scopeSpans", "spans"),
            "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
            "logs": ("resourceLogs", "scopeLogs", "logRecords"),
        }
        for name in names[kind]:
            (found,) = found[name]
        return kind, found

    def test_one_of_each(self) -> None:
        recorder, port = self.start_recorder(TITLE)
        trace = self.send(port).split()[0]
        got = messages(recorder)
        found = dict(self.decoded(message) for message in got)
        self.assertEqual(sorted(found), ["logs", "metrics", "traces"])
        self.assertEqual(len(got), 3)
        for message in got:
            self.assertEqual(message.first.split()[0], b"POST")
            wanted = {"host": f"otlp.example.com:{port}", "api-key": "0123456789", "content-encoding": "gzip"}
            self.assertLessEqual(
                {*wanted.items(), ("content-type", "application/x-protobuf")}, {*fields(message).items()}
            )
        span = found["traces"]
        self.assertEqual(
            (span["name"], span["attributes"]), ("checkout", [{"key": "items", "value": {"intValue": "3"}}])
        )
        self.assertEqual(as_base64(trace), span["traceId"])
        point = found["metrics"]["sum"]["dataPoints"][0]
        self.assertEqual((found["metrics"]["name"], point["asInt"]), ("orders", "7"))
        self.assertEqual(point["attributes"], [{"key": "country", "value": {"stringValue": "pt"}}])
        self.assertEqual((found["logs"]["body"], found["logs"]["severityText"]), ({"stringValue": "paid ✓"}, "INFO"))

    def test_unavailable(self) -> None:
        """A batch that was answered 503 comes again, and is the same."""
        recorder, port = self.start_recorder(TITLE, [UNAVAILABLE])
        self.assertIn("Transient error Service Unavailable encountered while exporting", self.send(port))
        bodies = [gzip.decompress(message.body) for message in messages(recorder)]
        self.assertEqual((len(bodies), len(set(bodies))), (4, 3))


def as_base64(digits: str) -> str:
    """As Protobuf's JSON has bytes."""
    return base64.b64encode(bytes.fromhex(digits)).decode()
