"""Process start: the gate first, then twistd. Nothing here may import OpenSSL or Twisted at module level.

``twistd`` has loaded OpenSSL before any plugin runs, too late for the gate. So the plugin calls ``exec_twistd`` unless
``evidence`` is set. A process that ``main`` started never begins again, whatever its arguments: that cannot loop.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import attrs

from fipsrelay.config.model import Fips
from fipsrelay.crypto.gate import Evidence, prove
from fipsrelay.errors import ConfigError, FipsError

CONFIG_STATUS, FIPS_STATUS = 2, 3

# Set once, by main, before any other thread or the reactor runs.
evidence: Evidence | None = None
proven: Fips | None = None
_launched = False


def exec_twistd() -> NoReturn:
    """Begin this process again as ``python -m fipsrelay twistd`` with the same arguments.

    Raises:
        FipsError: ``gate-skipped`` when it has begun that way already, and the gate was passed by.
    """
    if _launched:
        remedy = "name the configuration plainly: twistd fipsrelay --config FILE"
        raise FipsError("gate-skipped", "the gate before the service", "arguments that hid the service", remedy)
    os.execve(sys.executable, [sys.executable, "-m", "fipsrelay", "twistd", *sys.argv[1:]], os.environ)


def main(argv: Sequence[str]) -> int | None:
    """Pass the gate and run twistd.

    Args:
        argv: twistd's arguments, ``fipsrelay`` and its options among them.

    Returns:
        2 for a configuration error, 3 when the gate has not passed; None when twistd has run.
    """
    global evidence, proven, _launched
    _launched = True
    words = list(argv)
    if starts_service(words):
        try:
            proven = settings(config_option(words))
            evidence = prove(proven)
        except ConfigError as error:
            print(error, file=sys.stderr)
            return CONFIG_STATUS
        except FipsError as error:
            print(f"fipsrelay: {one_line(error)}", file=sys.stderr)
            return FIPS_STATUS
    _run_twistd(words)
    return None


def report_config(config: str | None) -> int:
    """``report`` on the module that a configuration file asks for; on the one found by itself without a file."""
    try:
        fips = settings(config) if config else unlisted("auto")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_STATUS
    return report(fips)


def unlisted(setting: str) -> Fips:
    """A module that is to be looked at, not relied upon."""
    return Fips(module=setting, unlisted_module="warn")


def report(fips: Fips) -> int:
    """Run only the gate and print what it found, one fact a line."""
    try:
        found = prove(fips)
    except FipsError as error:
        print(f"fipsrelay: {one_line(error)}", file=sys.stderr)
        return FIPS_STATUS
    for name, value in attrs.asdict(found).items():
        for item in value if isinstance(value, tuple) else (value,):
            print(f"{name}: {item}")
    return 0


def settings(config: str | None) -> Fips:
    """The module that a configuration file asks for; the defaults without a file."""
    if config is None:
        return Fips()
    from fipsrelay.config.load import load_file

    fips: Fips = load_file(config, os.environ).fips
    return fips


def one_line(error: FipsError) -> str:
    """Supervisors and log collectors keep one line together."""
    return " ".join(str(error).split())


def starts_service(words: Sequence[str]) -> bool:
    """Whether twistd would make our service: not when it only prints its help or version."""
    return "fipsrelay" in words and not any(word.startswith("--help") or word == "--version" for word in words)


def config_option(words: Sequence[str]) -> str | None:
    """The last ``-c FILE`` or ``--config FILE`` after ``fipsrelay``, in every spelling that getopt takes."""
    found = None
    rest = iter(words[words.index("fipsrelay") + 1 :])
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "-c" or (_abbreviates(name, "--config") and not equals):
            found = next(rest, None)
        elif _abbreviates(name, "--config"):
            found = value
        elif word.startswith("-c"):
            found = word[2:]
    return found


def _abbreviates(word: str, option: str) -> bool:
    return len(word) > 2 and option.startswith(word)


def names_reactor(words: Sequence[str]) -> bool:
    """Whether twistd is told which reactor to use."""
    own = words[: words.index("fipsrelay")] if "fipsrelay" in words else words
    # -n, -o, -b and -e take no value, so that -nr is -n -r; --r alone might also be --rundir.
    return any(
        (_abbreviates(word.partition("=")[0], "--reactor") and len(word) > 3) or re.match("-[nobe]*r", word)
        for word in own
    )


def _run_twistd(words: list[str]) -> None:
    if not names_reactor(words):
        from fipsrelay.wire.reactor import install

        install()
    sys.argv = ["twistd", *words]
    from twisted.scripts import twistd

    twistd.run()  # type: ignore[no-untyped-call]
