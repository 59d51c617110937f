"""The forward proxy that the configuration names, with its password where that stands in a file."""

from __future__ import annotations

from pathlib import Path

from fipsrelay.config.model import Egress
from fipsrelay.errors import ConfigError, Problem
from fipsrelay.upstream.connect import Gateway
from fipsrelay.upstream.tunnel import authorization


def gateway(egress: Egress) -> Gateway | None:
    """The way out, or None where there is no proxy.

    Raises:
        ConfigError: the file of the password cannot be used.
    """
    proxy = egress.proxy
    if proxy is None:
        return None
    if not proxy.user:
        return Gateway(proxy.host, proxy.port)
    password = _first_line(egress.password_file) if egress.password_file else proxy.password
    return Gateway(proxy.host, proxy.port, authorization(proxy.user, password))


def _first_line(file: str) -> str:
    try:
        line = Path(file).read_text(encoding="utf-8-sig").partition("\n")[0]
    except OSError as error:
        raise _problem(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise _problem(f"{file} is not UTF-8") from None  # its text would hold the password
    # RFC 7617 §2: no control characters. No message may show the line.
    if not line or any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in line):
        raise _problem(f"{file} has no password in its first line, or one with control characters")
    return line


def _problem(message: str) -> ConfigError:
    return ConfigError((Problem("configuration", 0, "egress.password_file", message),))
