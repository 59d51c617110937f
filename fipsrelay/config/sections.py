"""What each section of the configuration may say, and what follows from several of its keys. Opens no file.

A wrong value is left out, and what depends on it is not judged: one mistake makes one problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from fipsrelay.config import proxies, values
from fipsrelay.config.model import Certificate, Egress, Intake, Listen, LocalTls, Retries, Route, Timeouts, Upstream
from fipsrelay.config.nodes import Node, shown
from fipsrelay.config.values import Readers, collected, each, file_or, one_of, port, record, seconds, settings, whole
from fipsrelay.errors import ConfigError, Problem

VARIABLES: Final = {"port_range_start": "DD_FIPS_PORT_RANGE_START", "addresses": "DD_FIPS_LOCAL_ADDRESS"}

LISTEN: Final[Readers] = {
    "addresses": values.listen_addresses,
    "port_range_start": port,
    "allow_remote_plaintext": values.flag,
}
CERTIFICATE: Final[Readers] = {
    **dict.fromkeys(("number", "name", "version", "build_info", "source"), values.word),
    "standard": one_of("FIPS 140-2", "FIPS 140-3"),
    "sunset": values.date,
    "checked": values.date,
}
FIPS: Final[Readers] = {
    "module": file_or("auto"),
    "sha256": values.sha256,
    "unlisted_module": one_of("refuse", "warn"),
    "certificates": each(record(Certificate, CERTIFICATE, required=set(CERTIFICATE) - {"sunset", "checked"})),
}
TLS: Final[Readers] = {
    "trust": file_or("system"),
    "minimum_version": one_of("1.2", "1.3"),
    "profile": one_of("sp800-52", "cnsa"),
    "hybrid_groups": values.flag,
    "crl": values.file,
    "ocsp_stapling": one_of("ignore", "require"),
}
RESOLVER: Final[Readers] = {"refresh": seconds(1), "nameservers": each(values.nameserver)}
EGRESS: Final[Readers] = {
    "proxy": proxies.read,
    # Whoever takes it for the place of the password finds no password in the log.
    "password_file": values.private(values.file, "the absolute path of a file"),
    "no_proxy": each(values.exempt),
}
PROBES: Final[Readers] = {
    "enabled": values.flag,
    "interval": seconds(1),
    "fall": whole(1, 100),
    "rise": whole(1, 100),
}
RETRIES: Final[Readers] = {"replay": values.flag, "replay_size": whole(0, 16 * 1024 * 1024)}
TIMEOUTS: Final[Readers] = {
    **{field.name: seconds() for field in attrs.fields(Timeouts)},
    "tunnel": seconds(high=24 * values.HOUR),
    # To stop at once is a choice; for all others no time at all is a mistake.
    "drain": seconds(0),
}
LOCAL_TLS: Final[Readers] = {"certificate": values.file, "key": values.file}
LIMITS: Final[Readers] = {
    "head_size": whole(1024, 1024 * 1024),
    "header_lines": whole(16, 4096),
    "connections": whole(1, 1_000_000),
}
LOG: Final[Readers] = {
    "level": one_of("debug", "info", "warn", "error", "critical"),
    "format": one_of("text", "json", "journald", "syslog"),
    "socket": values.file,
}
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


def listen(section: Node, environ: Mapping[str, str], problems: list[Problem]) -> Listen:
    """The section ``listen``, with what the environment lays on it."""
    variables = {
        key: Node(environ[variable], "environment", 0, variable)
        for key, variable in VARIABLES.items()
        if environ.get(variable)
    }
    given = settings(section, LISTEN, problems)
    from_environment: Readers = {"port_range_start": port, "addresses": values.local_addresses}
    given |= settings(Node(variables, "environment", 0, ""), from_environment, problems)
    listen = Listen(**given)
    remote = [address for address in listen.addresses if not values.is_loopback(address)]
    if remote and not listen.allow_remote_plaintext and not _is_wrong(problems, "listen.allow_remote_plaintext"):
        node = variables.get("addresses") or section.entries()["addresses"]
        message = "reachable from other machines, in plaintext; allowed: loopback, or allow_remote_plaintext: true"
        problems.append(node.problem(f"{', '.join(remote)} is {message}"))
    return listen


def egress(section: Node, problems: list[Problem]) -> Egress:
    """The section ``egress``; a password file needs a proxy, a user, and no other password."""
    egress = Egress(**settings(section, EGRESS, problems))
    if not egress.password_file or _is_wrong(problems, "egress.proxy"):
        return egress
    node = section.entries()["password_file"]
    if egress.proxy is None:
        problems.append(node.problem("there is no proxy for this password; allowed: beside egress.proxy"))
    elif not egress.proxy.user:
        problems.append(node.problem("egress.proxy has no user for this password; allowed: http://USER@HOST:PORT"))
    elif egress.proxy.password:
        problems.append(node.problem("egress.proxy holds a password too; allowed: one of the two"))
    return egress


def upstreams(section: Node, site: str, problems: list[Problem]) -> dict[str, Upstream]:
    """The section ``upstreams``; hosts outside the site need the operator's word."""
    readers: Readers = {
        "host": values.host(site),
        "port": port,
        "addresses": each(values.address),
        "outside_site": values.flag,
        "retries": record(Retries, RETRIES),
        "pins": each(values.sha256),
    }
    found = {}
    for name, node in _named(section, problems).items():
        given = settings(node, readers, problems, required=["host"])
        if "host" not in given:
            continue
        upstream = found[name] = Upstream(name, **given)
        inside = f".{upstream.host}".endswith(f".{site}")
        if not (inside or upstream.outside_site or _is_wrong(problems, "site", f"{node.path}.outside_site")):
            message = f"{shown(upstream.host)} is outside the site; allowed: *.{site}, or outside_site: true beside it"
            problems.append(node.entries()["host"].problem(message))
    return found


def intakes(section: Node, upstream_section: Node, start: int, problems: list[Problem]) -> dict[str, Intake]:
    """The section ``intakes``: every intake with a port of its own and upstreams that exist.

    Args:
        section: itself.
        upstream_section: the section ``upstreams``, for its names.
        start: port of the statistics page; offsets count from it.
        problems: what is wrong is added here.
    """
    upstream = values.known("upstream", upstream_section.entries())
    if _is_wrong(problems, "upstreams"):
        upstream = values.word
    readers: Readers = {
        "port": port,
        "offset": whole(0, 65534),
        "protocol": one_of("http", "tcp"),
        "upstream": upstream,
        "routes": _routes(upstream),
        "tls": record(LocalTls, LOCAL_TLS, required=LOCAL_TLS),
    }
    ports = _Ports(start, problems)
    found = {}
    for name, node in _named(section, problems).items():
        given = {"protocol": "http", **settings(node, readers, problems, required=["upstream"])}
        number = ports.claim(name, node, given)
        if given["protocol"] == "tcp" and given.get("routes"):
            message = "tcp has no paths to route by; allowed: http, or routes: []"
            problems.append(node.entries()["protocol"].problem(message))
        if number is not None and "upstream" in given:
            routes, tls = given.get("routes", ()), given.get("tls")
            found[name] = Intake(name, number, given["protocol"], given["upstream"], routes, tls)
    if not section.entries() and not _is_wrong(problems, "preset", "intakes"):
        problems.append(section.problem("there are none; allowed: at least one, here or from a preset"))
    return found


def _is_wrong(problems: list[Problem], *paths: str) -> bool:
    return any(problem.path in paths for problem in problems)


def _named(section: Node, problems: list[Problem]) -> dict[str, Node]:
    """The entries of a section whose keys are names of the operator's choosing."""
    named = {}
    for name, node in section.entries().items():
        if not _NAME.fullmatch(name):
            problems.append(node.problem("not a name; allowed: up to 64 letters and digits, with . _ - between them"))
        elif node.content is None:
            problems.append(node.problem("found nothing; allowed: settings (only what a preset has can be taken away)"))
        else:
            with collected(problems):
                named[name] = values.mapping(node)
    return named


def _routes(upstream: Callable[[Node], str]) -> Callable[[Node], tuple[Route, ...]]:
    readers: Readers = {"path_prefix": values.path_prefix, "upstream": upstream}
    read = each(record(Route, readers, required=readers))

    def routes(node: Node) -> tuple[Route, ...]:
        found = read(node)
        seen: set[str] = set()
        problems = []
        for item, route_found in zip(node.items(), found, strict=True):
            # Prefixes match whole segments: a slash at the end makes no difference.
            prefix = route_found.path_prefix.rstrip("/")
            if prefix in seen:
                problems.append(item.problem("duplicate route; an earlier one has the same path_prefix"))
            seen.add(prefix)
        if problems:
            raise ConfigError(tuple(problems))
        return found

    return routes


class _Ports:
    """Gives out ports, each of them once."""

    def __init__(self, start: int, problems: list[Problem]) -> None:
        self._start = start
        self._problems = problems
        self._start_is_known = not _is_wrong(problems, "listen.port_range_start", VARIABLES["port_range_start"])
        self._owners = {start: "the statistics page"} if self._start_is_known else {}

    def claim(self, name: str, node: Node, given: Mapping[str, Any]) -> int | None:
        """The port of an intake; None when there is none, or none that can be told."""
        entries = node.entries()
        keys = [key for key in ("port", "offset") if key in entries and entries[key].content is not None]
        # A port in the file replaces the preset's offset, and the other way round.
        keys = [key for key in keys if entries[key].file == node.file] or keys
        if len(keys) != 1:
            found = "both" if keys else "neither"
            self._problems.append(node.problem(f"found {found} of port and offset; allowed: one of them"))
            return None
        [key] = keys
        if key not in given or not (key == "port" or self._start_is_known):
            return None
        number: int = given[key] if key == "port" else self._start + given[key]
        owner = self._owners.setdefault(number, name)
        if number > 65535:
            self._problems.append(entries[key].problem(f"port {number}; allowed: up to 65535"))
        elif owner != name:
            self._problems.append(entries[key].problem(f"port {number} belongs to {owner} already; allowed: another"))
        return number
