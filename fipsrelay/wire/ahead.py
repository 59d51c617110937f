"""OpenSSL reads ahead: all that has arrived, instead of the five bytes that tell a record's length and then the rest.

What it has read and not given yet, neither epoll nor poll tells of: whoever waits for a stream asks ``holds`` first.
"""

from __future__ import annotations

from typing import Any

from OpenSSL._util import ffi

from fipsrelay.crypto import library

_SET_READ_AHEAD = 41  # SSL_CTRL_SET_READ_AHEAD


class ReadAhead:
    """The functions for it, of which pyOpenSSL has no names.

    Attributes:
        holds: of an ``SSL``, whether it has bytes that were read ahead: of whole records or of a part of one.
    """

    def __init__(self) -> None:
        functions = library.load()
        self.holds = ffi.cast("int (*)(void *)", functions.address("SSL_has_pending"))
        self._ctrl = ffi.cast("long (*)(void *, int, long, void *)", functions.address("SSL_ctrl"))

    def begin(self, ssl: Any) -> None:
        """Read ahead from now on."""
        self._ctrl(ssl, _SET_READ_AHEAD, 1, ffi.NULL)
