"""Runs one target under libFuzzer, guided by the branches of the modules under test.

``python -m tests.fuzz.guided tests.fuzz.framing.check -runs=1000 CORPUS``: a function of an input, then libFuzzer's
options. Where no Atheris can be had, the inputs of the corpus are checked once each.
"""

from __future__ import annotations

import faulthandler
import importlib
import pkgutil
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.logger import LogEvent, globalLogBeginner
from twisted.python.failure import Failure

import fipsrelay

PACKAGE = Path(__file__).parent
CORPUS = PACKAGE / "corpus"
DICTIONARY = PACKAGE / "http.dict"
# All others run at full speed: what they do says nothing of the input.
GUIDES = (
    *("fipsrelay.relay.answer", "fipsrelay.relay.exchange", "fipsrelay.relay.frontend", "fipsrelay.relay.routes"),
    *("fipsrelay.wire.heads", "fipsrelay.wire.http1", "fipsrelay.wire.known"),
)
# Seconds for one input, and what the process may have. An input takes some milliseconds; the process, 100 MB.
_HANG, _MEGABYTES = 15, 500

Check = Callable[[bytes], None]


def command(target: str, *options: str) -> list[str]:
    """What runs a target with libFuzzer's options and folders, of which the first gets what is found."""
    return [sys.executable, "-m", "tests.fuzz.guided", target, *options]


def load(target: str) -> Check:
    """A target as a function that also raises what the program caught and logged as unexpected."""
    unexpected: list[Failure] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            unexpected.append(event["log_failure"])

    # Without this, Twisted keeps events for an observer that may come.
    globalLogBeginner.beginLoggingTo([cast(Any, observe)], redirectStandardIO=False, discardBuffer=True)
    module, _, name = target.rpartition(".")
    plain: Callable[[bytes], object] = getattr(importlib.import_module(module), name)

    def check(data: bytes) -> None:
        plain(data)
        if unexpected:
            unexpected.pop().raiseException()

    return check


def once(check: Check, folders: Sequence[str]) -> None:
    """Check every input of the folders."""
    count = 0
    for folder in folders:
        for path in sorted(Path(folder).iterdir()):
            faulthandler.dump_traceback_later(_HANG, exit=True)
            check(path.read_bytes())
            count += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"no Atheris here: {count} inputs were checked once", file=sys.stderr)


def main(arguments: list[str]) -> None:
    """Run a target: its name, then libFuzzer's options and folders."""
    target, *options = arguments
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        once(load(target), [option for option in options if not option.startswith("-")])
        return
    modules = [module.name for module in pkgutil.walk_packages(fipsrelay.__path__, "fipsrelay.")]
    unguiding = [name for name in modules if name not in GUIDES]
    # h11 too: its branches lead to forms that a grammar in regular expressions has no branches for.
    with atheris.instrument_imports(include=["fipsrelay", "h11"], exclude=unguiding):
        check = load(target)
    limits = (f"-timeout={_HANG}", f"-rss_limit_mb={_MEGABYTES}", f"-dict={DICTIONARY}")
    # With -merge libFuzzer starts itself again, by a shell.
    atheris.Setup([shlex.join(command(target)), *limits, *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
