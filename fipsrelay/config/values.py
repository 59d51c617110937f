"""Readers: each turns one node into one value, or says what is allowed there. Knows no key of the configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date as parse_date
from ipaddress import IPv4Address, IPv6Address, ip_network
from ipaddress import ip_address as parse_address
from typing import Any, Final, TypeVar

import attrs

from fipsrelay.config.nodes import Node, shown
from fipsrelay.errors import ConfigError, Problem

T = TypeVar("T")
Readers = Mapping[str, Callable[[Node], Any]]

LOCALHOST: Final = ("127.0.0.1", "::1")
HOUR: Final = 3600.0

_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?) ?(ms|s|m|h|)")
_MILLISECONDS: Final = {"ms": 1.0, "s": 1000.0, "": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A last label of digits alone would be read as an IPv4 address by some resolvers.
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_ENDPOINT: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*:[^\[\]]*)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]+))?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
# Visible ASCII without "?" and "#": no path of a request has these.
_PATH_PREFIX: Final = re.compile(r"/[!-\"$->@-~]*")


@contextmanager
def collected(problems: list[Problem]) -> Iterator[None]:
    """Adds the problems of an error to a list, and goes on after the block."""
    try:
        yield
    except ConfigError as error:
        problems.extend(error.problems)


def settings(node: Node, readers: Readers, problems: list[Problem], required: Iterable[str] = ()) -> dict[str, Any]:
    """The values of a mapping that are written and right.

    Args:
        node: the mapping.
        readers: by key, for every key that is allowed.
        problems: what is wrong is added here.
        required: keys that must be written.
    """
    values: dict[str, Any] = {}
    with collected(problems):
        entries = node.entries()
        missing = [key for key in required if key not in entries or entries[key].content is None]
        if missing:
            problems.append(node.problem(f"missing: {', '.join(missing)}"))
        for key, child in entries.items():
            if key not in readers:
                problems.append(child.problem(f"unknown key{suggestion(key, readers)}; allowed: {', '.join(readers)}"))
            elif child.content is not None:
                with collected(problems):
                    values[key] = readers[key](child)
    return values


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'X'?)`` when a known word is near, else nothing."""
    # difflib's time grows with the square of the length.
    near = difflib.get_close_matches(word[:64], known, n=1)
    return f" (did you mean {shown(near[0])}?)" if near else ""


def each(read: Callable[[Node], T]) -> Callable[[Node], tuple[T, ...]]:
    """A reader of lists; it reports every item that is wrong."""

    def items(node: Node) -> tuple[T, ...]:
        problems: list[Problem] = []
        values = []
        for item in node.items():
            with collected(problems):
                values.append(read(item))
        if problems:
            raise ConfigError(tuple(problems))
        return tuple(values)

    return items


def record(kind: Callable[..., T], readers: Readers, required: Iterable[str] = ()) -> Callable[[Node], T]:
    """A reader of mappings with fixed keys; ``kind`` makes a value of what is written."""

    def value(node: Node) -> T:
        problems: list[Problem] = []
        given = settings(node, readers, problems, required)
        if problems:
            raise ConfigError(tuple(problems))
        return kind(**given)

    return value


def mapping(node: Node) -> Node:
    """The node itself, which must be a mapping."""
    node.entries()
    return node


def private(read: Callable[[Node], T], allowed: str) -> Callable[[Node], T]:
    """A reader whose messages do not show what was found: it may hold a password."""

    def value(node: Node) -> T:
        try:
            return read(node)
        except ConfigError:
            raise ConfigError((node.problem(f"found something else (not shown); allowed: {allowed}"),)) from None

    return value


def whole(low: int, high: int) -> Callable[[Node], int]:
    """A reader of whole numbers."""
    allowed = f"a whole number from {low} to {high}"

    def number(node: Node) -> int:
        text = node.text(allowed)
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise node.wrong(allowed)
        return int(text)

    return number


port: Final = whole(1, 65535)


def seconds(low: float = 0.001, high: float = HOUR) -> Callable[[Node], float]:
    """A reader of times: seconds, or a number with ``ms``, ``s``, ``m`` or ``h``.

    The bounds tell milliseconds that were taken over from HAProxy (5000) from seconds.
    """
    allowed = f"seconds from {low:g} to {high:g}, such as 5, 0.5, 500ms, 5s or 2m"

    def time(node: Node) -> float:
        match = _SECONDS.fullmatch(node.text(allowed))
        # Milliseconds first, because 500 / 1000 is exact where 500 * 0.001 need not be.
        value = float(match[1]) * _MILLISECONDS[match[2]] / 1000.0 if match else -1.0
        if not low <= value <= high:
            raise node.wrong(allowed)
        return value

    return time


def word(node: Node) -> str:
    """Any text."""
    return node.text("a word")


def flag(node: Node) -> bool:
    """``true`` or ``false``."""
    allowed = "true or false"
    word = node.text(allowed).lower()
    if word not in ("true", "false"):
        raise node.wrong(allowed)
    return word == "true"


def one_of(*words: str) -> Callable[[Node], str]:
    """A reader of words."""
    allowed = " or ".join(words)

    def word(node: Node) -> str:
        text = node.text(allowed)
        if text not in words:
            raise node.wrong(allowed)
        return text

    return word


def known(what: str, names: Iterable[str]) -> Callable[[Node], str]:
    """A reader of names that are defined elsewhere; ``what`` says of what kind."""
    defined = tuple(names)

    def name(node: Node) -> str:
        text = node.text(f"the name of an entry of {what}s")
        if text not in defined:
            listed = ", ".join(defined) or "none"
            message = f"unknown {what} {shown(text)}{suggestion(text, defined)}; defined: {listed}"
            raise ConfigError((node.problem(message),))
        return text

    return name


def address(node: Node) -> str:
    """One IP address of a machine, in its usual form."""
    allowed = "an IP address"
    found = _parsed(node, allowed)
    if found.is_unspecified or found.is_multicast:
        raise node.wrong(f"{allowed} of one machine")
    return str(found)


def endpoint(text: str) -> tuple[str, str]:
    """Host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``, not judged yet.

    The host comes without brackets, the port is empty when there is none, and both are for any other text.
    """
    match = _ENDPOINT.fullmatch(text)
    return (match["ipv6"] or match["host"], match["port"] or "") if match else ("", "")


def joined(host: str, port: int) -> str:
    """The text that ``endpoint`` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def nameserver(node: Node) -> tuple[str, int]:
    """A name server's IP address and port, 53 by default. No name: nobody could look it up."""
    allowed = "an IP address, also with a port: 192.0.2.53, 192.0.2.53:5353 or '[2001:db8::53]:53'"
    text = node.text(allowed)
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    machine, number = (text, "") if bare_ipv6 else endpoint(text)
    try:
        return address(attrs.evolve(node, content=machine)), port(attrs.evolve(node, content=number or "53"))
    except ConfigError as error:
        raise node.wrong(allowed) from error


def machine(node: Node) -> str:
    """A host name or the IP address of one machine, in its usual form."""
    allowed = "a host name or an IP address"
    text = node.text(allowed).lower()
    if _HOST.fullmatch(text):
        return text
    return address(node)


def exempt(node: Node) -> str:
    """Whom ``no_proxy`` exempts: ``*``, a host name with or without a leading dot, an IP address or a network."""
    allowed = "*, a host name (with all below it), an IP address or a network such as 192.0.2.0/24"
    text = node.text(allowed).lower()
    if text == "*" or _HOST.fullmatch(text.removeprefix(".")):
        return text
    if "/" not in text or "%" in text:
        return str(_parsed(node, allowed))
    try:
        # Strict: 192.0.2.7/24 may have been meant as one address.
        return str(ip_network(text))
    except ValueError as error:
        raise node.wrong(allowed) from error


def local_addresses(node: Node) -> tuple[str, ...]:
    """An IP address to listen on; ``localhost`` stands for both loopback addresses, because agents may use either."""
    allowed = "an IP address or localhost"
    return LOCALHOST if node.text(allowed).lower() == "localhost" else (str(_parsed(node, allowed)),)


def listen_addresses(node: Node) -> tuple[str, ...]:
    """IP addresses to listen on, each of them once."""
    found = [address for addresses in each(local_addresses)(node) for address in addresses]
    if not found or len(set(found)) < len(found):
        raise node.wrong("one address at least, and none of them twice")
    return tuple(found)


def is_loopback(text: str) -> bool:
    """Whether only this machine reaches an address."""
    return parse_address(text).is_loopback


def host(site: str) -> Callable[[Node], str]:
    """A reader of host names; ``{site}`` in them stands for the site."""
    allowed = "a host name such as intake.example.com or intake.{site}; IP addresses belong under addresses"

    def name(node: Node) -> str:
        text = node.text(allowed).replace("{site}", site).lower()
        if not _HOST.fullmatch(text):
            raise node.wrong(allowed)
        return text

    return name


def site(node: Node) -> str:
    """A domain name of two labels at least: every host below it may get payload."""
    allowed = "a domain name such as example.com"
    text = node.text(allowed).lower()
    if not _HOST.fullmatch(text) or "." not in text:
        raise node.wrong(allowed)
    return text


def file(node: Node) -> str:
    """The absolute path of a file."""
    allowed = "the absolute path of a file"
    text = node.text(allowed)
    if not _is_path(text):
        raise node.wrong(allowed)
    return text


def file_or(word: str) -> Callable[[Node], str]:
    """A reader of absolute paths, or of one word that stands for none."""
    allowed = f"{word} or the absolute path of a file"

    def path(node: Node) -> str:
        text = node.text(allowed)
        if text != word and not _is_path(text):
            raise node.wrong(allowed)
        return text

    return path


def sha256(node: Node) -> str:
    """A digest, in lower case."""
    allowed = "64 hexadecimal digits"
    text = node.text(allowed)
    if not _SHA256.fullmatch(text):
        raise node.wrong(allowed)
    return text.lower()


def date(node: Node) -> str:
    """A day, as an ISO date."""
    allowed = "a date such as 2026-09-21"
    text = node.text(allowed)
    try:
        # fromisoformat takes more forms from Python 3.11 on.
        if not _DATE.fullmatch(text) or not parse_date.fromisoformat(text):
            raise node.wrong(allowed)
    except ValueError as error:
        raise node.wrong(allowed) from error
    return text


def path_prefix(node: Node) -> str:
    """The beginning of a request's path."""
    allowed = "a path in ASCII that begins with / and has no query"
    text = node.text(allowed)
    if not _PATH_PREFIX.fullmatch(text):
        raise node.wrong(allowed)
    return text


def _is_path(text: str) -> bool:
    return text.startswith("/") and text.isprintable() and not text.endswith("/")


def _parsed(node: Node, allowed: str) -> IPv4Address | IPv6Address:
    text = node.text(allowed)
    # A zone (fe80::1%eth0) may hold any character, and means nothing on another machine.
    if "%" in text:
        raise node.wrong(f"{allowed}, without a zone")
    try:
        return parse_address(text)
    except ValueError as error:
        raise node.wrong(allowed) from error
