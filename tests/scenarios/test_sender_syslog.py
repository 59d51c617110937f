"""rsyslog over raw TCP, and another rsyslog that receives by TLS.

Of Debian's two packages for that, rsyslog-openssl is the one used: under FIPS, OpenSSL is the library with a module.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from tests.scenarios.senders import SenderStage, blocks, replaced
from tests.scenarios.stage import TIMEOUT

PROGRAM = "/usr/sbin/rsyslogd"
TITLE = "syslog"
RECEIVER = """
global(
  workDirectory="{folder}"
  defaultNetstreamDriver="ossl"
  defaultNetstreamDriverCAFile="{authority}"
  defaultNetstreamDriverCertFile="{certificate}"
  defaultNetstreamDriverKeyFile="{key}"
)
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")
"""
RELP_RECEIVER = """
global(workDirectory="{folder}")
module(load="imrelp" tls.tlsLib="openssl")
input(
  type="imrelp" address="127.0.0.1" port="{port}"
  tls="on" tls.caCert="{authority}" tls.myCert="{certificate}" tls.myPrivKey="{key}"
)
"""
WRITE = """
template(name="line" type="string" string="%hostname% %syslogtag%%msg%\\n")
if $syslogtag startswith "shop" then action(type="omfile" file="{lines}" template="line")
"""
# What the sender is given its messages by; a host has imuxsock and imjournal instead.
INPUT = """
global(workDirectory="{folder}")
module(load="imptcp")
input(type="imptcp" address="127.0.0.1" port="{port}")
"""
LINES = [f"web1 shop[7]: order {number} paid ✓" for number in range(500)]


class SyslogTests(SenderStage):
    def start_rsyslog(self, stem: str, configuration: str, port: int) -> None:
        """One that ends with the test, and listens."""
        path = self.folder / f"{stem}.conf"
        path.write_text(configuration)
        log = self.folder / f"{stem}.log"
        process = self.start_program([PROGRAM, "-n", "-C", "-i", "NONE", "-f", str(path)], log)

        def listens() -> bool:
            self.assertIsNone(process.poll(), log.read_text())
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), TIMEOUT):
                return True
            return False

        self.wait_until(listens, f"rsyslog: {log.read_text()}")

    def start_receiver(self, port: int, receiver: str = RECEIVER) -> Path:
        """The file that it writes to."""
        lines = self.folder / "lines"
        paths = self.intake_paths
        files = {"authority": paths.authority, "certificate": paths.certificate, "key": paths.key, "lines": lines}
        self.start_rsyslog("receiver", (receiver + WRITE).format(port=port, folder=self.folder, **files), port)
        return lines

    def start_sender(self, title: str, table: dict[str, object]) -> socket.socket:
        """What takes messages for it."""
        (port,) = self.free_ports(1)
        (block,) = blocks(title, "text")
        self.start_rsyslog("sender", INPUT.format(folder=self.folder, port=port) + replaced(block, table), port)
        return self.connect(port)

    def wait_for_last(self, lines: Path) -> list[str]:
        """All lines, once the last of LINES is among them."""
        self.wait_until(lambda: lines.exists() and LINES[-1] in lines.read_text(), "the last line")
        return lines.read_text().splitlines()

    def test_lines(self) -> None:
        self.certify(TITLE)
        receiver, intake = self.free_ports(2)
        lines = self.start_receiver(receiver)
        self.start_by_page(TITLE, receiver, {"1514": intake})
        self.start_sender(TITLE, {"1514": intake}).sendall(
            b"".join(b"<14>Nov 27 10:00:00 %b\n" % line.encode() for line in LINES)
        )
        self.assertEqual(self.wait_for_last(lines), LINES)

    def test_receiver_comes_late(self) -> None:
        """What is written before that is known has been accepted, and is lost; all that comes after it arrives."""
        self.certify(TITLE)
        receiver, intake = self.free_ports(2)
        relay = self.start_by_page(TITLE, receiver, {"1514": intake})
        source = self.start_sender(TITLE, {"1514": intake})
        source.sendall(b"<14>Nov 27 10:00:00 web1 shop[7]: nobody there\n")
        relay.wait_for("connections are refused while upstream")
        source.sendall(b"".join(b"<14>Nov 27 10:00:00 %b\n" % line.encode() for line in LINES))
        lines = self.start_receiver(receiver)
        self.assertEqual(self.wait_for_last(lines)[-len(LINES) :], LINES)

    def test_relp(self) -> None:
        """What is written while the receiver is away arrives, too."""
        self.certify("RELP")
        receiver, intake = self.free_ports(2)
        relay = self.start_by_page("RELP", receiver, {"2514": intake})
        source = self.start_sender("RELP", {"2514": intake})
        source.sendall(b"<14>Nov 27 10:00:00 %b\n" % LINES[0].encode())
        relay.wait_for("[connect-refused]")
        lines = self.start_receiver(receiver, RELP_RECEIVER)
        source.sendall(b"".join(b"<14>Nov 27 10:00:00 %b\n" % line.encode() for line in LINES[1:]))
        self.assertEqual(sorted(set(self.wait_for_last(lines))), sorted(LINES))
