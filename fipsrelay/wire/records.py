"""Where OpenSSL puts the records of a large write, so that they leave in one call.

Straight to a socket it makes a call for each record, and the kernel a packet or more, which costs up to half as much
again (docs/ledger.md). Nothing here sends anything: see ``tls``.
"""

from __future__ import annotations

from typing import Any

from OpenSSL._util import ffi, lib

from fipsrelay.crypto import library

_RESET = 1  # BIO_CTRL_RESET
_SEEK = 128  # BIO_C_FILE_SEEK
_SET_BUF_MEM, _CLOSE = 114, 1  # BIO_C_SET_BUF_MEM, BIO_CLOSE
# More than any write takes but that of a whole request that is sent again (``retries.replay_size``).
_LARGE = 1 << 20


class Records:
    """Memory that all TLS streams of a reactor write to in turns.

    Who has had OpenSSL write here takes it and clears it before anybody else is called: what stays would be sent to the
    next one's peer.
    """

    def __init__(self) -> None:
        functions = library.load()
        self._up_ref = ffi.cast("int (*)(void *)", functions.address("BIO_up_ref"))
        self._ctrl = ffi.cast("long (*)(void *, int, long, void *)", functions.address("BIO_ctrl"))
        self._get_rbio = ffi.cast("void *(*)(void *)", functions.address("SSL_get_rbio"))
        self._set_wbio = ffi.cast("void (*)(void *, void *)", functions.address("SSL_set0_wbio"))
        self._buffer = ffi.cast("void *(*)(void)", functions.address("BUF_MEM_new"))
        self._bio = ffi.gc(lib.BIO_new(lib.BIO_s_mem()), lib.BIO_free)
        self._start = ffi.new("char **")

    def divert(self, ssl: Any) -> None:
        """What ``ssl`` writes comes here from now on, instead of to the socket that it reads from."""
        self._up_ref(self._bio)
        self._set_wbio(ssl, self._bio)

    def restore(self, ssl: Any) -> None:
        """What ``ssl`` writes goes to the socket again."""
        bio = self._get_rbio(ssl)
        self._up_ref(bio)
        self._set_wbio(ssl, bio)

    def view(self) -> Any:
        """What has been written, as a buffer that is valid until the next call of OpenSSL or ``clear``."""
        size = lib.BIO_get_mem_data(self._bio, self._start)
        return ffi.buffer(self._start[0], size)

    def clear(self) -> None:
        """Forget it: go behind it, for a reset overwrites the whole buffer too, however little of it was in use.

        Nothing is to be done where there is nothing: to go to the beginning brings back what was there before. What has
        become large is not kept.
        """
        size = lib.BIO_get_mem_data(self._bio, self._start)
        if size > _LARGE:
            self._ctrl(self._bio, _SET_BUF_MEM, _CLOSE, self._buffer())
        elif size and self._ctrl(self._bio, _SEEK, size, ffi.NULL) != size:
            self._ctrl(self._bio, _RESET, 0, ffi.NULL)
