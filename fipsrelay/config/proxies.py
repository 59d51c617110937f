"""A forward proxy's URL, read and written. Neither its messages nor its texts hold a password, or what may be one."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

import attrs

from fipsrelay.config import values
from fipsrelay.config.model import Proxy
from fipsrelay.config.nodes import Node
from fipsrelay.errors import ConfigError

_ALLOWED: Final = "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (what was found is not shown)"
# Visible ASCII but for the delimiters of RFC 3986 §3.2; it wants more than these encoded, but nothing hangs on it.
_CHARACTER: Final = r"(?:(?![%:@/?#\[\]])[!-~]|%[0-9A-Fa-f]{2})"
_URL: Final = re.compile(
    rf"(?i:http)://(?:(?P<user>{_CHARACTER}*)(?::(?P<password>(?:{_CHARACTER}|:)*))?@)?(?P<endpoint>[^@/?#]*)/?"
)
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f-\x9f]")


def read(node: Node) -> Proxy:
    """A proxy's URL, with the user's name and the password percent-decoded."""
    text = node.text(_ALLOWED)
    if text[:8].lower() == "https://":
        raise _wrong(node, "TLS runs end to end inside the tunnel, and only http:// proxies are supported")
    match = _URL.fullmatch(text)
    if match is None:
        reason = "not a proxy's URL (in user and password, / ? # @ [ ] % and blanks are written %2F and so on)"
        raise _wrong(node, reason)
    user, password = _decoded(node, match["user"] or ""), _decoded(node, match["password"] or "")
    if ":" in user:
        raise _wrong(node, "the user's name holds a colon, which Basic authentication cannot send (RFC 7617)")
    if password and not user:
        raise _wrong(node, "a password without a user")
    host, port = values.endpoint(match["endpoint"])
    if host and not port:
        raise _wrong(node, "the port is missing")
    try:
        place = values.machine(attrs.evolve(node, content=host)), values.port(attrs.evolve(node, content=port))
    except ConfigError:
        raise _wrong(node, "no host name or IP address with a port from 1 to 65535") from None
    return Proxy(*place, user, password)


def written(proxy: Proxy) -> str:
    """The URL; ``***`` stands for the password."""
    password = ":***" if proxy.password else ""
    user = f"{quote(proxy.user, safe='')}{password}@" if proxy.user else ""
    return f"http://{user}{values.joined(proxy.host, proxy.port)}"


def _decoded(node: Node, text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _wrong(node, "user or password is not UTF-8") from None
    if _CONTROL.search(decoded):
        raise _wrong(node, "user or password holds a control character, which no proxy takes (RFC 7617)")
    return decoded


def _wrong(node: Node, reason: str) -> ConfigError:
    return ConfigError((node.problem(f"{reason}; allowed: {_ALLOWED}"),))
