"""The command ``fipsrelay explain``: what a code in an answer, the log, a metric or a report means."""

from __future__ import annotations

import difflib
import sys

from fipsrelay import codes


def main(code: str | None) -> int:
    """Print it.

    Args:
        code: one; None for a list of all.

    Returns:
        0, or 2 when there is no such code.
    """
    if code is None:
        print("\n".join(f"{name:20} {meaning}" for name, meaning in _meanings().items()))
    elif code in _meanings():
        print("\n".join(_lines(code)))
    else:
        near = difflib.get_close_matches(code[:64], _meanings(), n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        print(f"fipsrelay: there is no such code{guess}; 'fipsrelay explain' lists all of them", file=sys.stderr)
        return 2
    return 0


def _meanings() -> dict[str, str]:
    answered = {name: code.meaning for kind in (codes.UPSTREAM, codes.AGENT) for name, code in kind.items()}
    return {**answered, **codes.FIPS}


def _lines(name: str) -> list[str]:
    code = codes.UPSTREAM.get(name) or codes.AGENT.get(name)
    if code is None:
        return [
            f"{name}: {codes.FIPS[name]}",
            "The relay does not start, or stops sending. What to do stands beside it.",
        ]
    statuses = " or ".join(map(str, code.statuses))
    answer = f"The agent gets {statuses}." if statuses else "The agent gets no answer of HTTP."
    keeps = " It keeps what it has, and tries again." if name in codes.UPSTREAM else ""
    return [f"{name}: {code.meaning}", f"{answer}{keeps}", code.remedy]
