"""Tables of the reference, from what the program itself goes by."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fipsrelay import cli, codes
from fipsrelay.config.load import DEFAULT_SITE, load_text
from fipsrelay.observe.metrics import Metrics
from tests.documents import Relay


def products() -> str:
    """The preset's intakes: a row a port, and one for each route."""
    config = load_text("preset: datadog", "preset")
    lines = ["| port | intake | paths | upstream | host |", "|---|---|---|---|---|"]
    lines.append(f"| {config.listen.port_range_start} | (statistics page) | | | |")
    for intake in config.intakes.values():
        ways = [(f"`{route.path_prefix}`", route.upstream) for route in intake.routes]
        for paths, name in (("all" if not ways else "all others", intake.upstream), *ways):
            host = config.upstreams[name].host.removesuffix(DEFAULT_SITE)
            lines.append(f"| {intake.port} | `{intake.name}` | {paths} | `{name}` | {host}*site* |")
    return "\n".join(lines)


def metrics() -> str:
    """Every family, with its kind and labels."""
    metrics = Metrics(Relay().document)
    text = metrics.render("").decode()
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for name, what in re.findall(r"(?m)^# HELP (\S+) (.*)$", text):
        match = re.search(rf"(?m)^# TYPE {name} (\w+)$", text)
        assert match is not None
        kind = match[1]
        found = dict.fromkeys(re.findall(r'(\w+)="', "".join(re.findall(rf"(?m)^{name}(?:_bucket)?{{(.*)}} ", text))))
        if kind == "histogram":
            found.pop("le")
        labels = ", ".join(f"`{label}`" for label in found)
        lines.append(f"| `{name}` | {'info' if name.endswith('_info') else kind} | {labels} | {what} |")
    return "\n".join(lines)


def upstream_codes() -> str:
    """Failures that are an upstream's, or the way's there."""
    return _codes(codes.UPSTREAM)


def agent_codes() -> str:
    """Failures that are an agent's."""
    return _codes(codes.AGENT)


def fips_codes() -> str:
    """Why the relay does not start, or stops sending."""
    rows = [f"| `{code}` | {meaning} |" for code, meaning in codes.FIPS.items()]
    return "\n".join(["| code | what has happened |", "|---|---|", *rows])


def _codes(kind: Mapping[str, codes.Code]) -> str:
    lines = ["| code | answer | what has happened | what to do |", "|---|---|---|---|"]
    for name, code in kind.items():
        statuses = ", ".join(map(str, code.statuses)) or "none"
        lines.append(f"| `{name}` | {statuses} | {code.meaning} | {code.remedy} |")
    return "\n".join(lines)


def commands() -> str:
    """Every command but those with options of others, by the program's own help."""
    parser = cli.parser()
    [choices] = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    parts = []
    for name, command in choices.items():
        if name not in cli.COMMANDS_WITH_OWN_OPTIONS:
            parts.append(f"## `fipsrelay {name}`\n\n```text\n{command.format_help().rstrip()}\n```\n")
    return "\n".join(parts)
