"""Heads that were read before: the next one of the same words costs a look-up instead of being parsed and rebuilt.

The heads of one agent differ in little more than their Content-Length, and so do the answers that an intake gives
within a second (their Date). Every other difference, down to a letter's case, makes another head, which is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

# The normal form only: no sign, no leading zero, one space, and at most as many digits as http1 takes.
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9][0-9]{0,14})\r\n")
# Bounds: 256 heads of 4 KB are 2 MB an intake, with what was made of them.
_ENTRIES, _SIZE = 256, 4096

Meaning = TypeVar("Meaning")


class Known(Generic[Meaning]):
    """What heads mean, and their rebuilt form.

    Args:
        read: parses one head; returns what it means, the length of its body as ``http1`` has it, and the rebuilt
            head. The meaning must not depend on the length.
    """

    __slots__ = ("_entries", "_read")

    def __init__(self, read: Callable[[bytes], tuple[Meaning, int, bytes]]) -> None:
        self._read = read
        self._entries: dict[bytes, tuple[Meaning, bytes, bytes]] = {}

    def read(self, head: bytes) -> tuple[Meaning, int, bytes]:
        """What ``Known``'s ``read`` gives for this head, and raises.

        Args:
            head: whole, with its empty line.
        """
        match = _LENGTH.search(head)
        if match is None:
            return self._read(head)
        start, end = match.span(1)
        digits = head[start:end]
        entry = self._entries.get(head[:start] + head[end:])
        if entry is None:
            return self._learn(head, start, end)
        meaning, before, after = entry
        return meaning, int(digits), before + digits + after

    def _learn(self, head: bytes, start: int, end: int) -> tuple[Meaning, int, bytes]:
        meaning, length, rebuilt = self._read(head)
        match = _LENGTH.search(rebuilt)
        # Not where the line has no say (an answer to HEAD), or was not passed on as it came.
        if match is not None and match[1] == head[start:end] == b"%d" % length and len(head) <= _SIZE:
            if len(self._entries) >= _ENTRIES:
                self._entries.clear()
            self._entries[head[:start] + head[end:]] = meaning, rebuilt[: match.start(1)], rebuilt[match.end(1) :]
        return meaning, length, rebuilt
