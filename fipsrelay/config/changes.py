"""Which changes of a configuration a running relay can take on."""

from __future__ import annotations

from fipsrelay.config.model import Config

_FIXED = ("fips", "listen", "log", "resolver")


def fixed(before: Config, after: Config) -> tuple[str, ...]:
    """What differs and stays as it is until a restart: the module and the page's sockets are those of the process."""
    names = [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
    if before.limits.connections != after.limits.connections:
        names.append("limits.connections")
    return tuple(names)
