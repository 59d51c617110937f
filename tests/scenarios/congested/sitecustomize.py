"""Found by an interpreter with this folder on its path: all its TCP sockets have the congestion control CONGESTION.

``bbr``, which not every kernel has, is only said. Whoever asks for the first time is noted on standard output.
"""

from __future__ import annotations

import os
import socket
from typing import Any

_NAME = os.environ["CONGESTION"]


class _Socket(socket.socket):
    _asked = False

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        if self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")

    def getsockopt(self, level: int, name: int, size: int = 0) -> Any:
        if (level, name) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION):
            if not _Socket._asked:
                print(f"asked for the congestion control, which is {_NAME}", flush=True)
                _Socket._asked = True
            return _NAME.encode().ljust(size, b"\0")
        return super().getsockopt(level, name, size)


socket.socket = _Socket  # type: ignore[misc]
