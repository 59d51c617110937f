"""Where a message's head ends, over any number of reads. Does not look inside: ``http1`` does."""

from __future__ import annotations

from fipsrelay.errors import MessageError

HEAD_END = b"\r\n\r\n"
# A head nearly always fits; a larger copy of each read would only cost.
_WINDOW = 8192


class HeadReader:
    """Collects one head after the other.

    Args:
        limit: bytes that a head may have, its empty line included.

    Attributes:
        begun: a head has begun to arrive and is not complete.
    """

    __slots__ = ("_limit", "_partial", "begun")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial = bytearray()
        self.begun = False

    def feed(self, view: memoryview, position: int) -> tuple[bytes | None, int]:
        """Take what belongs to the head from ``view[position:]``.

        Returns:
            The head with its empty line, or None when more has to come; and the position of the first byte after it.

        Raises:
            MessageError: ``head-too-large``.
        """
        if not self.begun:
            window = bytes(view[position : position + _WINDOW] if position or len(view) > _WINDOW else view)
            end = window.find(HEAD_END)
            if 0 <= end <= self._limit - 4:
                return window[: end + 4], position + end + 4
        return self._collect(view, position)

    def _collect(self, view: memoryview, position: int) -> tuple[bytes | None, int]:
        partial = self._partial
        begun = len(partial)
        partial += view[position : position + self._limit - begun]
        end = partial.find(HEAD_END, max(0, begun - len(HEAD_END) + 1)) + len(HEAD_END)
        if end >= len(HEAD_END):
            head = bytes(partial[:end])
            self._partial = bytearray()
            self.begun = False
            return head, position + end - begun
        self.begun = True
        if len(partial) >= self._limit:
            raise MessageError("head-too-large", 431, f"the head is larger than {self._limit} bytes")
        return None, len(view)
