"""Settings in the text of a YAML file."""

# ruff: noqa: E501 - two texts side by side

from __future__ import annotations

import yaml
from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.edit import EditError, change

WANTED = {"enabled": True, "port_range_start": 9803, "https": False}
BLOCK = "fips:\n  enabled: true\n  port_range_start: 9803\n  https: false\n"
# As the Agent's package writes it: settings behind a mark, with their types above.
TEMPLATE = """\
## @param api_key - string - required
api_key: 0123456789abcdef0123456789abcdef

# fips:
  ## @param enabled - boolean - optional - default: false
  # enabled: false

site: ddog-gov.com   # the government's
logs_config:
    use_http: true
"""


class ChangeTests(SynchronousTestCase):
    def assert_change(self, before: str, after: str) -> None:
        """And there is nothing left to do afterwards."""
        self.assertEqual(change(before, "fips", WANTED), after)
        self.assertEqual(change(after, "fips", WANTED), after)

    def test_no_section(self) -> None:
        for text in ("", "# nothing but a comment\n", TEMPLATE):
            self.assert_change(text, text + BLOCK)
        self.assert_change("site: x", "site: x\n" + BLOCK)

    def test_empty_section(self) -> None:
        """Whose settings are all comments."""
        self.assert_change("fips:\n  # enabled: false\nsite: x\n", BLOCK + "  # enabled: false\nsite: x\n")
        self.assert_change("site: x\nfips: # ours", "site: x\nfips: # ours\n" + BLOCK.partition("\n")[2])

    def test_values(self) -> None:
        """What stands behind them, and between them, stays."""
        before = "fips:\n    https: true # was: yes\n    # a comment\n    enabled:   no\n    local_address: ::1\n    "
        before += "port_range_start: 0x10\nsite: x\n"
        after = "fips:\n    https: false # was: yes\n    # a comment\n    enabled:   true\n    local_address: ::1\n    "
        self.assert_change(before, after + "port_range_start: 9803\nsite: x\n")

    def test_values_that_are_not_there(self) -> None:
        self.assert_change(
            "a: 1\nfips:\n\n   # first\n   https: false\n   tls_verify: true\nb: 2\n",
            "a: 1\nfips:\n\n   # first\n   enabled: true\n   port_range_start: 9803\n   https: false\n   tls_verify: true\nb: 2\n",
        )
        self.assert_change(
            "fips:\n  enabled:\n  https:\n", "fips:\n  port_range_start: 9803\n  enabled: true\n  https: false\n"
        )

    def test_flow(self) -> None:
        self.assert_change("fips: {}\n", "fips: {enabled: true, port_range_start: 9803, https: false}\n")
        self.assert_change(
            "fips: {https: true, enabled: false} # x\n",
            "fips: {port_range_start: 9803, https: false, enabled: true} # x\n",
        )

    def test_other_newlines(self) -> None:
        before = TEMPLATE.replace("\n", "\r\n")
        self.assert_change(before, before + BLOCK.replace("\n", "\r\n"))
        self.assert_change("fips:\r\n  x: 1\r\n", "fips:\r\n" + BLOCK.replace("\n", "\r\n")[7:] + "  x: 1\r\n")

    def test_disable(self) -> None:
        self.assertEqual(change(BLOCK, "fips", {"enabled": False}), BLOCK.replace("true", "false"))

    def test_refused(self) -> None:
        for text, words in (
            ("a: [\n", "not YAML, line 2"),
            ("a: 1\n---\nb: 2\n", "not YAML"),
            ("- a\n", "not a mapping"),
            ("fips: 7\n", "fips is not a mapping"),
            ("fips: [a]\n", "fips is not a mapping"),
            ("fips: &x {enabled: false}\nother: *x\n", "edit it by hand"),
            ("fips: {x: 1}\nfips: {enabled: true}\n", "fips more than once"),
            ("fips: {enabled: true, enabled: false}\n", "fips.enabled more than once"),
            ("a: 1\na: 2\n" + BLOCK, "it says a more than once"),
            ("a: 1\n...\n", "edit it by hand"),
            ("a: 2024-13-45\n", "a value that cannot be read"),
            ('a: "\\UFFFFFFFF"\n', "a value that cannot be read"),
            (f"a: {'[' * 5000}{']' * 5000}\n", "nested too deeply"),
            ("a: &a [*a]\nfips: {enabled: false}\n", "edit it by hand"),
        ):
            self.assertIn(words, str(self.assertRaises(EditError, change, text, "fips", WANTED)), text)

    @given(
        strategies.dictionaries(
            strategies.sampled_from(("api_key", "enabled", "logs", "proxy")),
            strategies.one_of(strategies.booleans(), strategies.text(max_size=20), strategies.none()),
        ),
        strategies.dictionaries(
            strategies.sampled_from(("enabled", "https", "port_range_start", "local_address")),
            strategies.one_of(strategies.booleans(), strategies.integers(), strategies.text(max_size=20)),
        ),
        strategies.sampled_from((True, False, None)),
        strategies.integers(0, 4),
    )
    def test_any(self, document: dict[str, object], fips: dict[str, object], flow: bool | None, at: int) -> None:
        """Whatever is written, in whatever style: it is as wanted afterwards, and all else as it was."""
        entries = list(document.items())
        entries.insert(at, ("fips", fips))
        text = yaml.safe_dump(dict(entries), sort_keys=False, default_flow_style=flow)
        found = yaml.safe_load(change(text, "fips", WANTED))
        self.assertEqual(found, {**dict(entries), "fips": {**fips, **WANTED}})
