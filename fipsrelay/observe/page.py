"""The document of ``status`` as one page of HTML, which needs no other file and renews itself.

A page of text is what is left where there is no script, and nothing on it is told by colour alone. What comes from
servers and certificates is quoted by ``html``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from fipsrelay.observe.html import Html, raw, tag, void
from fipsrelay.observe.text import duration

Document = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #0a7d33; --bad: #c2152b; --odd: #8a5a00; --dim: #666; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc97a; --bad: #ff6b78; --odd: #e0a93b; --dim: #a0a0a0; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 90rem; }
h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
.wide { overflow-x: auto; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: var(--good); }
.odd { color: var(--odd); }
.bad { color: var(--bad); font-weight: 600; }
.dim { color: var(--dim); }
.banner { border: 2px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; }
.banner { color: inherit; font-weight: inherit; }
.banner.good { border-color: var(--good); }
.banner.odd { border-color: var(--odd); }
.banner.bad { border-color: var(--bad); }
.hash { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
svg { width: 9rem; height: 1.6rem; display: block; }
polyline { fill: none; stroke: currentColor; stroke-width: 1; vector-effect: non-scaling-stroke; }
#stale { display: none; color: var(--bad); font-weight: 600; }
.stale #stale { display: block; } .stale main { opacity: .5; }
"""
_SCRIPT = """
"use strict";
const PAUSE = 2000;
async function renew() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.title = page.title;
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
  setTimeout(renew, PAUSE);
}
setTimeout(renew, PAUSE);
"""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: Content-Security-Policy: what stands in the page, and no more.
POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render(document: Document) -> bytes:
    """The page's bytes, in UTF-8."""
    program, state = document["program"], document["state"]
    head = tag(
        "head",
        void("meta", charset="utf-8"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("link", rel="icon", href="data:,"),
        tag("title", f"{_verdict(document)} - fipsrelay"),
        raw("style", _STYLE),
        raw("script", _SCRIPT),
    )
    problem = document["reloads"]["problem"]
    main = tag(
        "main",
        tag("h1", f"fipsrelay {program['version']}: {state}"),
        _banner(document),
        *([tag("p", f"✖ Not reloaded: {problem}", class_="bad")] if problem else []),
        tag("h2", "Intakes"),
        _wide(_intakes(document["intakes"])),
        tag("h2", "Upstreams"),
        _wide(_servers(document)),
        *(
            tag("p", f"{name['host']} has not resolved for {_age(name['seconds'])}.", class_="bad")
            for name in document["unresolved"]
        ),
        tag("h2", "TLS handshakes"),
        _wide(_handshakes(document)),
        tag(
            "p",
            f"Up {_age(program['uptime'])}, since {_date(program['started'])}, as process {program['pid']}. "
            f"Connections: {document['connections']['open']} of {document['connections']['limit']}. ",
            "Configuration ",
            tag("span", document["configuration"]["sha256"], class_="hash"),
            f". As of {_date(document['made'])}.",
            class_="dim",
        ),
    )
    body = tag("body", tag("p", "The relay does not answer; what stands here is old.", id="stale", role="alert"), main)
    return b"<!DOCTYPE html>\n" + tag("html", head, body, lang="en").encode()


def _verdict(document: Document) -> str:
    """For the title, which is all that is seen of a page in the background."""
    if document["fips"]["failure"]:
        return "FIPS LOST"
    down = [
        upstream
        for destination in document["destinations"]
        for upstream in destination["upstreams"]
        if all(server["state"] == "DOWN" for server in destination["servers"])
    ]
    return f"{len(down)} DOWN" if down else str(document["state"])


def _banner(document: Document) -> Html:
    fips = document["fips"]
    if fips["failure"]:
        kind, words = "bad", f"✖ FIPS state lost: {fips['failure']}"
    elif fips["listed"]:
        kind, words = "good", "✔ FIPS module in force"
    else:
        kind, words = "odd", "⚠ FIPS module in force, without an active certificate"
    verdict = tag("strong", words, class_=kind)
    return tag(
        "div",
        tag("div", verdict, f": {fips['name']} {fips['version']} (build {fips['build_info']}), in {fips['library']}"),
        tag("div", f"Certificate: {fips['certificate'] or 'none known'}"),
        *(tag("div", f"⚠ {warning}") for warning in fips["warnings"]),
        tag("div", f"{fips['module']}, SHA-256 ", tag("span", fips["sha256"], class_="hash"), class_="dim"),
        class_=f"banner {kind}",
        id="fips",
    )


def _intakes(intakes: Iterable[Document]) -> Html:
    numbers = ("port", "open", "requests", "req/s", "in", "out", "B/s", "p50", "p99")
    columns = [("intake", ""), *((name, "n") for name in numbers), ("last 10 min", ""), ("answers", ""), ("errors", "")]
    return _table("intakes", columns, map(_intake, intakes))


def _intake(intake: Document) -> list[str]:
    is_http = intake["protocol"] == "http"
    rates, latency = intake["rates"], intake["latency"]
    kind = "" if is_http else " (raw TCP)"
    return [
        intake["name"] + kind + (" (TLS)" if intake["tls"] else ""),
        str(intake["port"]),
        str(intake["open_connections"]),
        str(latency["count"]) if is_http else "-",
        f"{rates['requests']:.3g}" if is_http else "-",
        _size(intake["bytes_in"]),
        _size(intake["bytes_out"]),
        _size(rates["bytes"]),
        duration(latency["recent_p50"]),
        duration(latency["recent_p99"]),
        _chart(intake["history"], "requests" if is_http else "bytes"),
        _counts(intake["answers"], lambda status: status >= "400"),
        _counts({**intake["errors"], **{f"retried {code}": n for code, n in intake["retries"].items()}}, bool),
    ]


def _counts(counts: Mapping[str, int], is_bad: Any) -> str:
    if not counts:
        return "-"
    return tag(
        "span", *(tag("span", f"{key}: {count} ", class_="bad" if is_bad(key) else "") for key, count in counts.items())
    )


def _chart(history: Document, what: str) -> Html:
    """A line of the last ten minutes, the newest on the right."""
    values: Sequence[int] = history[what]
    highest = max(values, default=0)
    unit = f"{highest / history['interval']:.3g} a second"
    points = " ".join(
        f"{60 - len(values) + place},{19 - 18 * value / (highest or 1):.2f}" for place, value in enumerate(values)
    )
    label = f"{what} of the last ten minutes, at most {unit}"
    line = tag("polyline", points=points)
    return tag(
        "svg", tag("title", label), line, viewBox="0 0 60 20", preserveAspectRatio="none", role="img", aria_label=label
    )


def _servers(document: Document) -> Html:
    columns = [("server", ""), ("address", ""), ("state", ""), ("for", "n"), ("last heard", "n"), ("under way", "n")]
    columns += [("idle", "n"), ("TLS", ""), ("last failure", "")]
    rows = []
    for destination in document["destinations"]:
        found = destination["negotiated"]
        tls = f"{found['version']} {found['suite']} {found['group']}" if found else "-"
        for upstream in destination["upstreams"]:
            rows += [_server(upstream, server, tls) for server in destination["servers"]]
            if not destination["servers"]:
                absent = tag("span", "✖ no address", class_="bad")
                rows.append([upstream, destination["host"], absent, "-", "-", "-", "-", "-", "-"])
    return _table("servers", columns, rows)


def _server(upstream: str, server: Document, tls: str) -> list[str]:
    state = server["state"]
    marks = {"UP": ("✔ UP", "good"), "DOWN": ("✖ DOWN", "bad")}
    text, kind = marks.get(state, (f"○ {state}", "dim"))
    return [
        f"{upstream}/{server['name']}",
        server["address"],
        tag("span", text, class_=kind),
        _age(server["seconds"]),
        "-" if server["heard"] is None else f"{_age(server['heard'])} ago",
        str(server["outstanding"]),
        str(server["free"]),
        tls if state == "UP" else "-",
        server["failure"] or "-",
    ]


def _handshakes(document: Document) -> Html:
    columns = [("with", ""), ("version", ""), ("suite", ""), ("group", ""), ("count", "n")]
    rows: list[list[str]] = []
    for destination in document["destinations"]:
        peer = f"{destination['host']}:{destination['port']}"
        rows += [[peer, *map(str, each.values())] for each in destination["handshakes"]]
        for reason, count in destination["refused"].items():
            rows.append([peer, tag("span", f"✖ refused: {reason}", class_="bad"), "", "", str(count)])
    for intake in document["intakes"]:
        rows += [[f"agents of {intake['name']}", *map(str, each.values())] for each in intake["handshakes"]]
    return _table("handshakes", columns, rows)


def _table(name: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> Html:
    head = tag("tr", *(tag("th", title, class_=kind, scope="col") for title, kind in columns))
    body = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, (_, kind) in zip(row, columns, strict=True))) for row in rows
    ]
    return tag("table", tag("thead", head), tag("tbody", *body), id=name)


def _wide(table: Html) -> Html:
    return tag("div", table, class_="wide")


def _size(count: float) -> str:
    for unit in ("", " K", " M", " G"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.4g} T"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _date(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
