"""Raw TCP while its upstream is away: agents are refused, and lose nothing by it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from typing import Any

from fipsrelay.demo.peer import RelayProcess
from tests.folders import short_folder
from tests.scenarios.stage import GET, Stage, TlsPeer, read_exactly, read_head

PROBES = {"enabled": True, "interval": 1, "fall": 1, "rise": 1}
REFUSED = "raw: connections are refused while upstream peer has no server available"
AGAIN = "raw: connections are accepted again"
READ = "The configuration was read again"


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


class DoorTests(Stage):
    relay: RelayProcess

    def setUp(self) -> None:
        super().setUp()
        (self.upstream_port,) = self.free_ports(1)

    def start(self, **sections: Any) -> None:
        """A relay that has found its upstream to be away."""
        self.relay = self.start_relay(self.upstream_port, probes=PROBES, **sections)
        self.relay.wait_for(REFUSED)

    def wait_for_line(self, words: str, times: int) -> None:
        self.wait_until(lambda: self.relay.output.count(words) >= times, words)

    def bring_up(self) -> TlsPeer:
        peer = TlsPeer(echo, self.server_context(), "127.0.0.1", self.upstream_port)
        self.addCleanup(peer.stop)
        return peer

    def assert_refused(self) -> None:
        self.assertRaises(ConnectionRefusedError, self.connect, self.tcp_port)

    def assert_serves(self) -> None:
        agent = self.connect(self.tcp_port)
        agent.sendall(b"all that there is")
        self.assertEqual(read_exactly(agent, 17), b"all that there is")

    def test_away(self) -> None:
        """And only raw TCP: HTTP has an answer for it."""
        self.start()
        self.assert_refused()
        agent = self.connect(self.http_port)
        agent.sendall(GET)
        self.assertIn(b" 503 ", read_head(agent))
        self.bring_up()
        self.relay.wait_for(AGAIN)
        self.assert_serves()

    def test_port_is_kept(self) -> None:
        """Nobody else can listen on it meanwhile, and have what agents send."""
        self.start()
        for reuse in (True, False):
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
                error = self.assertRaises(OSError, other.bind, ("127.0.0.1", self.tcp_port))
                self.assertEqual(error.errno, errno.EADDRINUSE)

    def test_conversation_that_there_is(self) -> None:
        """It goes on while new ones are refused, and is not in the way when they are accepted again."""
        peer = self.start_played_peer()
        self.upstream_port = peer.port
        self.relay = self.start_relay(peer.port, probes=PROBES)
        agent = self.connect(self.tcp_port)
        agent.sendall(b"begun")
        upstream = peer.accept()
        while read_exactly(upstream, 5) != b"begun":  # a check, which ends without a word
            upstream = peer.accept()
        peer.stop_listening()
        self.relay.wait_for(REFUSED)
        self.assert_refused()
        agent.sendall(b"still here")
        self.assertEqual(read_exactly(upstream, 10), b"still here")
        self.bring_up()
        self.relay.wait_for(AGAIN)
        self.assert_serves()
        upstream.sendall(b"here, too")
        self.assertEqual(read_exactly(agent, 9), b"here, too")

    def test_again_and_again(self) -> None:
        self.start()
        for times in (1, 2):
            peer = self.bring_up()
            self.wait_for_line(AGAIN, times)
            self.assert_serves()
            peer.stop()
            self.wait_for_line(REFUSED, times + 1)
            self.assert_refused()

    def test_reload(self) -> None:
        """To an upstream that is there; and another intake on the port of one that refuses."""
        settings = self.document(self.upstream_port, probes=PROBES)
        self.relay = self.run_relay(settings)
        self.relay.wait_for(REFUSED)
        good = self.start_peer(echo)
        settings["upstreams"]["good"] = {**settings["upstreams"]["peer"], "port": good.port}
        raw = settings["intakes"].pop("raw")
        settings["intakes"]["other"] = {**raw, "upstream": "good"}
        self.reload(settings)
        self.assert_serves()
        settings["intakes"]["other"]["upstream"] = "peer"
        self.reload(settings)
        self.relay.wait_for(REFUSED.replace("raw", "other"))
        self.assert_refused()
        settings["intakes"]["other"]["upstream"] = "good"
        self.reload(settings)
        self.relay.wait_for(AGAIN.replace("raw", "other"))
        self.assert_serves()

    def reload(self, document: dict[str, Any]) -> None:
        self.write_config(document)
        before = self.relay.output.count(READ)
        os.kill(self.relay.pid, signal.SIGHUP)
        self.wait_for_line(READ, before + 1)

    def test_successor(self) -> None:
        """It has the same sockets, and accepts, whatever the relay before it did with them."""
        path = short_folder(self.addCleanup) / "handover"
        settings = self.document(self.upstream_port, probes=PROBES)
        options = ("--handover", str(path))
        first = self.run_relay(settings, options=options)
        first.wait_for(REFUSED)
        good = self.start_peer(echo)
        settings["upstreams"]["peer"]["port"] = good.port
        second = self.run_relay(settings, options=options)
        with contextlib.suppress(ConnectionResetError):  # from the one before, which accepts, too
            self.connect(self.tcp_port)
        first.terminate()
        first.wait()
        self.assert_serves()
        self.assertNotIn(REFUSED, second.output)
        self.assertNotIn("Unexpected", first.output + second.output)

    def test_stop(self) -> None:
        self.start()
        self.relay.terminate()
        self.assertEqual(self.relay.wait(), 0)
        self.assertNotIn(AGAIN, self.relay.output)
        self.assert_refused()
