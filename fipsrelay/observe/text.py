"""The state of the relay as plain text: what ``curl`` gets, and what ``fipsrelay status`` prints. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
Row = tuple[str, ...]


def render(document: Document) -> str:
    """The text of a document of ``status``."""
    program, fips, connections = document["program"], document["fips"], document["connections"]
    lines = [
        f"fipsrelay {program['version']}, {document['state']}, up {program['uptime']:.0f} s, process {program['pid']}",
        *([f"LOST: {fips['failure']}"] if fips["failure"] else []),
        *(f"{name.replace('_', ' ')}: {fips[name]}" for name in ("module", "sha256")),
        f"provider: {fips['name']} {fips['version']} (build {fips['build_info']}), in {fips['library']}",
        f"certificate: {fips['certificate'] or 'none known'}",
        *(f"warning: {warning}" for warning in fips["warnings"]),
        f"configuration: {document['configuration']['sha256']}",
        *([f"RELOAD FAILED: {document['reloads']['problem']}"] if document["reloads"]["problem"] else []),
        f"connections: {connections['open']} of {connections['limit']}",
        "",
        *_intakes(document["intakes"]),
        "",
        *_servers(document["destinations"]),
        *(f"{name['host']} has not resolved for {name['seconds']:.0f} s" for name in document["unresolved"]),
        *_handshakes(document),
    ]
    return "\n".join((*lines, ""))


def _intakes(intakes: Iterable[Document]) -> list[str]:
    columns = ("intake", "open", "connections", "bytes in", "bytes out", "req/s", "p50", "p99")
    counts = ("answers", "errors", "retries")
    rows = [
        (
            intake["name"],
            str(intake["open_connections"]),
            str(intake["connections"]),
            str(intake["bytes_in"]),
            str(intake["bytes_out"]),
            f"{intake['rates']['requests']:.3g}" if intake["protocol"] == "http" else "-",
            duration(intake["latency"]["recent_p50"]),
            duration(intake["latency"]["recent_p99"]),
            *(_counts(intake[what]) for what in counts),
        )
        for intake in intakes
    ]
    return table([(*columns, *counts), *rows])


def _servers(destinations: Iterable[Document]) -> list[str]:
    rows: list[Row] = [("server", "address", "state", "for", "outstanding", "free", "last failure")]
    for destination in destinations:
        for upstream in destination["upstreams"]:
            rows += [_server(upstream, server) for server in destination["servers"]]
            if not destination["servers"]:
                rows.append((upstream, destination["host"], "no address", "-", "-", "-", "-"))
    return table(rows)


def _server(upstream: str, server: Document) -> Row:
    return (
        f"{upstream}/{server['name']}",
        server["address"],
        server["state"],
        f"{server['seconds']:.0f} s",
        str(server["outstanding"]),
        str(server["free"]),
        server["failure"] or "-",
    )


def _handshakes(document: Document) -> list[str]:
    rows: list[Row] = []
    refused: list[Row] = []
    for destination in document["destinations"]:
        peer = f"{destination['host']}:{destination['port']}"
        rows += [(peer, *map(str, each.values())) for each in destination["handshakes"]]
        refused += [(peer, reason, str(count)) for reason, count in destination["refused"].items()]
    for intake in document["intakes"]:
        rows += [(f"agents of {intake['name']}", *map(str, each.values())) for each in intake["handshakes"]]
    lines = []
    if rows:
        module = f"{document['fips']['name']} {document['fips']['version']}"
        lines += ["", *table([(f"handshakes by {module}", "version", "suite", "group", "count"), *rows])]
    if refused:
        lines += ["", *table([("handshakes refused", "reason", "count"), *refused])]
    return lines


def table(rows: Sequence[Row]) -> list[str]:
    """Rows in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def duration(seconds: float | None) -> str:
    """A time for people: ``850 us``, ``1.2 ms``, ``3.4 s``; ``-`` for none."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{key}:{count}" for key, count in counts.items()) or "-"
