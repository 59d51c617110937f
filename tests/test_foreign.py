"""Tests of ``fipsrelay.config.foreign``."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.foreign import refuse_haproxy
from fipsrelay.config.load import load_text
from fipsrelay.errors import ConfigError

# As the Agent FIPS Proxy's begins, and what HAProxy's examples begin with.
HAPROXY = """\
# Agent FIPS Proxy
#
global
    log stdout format raw local0
    ssl-default-server-options ssl-min-ver TLSv1.2 # see: NIST
    stats timeout 5s

defaults
    option  httplog
    timeout connect 5s

frontend metrics-forwarder
    bind 127.0.0.1:9804
    mode http
    default_backend datadog-metrics
    use_backend datadog-api if { path -i /api/v1/validate }
"""
# What a first line may be, and what may follow, of both languages.
STARTS = ["global", "defaults", "frontend x", "listen :1", ".if x\nglobal", "# x\n global", '"global"', "{global"]
PIECES = [":", ": ", " ", "\n", "\t", "#", '"', "[", "}", "-", "\r", "x", "global", "y: 1"]


class HaproxyTests(SynchronousTestCase):
    """``refuse_haproxy``."""

    def refusal(self, text: str) -> str:
        """The only thing that is said about a text."""
        error = self.assertRaises(ConfigError, load_text, text, "proxy.cfg")
        [problem] = error.problems
        return str(problem)

    def test_one_problem(self) -> None:
        """What it is, and what to do, instead of what YAML stumbles over."""
        said = self.refusal(HAPROXY)
        self.assertTrue(said.startswith("proxy.cfg:3: a configuration of HAProxy (its section 'global')"), said)
        for words in ("does not read", "preset: datadog", "docs/packaging.md"):
            self.assertIn(words, said)

    def test_beginnings(self) -> None:
        for text, line in (
            ("defaults\n", 1),
            ("defaults unnamed-1\n  mode http\n", 1),
            ("frontend f\n  bind :1\n", 1),
            ("listen stats :9803\n", 1),
            ("backend b # a: b\n", 1),
            ("\ufeff\r\n\t global\r\n", 2),
            (".if defined(X)\nglobal\n.endif\n", 2),
        ):
            self.assertTrue(self.refusal(text).startswith(f"proxy.cfg:{line}: a configuration of HAProxy"), text)

    def test_ours(self) -> None:
        for text in (
            "preset: datadog\nglobal\n",
            "listen:\n  port_range_start: 1\n",
            "listen\n  port_range_start: 9803\n",  # a colon is missing
            "global: 1\n",
            "defaults : 1\n",
            "frontend a: 1\n",
            "global#x: 1\n",
            "# global\n",
            "",
        ):
            refuse_haproxy(text, "proxy.yaml", ["datadog"])

    def test_no_control_characters(self) -> None:
        self.assertIn(r"'global \u001b[2J'", self.refusal("global \x1b[2J\n"))

    @given(st.sampled_from(STARTS), st.lists(st.sampled_from(PIECES), max_size=4))
    def test_no_mapping_is_refused(self, start: str, pieces: list[str]) -> None:
        """Whatever YAML reads as KEY: VALUE is left to it."""
        text = start + "".join(pieces)
        try:
            refuse_haproxy(text, "f", ["datadog"])
        except ConfigError:
            try:
                found = yaml.compose(text, Loader=yaml.SafeLoader)
            except yaml.YAMLError:
                return
            self.assertFalse(isinstance(found, yaml.MappingNode), text)
