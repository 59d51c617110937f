"""The auditor's report for people: Markdown made of what ``evidence`` has put together, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]

_NOT_PROVEN = (
    "That the file is the validated build: a name and a version are its own words. The digest is what can be compared"
    " with the vendor's, and pinned (`fips.sha256`).",
    "That the module is operated as its security policy demands of the operating system and of the machine.",
    "Anything of other traffic of this host, or of the plaintext between the agent and the relay.",
)


def render(report: Report) -> str:
    """The whole text."""
    head, program = report["report"], report["program"]
    lines = ["# FIPS evidence of fipsrelay", ""]
    lines += _facts(
        {
            "made": head["made"],
            "host": head["host"],
            "source": f"{head['source']}, process {head['pid']}, since {head['started']}",
            "program": f"{program['name']} {program['version']}, Python {program['python']}",
            "packages": ", ".join(f"{name} {version}" for name, version in program["packages"].items()),
            "configuration, SHA-256": report["configuration"]["sha256"],
        }
    )
    if report["failure"]:
        lines += ["", "## FAILED: the FIPS state could not be proven, or was lost", "", *_facts(report["failure"])]
    if "module" in report:
        lines += _proven(report)
    if "upstreams" in report:
        lines += _traffic(report)
    lines += ["", "## Not proven by this report", "", *(f"* {line}" for line in _NOT_PROVEN)]
    lines += ["", "## Effective configuration", "", "```yaml", report["configuration"]["text"], "```", ""]
    return "\n".join(lines)


def _proven(report: Report) -> list[str]:
    module, policy, offered = report["module"], report["policy"], report["offered"]
    certificate = module["certificate"]
    facts = {name: value for name, value in module.items() if name not in ("certificate", "warnings")}
    lines = ["", "## Module", "", *_facts({**facts, "library that does TLS": report["library"]})]
    if certificate is None:
        lines += ["", "No certificate is known for a module of this name, version and build."]
    else:
        lines += ["", "### Certificate", "", *_facts(certificate)]
    lines += [line for warning in module["warnings"] for line in ("", f"**Warning:** {warning}")]
    lines += ["", "## Policy", "", *_facts({name: _shown(value) for name, value in policy.items()})]
    lines += ["", "## Offered, read from a ClientHello of this process", ""]
    return [*lines, *_facts({name: _shown(value) for name, value in offered.items()})]


def _traffic(report: Report) -> list[str]:
    lines = ["", "## Upstreams"]
    for upstream in report["upstreams"]:
        lines += ["", f"### {upstream['name']}: {upstream['host']}:{upstream['port']}", ""]
        lines += _table(("server", "state", "last failure"), (each.values() for each in upstream["servers"]))
        lines += ["", *_negotiated(upstream["handshakes"])]
        if upstream["refused"]:
            lines += ["", *_table(("refused", "count"), upstream["refused"].items())]
        if upstream["chain"]:
            columns = ("subject", "key", "key_bits", "signature_hash", "sha256")
            rows = ([certificate[column] for column in columns] for certificate in upstream["chain"])
            lines += ["", *_table(("newest chain", "key", "bits", "signed with", "SHA-256"), rows)]
    served = [intake for intake in report["intakes"] if intake["handshakes"]]
    for intake in served:
        lines += ["", f"### Agents of {intake['name']}", "", *_negotiated(intake["handshakes"])]
    return lines


def _negotiated(handshakes: Sequence[Report]) -> list[str]:
    if not handshakes:
        return ["No handshake was finished."]
    return _table(("version", "suite", "group", "handshakes"), (each.values() for each in handshakes))


def _facts(facts: Report) -> list[str]:
    return _table(("fact", "value"), facts.items())


def _table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(value: object) -> str:
    """What a certificate or a server says of itself must not become a cell or a line of its own."""
    return " ".join(str("-" if value is None else value).split()).replace("|", "\\|") or "-"


def _shown(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
