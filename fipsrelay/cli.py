"""The command ``fipsrelay``. Imports no OpenSSL and no Twisted: ``twistd`` below must be the first to load them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
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
    args = parser().parse_args(words)
    run: Callable[[argparse.Namespace], int | None] = args.run
    return run(args)


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


# -- each imports what it needs, and nothing before it is called


def _run(args: argparse.Namespace) -> int | None:
    from fipsrelay import launch

    return launch.main(["-n", "--pidfile=", "fipsrelay", "-c", args.config])


def _status(args: argparse.Namespace) -> int:
    from fipsrelay.observe import show

    return show.status(args.config, args.json)


def _top(args: argparse.Namespace) -> int:
    from fipsrelay.observe import show

    return show.top(args.config)


def _reload(args: argparse.Namespace) -> int:
    from fipsrelay.observe import show

    return show.reload(args.config)


def _version(args: argparse.Namespace) -> int:
    print(f"fipsrelay {__version__}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from fipsrelay.config import check

    return check.main(args.config, args.expand)


def _doctor(args: argparse.Namespace) -> int:
    from fipsrelay.observe import doctor

    return doctor.main(args.config, args.agent_config, args.json, not args.no_agent)


def _explain(args: argparse.Namespace) -> int:
    from fipsrelay.observe import explain

    return explain.main(args.code)


def _evidence(args: argparse.Namespace) -> int:
    from fipsrelay.observe import audit

    return audit.main(args.config, args.output, args.stand_alone)


def _agent(args: argparse.Namespace) -> int:
    from fipsrelay.observe import agent_file

    return agent_file.main(args.action, args.file, args.port_range_start)


def _module(args: argparse.Namespace) -> int:
    if args.config and not args.prove:
        args.error("module: -c FILE goes with --prove only")
    if args.prove:
        from fipsrelay import launch

        return launch.prove(args.config)
    from fipsrelay.crypto import obtain

    return obtain.run(args.install, args.source, args.suite, args.quiet)


def _completion(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError:
        print("fipsrelay completion needs shtab: pip install 'fipsrelay[completion]'", file=sys.stderr)
        return 1
    print(shtab.complete(parser(), args.shell))
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``twistd`` and ``demo`` have options of their own."""
    root = argparse.ArgumentParser(prog="fipsrelay", description="Carry an agent's traffic out over FIPS TLS.")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("twistd", help="run the service: twistd's own options follow", add_help=False)
    commands.add_parser("demo", help="try the relay against an intake of its own", add_help=False)

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], help_text: str, config: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_text, description=f"{help_text[:1].upper()}{help_text[1:]}.")
        added.set_defaults(run=run)
        if config:
            added.add_argument("-c", "--config", metavar="FILE", required=True, help="the configuration file")
        return added

    command("run", _run, "run the service in the foreground, as twistd -n does")
    status = command("status", _status, "print the state of the running relay")
    status.add_argument("--json", action="store_true", help="print one object, for programs")
    command("top", _top, "watch the state of the running relay")
    command("reload", _reload, "have the running relay read its configuration again")
    check = command("check", _check, "check a configuration file")
    check.add_argument("--expand", action="store_true", help="print the complete configuration")
    doctor = command("doctor", _doctor, "find out what is wrong on this host")
    whose = doctor.add_mutually_exclusive_group()
    whose.add_argument("--agent-config", type=Path, metavar="FILE", help="the Agent's datadog.yaml")
    whose.add_argument("--no-agent", action="store_true", help="leave the Agent out, which is not to use the relay yet")
    doctor.add_argument("--json", action="store_true", help="print one object, for programs")
    evidence = command("evidence", _evidence, "write a report for auditors")
    evidence.add_argument("-o", "--output", type=Path, metavar="DIR", required=True)
    evidence.add_argument("--stand-alone", action="store_true", help="visit the servers instead of asking the relay")
    explain = command("explain", _explain, "say what a code of a failure means, and what to do", config=False)
    explain.add_argument("code", nargs="?", metavar="CODE", help="as in Fipsrelay-Error; without it all are listed")
    agent = command("agent", _agent, "switch the use of the relay on or off in an Agent's datadog.yaml", config=False)
    agent.add_argument("action", choices=("enable", "disable", "show"))
    agent.add_argument("file", type=Path, metavar="PATH", help="usually /etc/datadog-agent/datadog.yaml")
    agent.add_argument("--port-range-start", type=int, metavar="PORT", default=9803, help="of the relay (%(default)s)")
    module = command("module", _module, "obtain and examine the FIPS module", config=False)
    module.set_defaults(error=root.error)
    origin = module.add_mutually_exclusive_group()
    origin.add_argument("--install", type=Path, metavar="FIPS_SO", help="install this module")
    origin.add_argument("--source", type=Path, metavar="DIR", help="build the module from this OpenSSL source tree")
    origin.add_argument("--suite", default="trixie", help="Debian suite with a prebuilt module (default: %(default)s)")
    origin.add_argument("--prove", action="store_true", help="only run the gate and print what it finds")
    module.add_argument("-c", "--config", metavar="FILE", help="with --prove: the configuration whose module to prove")
    module.add_argument("--quiet", action="store_true", help="print nothing when a module is there")
    command("version", _version, "print the version", config=False)
    shells = command("completion", _completion, "print what makes a shell complete these commands", config=False)
    shells.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return root
