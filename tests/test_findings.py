"""How findings are shown."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.findings import FAIL, OK, SKIP, WARN, Finding, document, is_good, lines

FINDINGS = [Finding("clock", OK, "set"), Finding("trust store", WARN, "old", "renew it"), Finding("x", SKIP, "no")]


class FindingTests(SynchronousTestCase):
    def test_lines(self) -> None:
        self.assertEqual(
            lines([*FINDINGS, Finding("ports", FAIL, "taken", "free them")]).splitlines(),
            [
                "OK    clock        set",
                "WARN  trust store  old",
                "                   -> renew it",
                "SKIP  x            no",
                "FAIL  ports        taken",
                "                   -> free them",
                "1 OK, 1 WARN, 1 FAIL, 1 SKIP",
            ],
        )

    def test_good(self) -> None:
        self.assertTrue(is_good(FINDINGS))
        self.assertFalse(is_good([*FINDINGS, Finding("ports", FAIL, "taken")]))

    def test_document(self) -> None:
        found = document("1.0", "f.yaml", FINDINGS[1:2])
        finding = {"topic": "trust store", "state": "WARN", "found": "old", "remedy": "renew it"}
        self.assertEqual(found, {"version": "1.0", "config": "f.yaml", "ok": True, "findings": [finding]})
