"""The commands ``fipsrelay status``, ``top`` and ``reload``, which ask the running relay."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config
from fipsrelay.errors import ConfigError, FipsrelayError
from fipsrelay.observe import client, text

PATH = "/status"
PAUSE = 2.0
RELOAD_TIMEOUT = 30.0
_GLANCE = 0.05
_STATUSES = {"ready": 0, "lost": 3}
_CLEAR = "\x1b[H\x1b[2J"


def status(file: str, as_json: bool) -> int:
    """Print it once.

    Args:
        file: the relay's configuration.
        as_json: print the document.

    Returns:
        0 when it takes connections; 1 when it does not run, does not answer, or is starting or draining; 2 for a
        configuration that cannot be used; 3 when it has lost its FIPS state.
    """
    try:
        document = _ask(load_file(file, os.environ))
    except (ConfigError, _NoAnswerError) as error:
        return _say(error)
    print(json.dumps(document, indent=2) if as_json else text.render(document).removesuffix("\n"))
    return _STATUSES.get(document["state"], 1)


def top(file: str) -> int:
    """Print it every two seconds, as much as the terminal holds, until Ctrl-C.

    Args:
        file: the relay's configuration.

    Returns:
        0, or 2 for a configuration that cannot be used.
    """
    try:
        config = load_file(file, os.environ)
    except ConfigError as error:
        return _say(error)
    try:
        while True:
            try:
                shown = text.render(_ask(config))
            except _NoAnswerError as error:
                shown = str(error)
            size = shutil.get_terminal_size()
            lines = [line[: size.columns] for line in shown.splitlines()[: size.lines - 1]]
            print(_CLEAR + "\n".join(lines), flush=True)
            time.sleep(PAUSE)  # nobody tells when there is something new
    except KeyboardInterrupt:
        print()
    return 0


def reload(file: str) -> int:
    """Have the running relay read its configuration again, and wait for what comes of it.

    Args:
        file: its configuration, which is checked first.

    Returns:
        0 when it goes by the new one; 1 when it does not run, or keeps the old one; 2 for a configuration that cannot
        be used.
    """
    try:
        config = load_file(file, os.environ)
        before = _ask(config)
        pid = before["program"]["pid"]
        os.kill(pid, signal.SIGHUP)
        problem = _outcome(config, before["reloads"])["problem"]
    except (ConfigError, _NoAnswerError) as error:
        return _say(error)
    except OSError as error:
        return _say(_NoAnswerError(f"process {pid} cannot be told: {error.strerror}"))
    if problem:
        return _say(_NoAnswerError(f"the configuration stays as it was: {problem}"))
    print(f"process {pid} goes by {file} now")
    return 0


def _outcome(config: Config, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """How often it was reloaded, as soon as that is another number than before."""
    end = time.monotonic() + RELOAD_TIMEOUT
    while time.monotonic() < end:
        reloads: Mapping[str, Any] = _ask(config)["reloads"]
        if reloads != before:
            return reloads
        time.sleep(_GLANCE)  # a signal has no answer: what came of it stands in the status
    raise _NoAnswerError(f"nothing came of it within {RELOAD_TIMEOUT:.0f} s: see the relay's log")


class _NoAnswerError(FipsrelayError):
    """The relay does not do what it was asked."""


def _say(error: ConfigError | _NoAnswerError) -> int:
    """Why there is no answer; returns the exit status."""
    print(error if isinstance(error, ConfigError) else f"fipsrelay: {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def _ask(config: Config) -> dict[str, Any]:
    """The document of the running relay."""
    try:
        document = client.ask(config, PATH)
    except (OSError, ValueError) as error:
        raise _NoAnswerError(f"no answer: {error}") from error
    if document is None:
        raise _NoAnswerError(f"nothing listens on port {config.listen.port_range_start}: it does not run")
    return document
