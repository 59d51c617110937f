"""Process start: the gate first, then twistd. Nothing here may import OpenSSL or Twisted at module level.

``twistd`` has loaded OpenSSL before any plugin runs, too late for the gate. So the plugin asks for ``proof``, which
begins the process again when there is none. A process that ``main`` started never begins again, whatever its arguments:
that cannot loop.
"""

from __future__ import annotations

import getopt
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import attrs

from fipsrelay.config.model import Config, Fips
from fipsrelay.crypto import gate, interpreter
from fipsrelay.errors import ConfigError, FipsError, FipsrelayError, PortsError, Problem

STATUSES = {ConfigError: 2, FipsError: 3, PortsError: 4}
_GIVEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_MAIN = "from fipsrelay.cli import main; sys.exit(main())"


@attrs.frozen
class Proven:
    """What ``main`` proved about this process.

    Attributes:
        file: the configuration file, as it was named.
        path: the same from anywhere.
        config: read from it, once: what the gate went by is what the service goes by.
        evidence: what the gate saw.
        given: what the service manager said of the sockets that it holds, see sd_listen_fds(3).
    """

    file: str
    path: str
    config: Config
    evidence: gate.Evidence
    given: Mapping[str, str]


# Facts about this process, set once by main, before any other thread or the reactor runs.
_launched = False
_proven: Proven | None = None


def proof(file: str | None) -> Proven:
    """What was proven about this process; does not return to one of which nothing can be proven any more.

    Args:
        file: the configuration file as twistd understood its arguments.

    Raises:
        FipsError: ``gate-skipped`` when ``main`` understood the arguments in another way.
    """
    if not _launched:
        _begin_again()
    if _proven is None or _proven.file != file:
        remedy = "name the configuration plainly: twistd fipsrelay --config FILE"
        raise FipsError("gate-skipped", "the gate before the service", "arguments that hid the service", remedy)
    return _proven


def _begin_again() -> NoReturn:
    # Twisted has taken the manager's out of the environment if any plugin asked for its endpoints.
    first = Path("/proc/self/environ").read_text(errors="surrogateescape").split("\0")
    given = dict(pair.split("=", 1) for pair in first if pair.partition("=")[0] in _GIVEN)
    words = interpreter.command(_MAIN, "twistd", *sys.argv[1:])
    os.execve(sys.executable, words, {**os.environ, **given})


def main(argv: Sequence[str]) -> int | None:
    """Pass the gate and run twistd.

    Args:
        argv: twistd's arguments, ``fipsrelay`` and its options among them.

    Returns:
        2 for a configuration error, 3 when the gate has not passed; None when twistd has run.
    """
    global _launched, _proven
    _launched = True
    _listen_to_sigterm()
    words = list(argv)
    # Out of the environment, for they are nobody else's; and before Twisted is loaded, which would take them.
    given = {name: os.environ.pop(name) for name in _GIVEN if name in os.environ}
    try:
        file = config_file(words)
        if file is not None:
            config = _load(file)
            _proven = Proven(file, os.path.abspath(file), config, gate.prove(config.fips), given)
    except (ConfigError, FipsError) as error:
        return refuse(error)
    _run_twistd(words)
    return None


def _listen_to_sigterm() -> None:
    """Let the first process of a container be stopped before Twisted's handler is there: nothing is under way yet.

    The kernel has no default for it (pid_namespaces(7)): without a handler the signal is lost, and the engine waits for
    as long as it would for a drain, and kills.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def refuse(error: FipsrelayError) -> int:
    """Say why there is no start; returns the exit status, see ``STATUSES``."""
    print(f"fipsrelay: {gate.one_line(error)}" if isinstance(error, FipsError) else error, file=sys.stderr)
    return STATUSES.get(type(error), 1)


def prove(file: str | None) -> int:
    """Run only the gate, on the module that a configuration file asks for, and print what it found, one fact a line.

    Args:
        file: None for whatever module can be found.
    """
    try:
        evidence = gate.prove(_load(file).fips if file else Fips(unlisted_module="warn"))
    except (ConfigError, FipsError) as error:
        return refuse(error)
    print("\n".join(evidence.lines()))
    return 0


def _load(file: str) -> Config:
    from fipsrelay.config.load import load_file

    return load_file(file, os.environ)


def config_file(words: Sequence[str]) -> str | None:
    """The configuration file that twistd's arguments name, by the parser that twistd uses itself.

    Returns:
        None when twistd would not make our service: another one, its help or version, or arguments that it refuses.

    Raises:
        ConfigError: our service without a file.
    """
    for at in (at for at, word in enumerate(words) if word == "fipsrelay"):
        try:
            options, rest = getopt.getopt(list(words[at + 1 :]), "c:", ["config=", "handover=", "help", "version"])
        except getopt.GetoptError:
            continue
        names = {*words[:at], *(name for name, _ in options)}
        if rest or names & {"--help", "--version"}:
            continue
        files = [value for name, value in options if name in {"-c", "--config"}]
        if not files:
            raise ConfigError((Problem("twistd fipsrelay", 0, "", "the configuration is missing: -c FILE"),))
        return files[-1]
    return None


def names_reactor(words: Sequence[str]) -> bool:
    """Whether twistd is told which reactor to use."""
    # The last one: an earlier one may be a value of twistd's options. Ours have none like this.
    own = words[: max((at for at, word in enumerate(words) if word == "fipsrelay"), default=len(words))]
    # -n, -o, -b and -e take no value, so that -nr is -n -r; --r alone might also be --rundir.
    return any(re.match(r"-[nobe]*r|--re(a(c(t(or?)?)?)?)?(=|$)", word) for word in own)


def _run_twistd(words: list[str]) -> None:
    if not names_reactor(words):
        from fipsrelay.wire.reactor import install

        install()
    sys.argv = ["twistd", *words]
    from twisted.application import app
    from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner

    runner = UnixApplicationRunner
    if _proven is not None:
        from fipsrelay.observe import logs

        runner = logs.runner(_proven.config.log)
    # As twistd.run, without its last step: to die by the signal that stopped it. A drained stop is a success.
    app.run(lambda options: runner(options).run(), ServerOptions)
