"""How the targets read their inputs: what both share."""

from __future__ import annotations

import re
from typing import Any

LARGEST = 40_000  # bytes that an input may become
# ESC, a byte, a count: so that few bytes can go beyond a limit.
_REPEAT = re.compile(rb"\x1b([^\x1b])([^\x1b])", re.DOTALL)
_TIMES = 64


def expand(data: bytes) -> bytes:
    """Write out what the input repeats."""
    parts = _REPEAT.split(data)  # text, a byte, its count, text ...
    pieces, size = [parts[0]], len(parts[0])
    for at in range(1, len(parts), 3):
        if size > LARGEST:
            break
        pieces += parts[at] * (ord(parts[at + 1]) * _TIMES), parts[at + 2]
        size += len(pieces[-2]) + len(pieces[-1])
    return b"".join(pieces)[:LARGEST]


def length(byte: int) -> int:
    """A size from one byte: small ones exactly, large ones in growing steps."""
    return byte if byte < 128 else (byte - 127) ** 2


def held(thing: Any) -> int:
    """Bytes that an object keeps in its own attributes, whatever these are called."""
    names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    values = [getattr(thing, name) for name in names] + list(getattr(thing, "__dict__", {}).values())
    return sum(len(value) for value in values if isinstance(value, bytes | bytearray))
