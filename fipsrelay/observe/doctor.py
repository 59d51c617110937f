"""The command ``fipsrelay doctor``: the questions of a troubleshooting page, asked one after the other.

Nothing here may import OpenSSL before the gate has run.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

from fipsrelay import __version__
from fipsrelay.config.check import summary
from fipsrelay.config.load import load_file
from fipsrelay.config.model import Config, Fips
from fipsrelay.crypto import gate
from fipsrelay.errors import ConfigError, FipsError
from fipsrelay.observe import agent, audit, findings, host
from fipsrelay.observe.findings import FAIL, OK, SKIP, WARN, Finding

AGENT = Path("/etc/datadog-agent/datadog.yaml")
_VARIABLES = "environment"  # a file of the Agent's package, beside datadog.yaml


def main(file: str, agent_file: Path | None, as_json: bool, ask_agent: bool) -> int:
    """Ask, and print what was found.

    Args:
        file: the configuration.
        agent_file: the Agent's datadog.yaml; None for its usual place, where it need not be.
        as_json: print one object.
        ask_agent: whether that matters.

    Returns:
        0 when nothing failed, or 1.
    """
    found = list(examine(file, agent_file, ask_agent))
    print(json.dumps(findings.document(__version__, file, found), indent=2) if as_json else findings.lines(found))
    return 0 if findings.is_good(found) else 1


def examine(file: str, agent_file: Path | None, ask_agent: bool) -> Iterator[Finding]:
    """All questions, in an order in which later ones may need the answers of earlier ones."""
    try:
        config = load_file(file, os.environ)
    except ConfigError as error:
        remedy = "correct it; 'fipsrelay check' says the same in less time"
        yield from (Finding("configuration", FAIL, str(problem), remedy) for problem in error.problems)
        yield from _module(Fips(unlisted_module="warn"))[1]
        yield Finding("everything else", SKIP, "there is no configuration to go by")
        return
    yield Finding("configuration", OK, summary(config))
    evidence, module = _module(config.fips)
    yield from module
    running = yield from _running(config)
    yield from ports(config, running)
    yield from _loopback()
    yield from _descriptors(config)
    yield from _clock()
    if evidence is None:
        yield Finding("TLS", SKIP, "trust store, certificates and upstreams: only a proven module is asked")
    else:
        from fipsrelay.observe import reach

        yield from reach.examine(config)
    if ask_agent:
        yield from _agent(config, agent_file)


def _module(fips: Fips) -> tuple[gate.Evidence | None, list[Finding]]:
    try:
        evidence = gate.prove(fips)
    except FipsError as error:
        return None, [Finding("module", FAIL, f"{error.code}: {error.found}", error.remedy)]
    words = f"{evidence.words}, {evidence.certificate or 'no certificate known'}"
    found = [Finding("module", OK, f"{evidence.module}: {words}; self-tests passed")]
    found += [Finding("module", WARN, warning, "bring a validated module") for warning in evidence.warnings]
    if fips.sha256 is None:
        remedy = f"set fips.sha256: {evidence.sha256}, after comparing it with the vendor's"
        found.append(Finding("module", WARN, "its digest is not pinned", remedy))
    return evidence, found


def _running(config: Config) -> Generator[Finding, None, int | None]:
    """Whether the relay runs; returns its process id or None."""
    try:
        report = audit.ask(config)
    except (OSError, ValueError):
        return None  # whoever it is, the question about ports names it
    if report is None:
        yield Finding("relay", OK, "it does not run")
        return None
    pid: int = report["report"]["pid"]
    if report["failure"]:
        code = report["failure"]["code"]
        yield Finding("relay", FAIL, f"process {pid} has lost its FIPS state ({code})", "restart it")
    elif report["configuration"]["sha256"] != audit.digest(config):
        remedy = "'fipsrelay reload' has it take this one, or says what wants a restart"
        yield Finding("relay", WARN, f"process {pid} runs with another configuration", remedy)
    else:
        yield Finding("relay", OK, f"process {pid} runs with this configuration, since {report['report']['started']}")
    return pid


def ports(config: Config, running: int | None, proc: Path = host.PROC) -> Iterator[Finding]:
    """Who holds the ports.

    Args:
        config: says which.
        running: the relay's process id, if it runs.
        proc: where procfs is mounted.
    """
    wanted = {"statistics page": config.listen.port_range_start}
    wanted |= {name: intake.port for name, intake in config.intakes.items()}
    taken = {name: holders for name, port in wanted.items() if (holders := host.holders(port, proc))}
    kept = [name for name, holders in taken.items() if all(holder.is_manager for holder in holders)]
    for name, holders in taken.items():
        # A relay may share them with systemd, and with a predecessor that is still finishing.
        if name not in kept and (running is None or not {running, None} & {holder.pid for holder in holders}):
            remedy = "stop that process, or give the intake another port"
            yield Finding("ports", FAIL, f"port {wanted[name]} of {name} is held by {holders[0]}", remedy)
    if not taken:
        yield Finding("ports", OK, f"all {len(wanted)} are free")
    elif running is None and kept:
        yield Finding("ports", OK, f"systemd holds {len(kept)} of {len(wanted)}, for the relay to be started")
    elif running is not None:
        missing = {name: f"{port} of {name}" for name, port in wanted.items() if name not in taken}
        raw = [missing.pop(name) for name, each in config.intakes.items() if each.protocol == "tcp" and name in missing]
        if missing:
            remedy = "restart the relay, and read its log"
            yield Finding("ports", FAIL, f"nobody listens on {', '.join(missing.values())}", remedy)
        if raw:
            remedy = "so it is with raw TCP while the upstream is away: see what is found of that"
            yield Finding("ports", WARN, f"connections to {', '.join(raw)} are refused", remedy)
        if len(taken) == len(wanted):
            yield Finding("ports", OK, f"the relay listens on all {len(wanted)}")


def _loopback() -> Iterator[Finding]:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as sock:
                sock.bind((address, 0))
        except OSError as error:
            state = FAIL if family == socket.AF_INET else WARN
            remedy = "bring up the interface lo; an Agent whose localhost is another address cannot reach the relay"
            yield Finding("loopback", state, f"{address}: {error.strerror}", remedy)
        else:
            yield Finding("loopback", OK, address)


def _descriptors(config: Config) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * config.limits.connections
    if hard < wanted:
        found = f"this user may open {hard} files; {config.limits.connections} connections may need {wanted}"
        yield Finding("descriptors", WARN, found, "raise LimitNOFILE of the unit, or what ulimit -Hn says")
    else:
        yield Finding("descriptors", OK, f"up to {hard} files for {config.limits.connections} connections")


def _clock() -> Iterator[Finding]:
    if host.is_clock_set():
        yield Finding("clock", OK, "synchronised, the kernel says")
    else:
        remedy = "run chrony or systemd-timesyncd, unless the host below this machine does so"
        yield Finding("clock", WARN, "not synchronised, the kernel says: certificates are judged by it", remedy)


def _agent(config: Config, file: Path | None) -> Iterator[Finding]:
    path = file or AGENT
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        yield Finding("agent", FAIL if file else SKIP, f"there is no {path}")
        return
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        yield Finding("agent", SKIP if file is None else FAIL, f"{path} cannot be read: {words}")
        return
    yield from agent.check(text, {**os.environ, **_variables(path.with_name(_VARIABLES))}, config)


def _variables(path: Path) -> dict[str, str]:
    """Lines NAME=VALUE of a file that need not be there."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
