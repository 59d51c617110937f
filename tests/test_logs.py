"""What log lines look like, and where they go."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

from hypothesis import given, strategies
from twisted.logger import LogEvent, Logger, LogLevel, capturedLogs
from twisted.python.failure import Failure

from fipsrelay.observe import logs
from tests.folders import Folders, short_folder

KEY = "0123456789abcdef0123456789ABCDEF"
DIGEST = "0123456789abcdef" * 4


def event(level: LogLevel = LogLevel.warn, text: str = "{intake}: {count} of {what}", **fields: object) -> LogEvent:
    """As Twisted's logger makes them."""
    found: list[LogEvent] = []
    Logger("fipsrelay.test", observer=found.append).emit(level, text, **fields)  # type: ignore[arg-type]
    [made] = found
    made["log_time"] = 1_800_000_000.25
    return made


def failed() -> LogEvent:
    """One with a traceback."""
    try:
        raise ValueError(f"no {KEY}")
    except ValueError:
        return event(LogLevel.critical, "It failed", log_failure=Failure())


class FormatTests(Folders):
    def setUp(self) -> None:
        self.made = event(intake="web", count=3, what=f"key {KEY}", digest=DIGEST, error=ValueError("x"), ok=True)

    def test_text(self) -> None:
        wanted = "2027-01-15T08:00:00+00:00 [fipsrelay.test#warn] web: 3 of key ***\n"
        self.assertEqual(logs.as_text(self.made), wanted)
        text = logs.as_text(failed()) or ""
        self.assertIn("ValueError: no ***", text)

    def test_json(self) -> None:
        line = logs.as_json(self.made)
        self.assertEqual(line.count("\n"), 1)
        wanted = {
            "time": "2027-01-15T08:00:00.250+00:00",
            "level": "warn",
            "logger": "fipsrelay.test",
            "message": "web: 3 of key ***",
            "intake": "web",
            "count": 3,
            "what": "key ***",
            "digest": DIGEST,
            "error": "x",
            "ok": True,
        }
        self.assertEqual(json.loads(line), wanted)
        found = json.loads(logs.as_json(failed()))
        self.assertEqual((found["level"], found["message"]), ("critical", "It failed"))
        self.assertIn("ValueError: no ***", found["traceback"])

    def test_own_fields_do_not_hide_the_common_ones(self) -> None:
        made = event(text="x")
        made |= {"time": 1, "level": 2, "logger": "other", "message": "y"}
        wanted = {
            "time": "2027-01-15T08:00:00.250+00:00",
            "level": "warn",
            "logger": "fipsrelay.test",
            "message": "x",
        }
        self.assertEqual(json.loads(logs.as_json(made)), wanted)

    def test_journal(self) -> None:
        """Values with newlines go by their length."""
        found = read_journal(logs.as_journal(self.made))
        self.assertEqual(found["MESSAGE"], "web: 3 of key ***")
        self.assertEqual((found["PRIORITY"], found["SYSLOG_IDENTIFIER"]), ("4", "fipsrelay"))
        self.assertEqual((found["FIPSRELAY_INTAKE"], found["FIPSRELAY_COUNT"]), ("web", "3"))
        self.assertEqual(found["FIPSRELAY_LOGGER"], "fipsrelay.test")
        found = read_journal(logs.as_journal(failed()))
        self.assertEqual((found["PRIORITY"], found["MESSAGE"].splitlines()[0]), ("2", "It failed"))
        self.assertIn("ValueError: no ***", found["MESSAGE"])

    @given(strategies.dictionaries(strategies.from_regex("[a-z_]{1,9}", fullmatch=True), strategies.text()))
    def test_any_journal(self, fields: dict[str, str]) -> None:
        """Whatever is in the fields, a reader finds it."""
        fields = {f"x{name}": value for name, value in fields.items()}
        found = read_journal(logs.as_journal(event(LogLevel.info, "x", **fields)))
        for name, value in fields.items():
            self.assertEqual(found[f"FIPSRELAY_{name.upper()}"], logs.redact(value))

    def test_syslog(self) -> None:
        """RFC 5424 §6: daemon is 3, warning is 4."""
        head = f"<28>1 2027-01-15T08:00:00.250000+00:00 {socket.gethostname()} fipsrelay {os.getpid()} - - "
        self.assertEqual(logs.as_syslog(self.made).decode(), head + "web: 3 of key ***")
        self.assertNotIn(b"\n", logs.as_syslog(failed()))

    def test_names_of_files_that_are_not_utf_8(self) -> None:
        """The line must not be lost for them."""
        made = event(LogLevel.info, "no {file}", file=os.fsdecode(b"/etc/\xff.yaml"))
        self.assertEqual(read_journal(logs.as_journal(made))["MESSAGE"], r"no /etc/\udcff.yaml")
        self.assertTrue(logs.as_syslog(made).endswith(rb"no /etc/\udcff.yaml"))

    def test_redact(self) -> None:
        for text, wanted in (
            (f"api_key={KEY}&x", "api_key=***&x"),
            (f"/v1/input/{KEY}", "/v1/input/***"),
            (f"pub{KEY}", "pub***"),
            (KEY + "01234567", "***"),
            (DIGEST, DIGEST),
            (KEY[:31], KEY[:31]),
        ):
            self.assertEqual(logs.redact(text), wanted, text)


class LogFileTests(Folders):
    def setUp(self) -> None:
        self.path = self.folder() / "relay.log"
        self.file = logs.LogFile.fromFullPath(str(self.path))
        self.addCleanup(lambda: self.file.closed or self.file.close())

    def test_never_rotates_by_itself(self) -> None:
        self.file.write(b"x" * 2_000_000)
        self.file.write(b"y")
        self.assertEqual([each.name for each in self.path.parent.iterdir()], ["relay.log"])

    def test_rotate(self) -> None:
        """As twistd does it, when it is still in its place."""
        for text in (b"a", b"b"):
            self.file.write(text)
            self.file.rotate()
        self.file.write(b"c")
        found = {each.name: each.read_bytes() for each in self.path.parent.iterdir()}
        self.assertEqual(found, {"relay.log": b"c", "relay.log.1": b"b", "relay.log.2": b"a"})

    def test_moved(self) -> None:
        """As logrotate does it, with a new file or without."""
        for number, create in ((1, False), (2, True)):
            self.file.write(b"old")
            self.path.rename(f"{self.path}-{number}")
            if create:
                self.path.touch()
            self.file.write(b"late")
            self.file.rotate()
            self.file.write(b"new")
            self.assertEqual(self.path.read_bytes(), b"new")
        found = {each.name: each.read_bytes() for each in self.path.parent.iterdir()}
        self.assertEqual(found, {"relay.log": b"new", "relay.log-1": b"oldlate", "relay.log-2": b"newoldlate"})

    def test_moved_and_no_place(self) -> None:
        """What cannot be opened again goes on where it was."""
        self.path.rename(f"{self.path}-1")
        self.path.mkdir()
        with capturedLogs() as told:
            self.file.rotate()
        self.file.write(b"x")
        self.assertEqual(Path(f"{self.path}-1").read_bytes(), b"x")
        [event] = told
        self.assertEqual(event["error"], "Is a directory")


class DatagramTests(Folders):
    def setUp(self) -> None:
        self.path = short_folder(self.addCleanup) / "log"

    def listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(str(self.path))
        listener.settimeout(10)
        return listener

    def test_lost(self) -> None:
        """What could not be sent is told of by the first that can, and not again."""
        send = logs.Datagrams(str(self.path), lambda made: str(made["log_format"]).format(**made).encode())
        for text in ("a", "b"):
            send(event(text=text))
        listener = self.listen()
        for text in ("c", "d"):
            send(event(text=text))
        found = [listener.recv(1000).decode() for _ in range(3)]
        self.assertEqual(found, [f"2 lines before this one could not be sent to {self.path}", "c", "d"])

    def test_burst(self) -> None:
        """Of many times what the socket's queue holds, to a reader that reads: nothing is lost."""
        listener = self.listen()
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(iter(lambda: listener.recv(100), b"999")))
        reader.start()
        send = logs.Datagrams(str(self.path), lambda made: str(made["log_format"]).encode())
        for number in range(1000):
            send(event(text=str(number)))
        reader.join(10)
        self.assertEqual(found, [b"%d" % number for number in range(999)])

    def test_reader_that_is_slow(self) -> None:
        """The relay waits for it once, a moment; more lines than the kernel ever keeps are no reason to wait again."""
        listener = self.listen()
        send = logs.Datagrams(str(self.path), lambda made: b"x" * 1000)
        before = time.monotonic()
        for _ in range(300):
            send(event(text="x"))
            self.assertLess(time.monotonic() - before, 5)
        self.assertEqual(listener.recv(2000), b"x" * 1000)


def read_journal(data: bytes) -> dict[str, str]:
    """Read journald's native protocol."""
    found = {}
    while data:
        name, mark, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            data = rest
        else:
            key, size = name, int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + size], rest[9 + size :]
        found[key.decode()] = value.decode()
        assert mark == b"\n"
    return found
