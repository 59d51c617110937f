"""``twistd fipsrelay``: how the process starts, what it refuses and with which exit status."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fipsrelay.crypto import library
from fipsrelay.demo.peer import executable, free_ports
from tests.scenarios.daemons import daemon
from tests.scenarios.processes import running
from tests.scenarios.program import TIMEOUT, Program

PORT_TAKEN = "cannot bind socket (Address already in use)"
TAC = """
from fipsrelay import tap
options = tap.Options()
options.parseOptions(["-c", "relay.yaml"])
application = tap.makeService(options)
"""


class Scripts(Program):
    """The console script, which begins again as a process that can pass the gate."""

    def twistd(self, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.run_program([str(executable("twistd")), *words], environ)


class StartTests(Scripts):
    """Starts that end at the latest at a port which the test holds."""

    def assert_ports_taken(self, done: subprocess.CompletedProcess[str]) -> None:
        """The gate has passed and the configuration was read: the port is the one that it names."""
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn(f"{PORT_TAKEN} [127.0.0.1:{self.taken.getsockname()[1]}]", done.stderr)

    def test_the_gate_comes_before_the_ports(self) -> None:
        """The one that passes ends at the port which all refused ones do not reach."""
        self.assert_ports_taken(self.twistd("-n", "--pidfile=", "fipsrelay", "-c", self.config()))
        done = self.twistd("-n", "--pidfile=", "fipsrelay", "-c", self.config(sha256="0" * 64))
        self.assert_refused(done, "module-sha256")

    def test_daemon(self) -> None:
        """Statuses are those of the command that was typed, not of a process in the background."""
        words = ("--pidfile=relay.pid", "--logfile=relay.log", "fipsrelay", "--config")
        self.assert_ports_taken(self.twistd(*words, self.config()))
        self.assert_refused(self.twistd(*words, self.config(sha256="0" * 64)), "module-sha256")
        self.assertFalse((self.folder / "relay.pid").exists())
        self.assertFalse((self.folder / "relay.log").exists())

    def test_relative_names(self) -> None:
        """The configuration is read before twistd goes to its run folder."""
        name = Path(self.config()).name
        self.assert_ports_taken(self.twistd("-n", "--pidfile=", "--rundir=/", "fipsrelay", "-c", name))

    def test_another_reactor(self) -> None:
        self.assert_ports_taken(self.twistd("-n", "--reactor=poll", "--pidfile=", "fipsrelay", "-c", self.config()))

    def test_fipsrelay_twistd(self) -> None:
        done = self.run_program([str(executable("fipsrelay")), "twistd", "-n", "fipsrelay", "-c", self.config()])
        self.assert_ports_taken(done)

    def test_no_configuration(self) -> None:
        done = self.twistd("-n", "--pidfile=", "fipsrelay")
        self.assertEqual(done.stderr, "twistd fipsrelay: the configuration is missing: -c FILE\n")
        self.assertEqual(done.returncode, 2)

    def test_configuration_that_is_not_there(self) -> None:
        done = self.twistd("-n", "--pidfile=", "fipsrelay", "-c", "nowhere.yaml")
        self.assertEqual(done.stderr, "nowhere.yaml: cannot be read: No such file or directory\n")
        self.assertEqual(done.returncode, 2)

    def test_every_problem_of_a_configuration(self) -> None:
        (self.folder / "bad.yaml").write_text("preset: datadog\nnonsense: 1\nfips: {sha256: zz}\n")
        done = self.twistd("-n", "--pidfile=", "fipsrelay", "-c", "bad.yaml")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual([line.split(" ")[0] for line in done.stderr.splitlines()], ["bad.yaml:2:", "bad.yaml:3:"])

    def test_trust_that_is_not_there(self) -> None:
        config = json.loads(Path(self.config()).read_text())
        for trust, words in (("/nowhere.pem", "No such file or directory"), ("/dev/null", "no certificate")):
            (self.folder / "trust.yaml").write_text(json.dumps({**config, "tls": {"trust": trust}}))
            done = self.twistd("-n", "--pidfile=", "fipsrelay", "-c", "trust.yaml")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"tls.trust: {trust} ", done.stderr)
            self.assertIn(words, done.stderr)

    def test_help_needs_no_gate(self) -> None:
        done = self.run_program([str(executable("fipsrelay")), "twistd", "fipsrelay", "--help"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--config=", done.stdout)

    def test_a_hidden_service_is_refused(self) -> None:
        """The gate cannot see what a file of Python code will build, so the service refuses, and nothing loops."""
        self.config()
        (self.folder / "hidden.tac").write_text(TAC)
        self.assert_refused(self.twistd("-n", "--pidfile=", "-y", "hidden.tac"), "gate-skipped")

    def test_modules_of_the_current_folder(self) -> None:
        """A service that is started in /tmp must not run what others have left there."""
        for name in ("attrs", "yaml", "cryptography", "OpenSSL", "fipsrelay", "getopt"):
            (self.folder / f"{name}.py").write_text("raise SystemExit('a stranger')")
        self.assert_ports_taken(self.twistd("-n", "--pidfile=", "fipsrelay", "-c", self.config()))
        # The child that is asked for OpenSSL's reason.
        self.record(":".join(["00"] * 32))
        done = self.twistd("-n", "--pidfile=", "fipsrelay", "-c", self.config())
        self.assert_refused(done, "module-inactive", "module integrity failure")
        # The child that proves a module.
        done = self.run_program([str(executable("fipsrelay")), "module"])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("provider_name: ", done.stdout)

    def test_isolation_is_kept(self) -> None:
        """An interpreter that was told to ignore the environment or the user's packages begins again likewise."""
        show = "import sys; from fipsrelay.crypto import interpreter; print(interpreter.command('pass')[1:-2])"
        for flags in ([], ["-s"], ["-E"], ["-E", "-s"]):
            done = self.run_program([*flags, "-c", show])
            self.assertEqual(done.stdout, f"{flags}\n", done.stderr)
        self.assertEqual(self.run_program(["-I", "-c", show]).stdout, "['-I', '-E', '-s']\n")

    def test_safe_path_loses_nothing(self) -> None:
        """Where Python itself leaves the current folder out, the first entry is somebody's and stays."""
        show = (
            "import subprocess; from fipsrelay.crypto import interpreter; "
            "subprocess.run(interpreter.command('print(sys.path[0])'))"
        )
        first = self.folder / "first"
        environ = {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{first}:{':'.join(filter(None, sys.path))}"}
        done = self.run_program(["-c", show], environ)
        self.assertEqual(done.stdout, f"{first}\n", done.stderr)


class RunTests(Scripts):
    """A process that came up, and how it ends."""

    def listening_config(self) -> str:
        """A configuration of one intake, on ports that are free."""
        self.port, port = free_ports(2)
        intake = {"port": port, "protocol": "http", "upstream": "nobody"}
        config = {
            **json.loads(Path(self.config()).read_text()),
            "listen": {"addresses": ["127.0.0.1"], "port_range_start": self.port},
            "upstreams": {"nobody": {"host": "nobody.ddog-gov.com"}},
            "intakes": {"one": intake},
        }
        del config["preset"]
        path = self.folder / "listening.yaml"
        path.write_text(json.dumps(config))
        return str(path)

    def wait_for_page(self) -> None:
        """The reactor runs when it answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        connection.request("GET", "/")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()

    def test_a_stop_by_signal_is_a_success(self) -> None:
        """Stock twistd dies by the signal that stopped it, which supervisors and pods report as a failure."""
        config = self.listening_config()
        for number in (signal.SIGTERM, signal.SIGINT):
            words = [str(executable("twistd")), "-n", "--pidfile=", "fipsrelay", "-c", config]
            with running(words, cwd=self.folder, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                lines = list(iter_until(process.stdout, "fipsrelay is ready"))
                self.wait_for_page()
                process.send_signal(number)
                status = process.wait(TIMEOUT)
            self.assertEqual(status, 0, lines)

    def test_daemon_until_its_end(self) -> None:
        with daemon(self.folder, self.listening_config()) as pid:
            mapped = library.mapped(Path(f"/proc/{pid}/maps"))
            self.wait_for_page()
        self.assertEqual({path for path in mapped if path.endswith("fips.so")}, {str(self.module)})


def iter_until(lines: Iterable[str], word: str) -> Iterator[str]:
    for line in lines:
        yield line
        if word in line:
            return
