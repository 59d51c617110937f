"""HTTP through the real program, with a peer that does what the test says."""

from __future__ import annotations

import ssl

from tests.scenarios.stage import HOST, Stage, read_exactly, read_head


def answer_ok(connection: ssl.SSLSocket) -> None:
    """Answer every request that has a Content-Length with its own body."""
    while head := read_head(connection):
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
        body = read_exactly(connection, length)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class ExchangeTests(Stage):
    def test_keep_alive_on_both_sides(self) -> None:
        peer = self.start_peer(answer_ok)
        self.start_relay(peer.port)
        agent = self.agent()
        for number in range(20):
            body = b"%d" % number * 1000
            agent.request("POST", "/api/v2/series", body, {"Host": HOST})
            answer = agent.getresponse()
            self.assertEqual((answer.status, answer.read()), (200, body))
        self.assertEqual(peer.accepted, 1)
