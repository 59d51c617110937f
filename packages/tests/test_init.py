"""The init script, run as an init system runs it, on a machine of its own: LSB's words and exit statuses."""

from __future__ import annotations

import json
import socket

from packages.tests.installed import SERVICES, Installed

PIDFILE = "/run/fipsrelay/fipsrelay.pid"
LOG = "/var/log/fipsrelay/fipsrelay.log"


class InitTests(Installed):
    def setUp(self) -> None:
        super().setUp()
        self.machine.put("/etc/init.d/fipsrelay", (SERVICES / "fipsrelay.init").read_text(), 0o755)

    def service(self, action: str, status: int = 0) -> str:
        """What it says, once it has ended with this status."""
        done = self.machine.run("service", "fipsrelay", action, check=status)
        return done.stdout + done.stderr

    def pid(self) -> int:
        """Of the relay, as its machine counts."""
        return int((self.machine.root / PIDFILE[1:]).read_text())

    def log(self) -> str:
        return (self.machine.root / LOG[1:]).read_text()

    def process(self, name: str) -> str:
        """A file of the relay in the machine's /proc."""
        return (self.machine.root / f"proc/{self.pid()}/{name}").read_text()

    def document(self) -> dict[str, object]:
        done = self.machine.run("/opt/fipsrelay/bin/fipsrelay", "status", "--json", "-c", "/etc/fipsrelay/proxy.yaml")
        document: dict[str, object] = json.loads(done.stdout)
        return document

    def test_life(self) -> None:
        """From not running to not running, with real payloads in between."""
        intake = self.start_intake()
        self.assertIn("does not run", self.service("status", 3))
        self.service("start")
        self.assertIn(f"runs (process {self.pid()})", self.service("status"))
        self.assertEqual(self.document()["state"], "ready")
        self.relay_everything(intake)
        with self.machine.network():
            self.assertEqual({record["tls_version"] for record in intake.records()}, {"TLSv1.3"})
        pid = self.pid()
        self.service("start")
        self.assertEqual(self.pid(), pid, "one that runs is not started again")
        self.service("reload")
        self.service("force-reload")
        self.assertEqual(self.log().count("The configuration was read again"), 2)
        self.assertEqual(self.pid(), pid)
        self.service("restart")
        self.assertNotEqual(self.pid(), pid)
        pid = self.pid()
        self.service("try-restart")
        self.assertNotEqual(self.pid(), pid)
        self.relay_everything(intake)
        self.service("stop")
        self.assertFalse((self.machine.root / PIDFILE[1:]).exists())
        self.service("status", 3)
        self.service("stop")
        self.service("try-restart")
        self.service("status", 3)
        self.assertIn("does not run", self.service("reload", 7))

    def test_who_and_what(self) -> None:
        """As the service user, without capabilities, with enough descriptors, no core, and a log for itself."""
        self.service("start")
        user = self.machine.run("id", "-u", "fipsrelay").stdout.strip()
        status = dict(line.split(":\t", 1) for line in self.process("status").splitlines() if ":\t" in line)
        self.assertEqual(set(status["Uid"].split()), {user})
        self.assertEqual(int(status["CapEff"], 16), 0)
        limits = self.process("limits")
        self.assertRegex(limits, r"Max open files +16384 +16384")
        self.assertRegex(limits, r"Max core file size +0 +0")
        self.assertIn("twistd\0", self.process("cmdline"))
        for path, mode in ((LOG, 0o600), ("/var/log/fipsrelay", 0o750), ("/run/fipsrelay", 0o755)):
            found = (self.machine.root / path[1:]).stat()
            self.assertEqual((found.st_uid, found.st_mode & 0o777), (int(user), mode), path)

    def test_the_agents_user(self) -> None:
        """The user that the package wrote down for the systemd unit."""
        self.machine.run("useradd", "--system", "dd-agent")
        self.machine.run("chown", "root:dd-agent", "/etc/fipsrelay/proxy.yaml")
        text = "[Service]\nUser=dd-agent\nGroup=dd-agent\n"
        self.machine.put("/etc/systemd/system/fipsrelay.service.d/user.conf", text)
        self.service("start")
        user = self.machine.run("id", "-u", "dd-agent").stdout.strip()
        self.assertRegex(self.process("status"), rf"Uid:\t{user}\t{user}\t")
        self.service("stop")

    def test_options_and_environment(self) -> None:
        text = "DAEMON_OPTS=--prefix=other\nDD_FIPS_PORT_RANGE_START=9903\n"
        self.machine.put("/etc/default/fipsrelay", text)
        self.service("start")
        self.assertIn("--prefix=other\0", self.process("cmdline"))
        with self.machine.network():
            socket.create_connection(("127.0.0.1", 9903)).close()
        self.service("reload")
        self.service("stop")

    def test_refused_configuration(self) -> None:
        """Not configured, says LSB, and the line that is wrong; one that runs stays."""
        self.configure("\nnonsense: 1\n")
        self.assertRegex(self.service("start", 6), r"proxy\.yaml:\d+: nonsense: ")
        self.service("status", 3)
        self.configure()
        self.service("start")
        pid = self.pid()
        self.configure("\nnonsense: 1\n")
        for action in ("reload", "restart"):
            self.assertRegex(self.service(action, 6), r"proxy\.yaml:\d+: nonsense: ")
        self.service("status")
        self.assertEqual(self.pid(), pid)
        # What only the relay itself can find wrong.
        self.configure()
        path = self.machine.root / "etc/fipsrelay/proxy.yaml"
        path.write_text(path.read_text().replace("trust: system", "trust: /nowhere.pem"))
        self.assertIn("/nowhere.pem cannot be read", self.service("reload", 1))
        self.assertEqual(self.pid(), pid)
        self.machine.run("rm", "/etc/fipsrelay/proxy.yaml")
        self.service("restart", 6)
        self.service("stop")
        self.assertIn("there is no /etc/fipsrelay/proxy.yaml", self.service("start", 6))

    def test_refused_module(self) -> None:
        """Whose FIPS state cannot be proven does not start, and says why."""
        path = self.machine.root / "opt/fipsrelay/share/fipsrelay/fips.so"
        image = bytearray(path.read_bytes())
        image[len(image) // 2] ^= 1
        path.write_bytes(image)
        self.assertIn("FIPS check", self.service("start", 1))
        self.service("status", 3)

    def test_restart_under_load(self) -> None:
        """Requests of an agent while the relay is restarted again and again: each is answered."""
        self.start_intake()
        self.service("start")
        with self.load() as sent:
            for _ in range(3):
                before = self.pid()
                self.service("restart")
                self.assertNotEqual(self.pid(), before)
                self.assertFalse((self.machine.root / f"proc/{before}").exists())
                sent.wait_for_more()
        self.assertEqual(sent.failures, [])
        self.service("status")
        self.assertEqual(
            [path.name for path in (self.machine.root / PIDFILE[1:]).parent.glob("*.pid*")], ["fipsrelay.pid"]
        )
        self.service("stop")
        self.assertFalse((self.machine.root / PIDFILE[1:]).exists())

    def test_restart_that_cannot_be(self) -> None:
        """What the relay itself finds out when it starts: the one that runs goes on, and is the one that is stopped."""
        self.start_intake()
        self.service("start")
        pid = self.pid()
        path = self.machine.root / "opt/fipsrelay/share/fipsrelay/fips.so"
        image = path.read_bytes()
        path.unlink()  # not written over: the one that runs has it mapped
        path.write_bytes(image[:-1])
        with self.load() as sent:
            self.assertIn("FIPS check", self.service("restart", 1))
            sent.wait_for_more()
        self.assertEqual(sent.failures, [])
        self.assertIn(f"runs (process {pid})", self.service("status"))
        self.service("stop")
        self.service("status", 3)

    def test_restart_of_one_that_is_stuck(self) -> None:
        """It hands nothing over, and is killed after STOP_TIMEOUT."""
        self.machine.put("/etc/default/fipsrelay", "STOP_TIMEOUT=1\n")
        self.service("start")
        pid = self.pid()
        self.machine.run("kill", "-STOP", str(pid))
        self.service("restart")
        self.assertNotEqual(self.pid(), pid)
        self.assertFalse((self.machine.root / f"proc/{pid}").exists())
        self.assertEqual(self.document()["state"], "ready")

    def test_sockets_are_for_its_user(self) -> None:
        """Nobody else is given them, even where the file would let them ask; and nobody else's are taken."""
        self.service("start")
        self.machine.run("chmod", "666", "/run/fipsrelay/handover")
        ask = "s.connect('/run/fipsrelay/handover'); print(len(socket.recv_fds(s, 1, 253)[1]))"
        code = f"import socket; s = socket.socket(socket.AF_UNIX); {ask}"
        given = {
            user: self.machine.run("setpriv", f"--reuid={user}", "/opt/fipsrelay/bin/python3", "-c", code).stdout
            for user in ("nobody", "fipsrelay", "root")
        }
        self.assertEqual(given, {"nobody": "0\n", "fipsrelay": "30\n", "root": "30\n"})
        self.assertIn("asked for the listening sockets, and did not get them", self.log())
        false = (
            "import os, socket\n"
            "from fipsrelay.relay.handover import take\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "s.bind('/run/false')\n"
            "os.seteuid(65534)\n"
            "s.listen()\n"
            "os.seteuid(0)\n"
        )
        done = self.machine.run("/opt/fipsrelay/bin/python3", "-c", f"{false}take('/run/false')", check=1)
        self.assertIn("/run/false does not hand sockets over: it belongs to another user", done.stderr)

    def test_ports_taken(self) -> None:
        with self.machine.network(), socket.create_server(("127.0.0.1", 9804)):
            self.assertIn("cannot bind socket (Address already in use) [127.0.0.1:9804]", self.service("start", 1))
        self.service("status", 3)
        self.service("start")
        self.service("stop")

    def somebody_else(self) -> str:
        """The number of another process, which stands in the pid file."""
        other = f"sleep 1000 >/dev/null 2>&1 & echo $! >{PIDFILE}; cat {PIDFILE}"
        return self.machine.run("sh", "-c", other).stdout.strip()

    def test_killed(self) -> None:
        """Dead with a pid file; what stands there may be somebody else's number by now."""
        self.service("start")
        self.machine.run("kill", "-KILL", str(self.pid()))
        self.assertIn("does not run", self.service("status", 1))
        somebody = self.somebody_else()
        self.service("status", 1)
        self.service("start")
        self.assertNotEqual(str(self.pid()), somebody)
        self.service("stop")
        self.machine.run("sh", "-c", f"echo {somebody} >{PIDFILE}")
        self.service("stop")
        self.assertEqual(self.machine.run("cat", f"/proc/{somebody}/comm").stdout, "sleep\n")

    def test_replaced_program(self) -> None:
        """An upgrade puts another interpreter in its place, and the one that runs is stopped all the same."""
        self.service("start")
        pid = self.pid()
        self.machine.run("rm", "/opt/fipsrelay/bin/python3")
        self.machine.run("cp", "/bin/true", "/opt/fipsrelay/bin/python3")
        self.service("status")
        self.service("stop")
        self.assertFalse((self.machine.root / f"proc/{pid}").exists())

    def test_drain(self) -> None:
        """Half a request when it is to stop: it is finished, and answered."""
        self.start_intake()
        self.service("start")
        body = b"{}"
        with self.machine.network():
            agent = socket.create_connection(("127.0.0.1", 9804), 20)
        self.addCleanup(agent.close)
        agent.sendall(b"POST /api/v1/series HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{" % len(body))
        self.machine.run("sh", "-c", "service fipsrelay stop >/stopped 2>&1 & echo $! >/stopping")
        self.wait_for_log("SIGTERM")
        agent.sendall(b"}")
        self.assertIn(b" 202 ", agent.recv(4096))
        self.machine.run("sh", "-c", "while kill -0 $(cat /stopping) 2>/dev/null; do sleep 0.1; done")
        self.service("status", 3)

    def wait_for_log(self, words: str) -> None:
        self.machine.run("timeout", "60", "sh", "-c", f"until grep -q {words} {LOG}; do sleep 0.1; done")

    def test_not_drained(self) -> None:
        """One that does not end within STOP_TIMEOUT is killed."""
        self.machine.put("/etc/default/fipsrelay", "STOP_TIMEOUT=1\n")
        self.service("start")
        pid = self.pid()
        self.machine.run("kill", "-STOP", str(pid))
        self.service("stop")
        self.assertFalse((self.machine.root / f"proc/{pid}").exists())
        self.service("status", 3)

    def test_logrotate(self) -> None:
        """The relay goes on in a new file, and the old one has all that came before."""
        self.service("start")
        self.machine.put("/etc/logrotate.d/fipsrelay", (SERVICES / "fipsrelay.logrotate").read_text())
        before = self.log()
        for _ in range(2):
            done = self.machine.run("logrotate", "--force", "--verbose", "/etc/logrotate.d/fipsrelay")
            self.assertNotIn("error", done.stderr.lower())
            self.machine.run("timeout", "60", "sh", "-c", f"until [ -e {LOG} ]; do sleep 0.1; done")
            self.service("reload")
            self.assertIn("The configuration was read again", self.log())
        old = self.machine.run("zcat", "-f", f"{LOG}.2.gz").stdout
        self.assertTrue(old.startswith(before))
        self.assertEqual(len(list((self.machine.root / "var/log/fipsrelay").iterdir())), 3)

    def test_logrotate_of_one_that_is_dead(self) -> None:
        """What stands in its pid file may be somebody else's number by now."""
        self.service("start")
        self.machine.run("kill", "-KILL", str(self.pid()))
        somebody = self.somebody_else()
        self.machine.put("/etc/logrotate.d/fipsrelay", (SERVICES / "fipsrelay.logrotate").read_text())
        self.machine.run("logrotate", "--force", "/etc/logrotate.d/fipsrelay")
        self.assertTrue((self.machine.root / "var/log/fipsrelay/fipsrelay.log.1").exists())
        self.assertEqual(self.machine.run("cat", f"/proc/{somebody}/comm").stdout, "sleep\n")

    def test_not_installed(self) -> None:
        self.machine.run("rm", "/opt/fipsrelay/bin/twistd")
        self.assertIn("not installed", self.service("start", 5))
        self.service("status", 3)
        self.service("stop")

    def test_words(self) -> None:
        self.assertIn("Usage", self.service("dance", 2))
        done = self.machine.run("setpriv", "--reuid=65534", "/etc/init.d/fipsrelay", "start", check=4)
        self.assertIn("only root", done.stderr)
        self.machine.run("setpriv", "--reuid=65534", "/etc/init.d/fipsrelay", "status", check=3)

    def test_under_upstart(self) -> None:
        """upstart's own job is what runs it there (Debian Policy 9.11.1)."""
        self.machine.put("/etc/init/fipsrelay.conf", "")
        self.machine.put("/sbin/initctl", '#!/bin/sh\necho "init (upstart 1.12.1)"\n', 0o755)
        self.assertIn("upstart runs fipsrelay", self.service("start", 1))
        self.service("stop")
