"""What a running relay cannot take on."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.changes import fixed
from fipsrelay.config.load import load_text
from fipsrelay.config.model import Config

BASE = "preset: datadog\n"


class FixedTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Whatever a section of the model is, it is decided here what becomes of it."""
        before = load_text(BASE, "f.yaml")
        decided = set()
        for text, wanted in (
            ("site: example.com\n", ()),
            ("fips: {unlisted_module: warn}\n", ("fips",)),
            ("listen: {port_range_start: 9900}\n", ("listen",)),
            ("log: {level: debug}\n", ("log",)),
            ("resolver: {refresh: 60}\n", ("resolver",)),
            ("limits: {connections: 5}\n", ("limits.connections",)),
            ("limits: {head_size: 2048}\n", ()),
            ("tls: {minimum_version: 1.3}\n", ()),
            ("probes: {fall: 9}\n", ()),
            ("timeouts: {connect: 9}\n", ()),
            ("egress: {proxy: 'http://192.0.2.1:3128'}\n", ()),
            ("upstreams: {datadog-api: {port: 8443}}\n", ()),
            ("intakes: {compliance_frontend: null}\n", ()),
        ):
            after = load_text(BASE + text, "f.yaml")
            self.assertEqual(fixed(before, after), wanted, text)
            section = text.partition(":")[0]
            self.assertNotEqual(getattr(after, section), getattr(before, section), text)
            decided.add(section)
        self.assertEqual({field.name for field in attrs.fields(Config)}, decided)
