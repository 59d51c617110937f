"""Tests of ``fipsrelay.config.load``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import DEFAULT_SITE, MAXIMUM_BYTES, load_file, load_text
from fipsrelay.config.model import Config, Retries
from fipsrelay.errors import ConfigError

METRICS = "intakes: {metrics-forwarder: %s}\n"

SECTIONS = ["preset", *(field.name for field in attrs.fields(Config))]
KEYS = ["listen", "addresses", "port", "offset", "protocol", "upstream", "upstreams", "intakes", "routes", "host"]
KEYS += ["proxy", "password_file", "no_proxy", "nameservers", "retries", "replay", "fall"]
WORDS = ["::1", "a.b", "/x", "5s", "{site}", "\x85", "http://a:b@c:1", "[::1]:53", "10.0.0.0/8"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=30,
)


class LayerTests(SynchronousTestCase):
    """The file on the preset."""

    preset = load_text("preset: datadog\n", "f.yaml")

    def problem(self, text: str) -> str:
        """The only thing that is wrong with a text."""
        error = self.assertRaises(ConfigError, load_text, text, "f.yaml")
        [problem] = error.problems
        return str(problem)

    def load(self, text: str) -> Any:
        return load_text("preset: datadog\n" + text, "f.yaml")

    def test_site(self) -> None:
        self.assertEqual(self.preset.site, DEFAULT_SITE)
        config = self.load("site: us2.ddog-gov.com\n")
        self.assertEqual(config.upstreams["datadog-api"].host, "api.us2.ddog-gov.com")

    def test_a_setting_keeps_the_others(self) -> None:
        found = self.load("upstreams: {datadog-api: {port: 8443}}\n").upstreams["datadog-api"]
        self.assertEqual((found.host, found.port), ("api.ddog-gov.com", 8443))

    def test_an_entry_is_added(self) -> None:
        config = self.load("upstreams: {a: {host: a.ddog-gov.com}}\nintakes: {a: {offset: 20, upstream: a}}\n")
        self.assertEqual(len(config.intakes), len(self.preset.intakes) + 1)
        self.assertEqual(config.intakes["a"].port, 9823)

    def test_an_intake_is_taken_away(self) -> None:
        config = self.load("intakes: {network_devices_netflow_frontend: null}\n")
        self.assertEqual(set(self.preset.intakes) - set(config.intakes), {"network_devices_netflow_frontend"})

    def test_an_upstream_is_taken_away(self) -> None:
        text = "upstreams: {datadog-compliance: null}\nintakes: {compliance_frontend: null}\n"
        self.assertEqual(len(self.load(text).upstreams), len(self.preset.upstreams) - 1)
        problem = self.problem("preset: datadog\nupstreams: {datadog-compliance: null}\n")
        self.assertRegex(problem, r"preset datadog:\d+: intakes.compliance_frontend.upstream: unknown upstream")

    def test_nothing_to_take_away(self) -> None:
        problem = self.problem("preset: datadog\nintakes: {netflow: null}\n")
        self.assertIn("f.yaml:2: intakes.netflow: found nothing", problem)

    def test_a_setting_is_taken_away(self) -> None:
        self.assertEqual(self.load(METRICS % "{routes: null}").intakes["metrics-forwarder"].routes, ())
        self.assertIn("missing: upstream", self.problem("preset: datadog\n" + METRICS % "{upstream: null}"))

    def test_a_nested_setting_is_added_and_taken_away(self) -> None:
        found = self.load("upstreams: {datadog-profiles: {retries: {replay: true}}}\n").upstreams["datadog-profiles"]
        self.assertEqual((found.host, found.retries), ("intake.profile.ddog-gov.com", Retries(replay=True)))
        self.assertEqual(self.load("upstreams: {datadog-profiles: {retries: null}}\n"), self.preset)

    def test_routes_are_replaced(self) -> None:
        config = self.load(METRICS % "{routes: [{path_prefix: /x, upstream: datadog-api}]}")
        self.assertEqual([route.path_prefix for route in config.intakes["metrics-forwarder"].routes], ["/x"])

    def test_a_port_replaces_an_offset(self) -> None:
        self.assertEqual(self.load(METRICS % "{port: 12000}").intakes["metrics-forwarder"].port, 12000)

    def test_tcp_needs_the_presets_routes_to_go(self) -> None:
        self.assertIn("f.yaml:2: ", self.problem("preset: datadog\n" + METRICS % "{protocol: tcp}"))
        found = self.load(METRICS % "{protocol: tcp, routes: []}").intakes["metrics-forwarder"]
        self.assertEqual((found.protocol, found.routes), ("tcp", ()))

    def test_empty_sections_are_not_written(self) -> None:
        text = "".join(f"{field.name}:\n" for field in attrs.fields(Config))
        self.assertEqual(self.load(text), self.preset)

    def test_no_preset(self) -> None:
        self.assertIn("intakes: there are none", self.problem("preset: null\n"))
        self.assertIn("intakes: there are none", self.problem(""))

    def test_unknown_preset(self) -> None:
        for name in ("datadgo", "../presets/datadog", "[datadog]"):
            problem = self.problem(f"preset: {name}\nupstreams: {{datadog-api: {{port: 1}}}}\n{METRICS % '{port: 9}'}")
            self.assertIn("f.yaml:1: preset: found", problem)
            self.assertIn("allowed: datadog", problem)

    def test_not_a_mapping(self) -> None:
        self.assertIn("f.yaml:1: found 'preset'; allowed: a mapping", self.problem("preset\n"))


class ProblemTests(SynchronousTestCase):
    """Everything that is wrong, at once and in order."""

    def test_all_at_once(self) -> None:
        text = (
            "preset: datadog\n"
            "sight: example.com\n"
            "listen: {addresses: [localhost], addresses: [127.0.0.1]}\n"
            "limits: []\n"
            "tls:\n"
            "  trust: ../bundle.pem\n"
            "timeouts: {connect: 5 parsecs, conect: 5}\n"
            "intakes:\n"
            "  a: {port: 9804, upstream: datadog-metric}\n"
            "upstreams:\n"
            "  b: {host: b.example.org}\n"
            "  datadog-compliance: null\n"
        )
        error = self.assertRaises(ConfigError, load_text, text, "f.yaml", {"DD_FIPS_LOCAL_ADDRESS": "x"})
        self.assertEqual(
            [
                (problem.file, problem.line, problem.path)
                for problem in error.problems
                if problem.file != "preset datadog"
            ],
            [
                ("f.yaml", 2, "sight"),
                ("f.yaml", 3, "listen.addresses"),
                ("f.yaml", 4, "limits"),
                ("f.yaml", 6, "tls.trust"),
                ("f.yaml", 7, "timeouts.connect"),
                ("f.yaml", 7, "timeouts.conect"),
                ("f.yaml", 9, "intakes.a.upstream"),
                ("f.yaml", 9, "intakes.a.port"),
                ("f.yaml", 11, "upstreams.b.host"),
                ("environment", 0, "DD_FIPS_LOCAL_ADDRESS"),
            ],
        )
        self.assertIn("intakes.compliance_frontend.upstream", {problem.path for problem in error.problems})
        self.assertEqual(len(str(error).splitlines()), len(error.problems))

    def test_a_root_that_is_no_mapping_hides_nothing(self) -> None:
        error = self.assertRaises(ConfigError, load_text, "- {a: 1, a: 2}\n", "f.yaml")
        self.assertEqual([problem.path for problem in error.problems], ["[0].a", ""])

    @settings(derandomize=True, database=None, deadline=None)
    @given(st.dictionaries(st.sampled_from(SECTIONS), st.just({}) | JUNK, max_size=8), st.booleans())
    def test_any_document(self, document: dict[str, Any], on_preset: bool) -> None:
        """A document of any shape is refused in lines that fit a log, or it is right; nothing else may come out."""
        text = yaml.safe_dump({**document, "preset": "datadog"} if on_preset else document)
        try:
            config = load_text(text, "f.yaml")
        except ConfigError as error:
            for problem in error.problems:
                self.assertTrue(str(problem).isprintable(), repr(str(problem)))
        else:
            self.assertTrue(config.intakes)


class FileTests(SynchronousTestCase):
    """``load_file``."""

    def file(self, content: bytes) -> str:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "proxy.yaml"
        path.write_bytes(content)
        return str(path)

    def problem(self, path: str) -> str:
        error = self.assertRaises(ConfigError, load_file, path)
        [problem] = error.problems
        self.assertTrue(str(problem).startswith(path), str(problem))
        return str(problem).removeprefix(path)

    def test_file(self) -> None:
        path = self.file("# naïve\npreset: datadog\n".encode())
        self.assertEqual(load_file(path), load_text("preset: datadog\n", "f.yaml"))
        self.assertEqual(load_file(path, {"DD_FIPS_PORT_RANGE_START": "100"}).listen.port_range_start, 100)

    def test_the_environment_counts_only_when_given(self) -> None:
        path = self.file(b"preset: datadog\n")
        code = f"from fipsrelay.config.load import load_file; print(load_file({path!r}).listen.port_range_start)"
        environ = {**os.environ, "DD_FIPS_PORT_RANGE_START": "100"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "9803\n")

    def test_missing(self) -> None:
        self.assertEqual(self.problem("/nowhere/proxy.yaml"), ": cannot be read: No such file or directory")

    def test_folder(self) -> None:
        self.assertEqual(self.problem("/"), ": cannot be read: Is a directory")

    def test_endless(self) -> None:
        self.assertEqual(self.problem("/dev/zero"), f": longer than {MAXIMUM_BYTES} bytes")

    def test_longest(self) -> None:
        text = b"preset: datadog\n#"
        load_file(self.file(text.ljust(MAXIMUM_BYTES, b"x")))
        self.assertIn("longer than", self.problem(self.file(text.ljust(MAXIMUM_BYTES + 1, b"x"))))

    def test_not_utf8(self) -> None:
        self.assertEqual(self.problem(self.file(b"preset: datadog\nsite: \xe9\n")), ":2: not UTF-8: byte 0xe9")

    def test_not_yaml(self) -> None:
        self.assertIn(":2: ", self.problem(self.file(b"preset: datadog\n- a\n")))
