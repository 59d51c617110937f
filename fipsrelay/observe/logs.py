"""Where log lines go and what they look like: observers for Twisted's logger.

Nothing of a request's head or body is ever handed to the logger. What looks like an API key all the same is struck out
here, of whatever is written: 32 or 40 hexadecimal digits, also behind a client token's "pub", which a digest of 64 is
not.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python import logfile
from twisted.scripts._twistd_unix import UnixApplicationRunner, UnixAppLogger
from zope.interface import implementer

from fipsrelay.config.model import Log

SOCKETS = {"journald": "/run/systemd/journal/socket", "syslog": "/dev/log"}
_KEY = re.compile(r"(?:(?<=pub)|(?<![0-9A-Fa-f]))(?:[0-9A-Fa-f]{8})?[0-9A-Fa-f]{32}(?![0-9A-Fa-f])")
# syslog(3)'s numbers, which journald has too.
_PRIORITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}
_DAEMON = 3  # the facility
_PATIENCE = 0.2  # seconds that the relay waits for a reader of its log, once
_LARGEST = 64 * 1024  # of a datagram's text; more may not fit the socket's buffer
# What Twisted itself, and its old logger, put beside an event's own fields.
_THEIRS = frozenset({"message", "time", "isError", "system", "format", "failure", "why", "log_logger"})

_log = Logger()


def redact(text: str) -> str:
    """Strike out what looks like an API key."""
    return _KEY.sub("***", text)


def fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    """What was logged beside the text: values that JSON knows, others as their text."""
    for name, value in event.items():
        if not name.startswith("log_") and name not in _THEIRS:
            if isinstance(value, str) or not isinstance(value, bool | int | float | None):
                value = redact(str(value))
            yield name, value


def as_text(event: LogEvent) -> str | None:
    """One line as Twisted writes it: time, source and level, text; tracebacks on lines of their own."""
    text = formatEventAsClassicLogText(event, formatTime=lambda when: _time(when, "seconds"))
    return None if text is None else redact(text)


def as_json(event: LogEvent) -> str:
    """One object on one line: ``time``, ``level``, ``logger``, ``message``, ``traceback``, and the event's fields."""
    return json.dumps({**dict(fields(event)), **_common(event)}, ensure_ascii=False) + "\n"


def as_journal(event: LogEvent) -> bytes:
    """A datagram of journald's native protocol, with the event's fields as ``FIPSRELAY_…``.

    Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
    """
    entry = {
        "MESSAGE": _message(event),
        "PRIORITY": str(_priority(event)),
        "SYSLOG_IDENTIFIER": "fipsrelay",
        "FIPSRELAY_LOGGER": _logger(event),
        **{f"FIPSRELAY_{re.sub('[^A-Z0-9]', '_', name.upper())}": str(value) for name, value in fields(event)},
    }
    return b"".join(_journal_field(name, _bytes(value[:_LARGEST])) for name, value in entry.items())


def _journal_field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name.encode(), value)


def as_syslog(event: LogEvent) -> bytes:
    """A message of RFC 5424, without structured data: that would need a number of our own."""
    head = f"<{8 * _DAEMON + _priority(event)}>1 {_time(event.get('log_time'), 'microseconds')} "
    text = " ".join(_message(event)[:_LARGEST].split("\n"))
    return _bytes(f"{head}{socket.gethostname() or '-'} fipsrelay {os.getpid()} - - {text}")


def _bytes(text: str) -> bytes:
    """UTF-8; names of files may have what is none."""
    return text.encode(errors="backslashreplace")


def _common(event: LogEvent) -> dict[str, Any]:
    failure = event.get("log_failure")
    level = event.get("log_level")
    return {
        "time": _time(event.get("log_time"), "milliseconds"),
        "level": level.name if level else "info",
        "logger": _logger(event),
        "message": redact(formatEvent(event)),
        **({"traceback": redact(failure.getTraceback())} if failure else {}),
    }


def _message(event: LogEvent) -> str:
    """The text, with its traceback."""
    return redact(eventAsText(event, includeTimestamp=False, includeSystem=False))


def _logger(event: LogEvent) -> str:
    return str(event.get("log_namespace") or event.get("log_system") or "-")


def _priority(event: LogEvent) -> int:
    return _PRIORITIES.get(event.get("log_level"), 6)


def _time(seconds: float | None, precision: str) -> str:
    return datetime.fromtimestamp(seconds or 0.0, timezone.utc).isoformat(timespec=precision)


@implementer(ILogObserver)
class Datagrams:
    """Sends each event as a datagram to a local socket, whose queue is short: a burst waits for its reader.

    A log that nobody takes must not stop the relay: what cannot be sent in a moment is counted, and told when something
    can again; until then nothing waits.

    Args:
        path: of the socket.
        write: makes the datagram.
    """

    def __init__(self, path: str, write: Callable[[LogEvent], bytes]) -> None:
        self._path = path
        self._write = write
        self._socket: socket.socket | None = None
        self._lost = 0

    def __call__(self, event: LogEvent) -> None:
        """Send it."""
        if self._lost:
            told: LogEvent = {name: event[name] for name in ("log_time", "log_namespace") if name in event}
            told["log_format"] = "{lost} lines before this one could not be sent to {path}"
            told |= {"log_level": LogLevel.warn, "lost": self._lost, "path": self._path}
            if self._send(told):
                self._lost = 0
        if not self._send(event):
            self._lost += 1

    def _send(self, event: LogEvent) -> bool:
        data = self._write(event)
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.connect(self._path)  # or the kernel could not tell when its queue has room
            self._socket.settimeout(0 if self._lost else _PATIENCE)
            self._socket.send(data)
        except OSError:
            # Whoever reads it may have started again, with a socket of its own, or is too slow.
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            return False
        return True


class LogFile(logfile.LogFile):
    """twistd's log file without its rotation at a million bytes, which keeps every piece and is in logrotate's way."""

    def __init__(self, name: str, directory: str) -> None:
        super().__init__(name, directory, rotateLength=None)

    def rotate(self) -> None:
        """Begin a new file; SIGUSR1 asks for it. If somebody has moved the old one, logrotate, it may stay there."""
        try:
            moved = not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            moved = True
        if not moved:
            super().rotate()
            return
        try:
            open(self.path, "ab").close()
        except OSError as error:  # it goes on in the old one
            _log.warn("The log cannot be begun again at {path}: {error}", path=self.path, error=error.strerror)
        else:
            self.reopen()


def runner(log: Log) -> type[UnixApplicationRunner]:
    """Twisted's runner of applications, with this log; twistd's own ``--logger`` and ``--syslog`` win."""

    class AppLogger(UnixAppLogger):
        """The observer that this log asks for."""

        def _getLogObserver(self) -> ILogObserver:
            observer: Any
            if self._syslog:
                observer = super()._getLogObserver()
                return observer  # type: ignore[no-any-return]
            if log.format in SOCKETS:
                write = as_journal if log.format == "journald" else as_syslog
                observer = Datagrams(log.socket or SOCKETS[log.format], write)
            else:
                form = as_json if log.format == "json" else as_text
                observer = FileLogObserver(self._output(), form)
            level = LogLevel.levelWithName(log.level)
            return FilteringLogObserver(observer, [LogLevelFilterPredicate(level)])

        def _output(self) -> Any:
            """The terminal, or the file that twistd was told, as its own logger decides."""
            if self._logfilename == "-" and not self._nodaemon:
                sys.exit("Daemons cannot log to stdout, exiting!")
            if self._logfilename == "-" or (self._nodaemon and not self._logfilename):
                return sys.stdout
            file = LogFile.fromFullPath(self._logfilename or "twistd.log")
            if not signal.getsignal(signal.SIGUSR1):
                from twisted.internet import reactor

                ask: Any = reactor
                signal.signal(signal.SIGUSR1, lambda *_: ask.callFromThread(file.rotate))
            return file

    class Runner(UnixApplicationRunner):
        """Twisted's, with that."""

        loggerFactory = AppLogger

    return Runner
