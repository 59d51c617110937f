"""Tests of ``fipsrelay explain``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import codes
from tests.commands import run


class ExplainTests(SynchronousTestCase):
    def test_list(self) -> None:
        status, output, _ = run("explain")
        self.assertEqual(status, 0)
        self.assertEqual(
            [line.split()[0] for line in output.splitlines()], [*codes.UPSTREAM, *codes.AGENT, *codes.FIPS]
        )

    def test_each(self) -> None:
        for kind in (codes.UPSTREAM, codes.AGENT, codes.FIPS):
            for name in kind:
                status, output, errors = run("explain", name)
                self.assertEqual((status, errors, len(output.splitlines()) in (2, 3)), (0, "", True), name)
                self.assertTrue(output.startswith(f"{name}: "))

    def test_answers(self) -> None:
        for name, words in {
            "answer-timeout": "The agent gets 504. It keeps what it has, and tries again.",
            "bad-head": "The agent gets 400 or 501.\n",
            "tls-to-plaintext": "The agent gets no answer of HTTP.\n",
            "module-owner": "What to do stands beside it.",
        }.items():
            self.assertIn(words, run("explain", name)[1])

    def test_unknown(self) -> None:
        status, output, errors = run("explain", "conect-refused")
        self.assertEqual((status, output), (2, ""))
        self.assertIn("(did you mean connect-refused?)", errors)
        self.assertIn("no such code;", run("explain", "x" * 1000)[2])
