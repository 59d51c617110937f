"""The container image: what is in its root, and how it runs without a privilege, a writable root or a shell."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

from cryptography import x509
from twisted.names import dns

from fipsrelay.crypto import module, obtain
from packages.image.root import CONFIG, DROP_IN, MODULE_PLACE, ROOT
from packages.runtime import binaries
from packages.tests.container import DOCKERFILE, Container, image, instructions
from packages.tests.hosted import BUNDLE, Hosted
from packages.tests.machine import PATH, TIMEOUT
from packages.wheel import PROJECT
from tests.folders import Folders

SHELLS = re.compile(r"^(ba|da|z|k|c|a)?sh$|^busybox$|^(apt|dpkg|rpm|pip|perl)\b")
READY = "fipsrelay is ready"
HALF = b"POST /api/v1/series HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{"


def listing(root: Path) -> dict[str, str]:
    """Everything in a root by its path: kind and mode, time, and content or target."""
    found = {}
    for path in (root, *root.rglob("*")):
        facts = path.lstat()
        content = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = f"{stat.filemode(facts.st_mode)} {facts.st_mtime_ns} {content}"
    return found


class RootTests(Folders):
    def test_once_more(self) -> None:
        """The same bytes, modes and times, by whomever it is put together; a module adds nothing but itself."""
        again, own = self.folder() / "root", module.find("auto").path
        command = [sys.executable, "-m", "packages.image", str(again), "--module", str(own)]
        subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, umask=0o077)
        before, after = listing(ROOT), listing(again)
        folder = MODULE_PLACE.relative_to("/")
        added = {str(folder / name) for name in ("fips.so", "fipsmodule.cnf")}
        self.assertEqual({name for name, _ in before.items() ^ after.items()}, added)
        self.assertEqual((again / folder / "fips.so").read_bytes(), own.read_bytes())
        self.assertEqual((again / folder / "fipsmodule.cnf").read_text(), obtain.record(own))

    def test_libraries(self) -> None:
        """The root's own loader finds all of them, in the root."""
        [loader] = ROOT.glob("lib*/ld-linux*.so.*")
        found = [path for path in binaries(ROOT) if not path.samefile(ROOT / loader.readlink().relative_to("/"))]
        self.assertGreater(len(found), 40)
        for path in found:
            words = ["chroot", str(ROOT), f"/{loader.relative_to(ROOT)}", "--list", f"/{path.relative_to(ROOT)}"]
            done = subprocess.run(words, env={"PATH": PATH}, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), path)
            self.assertNotIn("not found", done.stdout)

    def test_no_privileges(self) -> None:
        """Nothing that gives any, or that another than root may change, but for a folder for temporary files."""
        for path in (ROOT, *ROOT.rglob("*")):
            facts = path.lstat()
            self.assertEqual((facts.st_uid, facts.st_gid), (0, 0), path)
            self.assertNotIn("security.capability", os.listxattr(path, follow_symlinks=False), path)
            if not path.is_symlink() and path != ROOT / "tmp":
                self.assertEqual(facts.st_mode & 0o7022, 0, path)

    def test_no_shell(self) -> None:
        programs = {path.name for path in ROOT.rglob("*") if path.is_file() and os.access(path, os.X_OK)}
        self.assertIn("fipsrelay", programs)
        self.assertEqual({name for name in programs if SHELLS.search(name)}, set())

    def test_no_module(self) -> None:
        """It is the operator's to bring: by an argument of the build, or by a mount."""
        self.assertEqual(list(ROOT.rglob("fips*.so")), [])
        self.assertEqual(list((ROOT / MODULE_PLACE.relative_to("/")).iterdir()), [])

    def test_certificates(self) -> None:
        found = x509.load_pem_x509_certificates((ROOT / BUNDLE.lstrip("/")).read_bytes())
        self.assertGreater(len(found), 100)
        self.assertEqual(len(set(found)), len(found))

    def test_licences(self) -> None:
        """Of everything that is Debian's, with what a scanner wants to know of it."""
        for path in (ROOT / "var/lib/dpkg/status.d").iterdir():
            control = dict(re.findall(r"(?m)^([\w-]+): (.*)$", path.read_text()))
            self.assertEqual(control["Package"], path.name)
            self.assertTrue(control["Version"])
        documented = {path.parent.name for path in ROOT.glob("usr/share/doc/*/copyright")}
        for name in ("fipsrelay", "libc6", "ca-certificates", "base-files"):
            self.assertIn(name, documented)
        self.assertTrue([name for name in documented if re.match(r"gcc-\d+-base$", name)])

    def test_shipped_configuration(self) -> None:
        """One file under two names: what is mounted at either is what counts."""
        for place in (CONFIG, DROP_IN):
            path = ROOT / place.relative_to("/")
            self.assertEqual(path.read_bytes(), (PROJECT / "conf/proxy.yaml").read_bytes())
        self.assertTrue(path.is_symlink())
        self.assertTrue(path.resolve().samefile(ROOT / CONFIG.relative_to("/")))


class DockerfileTests(Folders):
    def test_agrees_with_the_root(self) -> None:
        said = image()
        users = dict(re.findall(r"(?m)^\w+:x:(\d+):(\d+):", (ROOT / "etc/passwd").read_text()))
        self.assertEqual(users[str(said.user)], str(said.group))
        for command in (said.command, said.check):
            self.assertTrue(os.access(ROOT / command[0].lstrip("/"), os.X_OK), command)
            self.assertEqual(command[-2:], ["-c", str(DROP_IN)])
        self.assertIn("fipsrelay", os.listdir(ROOT / said.environ["PATH"].lstrip("/")))

    def test_bases(self) -> None:
        """The last is nothing; the others are said by who builds, who knows their digests. No registry is named."""
        found = [value for name, value in instructions() if name == "FROM"]
        self.assertEqual(found, ["${BUILDER} AS build", "scratch"])
        self.assertIn(("ARG", "BUILDER"), instructions())
        self.assertNotRegex(DOCKERFILE.read_text(), r"\b[\w-]+\.(com|io|org|net|dev)\b")

    def test_calls_the_same_script(self) -> None:
        [command] = [value for name, value in instructions() if name == "RUN" and "packages.image" in value]
        self.assertIn("python -m packages.image /image", command)
        self.assertIn(("COPY", "--from=build /image /"), instructions())


class ContainerTests(Hosted):
    module = "/srv/module"

    def setUp(self) -> None:
        super().setUp()
        self.put_module(self.module)
        self.mounts = {name: name for name in ("/etc/hosts", "/etc/resolv.conf", BUNDLE)}
        self.mounts[str(MODULE_PLACE)] = self.module

    def container(self, config: str = "", **environ: str) -> Container:
        """One with a configuration mounted where the Agent FIPS Proxy has its own: ``config``, or the shipped one."""
        self.machine.put("/srv/proxy.yaml", config or self.configuration())
        return Container(self.machine, ROOT, {**self.mounts, str(DROP_IN): "/srv/proxy.yaml"}, environ)

    def started(self, container: Container) -> Container:
        """As soon as it listens."""
        container.start()
        container.wait_for(READY)
        return container

    def healthy(self, container: Container) -> bool:
        """By the image's own check."""
        return container.execute(*image().check).returncode == 0

    def connected(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        with self.machine.network():
            connection = socket.create_connection((address, port), 20)
        self.addCleanup(connection.close)
        return connection

    def test_life(self) -> None:
        """Every product's payload in FIPS mode, by a first process without any privilege, to the end in order."""
        intake = self.start_intake()
        container = self.started(self.container())
        self.assertTrue(self.healthy(container))
        self.relay_everything(intake)
        with self.machine.network():
            self.assertEqual({record["tls_version"] for record in intake.records()}, {"TLSv1.3"})
        process = self.machine.root / f"proc/{container.pid()}"
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        self.assertEqual(status["NSpid"].split()[-1], "1")
        self.assertEqual(set(status["Uid"].split()), {str(image().user)})
        self.assertEqual(set(status["Gid"].split()), {str(image().group)})
        self.assertEqual(status["Groups"].split(), [])
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertIn(f"{MODULE_PLACE}/fips.so", (process / "maps").read_text())
        container.kill("HUP")
        container.wait_for("The configuration was read again")
        self.relay_everything(intake)
        container.kill("TERM")
        self.assertEqual(container.wait(), 0)
        self.assertNotIn("Unable to write", container.output)

    def test_writes_nothing_that_stays(self) -> None:
        """Of all places only the tmpfs that every engine mounts can be written to, and it is empty again."""
        container = self.started(self.container())
        process = self.machine.root / f"proc/{container.pid()}"
        mounts = [line.split() for line in (process / "mounts").read_text().splitlines()]
        flags = {place: set(options.split(",")) for _, place, _, options, *_ in mounts}
        self.assertIn("ro", flags["/"])
        self.assertEqual({place for place, found in flags.items() if "ro" not in found}, {"/proc", "/dev", "/dev/shm"})
        self.assertEqual(list((process / "root/dev/shm").iterdir()), [])
        # Nor does it leave dead processes, which nobody but it could bury: its checks are the engine's children.
        self.assertTrue(self.healthy(container))
        here = os.readlink(process / "ns/pid")
        others = [path for path in (self.machine.root / "proc").glob("[0-9]*") if os.readlink(path / "ns/pid") == here]
        self.assertEqual(others, [process])

    def test_tmp_serves_as_well(self) -> None:
        """Where there is no /dev/shm."""
        self.machine.put("/srv/proxy.yaml", self.configuration())
        mounts = {**self.mounts, str(DROP_IN): "/srv/proxy.yaml"}
        container = self.started(Container(self.machine, ROOT, mounts, scratch="/tmp"))
        self.assertTrue(self.healthy(container))

    def test_not_healthy(self) -> None:
        """The check where nothing runs."""
        container = Container(self.machine, ROOT, self.mounts, command=image().check)
        container.start()
        self.assertEqual(container.wait(), 1)
        self.assertIn("it does not run", container.output)

    def test_drain(self) -> None:
        """A request under way has its answer after SIGTERM; meanwhile the check says no."""
        self.start_intake()
        container = self.started(self.container())
        agent = self.connected(9804)
        agent.sendall(HALF)
        container.kill("TERM")
        container.wait_for("(TCP Port 9804 Closed)")  # what a signal's handler logs may be lost
        self.assertFalse(self.healthy(container))
        agent.sendall(b"}")
        self.assertIn(b" 202 ", agent.recv(4096))
        self.assertEqual(container.wait(), 0)

    def test_stopped_while_it_starts(self) -> None:
        """The kernel drops what a first process has no handler for: there has to be one before the reactor's."""
        container = self.container()
        path = self.machine.root / "srv/proxy.yaml"
        path.unlink()
        os.mkfifo(path, 0o666)
        container.start()
        # Can be opened as soon as the relay has begun to read it, which then waits for what comes.
        words = f"exec 3>/srv/{path.name}; echo open; exec sleep {TIMEOUT}"
        writer = self.machine.popen("timeout", str(TIMEOUT), "sh", "-c", words)
        assert writer.stdout is not None
        self.assertEqual(writer.stdout.readline(), "open\n")
        container.kill("TERM")
        self.assertEqual(container.wait(), 0)

    def test_configuration_at_either_place(self) -> None:
        """A file that is mounted at one of the two, or a folder with it."""
        text = self.configuration().replace("port_range_start: 9803", "port_range_start: 9903")
        for name in (CONFIG.name, DROP_IN.name):
            self.machine.put(f"/srv/{name}", text)
        for place in (CONFIG, DROP_IN, CONFIG.parent, DROP_IN.parent):
            source = f"/srv/{place.name}" if place.suffix else "/srv"
            container = self.started(Container(self.machine, ROOT, {**self.mounts, str(place): source}))
            self.connected(9904)
            self.assertTrue(self.healthy(container))
            container.kill("TERM")
            self.assertEqual(container.wait(), 0)

    def test_environment(self) -> None:
        """The Agent's own two variables, as charts and task definitions set them; the check goes by them, too."""
        container = self.started(self.container(DD_FIPS_PORT_RANGE_START="9903", DD_FIPS_LOCAL_ADDRESS="127.0.0.1"))
        self.assertTrue(self.healthy(container))
        for port in (9903, 9904, 9918):
            self.connected(port)
        for address, port in (("127.0.0.1", 9804), ("::1", 9904)):
            self.assertRaises(ConnectionRefusedError, self.connected, port, address)

    def test_no_ipv6(self) -> None:
        """Docker's own networks have no ::1."""
        # By a process in the machine's network: to this one the same file is that of its own.
        self.machine.run("mount", "-o", "remount,rw,bind", "/proc/sys")
        self.machine.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
        container = self.started(self.container())
        self.assertIn("There is no ::1", container.output)
        self.assertTrue(self.healthy(container))

    def test_haproxy(self) -> None:
        """A configuration of the original's, as the chart mounts it."""
        container = self.container("global\n    log stdout format raw local0\n\ndefaults\n    mode http\n")
        container.start()
        self.assertEqual(container.wait(), 2)
        [line] = container.output.splitlines()
        self.assertTrue(line.startswith(f"{DROP_IN}:1: a configuration of HAProxy"), line)

    def test_module_needed(self) -> None:
        """The shipped configuration refuses one without a certificate, as the suite's is, and none at all."""
        without = {place: source for place, source in self.mounts.items() if source != self.module}
        for code, mounts in (("module-unlisted", self.mounts), ("module-missing", without)):
            container = Container(self.machine, ROOT, mounts)
            container.start()
            self.assertEqual(container.wait(), 3)
            self.assertIn(f"FIPS check {code} failed", container.output)

    def test_module_that_others_can_change(self) -> None:
        """As the files of a volume are that everybody may write to, which Kubernetes' emptyDir is."""
        (self.machine.root / self.module.lstrip("/")).chmod(0o777)
        container = self.container()
        container.start()
        self.assertEqual(container.wait(), 3)
        self.assertIn("FIPS check module-owner failed", container.output)

    def test_names(self) -> None:
        """glibc asks /etc/hosts and then the servers of /etc/resolv.conf, with what the root has of it."""
        self.machine.put("/etc/hosts", "192.0.2.1 file.example.com\n")
        self.machine.put("/etc/resolv.conf", "nameserver 127.0.0.1\n")
        with self.machine.network():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(("127.0.0.1", 53))
        answering = threading.Thread(target=answer, args=(server,), daemon=True)
        answering.start()
        code = "import socket; print([socket.gethostbyname(f'{name}.example.com') for name in ('file', 'server')])"
        command = ["/opt/fipsrelay/bin/python3", "-c", code]
        container = Container(self.machine, ROOT, self.mounts, command=command)
        container.start()
        self.assertEqual((container.wait(), container.output), (0, "['192.0.2.1', '192.0.2.2']\n"))
        answering.join()


def answer(server: socket.socket) -> None:
    """One question for an address, with 192.0.2.2."""
    data, asker = server.recvfrom(512)
    message = dns.Message()
    message.fromStr(data)
    message.answer = 1
    name = message.queries[0].name.name
    message.answers = [dns.RRHeader(name, dns.A, payload=dns.Record_A("192.0.2.2"))]
    server.sendto(message.toStr(), asker)
