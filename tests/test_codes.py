"""That every code of a failure is described, and that every description is of a code that there is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import codes
from fipsrelay.relay import hello
from fipsrelay.wire import http1
from tests.test_walls import sources

KINDS = {"UPSTREAM": codes.UPSTREAM, "AGENT": codes.AGENT, "FIPS": codes.FIPS}
# Whose first argument is a code.
CALLS = frozenset(
    {"UpstreamError", "AgentError", "MessageError", "FipsError", "_fail", "_error", "greeted", "answer_failed"}
)


def literals(node: ast.AST) -> Iterator[str]:
    """Strings in an expression's values: of both branches, but not of a condition."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def statuses_in(text: str) -> Iterator[tuple[str, int]]:
    """Codes with the status beside them, where both are written out in a call."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            code, status, *_ = node.args
            if isinstance(status, ast.Constant) and isinstance(status.value, int):
                yield from ((word, status.value) for word in literals(code))


def codes_in(text: str) -> Iterator[str]:
    """Codes that a module's text gives to failures: in a call, by a counter or a variable, or one of a table's rows."""
    tables: dict[str, ast.Tuple] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in CALLS:
                yield from literals(node.args[0])
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "errors":
            yield from literals(node.slice)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "code":
                yield from literals(node.value)
            if isinstance(node.value, ast.Tuple):
                tables[node.targets[0].id] = node.value
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.For) and isinstance(node.target, ast.Tuple) and isinstance(node.iter, ast.Name):
            [first, *_] = node.target.elts
            if isinstance(first, ast.Name) and first.id == "code":
                for row in tables[node.iter.id].elts:
                    assert isinstance(row, ast.Tuple)
                    yield from literals(row.elts[0])


class CodeTests(SynchronousTestCase):
    used = {code for name, text in sources().items() if name != "codes" for code in codes_in(text)}
    used |= {row[1] for row in (*http1._REQUEST_FAULTS, *http1._ANSWER_FAULTS)}
    used.add(hello.refusal("an agent")[0])

    def test_every_code_is_described_and_used(self) -> None:
        described = [code for kind in KINDS.values() for code in kind]
        self.assertEqual(sorted(self.used), sorted(described))

    def test_where_they_are_looked_for(self) -> None:
        text = 'def f():\n    code = "a" if x == "no" else "b"\n    self._fail("c", 1)\n    raise FipsError("d")\n'
        text += 'counters.errors["g"] += 1\n'
        text += 'table = (("e", 1), ("f", 2))\nfor code, number in table:\n    pass\n'
        self.assertEqual(sorted(codes_in(text)), list("abcdefg"))

    def test_statuses_are_those_that_are_answered(self) -> None:
        """As far as they are written beside a code, which most are."""
        known = {**codes.UPSTREAM, **codes.AGENT}
        found = {pair for text in sources().values() for pair in statuses_in(text) if pair[0] in known}
        found |= {(row[1], row[2]) for row in (*http1._REQUEST_FAULTS, *http1._ANSWER_FAULTS)}
        described = {(name, status) for name, code in known.items() for status in code.statuses}
        self.assertLessEqual(found, described)
        self.assertGreater(len(found), 20)

    def test_statuses(self) -> None:
        """Those that make an agent keep what it has, where it is the upstream's fault; none that makes it drop it."""
        self.assertEqual({status for code in codes.UPSTREAM.values() for status in code.statuses}, {502, 503, 504})
        for name, code in codes.AGENT.items():
            self.assertEqual({403, 404, 413} & set(code.statuses), set(), name)
