"""The commands ``fipsrelay status``, ``top`` and ``reload``, which ask the running relay."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config
from fipsrelay.errors import ConfigError
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
    config = _load(file)
    if config is None:
        return 2
    document, problem = _ask(config)
    if document is None:
        print(f"fipsrelay: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(document, indent=2) if as_json else text.render(document), end="\n" if as_json else "")
    return _STATUSES.get(document["state"], 1)


def top(file: str, pause: Callable[[float], None] = time.sleep, rounds: int | None = None) -> int:
    """Print it every two seconds, as much as the terminal holds, until Ctrl-C.

    Args:
        file: the relay's configuration.
        pause: waits so many seconds.
        rounds: how often; None for ever.

    Returns:
        0, or 2 for a configuration that cannot be used.
    """
    config = _load(file)
    if config is None:
        return 2
    try:
        while rounds is None or rounds > 0:
            document, problem = _ask(config)
            size = shutil.get_terminal_size()
            shown = text.render(document) if document else f"{problem}\n"
            lines = [line[: size.columns] for line in shown.splitlines()[: size.lines - 1]]
            print(_CLEAR + "\n".join(lines), flush=True)
            rounds = None if rounds is None else rounds - 1
            pause(PAUSE)
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
    config = _load(file)
    if config is None:
        return 2
    before, problem = _ask(config)
    if before is None:
        print(f"fipsrelay: {problem}", file=sys.stderr)
        return 1
    try:
        os.kill(before["program"]["pid"], signal.SIGHUP)
    except OSError as error:
        print(f"fipsrelay: process {before['program']['pid']} cannot be told: {error.strerror}", file=sys.stderr)
        return 1
    end = time.monotonic() + RELOAD_TIMEOUT
    while time.monotonic() < end:
        after, problem = _ask(config)
        if after is not None and after["reloads"] != before["reloads"]:
            problem = after["reloads"]["problem"]
            if problem:
                print(f"fipsrelay: the configuration stays as it was: {problem}", file=sys.stderr)
                return 1
            print(f"process {after['program']['pid']} goes by {file} now")
            return 0
        time.sleep(_GLANCE)
    print(f"fipsrelay: nothing came of it within {RELOAD_TIMEOUT:.0f} s: {problem}", file=sys.stderr)
    return 1


def _load(file: str) -> Config | None:
    try:
        return load_file(file, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None


def _ask(config: Config) -> tuple[dict[str, Any] | None, str]:
    """The document, or None and why there is none."""
    try:
        return client.ask(config, PATH), f"nothing listens on port {config.listen.port_range_start}: it does not run"
    except (OSError, ValueError) as error:
        return None, f"no answer: {error}"
