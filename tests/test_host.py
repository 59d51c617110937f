"""What the host says of itself."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.host import Holder, holders, is_clock_set
from tests.folders import Folders

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def procfs(folder: Path, port: int, holders: Mapping[int, str] = MappingProxyType({})) -> Path:
    """One in which processes, by number and name, listen on a port of 127.0.0.1 by the same socket."""
    (folder / "net").mkdir()
    line = f"   0: 0100007F:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0\n"
    (folder / "net" / "tcp").write_text(HEAD + line)
    for number, name in holders.items():
        (folder / str(number) / "fd").mkdir(parents=True)
        (folder / str(number) / "fd" / "3").symlink_to("socket:[4711]")
        (folder / str(number) / "comm").write_text(f"{name}\n")
    return folder


class HolderTests(Folders):
    def test_this_process(self) -> None:
        name = Path("/proc/self/comm").read_text().strip()
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.create_server((address, 0), family=family) as listener:
                self.assertEqual(holders(listener.getsockname()[1]), [Holder(os.getpid(), name)])
                port = listener.getsockname()[1]
            self.assertEqual(holders(port), [])

    def test_connections_do_not_count(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        port = accepted.getsockname()[1]
        self.assertEqual(holders(port), [])
        client.close()
        accepted.close()

    def test_of_another_user(self) -> None:
        """Its descriptors cannot be read; or it has ended meanwhile."""
        proc = procfs(self.folder(), 9803)
        (proc / "12").mkdir()
        (proc / "self").mkdir()
        [found] = holders(9803, proc)
        self.assertEqual((found, str(found)), (Holder(None), "a process of another user"))
        self.assertEqual(holders(9804, proc), [])

    def test_shared(self) -> None:
        """Who starts it, and who was started, have the same socket."""
        proc = procfs(self.folder(), 9803, {1: "systemd", 12: "python3"})
        found = holders(9803, proc)
        self.assertEqual(found, [Holder(1, "systemd"), Holder(12, "python3")])
        self.assertEqual([holder.is_manager for holder in found], [True, False])

    def test_words(self) -> None:
        self.assertEqual(str(Holder(12, "haproxy")), "haproxy (process 12)")


class ClockTests(SynchronousTestCase):
    def test_asked_in_another_way(self) -> None:
        """By a call that cannot set anything; 5 is TIME_ERROR, see ntp_gettime(3)."""
        state = ctypes.CDLL(None).ntp_gettime(ctypes.create_string_buffer(512))
        self.assertEqual(is_clock_set(), state != 5)
