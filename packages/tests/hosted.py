"""A machine of its own with what its Agent and its intakes are to fipsrelay."""

from __future__ import annotations

import contextlib
import http.client
import shutil
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

CONFIG = "/etc/fipsrelay/proxy.yaml"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_SENDERS = 4


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


class Hosted(SynchronousTestCase):
    """A machine, with an intake for every host of the shipped configuration when that is wanted."""

    systemd = False

    def setUp(self) -> None:
        self.machine = Machine(systemd=self.systemd)
        self.addCleanup(self.machine.stop)
        if self.systemd:
            wait = "until systemctl is-system-running | grep -qx -e running -e degraded; do sleep 0.1; done"
            self.machine.run("timeout", "60", "sh", "-c", wait)
            self.machine.run("systemctl", "start", "systemd-journald.service")
        config = load_text("preset: datadog", "preset")
        self.hosts = sorted({upstream.host for upstream in config.upstreams.values()})

    def configuration(self) -> str:
        """The shipped file, but for a module that is not on the list."""
        text = (CHECKOUT / "conf" / "proxy.yaml").read_text()
        return text.replace("unlisted_module: refuse\n", "unlisted_module: warn\n")

    def configure(self, more: str = "") -> None:
        """Put it in its place, with ``more`` behind it."""
        self.machine.put(CONFIG, self.configuration() + more)
        self.machine.run("chown", "root:fipsrelay", CONFIG)
        self.machine.run("chmod", "0640", CONFIG)

    def put_module(self, place: str) -> None:
        """The suite's module and its record into a folder of the machine."""
        found = module.find("auto")
        folder = self.machine.root / place.lstrip("/")
        folder.mkdir(parents=True)
        shutil.copyfile(found.path, folder / "fips.so")
        self.machine.put(f"{place}/fipsmodule.cnf", f"[fips_sect]\nactivate = 1\nmodule-mac = {found.mac}\n")

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
