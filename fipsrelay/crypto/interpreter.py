"""How this program starts another Python: with the same isolation, and never on modules of the current directory."""

from __future__ import annotations

import sys

_SAFE_PATH = "import sys; sys.path[0] or sys.path.pop(0); "


def command(code: str, *arguments: str) -> list[str]:
    """The words that run ``code`` in this interpreter.

    ``python -m`` and ``python -c`` look into the current directory first, where others may have left a ``yaml.py`` when
    that is /tmp. Python's own switch against it, ``-P``, came with 3.11. Nothing can be imported before the first
    statement takes the entry away: ``sys`` is built in, and ``site`` runs without it.

    Args:
        code: one line of Python.
        arguments: its ``sys.argv[1:]``.
    """
    flags = (("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-s", sys.flags.no_user_site))
    return [sys.executable, *(flag for flag, given in flags if given), "-c", _SAFE_PATH + code, *arguments]
