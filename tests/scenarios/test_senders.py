"""What the guide's page on other senders says, with the programs themselves."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import sysconfig
from pathlib import Path
from urllib.parse import quote

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fipsrelay.demo import certificates
from tests.folders import short_folder
from tests.scenarios.senders import Receiver, SenderStage, block
from tests.scenarios.stage import TIMEOUT, PresetStage

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
# Datadog's client reads an object.
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + b'{"status":"ok"}'
KEY = b"0123456789abcdef0123456789abcdef"
LINES = 200


class OpenTelemetryTests(SenderStage):
    def test_signals(self) -> None:
        """A span, a metric and a log record, as a program with the SDK sends them."""
        receiver = self.receiver("otlp.example.com", OK)
        _, ports = self.relay_of("OpenTelemetry", receiver.peer.port)
        endpoint = f"http://localhost:{ports['otlp']}"
        self.run_python(block("OpenTelemetry", "python"), {}, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        [body] = receiver.bodies("/v1/traces")
        traces = ExportTraceServiceRequest.FromString(body)
        self.assertEqual(traces.resource_spans[0].scope_spans[0].spans[0].name, "order")
        [body] = receiver.bodies("/v1/metrics")
        metrics = ExportMetricsServiceRequest.FromString(body)
        metric = metrics.resource_metrics[0].scope_metrics[0].metrics[0]
        self.assertEqual((metric.name, metric.sum.data_points[0].as_int), ("orders", 3))
        [body] = receiver.bodies("/v1/logs")
        logs = ExportLogsServiceRequest.FromString(body)
        self.assertEqual(logs.resource_logs[0].scope_logs[0].log_records[0].body.string_value, "out of paper")


class SyslogTests(SenderStage):
    """Debian's rsyslog on both sides."""

    def rsyslog(self, name: str, text: str) -> None:
        """Start one by a whole configuration."""
        file = self.folder / f"{name}.conf"
        file.write_text(text)
        self.start("/usr/sbin/rsyslogd", "-n", "-C", "-f", str(file), "-i", str(self.folder / f"{name}.pid"))

    def test_lines(self) -> None:
        [port] = self.free_ports(1)
        paths = certificates.write(self.folder, ["syslog.example.com"], stem="syslog")
        received, place = self.folder / "received", short_folder(self.addCleanup) / "log"
        self.rsyslog(
            "receiver",
            f"""global(defaultNetstreamDriverCAFile="{paths.authority}"
                       defaultNetstreamDriverCertFile="{paths.certificate}"
                       defaultNetstreamDriverKeyFile="{paths.key}")
            module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
            input(type="imtcp" address="127.0.0.1" port="{port}")
            template(name="message" type="string" string="%msg%\\n")
            action(type="omfile" file="{received}" template="message")
            """,
        )
        _, ports = self.relay_of("syslog", port)
        action = self.moved(block("syslog", "text"), {"5140": ports["syslog"]})
        self.rsyslog(
            "sender", f'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{place}")\n{action}'
        )
        self.wait_until(place.exists, "the sender")
        lines = [f"line {number} — ñ 日本語" for number in range(LINES)]
        for line in lines:
            subprocess.run(["logger", "--socket", str(place), line], check=True, timeout=TIMEOUT)
        self.wait_until(lambda: received.exists() and received.read_text().count("\n") >= LINES, "all lines")
        self.assertEqual([line.strip() for line in received.read_text().splitlines()], lines)


class PrometheusTests(SenderStage):
    """Debian's Prometheus on both sides."""

    def prometheus(self, name: str, configuration: str, port: int, *options: str) -> None:
        file = self.folder / f"{name}.yml"
        file.write_text(configuration)
        storage = ("--web.listen-address", f"127.0.0.1:{port}", "--storage.tsdb.path", str(self.folder / name))
        self.start("/usr/bin/prometheus", "--config.file", str(file), *storage, *options)

    def test_remote_write(self) -> None:
        port, own = self.free_ports(2)
        host = "prometheus.example.com"
        paths = certificates.write(self.folder, [host], stem="prometheus")
        (self.folder / "web.yml").write_text(
            f"tls_server_config: {{cert_file: {paths.certificate}, key_file: {paths.key}}}\n"
        )
        options = ("--web.config.file", str(self.folder / "web.yml"), "--web.enable-remote-write-receiver")
        self.prometheus("receiver", "", port, *options)
        _, ports = self.relay_of("Prometheus remote write", port)
        text = block("Prometheus remote write", "yaml", 1)
        text = self.moved(text, {"9803": self.page_port, "9201": ports["remote-write"]})
        self.prometheus("sender", f"global: {{scrape_interval: 1s}}\n{text}", own)
        context = ssl.create_default_context(cafile=str(paths.authority))
        context.check_hostname = False  # the address is asked, which the certificate does not have

        def written() -> bool:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
            try:
                connection.request("GET", f"/api/v1/query?query={quote('fipsrelay_ready')}")
                result = json.loads(connection.getresponse().read())["data"]["result"]
            except OSError:
                return False  # it is still starting
            finally:
                connection.close()
            return [(each["metric"]["job"], each["value"][1]) for each in result] == [("fipsrelay", "1")]

        self.wait_until(written, "the sample")


class DatadogTests(PresetStage, SenderStage):
    """Datadog's own libraries, with the preset."""

    def setUp(self) -> None:
        super().setUp()
        self.received = Receiver(ACCEPTED, self.server_context(self.intake_paths))
        self.addCleanup(self.received.peer.stop)
        self.start_preset(self.received.peer.port)

    def port(self, written: str) -> dict[str, int]:
        """The test's port for one of the preset."""
        return {written: self.page_port + int(written) - 9803}

    def assert_key(self) -> None:
        """It was in the header of every request that was not a probe's."""
        heads = [bytes(each.raw).lower() for each in self.received.recordings if each.raw]
        self.assertTrue(heads)
        for head in heads:
            self.assertIn(b"dd-api-key: " + KEY, head)

    def test_datadog(self) -> None:
        self.run_python(block("datadog", "python"), self.port("9804"))
        [body] = self.received.bodies("/api/v1/series")
        [series] = json.loads(body)["series"]
        self.assertEqual((series["metric"], series["points"][0][1], series["tags"]), ("shop.orders", 3, ["shop:1"]))
        [body] = self.received.bodies("/api/v1/events")
        self.assertEqual(json.loads(body)["title"], "Stocktaking")
        self.assert_key()

    def test_datadog_api_client(self) -> None:
        self.run_python(block("datadog-api-client", "python"), {**self.port("9804"), **self.port("9808")})
        [body] = self.received.bodies("/api/v2/series")
        [series] = json.loads(body)["series"]
        self.assertEqual((series["metric"], series["points"][0]["value"]), ("shop.orders", 3.0))
        [body] = self.received.bodies("/api/v2/logs")
        self.assertEqual(json.loads(body), [{"message": "out of paper", "service": "shop"}])
        self.assert_key()

    def test_ddtrace(self) -> None:
        """Through the small agent for functions, which is told that it is in one."""
        agent, statistics = self.free_ports(2)
        settings = dict(line.split("=", 1) for line in self.moved(block("ddtrace", "text"), self.port("9805")).split())
        program = self.folder / "agent"
        site = Path(sysconfig.get_path("purelib"), "datadog_serverless_compat", "bin", "linux-amd64")
        shutil.copy(site / "datadog-serverless-compat", program)
        program.chmod(0o755)
        function = {
            "FUNCTIONS_EXTENSION_VERSION": "~4",
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "WEBSITE_SITE_NAME": "shop",
            "WEBSITE_OWNER_NAME": "owner+shop",
            "DD_APM_RECEIVER_PORT": str(agent),
            "DD_DOGSTATSD_PORT": str(statistics),
        }
        # It looks for a function's files, and finds them where only it can see them.
        files = "mount -t tmpfs tmpfs /home; mkdir -p /home/site/wwwroot/f; cd /home/site/wwwroot; echo {} >host.json"
        self.start(
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"),
            f"{files}; echo {{}} >f/function.json; exec {program}",
            environ={"PATH": "/usr/bin:/bin", **function, **settings},
        )
        self.wait_until(lambda: self.is_listening(agent), "the small agent")
        self.run_python(
            block("ddtrace", "python"),
            {},
            DD_TRACE_AGENT_URL=f"http://localhost:{agent}",
            DD_TRACE_API_VERSION="v0.4",
            DD_REMOTE_CONFIGURATION_ENABLED="false",
        )
        self.wait_until(lambda: self.received.bodies("/api/v0.2/traces"), "the trace")
        [body] = self.received.bodies("/api/v0.2/traces")
        for word in (b"web.request", b"shop", b"GET /orders"):
            self.assertIn(word, body)
        self.assert_key()

    def is_listening(self, port: int) -> bool:
        """Whether somebody takes connections at a port."""
        try:
            self.connect(port).close()
        except ConnectionRefusedError:
            return False
        return True
