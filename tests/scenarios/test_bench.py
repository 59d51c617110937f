"""The benchmark's proxies carry requests by TLS as the relay does, and to no server that they cannot trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs

from benchmarks.load import ask
from benchmarks.peers import HOST, start_peer, start_relay, start_sink
from benchmarks.processes import BenchmarkError, Proxy
from fipsrelay.demo import certificates
from tests.folders import Folders
from tests.routes import ROOT
from tests.scenarios.stage import TIMEOUT


class PeersTests(Folders):
    """Debian's, which have the configurations that the newer ones have."""

    def setUp(self) -> None:
        self.place = self.folder()
        self.paths = certificates.write(self.place, [HOST])
        self.sink = self.keep(start_sink(self.place, self.paths)).ports["sink"]

    def keep(self, proxy: Proxy) -> Proxy:
        self.addCleanup(proxy.stop)
        return proxy

    def strangers(self) -> certificates.Paths:
        """With an authority that the sink's certificate is not from."""
        folder: Path = self.place / "strangers"
        folder.mkdir()
        return attrs.evolve(self.paths, authority=certificates.write(folder, [HOST]).authority)

    def check(self, proxy: Proxy, *, trusting: bool) -> None:
        for port in proxy.ports.values():
            if trusting:
                ask(port).close()
            else:
                self.assertRaises(BenchmarkError, ask, port)

    def test_relay(self) -> None:
        proxy = self.keep(start_relay(self.place, self.paths, self.sink))
        self.check(proxy, trusting=True)
        self.assertGreater(proxy.cpu(), 0.1)
        self.assertGreater(proxy.memory(), 10_000_000)

    def test_haproxy(self) -> None:
        self.check(self.keep(start_peer("haproxy", self.place, self.paths, self.sink)), trusting=True)

    def test_nginx(self) -> None:
        self.check(self.keep(start_peer("nginx", self.place, self.paths, self.sink)), trusting=True)

    def test_untrusted_sink(self) -> None:
        paths = self.strangers()
        for name in ("haproxy", "nginx"):
            self.check(self.keep(start_peer(name, self.place, paths, self.sink)), trusting=False)

    def test_what_does_not_start(self) -> None:
        with self.assertRaises(BenchmarkError) as caught:
            Proxy("false", ["false"], self.place, {"http": 1}, core="0")
        self.assertIn("false does not listen on port 1", str(caught.exception))

    def test_what_is_not_installed(self) -> None:
        """It is named; ``speed`` alone looks for all beforehand."""
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.looking"],
            env={**os.environ, "PATH": str(self.place)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        said = "benchmark: Debian's util-linux needed: apt-get install util-linux\n"
        self.assertEqual((done.returncode, done.stderr), (1, said))
