"""What a check of the whole installation has found, as data, and how it is shown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

OK, WARN, FAIL, SKIP = "OK", "WARN", "FAIL", "SKIP"


@attrs.frozen
class Finding:
    """One answer.

    Attributes:
        topic: what was asked about: a word or two.
        state: ``OK``, ``WARN``, ``FAIL``, or ``SKIP`` for what could not be asked.
        found: one line, free of secrets.
        remedy: what to do; empty when there is nothing to do.
    """

    topic: str
    state: str
    found: str
    remedy: str = ""


def is_good(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.state != FAIL for finding in findings)


def lines(findings: Sequence[Finding]) -> str:
    """One line for each, with what to do below it."""
    width = max(len(finding.topic) for finding in findings)
    text = []
    for finding in findings:
        text.append(f"{finding.state:<4}  {finding.topic:<{width}}  {finding.found}")
        if finding.remedy:
            text.append(f"{'':<4}  {'':<{width}}  -> {finding.remedy}")
    counts = [f"{sum(each.state == state for each in findings)} {state}" for state in (OK, WARN, FAIL, SKIP)]
    return "\n".join((*text, ", ".join(counts)))


def document(version: str, file: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "version": version,
        "config": file,
        "ok": is_good(findings),
        "findings": [attrs.asdict(finding) for finding in findings],
    }
