"""The real program on a configuration of the test's choice, up to its exit."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.crypto import module
from tests.routes import Route, own

TIMEOUT = 60


class Program(SynchronousTestCase):
    """Starts it on ports of which the test already holds the first, with a module that the test may damage.

    A program that tried to listen before its gate would end with status 4 (port taken), not 3.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.taken.close)
        found = self.origin()
        self.module = self.folder / "fips.so"
        shutil.copyfile(found.path, self.module)
        self.mac = found.mac
        self.record(found.mac)

    def origin(self) -> module.Module:
        """The module that is copied for the test."""
        return module.find("auto")

    def route(self) -> Route:
        """Whose OpenSSL the program uses."""
        return own()

    def record(self, mac: str) -> None:
        self.module.with_name("fipsmodule.cnf").write_text(f"[fips_sect]\nmodule-mac = {mac}\n")

    def config(self, **fips: str) -> str:
        """A configuration file; JSON is YAML."""
        settings = {"module": str(self.module), "unlisted_module": "warn", **fips}
        listen = {"addresses": ["127.0.0.1"], "port_range_start": self.taken.getsockname()[1]}
        path = self.folder / "relay.yaml"
        path.write_text(json.dumps({"preset": "datadog", "listen": listen, "fips": settings}))
        return str(path)

    def run_program(
        self,
        words: Sequence[str],
        environ: Mapping[str, str] | None = None,
        python: str | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run Python on ``words`` in the test's folder; ``prepare`` is called in the child first."""
        route = self.route()
        return subprocess.run(
            [python or route.python, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(route.paths), **(environ or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            preexec_fn=prepare,
        )

    def service(self, config: str) -> list[str]:
        return ["-m", "fipsrelay", "twistd", "-n", "--pidfile=", "fipsrelay", "-c", config]

    def assert_refused(self, done: subprocess.CompletedProcess[str], code: str, *words: str) -> None:
        """Exit status 3, and one line that holds all of ``words``."""
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in (f"FIPS check {code} failed", *words):
            self.assertIn(word, done.stderr)
