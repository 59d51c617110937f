"""How often servers are checked, as they count it themselves: never oftener than the interval says."""

from __future__ import annotations

import socket
import time

from tests.scenarios.intakes import Intake
from tests.scenarios.stage import HOST, Stage, TlsPeer

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
# With an interval of one second and the jitter's tenth, two checks of a server are at least this far apart.
APART = 0.9


def leave(connection: socket.socket) -> None:
    """A server that accepts and closes."""


class ProbeTests(Stage):
    def bring_up(self, address: str, port: int) -> TlsPeer:
        peer = TlsPeer(leave, None, address, port)
        self.addCleanup(peer.stop)
        return peer

    def test_no_storm(self) -> None:
        """One check a server and interval, also where two upstreams have the same servers; none of one in use."""
        shared, second, third = self.free_ports(3)
        ports = {"one": shared, "twin": shared, "second": second, "third": third}
        peers = [self.bring_up(address, port) for port in (shared, second, third) for address in ADDRESSES]
        upstreams = {name: {"host": HOST, "port": port, "addresses": ADDRESSES} for name, port in ports.items()}
        used = self.start_peer(Intake(b"good").serve)
        began = time.monotonic()
        relay = self.start_relay(used.port, upstreams=upstreams, probes={"enabled": True, "interval": 1})
        agent = self.agent()
        times = [time.monotonic()]

        def are_checked() -> bool:
            agent.request("GET", "/")
            self.assertEqual(agent.getresponse().read(), b"good")
            times.append(time.monotonic())
            return all(peer.accepted >= 5 for peer in peers)

        self.wait_until(are_checked, "five checks of every server")
        checks = [peer.accepted for peer in peers]
        self.assertLessEqual(max(checks), (time.monotonic() - began) / APART + 1, checks)
        for name in upstreams:
            relay.wait_for(f"backend '{name}' has no server available!")
        # One connection carried the requests, and a check may have come before the first one. Where the machine stood
        # still for so long that a check was due, it may have come.
        pauses = sum(later - earlier > APART for earlier, later in zip(times, times[2:], strict=False))
        self.assertLessEqual(used.accepted, 2 + pauses)
