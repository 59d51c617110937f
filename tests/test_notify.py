"""What a service manager is told, as it hears it; ``scenarios.test_manager`` has the real program do it."""

from __future__ import annotations

import os
import socket
import threading
import time

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.notify import Manager
from tests.folders import short_folder

WAIT = 0.2  # seconds
TIMEOUT = 20


class ManagerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = str(short_folder(self.addCleanup) / "notify")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.listener.close)
        self.listener.bind(self.path)
        self.listener.settimeout(TIMEOUT)
        self.manager = Manager({"NOTIFY_SOCKET": self.path, "INVOCATION_ID": "0"})

    def fill(self) -> int:
        """Until it takes no more; how many it holds."""
        count = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(self.path)
            while True:
                try:
                    sock.send(b"another service")
                except BlockingIOError:
                    return count
                count += 1

    def test_busy(self) -> None:
        """One that is behind hears of it all the same: it would wait for READY=1 for ever."""
        count = self.fill()
        heard: list[bytes] = []
        reader = threading.Timer(WAIT, lambda: heard.extend(self.listener.recv(100) for _ in range(count + 1)))
        reader.start()
        self.manager.tell(READY="1")
        reader.join()
        self.assertEqual(heard[-1], b"READY=1")

    def test_stuck(self) -> None:
        """One that never reads holds nothing up for long, and the log says so."""
        self.fill()
        before = time.monotonic()
        with capturedLogs() as logs:
            self.manager.tell(READY="1")
        self.assertLess(time.monotonic() - before, 5)
        self.assertEqual([event["text"] for event in logs], ["READY=1"])

    def test_store(self) -> None:
        """All sockets in one message, of which there is room for few."""
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(30)]
        names = [sock.getsockname() for sock in sockets]
        self.manager.store(sockets)
        for sock in sockets:
            sock.close()
        text, descriptors, _, _ = socket.recv_fds(self.listener, 100, 100)
        self.assertEqual(text, b"FDSTORE=1")
        kept = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self.assertEqual([sock.getsockname() for sock in kept], names)
        for sock in kept:
            sock.close()

    def test_whose(self) -> None:
        """What is for this process only is taken out of the environment; an old systemd stores nothing."""
        environ = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}
        manager = Manager(environ)
        self.assertEqual((manager.watchdog, manager.stores, environ), (0.5, False, {}))
        self.assertIsNone(Manager({"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog)
        self.assertFalse(Manager({"INVOCATION_ID": "0"}).stores)
