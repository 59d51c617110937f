"""The command ``fipsrelay``. Imports no OpenSSL and no Twisted: ``twistd`` below must be the first to load them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fipsrelay import __version__

COMMANDS_WITH_OWN_OPTIONS = ("twistd", "demo")


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run one subcommand.

    Args:
        argv: the words after the program's name; the process's own when None.

    Returns:
        The exit status; None means success.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS_WITH_OWN_OPTIONS:
        return _pass_on(words[0], words[1:])
    parser = _parser()
    args = parser.parse_args(words)
    if args.command == "check":
        from fipsrelay.config import check

        return check.main(args.config, args.expand)
    if args.command == "doctor":
        from fipsrelay.observe import doctor

        return doctor.main(args.config, args.agent_config, args.json)
    if args.command == "evidence":
        from fipsrelay.observe import audit

        return audit.main(args.config, args.output, args.stand_alone)
    if args.command in ("status", "top"):
        from fipsrelay.observe import show

        return show.top(args.config) if args.command == "top" else show.status(args.config, args.json)
    if args.command == "reload":
        from fipsrelay.observe import show

        return show.reload(args.config)
    if args.command == "run":
        from fipsrelay import launch

        return launch.main(["-n", "--pidfile=", "fipsrelay", "-c", args.config])
    if args.command == "version":
        print(f"fipsrelay {__version__}")
        return 0
    if args.command == "agent":
        from fipsrelay.observe import agent_file

        return agent_file.main(args.action, args.file, args.port_range_start)
    if args.config and not args.prove:
        parser.error("module: -c FILE goes with --prove only")
    if args.prove:
        from fipsrelay import launch

        return launch.prove(args.config)
    from fipsrelay.crypto import obtain

    return obtain.run(args.install, args.source, args.suite, args.quiet)


def _pass_on(command: str, words: list[str]) -> int | None:
    if command == "twistd":
        from fipsrelay import launch

        return launch.main(words)
    try:
        from fipsrelay.demo import run
    except ModuleNotFoundError as error:
        print(f"fipsrelay demo needs {error.name}: pip install 'fipsrelay[demo]'", file=sys.stderr)
        return 1
    return run.main(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fipsrelay", description="Carry an agent's traffic out over FIPS TLS.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("twistd", help="run the service: twistd's own options follow", add_help=False)
    commands.add_parser("demo", help="try the relay against an intake of its own", add_help=False)
    run = commands.add_parser("run", help="run the service in the foreground, as twistd -n does")
    run.add_argument("-c", "--config", metavar="FILE", required=True)
    status = commands.add_parser("status", help="print the state of the running relay")
    status.add_argument("-c", "--config", metavar="FILE", required=True)
    status.add_argument("--json", action="store_true", help="print one object, for programs")
    top = commands.add_parser("top", help="watch the state of the running relay")
    top.add_argument("-c", "--config", metavar="FILE", required=True)
    reload = commands.add_parser("reload", help="have the running relay read its configuration again")
    reload.add_argument("-c", "--config", metavar="FILE", required=True)
    commands.add_parser("version", help="print the version")
    check = commands.add_parser("check", help="check a configuration file")
    check.add_argument("-c", "--config", metavar="FILE", required=True)
    check.add_argument("--expand", action="store_true", help="print the complete configuration")
    doctor = commands.add_parser("doctor", help="find out what is wrong on this host")
    doctor.add_argument("-c", "--config", metavar="FILE", required=True)
    doctor.add_argument("--agent-config", type=Path, metavar="FILE", help="the Agent's datadog.yaml")
    doctor.add_argument("--json", action="store_true", help="print one object, for programs")
    evidence = commands.add_parser("evidence", help="write a report for auditors")
    evidence.add_argument("-c", "--config", metavar="FILE", required=True)
    evidence.add_argument("-o", "--output", type=Path, metavar="DIR", required=True)
    evidence.add_argument("--stand-alone", action="store_true", help="visit the servers instead of asking the relay")
    agent = commands.add_parser("agent", help="switch the use of the relay on or off in an Agent's datadog.yaml")
    agent.add_argument("action", choices=("enable", "disable", "show"))
    agent.add_argument("file", type=Path, metavar="PATH", help="usually /etc/datadog-agent/datadog.yaml")
    agent.add_argument("--port-range-start", type=int, metavar="PORT", default=9803, help="of the relay (%(default)s)")
    module = commands.add_parser("module", help="obtain and examine the FIPS module")
    origin = module.add_mutually_exclusive_group()
    origin.add_argument("--install", type=Path, metavar="FIPS_SO", help="install this module")
    origin.add_argument("--source", type=Path, metavar="DIR", help="build the module from this OpenSSL source tree")
    origin.add_argument("--suite", default="trixie", help="Debian suite with a prebuilt module (default: %(default)s)")
    origin.add_argument("--prove", action="store_true", help="only run the gate and print what it finds")
    module.add_argument("-c", "--config", metavar="FILE", help="with --prove: the configuration whose module to prove")
    module.add_argument("--quiet", action="store_true", help="print nothing when a module is there")
    return parser
