"""The statistics page: plain text, read-only. Shows counters, servers and what the gate found; opens no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from fipsrelay import __version__
from fipsrelay.counters import Counters
from fipsrelay.upstream.backend import Backend
from fipsrelay.upstream.server import Server


def render(
    counters: Counters,
    facts: tuple[str, ...],
    module: str,
    backends: Mapping[str, Backend],
    unresolved: Mapping[str, float],
    wall: float,
    now: float,
) -> str:
    """The page's text.

    Args:
        counters: of the process.
        facts: what the gate found, one line each.
        module: name and version of what did the handshakes.
        backends: upstreams by name.
        unresolved: names that do not resolve, and since when.
        wall: seconds of the wall clock.
        now: seconds of the clock that servers and names go by.
    """
    head = f"fipsrelay {__version__}, up {wall - counters.started:.0f} s"
    lost = [f"{host} has not resolved for {now - since:.0f} s" for host, since in unresolved.items()]
    handshakes = _handshakes(counters, backends, module)
    return "\n".join((head, *facts, "", *_intakes(counters), "", *_servers(backends, now), *lost, *handshakes, ""))


def _intakes(counters: Counters) -> list[str]:
    rows = [("intake", "open", "connections", "bytes in", "bytes out", "answers", "errors", "retries")]
    for name, intake in counters.intakes.items():
        rows.append(
            (
                name,
                str(intake.open_connections),
                str(intake.connections),
                str(intake.bytes_in),
                str(intake.bytes_out),
                _counts(intake.requests.items()),
                _counts(intake.errors.items()),
                _counts(intake.retries.items()),
            )
        )
    return _table(rows)


def _servers(backends: Mapping[str, Backend], now: float) -> list[str]:
    rows: list[tuple[str, ...]] = [("server", "address", "state", "for", "outstanding", "free", "last failure")]
    for name, backend in backends.items():
        rows += [_server(name, server, now) for server in backend.cluster.servers]
        if not backend.cluster.servers:
            rows.append((name, backend.upstream.host, "no address", "-", "-", "-", "-"))
    return _table(rows)


def _server(upstream: str, server: Server, now: float) -> tuple[str, ...]:
    health = server.health
    return (
        f"{upstream}/{server.name}",
        str(server.place),
        state(server),
        f"{now - health.since:.0f} s",
        str(server.outstanding),
        str(len(server.free)),
        health.reason or "-",
    )


def state(server: Server) -> str:
    """One word or two for a server's state."""
    if not server.health.up:
        return "DOWN"
    return "not checked" if server.heard == float("-inf") else "UP"


def _handshakes(counters: Counters, backends: Mapping[str, Backend], module: str) -> list[str]:
    """What was negotiated, and what was refused; upstreams that share their servers share their handshakes."""
    rows: list[tuple[str, ...]] = []
    refused: list[tuple[str, ...]] = []
    for cluster in dict.fromkeys(backend.cluster for backend in backends.values()):
        peer = f"{cluster.host}:{cluster.port}"
        finished = sorted(cluster.handshakes.finished.items())
        rows += [(peer, *parameters, str(count)) for parameters, count in finished]
        refused += [(peer, reason, str(count)) for reason, count in sorted(cluster.handshakes.refused.items())]
    for name, intake in counters.intakes.items():
        finished = sorted(intake.handshakes.items())
        rows += [(f"agents of {name}", *parameters, str(count)) for parameters, count in finished]
    lines = []
    if rows:
        lines += ["", *_table([(f"handshakes by {module}", "version", "suite", "group", "count"), *rows])]
    if refused:
        lines += ["", *_table([("handshakes refused", "reason", "count"), *refused])]
    return lines


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _counts(items: object) -> str:
    return " ".join(f"{key}:{count}" for key, count in sorted(items)) or "-"  # type: ignore[call-overload]


class _Fresh(Resource):
    """What is made anew for each request, whatever the rest of its path."""

    isLeaf = True

    def __init__(self, kind: bytes, text: Callable[[], str]) -> None:
        super().__init__()
        self._kind = kind
        self._text = text

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", self._kind)
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        return self._text().encode()


class _Root(Resource):
    def __init__(self, page: Resource, evidence: Resource) -> None:
        super().__init__()
        self._page = page
        self.putChild(b"evidence.json", evidence)

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self._page


class _Site(Site):
    def log(self, request: object) -> None:
        """A look at the page is no news."""


def site(text: Callable[[], str], report: Callable[[], Mapping[str, Any]]) -> Site:
    """The web site: the page everywhere but at ``/evidence.json``.

    Args:
        text: of the page; called for each request.
        report: see ``evidence``; called for each request.
    """
    page = _Fresh(b"text/plain; charset=utf-8", text)
    return _Site(_Root(page, _Fresh(b"application/json", lambda: json.dumps(report()))))
