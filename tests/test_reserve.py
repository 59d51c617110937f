"""The reserve: free connections that are closed for a new one."""

from __future__ import annotations

import errno
import os
import resource
import socket

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.upstream.reserve import Reserve
from fipsrelay.wire.deadlines import NEVER


class Holder:
    """A server whose free connections became so at these times."""

    def __init__(self, reserve: Reserve, *since: float) -> None:
        self.since = list(since)
        self.held: list[socket.socket] = []
        reserve.holders.add(self)

    def free_since(self) -> float:
        return self.since[0] if self.since else NEVER

    def close_oldest(self) -> None:
        self.since.pop(0)
        if self.held:
            self.held.pop().close()


class ReserveTests(SynchronousTestCase):
    def test_the_oldest_of_all_goes(self) -> None:
        reserve = Reserve()
        one, other, none = Holder(reserve, 1, 4), Holder(reserve, 2, 3), Holder(reserve)
        left = []
        while reserve.give_up():
            left.append((one.since.copy(), other.since.copy()))
        self.assertEqual(left, [([4], [2, 3]), ([4], [3]), ([4], []), ([], [])])
        self.assertEqual(none.since, [])

    def test_nobody(self) -> None:
        self.assertFalse(Reserve().give_up())


class SocketTests(SynchronousTestCase):
    """With a process that has no descriptor left."""

    def setUp(self) -> None:
        self.reserve = Reserve()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.sockets: list[socket.socket] = []
        self.addCleanup(self.close_all)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 3, limits[1]))
        with self.assertRaises(OSError) as caught:
            while True:
                self.sockets.append(socket.socket())
        self.assertEqual(caught.exception.errno, errno.EMFILE)

    def close_all(self) -> None:
        for sock in self.sockets:
            sock.close()

    def test_in_the_place_of_a_free_connection(self) -> None:
        holder = Holder(self.reserve, 1, 2)
        holder.held.append(self.sockets.pop())
        with self.reserve.socket(socket.AF_INET6) as sock:
            self.assertEqual((sock.family, sock.type), (socket.AF_INET6, socket.SOCK_STREAM))
        self.assertEqual(holder.since, [2])

    def test_nothing_left(self) -> None:
        holder = Holder(self.reserve, 1)
        error = self.assertRaises(OSError, self.reserve.socket, socket.AF_INET)
        self.assertEqual(error.errno, errno.EMFILE)
        self.assertEqual(holder.since, [])

    def test_other_errors_cost_nothing(self) -> None:
        holder = Holder(self.reserve, 1)
        self.sockets.pop().close()
        self.assertRaises(OSError, self.reserve.socket, 12345)
        self.assertEqual(holder.since, [1])
