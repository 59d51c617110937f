"""The units under a real systemd, which is the first process of a machine of its own."""

from __future__ import annotations

import json
import socket
import time

from packages.tests.hosted import CONFIG
from packages.tests.installed import SERVICES, Installed

UNIT = "fipsrelay.service"
# What the relay's user tries inside of the unit, and what comes of it: an error's name, or nothing.
TRY = """
import ctypes, errno, json, mmap, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def result(call):
    try:
        value = call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return errno.errorcode[ctypes.get_errno()] if value == -1 else ""
def call(name, *words):
    return lambda: getattr(libc, name)(*words)
tried = {
    "write /etc": result(lambda: open("/etc/fipsrelay/new", "w")),
    "write /opt": result(lambda: open("/opt/fipsrelay/new", "w")),
    "read /root": result(lambda: os.listdir("/root")),
    "write state": result(lambda: open("/var/lib/fipsrelay/new", "w").close()),
    "write runtime": result(lambda: open("/run/fipsrelay/new", "w").close()),
    "write /tmp": result(lambda: open("/tmp/new", "w").close()),
    "read configuration": result(lambda: open("/etc/fipsrelay/proxy.yaml").close()),
    "writable code": result(lambda: mmap.mmap(-1, 4096, prot=7).close()),
    "closure": str(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 42)()),
    "packets": result(lambda: socket.socket(17, socket.SOCK_RAW)),
    "netlink": result(lambda: socket.socket(16, socket.SOCK_RAW)),
    "inet": result(lambda: socket.socket().close()),
    "namespace": result(call("unshare", 0x10000000)),
    "setuid": result(call("setuid", 0)),
    "mount": result(call("mount", 0, 0, 0, 0, 0)),
    "clock": result(call("adjtimex", ctypes.create_string_buffer(512))),
    "ptrace": result(call("ptrace", 0, 0, 0, 0)),
    "limits": result(call("prlimit", 0, 7, 0, 0)),
}
json.dump(tried, open("/var/lib/fipsrelay/tried", "w"))
"""


class SystemdTests(Installed):
    systemd = True

    def setUp(self) -> None:
        super().setUp()
        for name in (UNIT, "fipsrelay.socket"):
            self.machine.put(f"/lib/systemd/system/{name}", (SERVICES / name).read_text())
        self.systemctl("daemon-reload")

    def systemctl(self, *words: str, status: int | None = 0) -> str:
        done = self.machine.run("systemctl", *words, check=status)
        return done.stdout + done.stderr

    def show(self, name: str) -> str:
        return self.systemctl("show", "--value", "-p", name, UNIT).strip()

    def journal(self) -> str:
        self.machine.run("journalctl", "--sync")
        return self.machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT).stdout

    def wait_for(self, name: str, value: str) -> None:
        """Until a property of the unit has this value."""
        ask = f"systemctl show --value -p {name} {UNIT}"
        self.machine.run("timeout", "60", "sh", "-c", f"until [ \"$({ask})\" = '{value}' ]; do sleep 0.1; done")

    def drop_in(self, text: str) -> None:
        self.machine.put(f"/etc/systemd/system/{UNIT}.d/test.conf", f"[Service]\n{text}\n")
        self.systemctl("daemon-reload")

    def process(self) -> dict[str, str]:
        """The status of the relay's process."""
        text = (self.machine.root / "proc" / self.show("MainPID") / "status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines())

    def test_life(self) -> None:
        """Started when it is ready, and real payloads, a reload, and a stop, in everything that the unit forbids."""
        intake = self.start_intake()
        self.systemctl("start", UNIT)
        self.assertRegex(self.show("StatusText"), "^ready: 0 connections")
        self.relay_everything(intake)
        user = self.machine.run("id", "-u", "fipsrelay").stdout.strip()
        process = self.process()
        self.assertEqual(set(process["Uid"].split()), {user})
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(process[name], 16), 0, name)
        self.assertEqual((process["NoNewPrivs"], process["Seccomp"]), ("1", "2"))
        self.systemctl("reload", UNIT)
        self.assertIn("The configuration was read again", self.journal())
        self.relay_everything(intake)
        pid = self.show("MainPID")
        self.configure("\nnonsense: 1\n")
        self.systemctl("reload", UNIT, status=1)
        self.assertRegex(self.journal(), r"proxy\.yaml:\d+: nonsense: ")
        self.assertEqual((self.show("ActiveState"), self.show("MainPID")), ("active", pid))
        self.configure()
        self.systemctl("restart", UNIT)
        self.relay_everything(intake)
        self.systemctl("stop", UNIT)
        self.assertEqual(
            (self.show("ActiveState"), self.show("Result"), self.show("ExecMainStatus")), ("inactive", "success", "0")
        )
        self.assertNotIn("Unable to write", self.journal())

    def test_raw_tcp_whose_upstream_is_away(self) -> None:
        """systemd lets go of stored sockets that refuse connections, and has them again when they accept."""
        self.configure(
            "\nupstreams: {raw: {host: api.ddog-gov.com}}\nintakes: {raw: {port: 9850, protocol: tcp, upstream: raw}}\n"
        )
        often = ("s/^probes:/&\\n  interval: 1\\n  fall: 1/", "s/^resolver:/&\\n  refresh: 1/")
        self.machine.run("sed", "-i", *(word for each in often for word in ("-e", each)), CONFIG)
        hosts = self.machine.root / "etc/hosts"
        before = hosts.read_text()
        self.start_intake()
        found = hosts.read_text()
        hosts.write_text(before)
        self.systemctl("start", UNIT)
        self.wait_for("NFileDescriptorStore", "30")
        self.assertIn("raw: connections are refused", self.journal())
        hosts.write_text(found)
        self.wait_for("NFileDescriptorStore", "32")
        self.assertIn("raw: connections are accepted again", self.journal())

    def test_what_it_may(self) -> None:
        """Tried by the relay's own interpreter and user, in the unit."""
        self.machine.put("/opt/fipsrelay/try.py", TRY)
        self.drop_in("ExecStartPre=/opt/fipsrelay/bin/python3 /opt/fipsrelay/try.py")
        self.systemctl("start", UNIT)
        tried = json.loads((self.machine.root / "var/lib/fipsrelay/tried").read_text())
        self.assertEqual(
            tried,
            {
                "write /etc": "EROFS",
                "write /opt": "EROFS",
                "read /root": "EACCES",
                "write state": "",
                "write runtime": "",
                "write /tmp": "",
                "read configuration": "",
                "writable code": "EPERM",
                "closure": "42",
                "packets": "EAFNOSUPPORT",
                "netlink": "EAFNOSUPPORT",
                "inet": "",
                "namespace": "EPERM",
                "setuid": "EPERM",
                "mount": "EPERM",
                "clock": "EPERM",
                "ptrace": "EPERM",
                "limits": "",
            },
        )
        self.assertFalse((self.machine.root / "tmp/new").exists())

    def test_drain(self) -> None:
        """A stop lets the request under way have its answer, and has the time for that."""
        self.drop_in("TimeoutStopSec=1s")
        self.start_intake()
        self.systemctl("start", UNIT)
        with self.machine.network():
            agent = socket.create_connection(("127.0.0.1", 9804), 20)
        self.addCleanup(agent.close)
        agent.sendall(b"POST /api/v1/series HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        self.systemctl("stop", "--no-block", UNIT)
        self.wait_for("ActiveState", "deactivating")
        time.sleep(3)  # longer than TimeoutStopSec=: what is looked for is that nothing happens then
        agent.sendall(b"}")
        self.assertIn(b" 202 ", agent.recv(4096))
        self.wait_for("ActiveState", "inactive")
        self.assertEqual(self.show("Result"), "success")

    def test_not_started_again(self) -> None:
        """What does not mend itself: a configuration, and a FIPS state."""
        self.drop_in("RestartSec=100ms")
        self.configure("\nnonsense: 1\n")
        self.systemctl("start", UNIT, status=1)
        self.assertEqual((self.show("ActiveState"), self.show("ExecMainStatus")), ("failed", "2"))
        self.assertRegex(self.journal(), r"proxy\.yaml:\d+: nonsense: ")
        self.configure()
        (self.machine.root / "opt/fipsrelay/share/fipsrelay/fips.so").unlink()
        self.systemctl("start", UNIT, status=1)
        self.assertEqual((self.show("ActiveState"), self.show("ExecMainStatus")), ("failed", "3"))
        self.assertEqual(self.show("NRestarts"), "0")

    def test_started_again(self) -> None:
        """What does: ports that somebody holds for a while."""
        self.drop_in("RestartSec=1s")
        with self.machine.network(), socket.create_server(("127.0.0.1", 9804)):
            self.systemctl("start", "--no-block", UNIT)
            self.wait_for("ExecMainStatus", "4")
        self.wait_for("ActiveState", "active")
        self.assertIn("cannot bind socket (Address already in use) [127.0.0.1:9804]", self.journal())

    def test_watchdog(self) -> None:
        """One that is stuck is killed, and started again."""
        self.drop_in("WatchdogSec=1s\nRestartSec=100ms")
        self.systemctl("start", UNIT)
        self.machine.run("kill", "-STOP", self.show("MainPID"))
        self.wait_for("NRestarts", "1")
        self.wait_for("ActiveState", "active")
        self.assertIn("Watchdog timeout", self.journal())

    def test_the_agents_user(self) -> None:
        self.machine.run("sh", "-c", "id dd-agent >/dev/null 2>&1 || useradd --system dd-agent")
        self.machine.run("chown", "root:dd-agent", CONFIG)
        self.drop_in("User=dd-agent\nGroup=dd-agent")
        self.systemctl("start", UNIT)
        user = self.machine.run("id", "-u", "dd-agent").stdout.strip()
        self.assertEqual(set(self.process()["Uid"].split()), {user})

    def restart_under_load(self) -> None:
        """Again and again; each request of an agent is answered meanwhile."""
        with self.load() as sent:
            for _ in range(3):
                self.systemctl("restart", UNIT)
                sent.wait_for_more()
        self.assertEqual(sent.failures, [])

    def test_restart_under_load(self) -> None:
        """Requests of an agent while the relay is restarted: each is answered; a stop for good closes the ports."""
        self.start_intake()
        self.systemctl("start", UNIT)
        self.restart_under_load()
        self.systemctl("stop", UNIT)
        with self.machine.network():
            self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", 9804))

    def test_restart_with_other_ports(self) -> None:
        """Ports that are no more, after a reload or a restart, are kept by nobody; those that are new are."""
        self.systemctl("start", UNIT)
        without = "\nintakes: {network_devices_netflow_frontend: null}\n"
        self.configure(without)
        self.systemctl("reload", UNIT)
        self.assert_listening({9817: True, 9818: False})
        self.systemctl("restart", UNIT)
        self.assert_listening({9817: True, 9818: False})
        self.configure()
        self.systemctl("reload", UNIT)
        self.assert_listening({9817: True, 9818: True})
        self.configure(without)
        self.systemctl("restart", UNIT)
        self.assert_listening({9817: True, 9818: False})
        self.assertEqual(self.show("NRestarts"), "0")

    def assert_listening(self, ports: dict[int, bool]) -> None:
        with self.machine.network():
            for port, wanted in ports.items():
                with socket.socket() as sock:
                    self.assertEqual(sock.connect_ex(("127.0.0.1", port)) == 0, wanted, port)

    def test_sockets(self) -> None:
        """Requests of an agent while the relay is restarted again and again: each is answered."""
        self.start_intake()
        self.systemctl("start", "fipsrelay.socket")
        self.systemctl("start", UNIT)
        self.restart_under_load()

    def test_sockets_start_it(self) -> None:
        """A payload to every product's port, when only the sockets are there."""
        intake = self.start_intake()
        self.systemctl("start", "fipsrelay.socket")
        self.assertEqual(self.show("ActiveState"), "inactive")
        self.relay_everything(intake)
        self.assertEqual(self.show("ActiveState"), "active")
        self.systemctl("stop", "fipsrelay.socket", UNIT)

    def test_sockets_of_another_configuration(self) -> None:
        """Refused with the port, and with the status of ports that are taken."""
        self.configure("\nintakes: {network_devices_netflow_frontend: null}\n")
        self.systemctl("start", "fipsrelay.socket")
        self.systemctl("start", UNIT, status=1)
        self.assertEqual(self.show("ExecMainStatus"), "4")
        self.assertIn("a port that nothing is configured for) [127.0.0.1:9818]", self.journal())
