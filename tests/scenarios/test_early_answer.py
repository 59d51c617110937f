"""An intake that answers a request before it has read it, and goes at once, as many do with one that is too large."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from tests.scenarios.stage import TIMEOUT, read_head
from tests.scenarios.test_congestion import Congested

SIZE = 1 << 21
ANSWER = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TIMES = 10


def after(size: int, pause: float = 0) -> Callable[[Any], None]:
    """Closes a socket with unread bytes, so that its kernel sends a reset, ``pause`` seconds behind the answer."""

    def serve(connection: ssl.SSLSocket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a close would throw the answer away
        received = 0
        while received < size:
            piece = connection.recv(16384)
            if not piece:
                raise AssertionError(f"the request ended after {received} bytes")
            received += len(piece)
        connection.sendall(ANSWER)
        time.sleep(pause)  # so that the relay can read the answer before the reset, or cannot

    return serve


class EarlyAnswerTests(Congested):
    def test_every_agent_has_it(self) -> None:
        """Not 502, after which it would send the same again and again."""
        for serve in (after(1), after(SIZE // 4), after(SIZE // 4, 0.05)):
            relay = self.start_relay(self.start_peer(serve).port)
            for _ in range(TIMES):
                agent = self.connect(self.http_port)
                agent.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % SIZE)
                self.assertIn(b"HTTP/1.1 413 ", self.answer(agent))
                agent.close()
            [intake, _] = self.status()["intakes"]
            self.assertEqual((intake["answers"], intake["errors"]), ({"413": TIMES}, {}))
            relay.stop()

    def answer(self, agent: socket.socket) -> bytes:
        """Of who sends until it has one."""
        for _ in range(0, SIZE, 1 << 16):
            readable, _, _ = select.select([agent], [agent], [], TIMEOUT)
            if readable:
                break
            agent.send(bytes(1 << 16))
        return read_head(agent)
