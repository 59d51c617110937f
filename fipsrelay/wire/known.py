"""Heads that were read before: the next one of the same words costs a look-up instead of being parsed and rebuilt.

The heads of one agent differ in little more than their Content-Length. Every other difference, down to a letter's case,
makes another head, which is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

# As Go's net/http writes it, at the beginning of a line: other spellings are parsed every time.
_LENGTH = b"\r\nContent-Length: "
_DIGITS = 15  # http1 takes more, and is asked about them
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
        self._entries: dict[tuple[bytes, bytes], tuple[Meaning, bytes, bytes]] = {}

    def read(self, head: bytes) -> tuple[Meaning, int, bytes]:
        """What ``Known``'s ``read`` gives for this head, and raises.

        Args:
            head: whole, with its empty line.
        """
        before, _, rest = head.partition(_LENGTH)
        digits, _, after = rest.partition(b"\r\n")
        # The normal form only: no sign, no leading zero.
        if not digits.isdigit() or len(digits) > _DIGITS or (digits[0] == 48 and len(digits) > 1):
            return self._read(head)
        entry = self._entries.get((before, after))
        if entry is None:
            return self._learn(head, before, digits, after)
        meaning, rebuilt_before, rebuilt_after = entry
        return meaning, int(digits), rebuilt_before + digits + rebuilt_after

    def _learn(self, head: bytes, before: bytes, digits: bytes, after: bytes) -> tuple[Meaning, int, bytes]:
        meaning, length, rebuilt = self._read(head)
        rebuilt_before, found, rest = rebuilt.partition(_LENGTH)
        rebuilt_digits, end, rebuilt_after = rest.partition(b"\r\n")
        # A guard: only where the line means what it says and is passed on as it came.
        if rebuilt_digits == digits == b"%d" % length and len(head) <= _SIZE:
            if len(self._entries) >= _ENTRIES:
                self._entries.clear()
            self._entries[before, after] = meaning, rebuilt_before + found, end + rebuilt_after
        return meaning, length, rebuilt
