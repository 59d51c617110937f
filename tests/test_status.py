"""The document that all surfaces are made of."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.history import INTERVAL
from tests.documents import Relay

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "status.schema.json").read_text())


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.relay = Relay()

    def test_schema(self) -> None:
        Draft202012Validator.check_schema(SCHEMA)
        validator = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for state, lost in (("starting", None), ("ready", None), ("draining", None), ("lost", "FIPS check x failed")):
            validator.validate(json.loads(json.dumps(self.relay.document(state, lost))))

    def test_latency(self) -> None:
        [metrics, *_] = self.relay.document()["intakes"]
        latency = metrics["latency"]
        self.assertEqual((latency["count"], latency["seconds"]), (5, 3.0069))
        self.assertEqual(dict(map(tuple, latency["buckets"]))[0.001], 1)
        self.assertEqual(dict(map(tuple, latency["buckets"]))[0.0025], 4)
        self.assertEqual(dict(map(tuple, latency["buckets"]))[2.5], 4)
        self.assertEqual(dict(map(tuple, latency["buckets"]))[5.0], 5)

    def test_rates(self) -> None:
        """Of the last interval that is over."""
        counters = self.relay.counters.intakes["metrics"]
        history = self.relay.histories["metrics"]
        history.sample()
        counters.requests[202] += 30
        counters.bytes_in += 500
        [metrics, *_] = self.relay.document()["intakes"]
        self.assertEqual(metrics["rates"], {"requests": 0.5, "errors": 1.3, "bytes": 1302.3})
        history.sample()
        [metrics, *_] = self.relay.document()["intakes"]
        self.assertEqual(metrics["rates"], {"requests": 3.0, "errors": 0.0, "bytes": 50.0})
        wanted = {"interval": INTERVAL, "requests": [5, 30], "errors": [13, 0], "bytes": [13023, 500]}
        self.assertEqual(metrics["history"], wanted)

    def test_destinations(self) -> None:
        """Upstreams that share their servers are one destination, whose handshakes are counted once."""
        shared, unknown = self.relay.document()["destinations"]
        self.assertEqual((shared["upstreams"], unknown["upstreams"]), (["up", "too"], ["new"]))
        self.assertEqual([server["state"] for server in shared["servers"]], ["DOWN", "UP", "not checked"])
        self.assertEqual([server["heard"] for server in shared["servers"]], [10.0, 5.0, None])
        self.assertEqual(shared["negotiated"], {"version": "TLSv1.3", "suite": "AES", "group": "P-256"})
        self.assertEqual(shared["certificate_expires"], "2027-01-02T03:04:05+00:00")
        self.assertEqual((unknown["negotiated"], unknown["servers"]), (None, []))
