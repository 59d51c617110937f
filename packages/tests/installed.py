"""fipsrelay as its package would lay it out, on a machine of its own, with what its Agent and its intake are to it.

The interpreter and the libraries are those of the suite, mounted where the package has its own.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.crypto import module
from fipsrelay.demo import certificates
from fipsrelay.demo.payloads import payloads
from fipsrelay.demo.peer import IntakeProcess
from fipsrelay.demo.run import send_all
from packages.tests.machine import CHECKOUT, TIMEOUT, Machine

SERVICES = CHECKOUT / "packages" / "services"
CONFIG = "/etc/fipsrelay/proxy.yaml"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_SENDERS = 4
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_SCRIPTS = {"twistd": "from twisted.scripts.twistd import run as main", "fipsrelay": "from fipsrelay.cli import main"}


class Load:
    """Agents that send one payload after the other, each on a connection of its own.

    Attributes:
        failures: what came instead of an answer 202.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._answered = [threading.Event() for _ in range(_SENDERS)]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=[event]) for event in self._answered]

    def start(self) -> None:
        """From now on."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        """Until every agent has had an answer from now on.

        Raises:
            AssertionError: that takes too long.
        """
        for event in self._answered:
            event.clear()
        if not all(event.wait(TIMEOUT) for event in self._answered):
            raise AssertionError(f"no answer; failures: {self.failures}")

    def _send(self, answered: threading.Event) -> None:
        while not self._over.is_set():
            agent = http.client.HTTPConnection("127.0.0.1", 9804, timeout=TIMEOUT)
            try:
                agent.request("POST", "/api/v1/series", b"{}", {"Connection": "close"})
                status = agent.getresponse().status
                if status != HTTPStatus.ACCEPTED:
                    self.failures.append(str(status))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                agent.close()
            answered.set()


class Installed(SynchronousTestCase):
    """A machine with the package's files, the shipped configuration, a module, and an intake for every host of it."""

    systemd = False

    def setUp(self) -> None:
        self.machine = Machine(systemd=self.systemd)
        self.addCleanup(self.machine.stop)
        self._runtime()
        self._module()
        useradd = "useradd --system --home-dir /var/lib/fipsrelay --no-create-home fipsrelay"
        self.machine.run("sh", "-c", f"id fipsrelay >/dev/null 2>&1 || {useradd}")
        self.machine.run("install", "-d", "-o", "fipsrelay", "-g", "fipsrelay", "-m", "0750", "/var/lib/fipsrelay")
        self.machine.put("/etc/default/fipsrelay", (SERVICES / "fipsrelay.default").read_text())
        self.configure()
        config = load_text("preset: datadog", "preset")
        self.hosts = sorted({upstream.host for upstream in config.upstreams.values()})

    def _runtime(self) -> None:
        """/opt/fipsrelay, on mounts of the suite's own interpreter, its libraries and the checkout."""
        site = next(path for path in map(Path, sys.path) if (path / "twisted" / "scripts").is_dir())
        for source, place in ((sys.base_prefix, "python"), (site, "libraries"), (CHECKOUT, "checkout")):
            self.machine.run("mkdir", "-p", f"/opt/{place}")
            self.machine.run("mount", "--bind", str(source), f"/opt/{place}")
        # An interpreter with a shared library knows it by a path that the service user may not enter.
        self.machine.put("/etc/ld.so.conf.d/000-stand-in.conf", "/opt/python/lib\n")
        self.machine.run("ldconfig")
        self.machine.put("/opt/fipsrelay/pyvenv.cfg", "home = /opt/python/bin\ninclude-system-site-packages = false\n")
        folder = f"/opt/fipsrelay/lib/{_PYTHON}/site-packages"
        self.machine.put(f"{folder}/stand-in.pth", "/opt/libraries\n/opt/checkout\n")
        self.machine.run("mkdir", "-p", "/opt/fipsrelay/bin")
        self.machine.run("ln", "-s", f"/opt/python/bin/{_PYTHON}", "/opt/fipsrelay/bin/python3")
        for name, line in _SCRIPTS.items():
            text = f"#!/opt/fipsrelay/bin/python3\nimport sys\n{line}\nsys.exit(main())\n"
            self.machine.put(f"/opt/fipsrelay/bin/{name}", text, 0o755)

    def _module(self) -> None:
        found = module.find("auto")
        folder = self.machine.root / "opt/fipsrelay/share/fipsrelay"
        folder.mkdir(parents=True)
        shutil.copyfile(found.path, folder / "fips.so")
        record = f"[fips_sect]\nactivate = 1\nmodule-mac = {found.mac}\n"
        self.machine.put("/opt/fipsrelay/share/fipsrelay/fipsmodule.cnf", record)

    def configure(self, more: str = "") -> None:
        """The shipped file, but for a module that is not on the list; with ``more`` behind it."""
        text = (CHECKOUT / "conf" / "proxy.yaml").read_text()
        text = text.replace("unlisted_module: refuse\n", "unlisted_module: warn\n")
        self.machine.put(CONFIG, text + more)
        self.machine.run("chown", "root:fipsrelay", CONFIG)
        self.machine.run("chmod", "0640", CONFIG)

    def start_intake(self) -> IntakeProcess:
        """An intake for every host, on port 443, found by name and trusted by the platform's bundle."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        paths = certificates.write(folder, self.hosts)
        bundle = self.machine.root / BUNDLE.lstrip("/")
        bundle.write_text(bundle.read_text() + paths.authority.read_text())
        hosts = self.machine.root / "etc/hosts"
        hosts.write_text(f"{hosts.read_text()}\n127.0.0.1 {' '.join(self.hosts)}\n")
        with self.machine.network():
            intake = IntakeProcess(paths, port=443)
        self.addCleanup(self._stop_intake, intake)
        return intake

    def _stop_intake(self, intake: IntakeProcess) -> None:
        self.assertEqual(intake.stop(), 0)

    @contextlib.contextmanager
    def load(self) -> Iterator[Load]:
        """Requests of an agent of the machine, meanwhile."""
        load = Load()
        with self.machine.network():
            load.start()
        try:
            load.wait_for_more()
            yield load
        finally:
            load.stop()

    def relay_everything(self, intake: IntakeProcess) -> None:
        """A payload of every product, on both addresses: the same bytes at the intake, over FIPS TLS."""
        sent = payloads()
        with self.machine.network():
            for address in ("127.0.0.1", "::1"):
                outcomes = send_all(sent, 9803, [address], intake)
                # 443 is not written behind a host.
                outcomes = [attrs.evolve(each, host=each.payload.expected_host) for each in outcomes]
                self.assertEqual([outcome for outcome in outcomes if not outcome.same], [])
                self.assertEqual(len(outcomes), len(sent))
