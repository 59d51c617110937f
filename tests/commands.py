"""The command ``fipsrelay``, inside this process."""

from __future__ import annotations

import contextlib
import io

from fipsrelay import cli


def run(*words: str) -> tuple[object, str, str]:
    """Exit status, standard output and standard error."""
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            status: object = cli.main(words)
        except SystemExit as exit_:
            status = exit_.code
    return status, output.getvalue(), errors.getvalue()
