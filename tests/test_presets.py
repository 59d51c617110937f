"""Tests of the presets: they agree with what the demo sends and serves."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import config as config_wing
from fipsrelay.config.load import load_text
from fipsrelay.demo.intake import SERVED, answer
from fipsrelay.demo.payloads import payloads
from fipsrelay.relay.routes import Routes


class DatadogTests(SynchronousTestCase):
    """``presets/datadog.yaml``."""

    config = load_text("preset: datadog\n", "f.yaml")

    def test_ports(self) -> None:
        offsets = sorted(intake.port - 9803 for intake in self.config.intakes.values())
        self.assertEqual(offsets, [*range(1, 11), *range(12, 16)])

    def test_every_payload_finds_its_upstream(self) -> None:
        intakes = {intake.port - 9803: intake for intake in self.config.intakes.values()}
        for payload in payloads():
            name = Routes(intakes[payload.intake_offset]).choose(payload.path.encode())
            self.assertEqual(self.config.upstreams[name].host, payload.expected_host, payload.path)

    def test_every_route_goes_to_an_upstream_that_serves_it(self) -> None:
        for intake in self.config.intakes.values():
            for route in intake.routes:
                host = self.config.upstreams[route.upstream].host
                self.assertNotEqual(answer(host, "POST", route.path_prefix, self.config.site)[0], 404, route)

    def test_every_upstream_is_used_and_served(self) -> None:
        used = {intake.upstream for intake in self.config.intakes.values()}
        used |= {route.upstream for intake in self.config.intakes.values() for route in intake.routes}
        self.assertEqual(used, set(self.config.upstreams))
        prefixes = {upstream.host.removesuffix(self.config.site) for upstream in self.config.upstreams.values()}
        # Database samples go where metrics go; the intake of older Agents is only served.
        self.assertEqual(prefixes, set(SERVED) - {"dbquery-intake."})

    def test_only_http_on_port_443(self) -> None:
        self.assertEqual({intake.protocol for intake in self.config.intakes.values()}, {"http"})
        self.assertEqual(
            {(each.port, each.addresses, each.outside_site) for each in self.config.upstreams.values()},
            {(443, (), False)},
        )

    def test_no_payload_is_sent_twice(self) -> None:
        self.assertFalse(any(each.retries.replay for each in self.config.upstreams.values()))

    def test_the_loader_does_not_know_it(self) -> None:
        folder = Path(config_wing.__file__).parent
        for file in folder.glob("*.py"):
            self.assertNotIn("datadog", file.read_text().lower(), file.name)
