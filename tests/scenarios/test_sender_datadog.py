"""Datadog's libraries for Python that speak to its API, without an Agent."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from fipsrelay.demo.payloads import FAKE_KEY
from tests.scenarios.recorder import Message, Recorder
from tests.scenarios.senders import UNAVAILABLE, SenderStage, blocks, fields, messages, replaced

TITLE = "Datadog's own libraries"
DATADOG = """
print(api.Metric.send(metric="shop.orders", points=[(1764237600, 7)], type="count", tags=["country:pt"]))
print(api.Event.create(title="paid ✓", text="order 7", tags=["shop"]))
"""
REFUSED = """
try:
    api.Metric.send(metric="shop.orders", points=[(1764237600, 7)])
except Exception as error:
    print(type(error).__name__)
"""
CLIENT = """
from datadog_api_client import ApiClient
from datadog_api_client.v1.api.authentication_api import AuthenticationApi
from datadog_api_client.v2.api.logs_api import LogsApi
from datadog_api_client.v2.api.metrics_api import MetricsApi
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.http_log_item import HTTPLogItem
from datadog_api_client.v2.model.metric_payload import MetricPayload
from datadog_api_client.v2.model.metric_point import MetricPoint
from datadog_api_client.v2.model.metric_series import MetricSeries

with ApiClient(api) as client:
    AuthenticationApi(client).validate()
    series = MetricSeries(metric="shop.orders", points=[MetricPoint(timestamp=1764237600, value=7.0)])
    MetricsApi(client).submit_metrics(MetricPayload(series=[series]))
with ApiClient(logs) as client:
    LogsApi(client).submit_log(HTTPLog([HTTPLogItem(message="paid ✓", service="shop")]))
"""
DECODE: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}


class DatadogTests(SenderStage):
    def program(self, title: str, **ports: int) -> str:
        """The block of a library, for this relay's ports."""
        (block,) = blocks(title, "python")
        return replaced(block, {port[1:]: number for port, number in ports.items()})

    def start(self, *answers: bytes) -> tuple[Recorder, int]:
        """An intake, its port, and the relay before it."""
        recorder, port = self.start_recorder(TITLE, answers)
        self.start_by_page(TITLE, port, {})
        return recorder, port

    def assert_arrived(self, message: Message, first: str, host: str) -> Any:
        """Its line, for which host, and the key; its payload is returned."""
        found = fields(message)
        self.assertEqual(message.first.decode(), f"{first} HTTP/1.1")
        self.assertEqual((found["host"], found["dd-api-key"]), (host, FAKE_KEY))
        return json.loads(DECODE[found.get("content-encoding", "")](message.body) or b"null")

    def test_datadog(self) -> None:
        recorder, port = self.start()
        self.run_sender(self.program("datadog", _9823=self.first + 20) + DATADOG)
        metric, event = messages(recorder)
        host = f"api.ddog-gov.com:{port}"
        (series,) = self.assert_arrived(metric, "POST /api/v1/series", host)["series"]
        self.assertEqual((series["metric"], series["points"]), ("shop.orders", [[1764237600, 7.0]]))
        self.assertEqual((series["host"], series["type"], series["tags"]), ("web1", "count", ["country:pt"]))
        payload = self.assert_arrived(event, "POST /api/v1/events", host)
        self.assertEqual((payload["title"], payload["text"], payload["host"]), ("paid ✓", "order 7", "web1"))

    def test_datadog_unavailable(self) -> None:
        """It tells its caller, and does not try again."""
        recorder, _ = self.start(UNAVAILABLE)
        said = self.run_sender(self.program("datadog", _9823=self.first + 20) + REFUSED)
        self.assertEqual((said, len(messages(recorder))), ("HTTPError\n", 1))

    def test_client(self) -> None:
        recorder, port = self.start()
        ports = {"_9823": self.first + 20, "_9824": self.first + 21}
        self.run_sender(self.program("datadog-api-client", **ports) + CLIENT)
        validate, metric, log = messages(recorder)
        api = f"api.ddog-gov.com:{port}"
        self.assert_arrived(validate, "GET /api/v1/validate", api)
        (series,) = self.assert_arrived(metric, "POST /api/v2/series", api)["series"]
        self.assertEqual(series, {"metric": "shop.orders", "points": [{"timestamp": 1764237600, "value": 7.0}]})
        payload = self.assert_arrived(log, "POST /api/v2/logs", f"http-intake.logs.ddog-gov.com:{port}")
        self.assertEqual(payload, [{"message": "paid ✓", "service": "shop"}])

    def test_client_unavailable(self) -> None:
        """It tries again, with the same."""
        recorder, _ = self.start(UNAVAILABLE)
        ports = {"_9823": self.first + 20, "_9824": self.first + 21}
        self.run_sender(self.program("datadog-api-client", **ports) + CLIENT)
        firsts = [message.first for message in messages(recorder)]
        self.assertEqual(firsts[:2], [b"GET /api/v1/validate HTTP/1.1"] * 2)
        self.assertEqual(len(firsts), 4)
