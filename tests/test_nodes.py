"""Tests of ``fipsrelay.config.nodes``."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.nodes import MAXIMUM_DEPTH, Node, merge, parse, shown
from fipsrelay.errors import ConfigError, Problem


def plain(node: Node) -> object:
    """A tree of nodes as the values that it holds."""
    if isinstance(node.content, dict):
        return {key: plain(child) for key, child in node.content.items()}
    if isinstance(node.content, tuple):
        return [plain(child) for child in node.content]
    return node.content


def parsed(text: str) -> Node:
    """The node of a text that has no problems."""
    problems: list[Problem] = []
    node = parse(text, "f.yaml", problems)
    assert not problems, problems
    return node


class ParseTests(SynchronousTestCase):
    """``parse``."""

    def refusal(self, text: str) -> str:
        """How ``parse`` refuses a text: one problem."""
        error = self.assertRaises(ConfigError, parse, text, "f.yaml", [])
        [problem] = error.problems
        return str(problem)

    def test_scalars_stay_as_written(self) -> None:
        text = "a: 1.20\nb: no\nc: 'yes'\nd: 010\ne: 0x1F\nf: 1:30\ng: 2020-01-01\nh: 00e1\n"
        written = {
            "a": "1.20",
            "b": "no",
            "c": "yes",
            "d": "010",
            "e": "0x1F",
            "f": "1:30",
            "g": "2020-01-01",
            "h": "00e1",
        }
        self.assertEqual(plain(parsed(text)), written)

    def test_nothing(self) -> None:
        written = {"a": None, "b": None, "c": None, "d": "null", "e": ""}
        self.assertEqual(plain(parsed("a:\nb: null\nc: ~\nd: 'null'\ne: ''\n")), written)
        self.assertEqual(parsed("# only a remark\n"), Node(None, "f.yaml", 0, ""))

    def test_places(self) -> None:
        root = parsed("# remark\nlisten:\n  addresses:\n    - one\n    - {two: 2}\n")
        self.assertEqual((root.file, root.line, root.path), ("f.yaml", 2, ""))
        addresses = root.entries()["listen"].entries()["addresses"]
        self.assertEqual((addresses.line, addresses.path), (3, "listen.addresses"))
        first, second = addresses.items()
        self.assertEqual((first.line, first.path), (4, "listen.addresses[0]"))
        self.assertEqual(second.entries()["two"].path, "listen.addresses[1].two")

    def test_a_value_below_its_key_has_the_keys_line(self) -> None:
        self.assertEqual(parsed("a:\n  b: 1\n").entries()["a"].line, 1)

    def test_duplicate_keys(self) -> None:
        problems: list[Problem] = []
        node = parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yaml", problems)
        self.assertEqual(plain(node), {"a": "1", "b": {"c": "1"}})
        found = [(problem.line, problem.path) for problem in problems]
        self.assertEqual(found, [(2, "b.c"), (3, "a")])
        self.assertIn("line 1", problems[1].message)

    def test_keys_that_are_no_words(self) -> None:
        problems: list[Problem] = []
        self.assertEqual(plain(parse("a: 1\n? [b]\n: 2\n", "f.yaml", problems)), {"a": "1"})
        self.assertEqual([problem.line for problem in problems], [2])

    def test_odd_keys_cannot_forge_lines(self) -> None:
        node = parsed('"a\\nf.yaml:1: b": 1\n').entries()["a\nf.yaml:1: b"]
        self.assertEqual(node.path, "'a\\u000af.yaml:1: b'")

    def test_aliases(self) -> None:
        self.assertIn("f.yaml:2: aliases", self.refusal("a: &x 1\nb: *x\n"))

    def test_tags(self) -> None:
        self.assertIn("f.yaml:2: tags", self.refusal("a: 1\nb: !!python/object/apply:os.system [id]\n"))
        self.assertIn("f.yaml:1: tags", self.refusal("a: !!str 1\n"))

    def test_depth(self) -> None:
        def nested(levels: int) -> str:
            return "[" * levels + "]" * levels

        parsed(nested(MAXIMUM_DEPTH))
        self.assertIn("levels of nesting", self.refusal(nested(MAXIMUM_DEPTH + 1)))
        self.assertIn("levels of nesting", self.refusal("[" * 100_000))

    def test_not_yaml(self) -> None:
        self.assertTrue(self.refusal("a: 1\nb: [\n").startswith("f.yaml:3: while parsing"))
        self.assertIn("single document", self.refusal("a: 1\n---\nb: 1\n"))
        self.assertIn("f.yaml:2: the character U+0007", self.refusal("a: 1\nb: \a\n"))
        self.assertIn("not YAML", self.refusal('a: "\\Uffffffff"\n'))
        self.assertIn("not YAML", self.refusal(f"%YAML 1.{'9' * 5000}\n---\na: 1\n"))

    def test_ipv6_in_a_list(self) -> None:
        self.assertIn("quotes", self.refusal("a: [127.0.0.1, ::1]\n"))
        self.assertEqual(plain(parsed('a: [127.0.0.1, "::1"]\n')), {"a": ["127.0.0.1", "::1"]})

    @settings(derandomize=True, database=None, deadline=None)
    @given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@?,.~1 \n\t\\"), max_size=40))
    def test_any_text(self, text: str) -> None:
        """Every text is a node or is refused, in messages of one line each."""
        problems: list[Problem] = []
        try:
            parse(text, "f.yaml", problems)
        except ConfigError as error:
            problems.extend(error.problems)
        for problem in problems:
            self.assertTrue(str(problem).isprintable(), repr(str(problem)))

    @settings(derandomize=True, database=None, deadline=None)
    @given(
        st.recursive(
            st.none() | st.text(max_size=5).filter(str.isprintable),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
            max_leaves=10,
        )
    )
    def test_agrees_with_pyyaml(self, value: object) -> None:
        text = yaml.safe_dump(value, allow_unicode=True)
        self.assertEqual(plain(parsed(text)), yaml.safe_load(text))


class ReadingTests(SynchronousTestCase):
    """What a node says when it is read as something else."""

    def test_found(self) -> None:
        for text, found in (("1", "'1'"), ("", "nothing"), ("{a: 1}", "a mapping")):
            error = self.assertRaises(ConfigError, parsed(text).items)
            self.assertIn(f"found {found}; allowed: a list", str(error))
        error = self.assertRaises(ConfigError, parsed("[1]").entries)
        self.assertIn("found a list; allowed: a mapping", str(error))
        error = self.assertRaises(ConfigError, parsed("[1]").text, "a word")
        self.assertEqual(str(error), "f.yaml:1: found a list; allowed: a word")

    def test_no_entries(self) -> None:
        self.assertEqual(parsed("").entries(), {})

    def test_shown(self) -> None:
        self.assertEqual(shown("a\x1b[1mé"), "'a\\u001b[1mé'")
        self.assertEqual(shown("x" * 60), "'" + "x" * 60 + "'")
        self.assertEqual(shown("http://agent:secret@\nword@proxy:1"), "'…@proxy:1'")
        self.assertEqual(shown("x" * 61), "'" + "x" * 60 + "…'")


class MergeTests(SynchronousTestCase):
    """``merge``."""

    def merged(self, base: str, over: str) -> object:
        return plain(merge(parsed(base), parsed(over)))

    def test_key_by_key(self) -> None:
        self.assertEqual(
            self.merged("{a: {b: 1, c: 2}, d: 3}", "{a: {c: 4, e: 5}, f: 6}"),
            {"a": {"b": "1", "c": "4", "e": "5"}, "d": "3", "f": "6"},
        )

    def test_lists_and_words_are_replaced(self) -> None:
        self.assertEqual(self.merged("{a: [1, 2], b: {c: 1}}", "{a: [3], b: x}"), {"a": ["3"], "b": "x"})

    def test_nothing_takes_away(self) -> None:
        self.assertEqual(self.merged("{a: {b: 1, c: 2}}", "{a: {b: null}}"), {"a": {"c": "2"}})

    def test_nothing_to_take_away_stays_to_be_seen(self) -> None:
        self.assertEqual(self.merged("{a: 1}", "{b: null}"), {"a": "1", "b": None})

    def test_places(self) -> None:
        base = parse("a:\n  b: 1\n", "base", [])
        found = merge(base, parse("# remark\na: {c: 2}\n", "over", [])).entries()["a"]
        self.assertEqual((found.file, found.line), ("over", 2))
        self.assertEqual((found.entries()["b"].file, found.entries()["b"].line), ("base", 2))
