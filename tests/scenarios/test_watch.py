"""A relay that loses its FIPS state while it runs sends nothing more, and says so.

The fault is real: OpenSSL's default provider is loaded into the running process. A ``sitecustomize`` waits for a signal
to do so, and has the check made at once that otherwise comes within a minute. Another signal has it made without a
descriptor to be had.
"""

from __future__ import annotations

import contextlib
import os
import signal

from tests.scenarios.program import Program
from tests.scenarios.stage import EMPTY, GET, Stage, read_all, read_head

SPOIL = """
import resource, signal

def check():
    import gc
    from fipsrelay.relay.watch import FipsWatch
    for thing in gc.get_objects():
        if isinstance(thing, FipsWatch):
            thing._next.cancel()
            thing._check()

def spoil():
    from fipsrelay.crypto import library
    assert library.load().call("OSSL_PROVIDER_load", None, b"default")

def starve():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        check()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

signal.signal(signal.SIGRTMIN, lambda *_: starve())
signal.signal(signal.SIGUSR1, lambda *_: check())
signal.signal(signal.SIGUSR2, lambda *_: (spoil(), check()))
"""
AGAIN = """
import os, shutil, sys
from fipsrelay.config.model import Fips
from fipsrelay.crypto import gate, library
from fipsrelay.errors import FipsError
evidence = gate.prove(Fips(module=sys.argv[1], unlisted_module="warn"))
gate.check_again(evidence)
shutil.copyfile(sys.argv[1], "other.so")
os.replace("other.so", sys.argv[1])
gate.check_again(evidence)
library.load().call("OSSL_PROVIDER_load", None, b"default")
try:
    gate.check_again(evidence)
except FipsError as error:
    print(error.code, error.found)
"""

QUIETLY = """
import sys
from fipsrelay.config.model import Fips
from fipsrelay.crypto import gate
gate.check_again(gate.prove(Fips(module=sys.argv[1], unlisted_module="warn")))
from OpenSSL._util import lib
print(lib.ERR_peek_error())
"""


class CheckTests(Program):
    def test_again(self) -> None:
        """It passes, also when a package has replaced the file meanwhile, until there is another provider."""
        done = self.run_program(["-c", AGAIN, str(self.module)])
        self.assertEqual((done.returncode, done.stdout), (0, "provider-others base, default, fips\n"), done.stderr)

    def test_leaves_no_error(self) -> None:
        """OpenSSL 3 would take it for one of the next connection that reads or writes, and end that."""
        done = self.run_program(["-c", QUIETLY, str(self.module)])
        self.assertEqual((done.returncode, done.stdout), (0, "0\n"), done.stderr)


class WatchTests(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.start_played_peer()
        (self.folder / "sitecustomize.py").write_text(SPOIL)
        paths = os.pathsep.join((str(self.folder), os.environ.get("PYTHONPATH", "")))
        self.configuration = self.document(self.peer.port)
        self.relay = self.run_relay(self.configuration, {"PYTHONPATH": paths})

    def test_nothing_is_lost(self) -> None:
        agent, upstream = self.answered(self.peer)
        os.kill(self.relay.pid, signal.SIGUSR1)
        self.assertNotIn("LOST", self.page())
        agent.sendall(GET)
        self.assertEqual(read_head(upstream)[:7], GET[:7])
        upstream.sendall(EMPTY)
        self.assertEqual(read_head(agent), EMPTY)
        self.assertNotIn("FIPS check", self.relay.output)

    def test_goes_on_after_a_check_that_could_not_be_made(self) -> None:
        """Nothing is known to be lost then, and the next one is made."""
        os.kill(self.relay.pid, signal.SIGRTMIN)
        self.relay.wait_for("Too many open files")
        self.assertNotIn("LOST", self.page())
        os.kill(self.relay.pid, signal.SIGUSR2)
        self.relay.wait_for("nothing is relayed any more until the relay is restarted")

    def test_lost_while_an_intake_departs(self) -> None:
        """One that a reload has taken away sends nothing more either."""
        agent = self.connect(self.http_port)
        agent.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        upstream = self.peer.accept()
        read_head(upstream)
        self.assertEqual(upstream.recv(1), b"{")
        del self.configuration["intakes"]["web"]
        self.write_config(self.configuration)
        os.kill(self.relay.pid, signal.SIGHUP)
        self.relay.wait_for("The configuration was read again")
        os.kill(self.relay.pid, signal.SIGUSR2)
        self.relay.wait_for("nothing is relayed any more until the relay is restarted")
        with contextlib.suppress(ConnectionError):
            agent.sendall(b"}")
            self.assertEqual(agent.recv(1), b"")
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(upstream.recv(1), b"")

    def test_lost(self) -> None:
        idle, upstream = self.answered(self.peer)
        waiting = self.connect(self.http_port)
        waiting.sendall(GET)
        read_head(upstream)
        os.kill(self.relay.pid, signal.SIGUSR2)
        line = self.relay.wait_for("nothing is relayed any more until the relay is restarted")
        self.assertIn(
            "FIPS check provider-others failed: expected providers base, fips; found base, default, fips", line
        )
        for agent in (idle, waiting):
            self.assertRaises(ConnectionResetError, read_all, agent)
        agent = self.connect(self.http_port)
        for _ in range(2):
            agent.sendall(GET)
            answer = read_head(agent)
            self.assertTrue(answer.startswith(b"HTTP/1.1 503 "), answer)
            self.assertIn(b"\r\nFipsrelay-Error: fips\r\n", answer)
            self.assertIn(b"FIPS check provider-others failed, restart the relay", agent.recv(500))
        # The reset can be as fast as the connection.
        self.assertRaises(ConnectionResetError, lambda: read_all(self.connect(self.tcp_port)))
        self.assertIn("LOST: FIPS check provider-others failed", self.page())
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(upstream.recv(1), b"")
        self.assertFalse(self.peer.has_more())
