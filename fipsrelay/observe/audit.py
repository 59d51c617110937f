"""The command ``fipsrelay evidence``: asks the running relay, or proves and visits by itself, and writes the report.

Nothing here may import OpenSSL before the gate has run: neither ``http.client`` nor ``hashlib`` nor Twisted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config
from fipsrelay.crypto import gate
from fipsrelay.errors import ConfigError, FipsError, FipsrelayError
from fipsrelay.observe import client

PATH = "/evidence.json"
Report = dict[str, Any]


def main(file: str, folder: Path, alone: bool) -> int:
    """Write ``evidence.json`` and ``evidence.md``.

    Args:
        file: the configuration.
        folder: where; it is made.
        alone: do not ask the running relay.

    Returns:
        0; 1 when the running relay has another configuration or does not answer as it should, or when nothing can be
        written; 2 for a configuration that cannot be used; 3 when the FIPS state is not proven, of which there is a
        report too.
    """
    try:
        config = load_file(file, os.environ)
        report = (None if alone else _asked(config)) or _visit(config)
        if report["configuration"]["sha256"] != digest(config):
            raise _NoReportError(
                f"the running relay has another configuration than {file}; reload or restart it, or --stand-alone"
            )
        _write(report, folder)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except _NoReportError as error:
        print(f"fipsrelay: {error}", file=sys.stderr)
        return 1
    if report["failure"]:
        print(f"fipsrelay: the FIPS state is not proven, see {folder / 'evidence.md'}", file=sys.stderr)
        return 3
    print(f"{folder / 'evidence.md'}, of {report['report']['source']} process {report['report']['pid']}")
    return 0


class _NoReportError(FipsrelayError):
    """There is none to be had, or to be kept."""


def _asked(config: Config) -> Report | None:
    try:
        return ask(config)
    except (OSError, ValueError) as error:
        raise _NoReportError(f"the running relay gave no report: {error}; --stand-alone does without") from error


def ask(config: Config) -> Report | None:
    """The report of the running relay, or None when none listens; raises as ``client.ask`` does."""
    return client.ask(config, PATH)


def _write(report: Report, folder: Path) -> None:
    """Put the report into a folder, each file whole or not at all, for its owner only."""
    from fipsrelay.observe import markdown

    texts = {"evidence.json": json.dumps(report, indent=2) + "\n", "evidence.md": markdown.render(report)}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in texts.items():
            handle, temporary = tempfile.mkstemp(prefix=".", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, folder / name)
    except OSError as error:
        raise _NoReportError(f"{folder} cannot be written: {error.strerror}") from error


def digest(config: Config) -> str:
    """Of the effective configuration, as reports say it."""
    from fipsrelay.observe import evidence

    return evidence.digest(config)


def _visit(config: Config) -> Report:
    """The report of this process: the gate first, then every server once."""
    began = time.time()
    try:
        proven = gate.prove(config.fips)
    except FipsError as error:
        return _failed(config, began, error)
    from fipsrelay.observe import visits

    return visits.report(config, proven, began)


def _failed(config: Config, began: float, error: FipsError) -> Report:
    from fipsrelay.observe import evidence

    return evidence.fail(evidence.begin(evidence.Source("stand-alone", os.getpid(), began), config, began), error)
