"""The command ``fipsrelay agent``: switches the use of the relay on and off in an Agent's own configuration."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from fipsrelay.observe.edit import EditError, Settings, change, read

SECTION = "fips"
_RESTART = "restart the Agent to make it so: systemctl restart datadog-agent"


def main(action: str, file: Path, port_range_start: int) -> int:
    """Do it.

    Args:
        action: ``enable``, ``disable`` or ``show``.
        file: the Agent's datadog.yaml.
        port_range_start: of the relay.

    Returns:
        0; for ``show`` 1 when the Agent is not told to use the relay; 2 when the file cannot be read, edited or
        written, which then is as it was.
    """
    settings: Settings = {"enabled": False}
    if action == "enable":
        settings = {"enabled": True, "port_range_start": port_range_start, "https": False}
    try:
        # As bytes, or Python would make the newlines its own.
        text = file.read_bytes().decode("utf-8")
        if action == "show":
            return _show(text)
        changed = change(text, SECTION, settings)
        if changed == text:
            print(f"{file} says so already")
            return 0
        backup = write(file, changed)
    except UnicodeDecodeError:
        return _refuse(file, "it is not UTF-8")
    except OSError as error:
        return _refuse(file, error.strerror or str(error))
    except EditError as error:
        return _refuse(file, str(error))
    print(f"{file}: {', '.join(f'fips.{name}: {str(value).lower()}' for name, value in settings.items())}")
    print(f"as it was before: {backup}\n{_RESTART}")
    return 0


def _refuse(file: Path, reason: str) -> int:
    print(f"fipsrelay: {file} is left as it is: {reason}", file=sys.stderr)
    return 2


def _show(text: str) -> int:
    """Print what the file says; the Agent's environment may say otherwise, see ``fipsrelay doctor``."""
    section = read(text).get(SECTION)
    settings = section if isinstance(section, dict) else {}
    for name in ("enabled", "https", "port_range_start", "local_address"):
        print(f"fips.{name}: {str(settings[name]).lower() if name in settings else 'not set'}")
    return 0 if settings.get("enabled") is True and settings.get("https") is False else 1


def write(file: Path, text: str) -> Path:
    """Put a text in the place of a file's, whole or not at all, with its owner, group, mode and labels.

    Args:
        file: its path, or a symbolic link to it, which stays one.
        text: the new one.

    Returns:
        The path of a copy of what was there before.
    """
    real = file.resolve()
    before = real.stat()
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    backup = real.with_name(f"{real.name}.{stamp}.bak")
    handle, name = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
    try:
        with os.fdopen(handle, "wb") as output:
            _fill(output, text.encode("utf-8"), real, before)
        with backup.open("xb") as output:
            _fill(output, real.read_bytes(), real, before)
        os.replace(name, real)
    except BaseException:
        for path in (Path(name), backup):
            path.unlink(missing_ok=True)
        raise
    return backup


def _fill(output: BinaryIO, content: bytes, like: Path, status: os.stat_result) -> None:
    """Fill a new file that is to be as another one.

    By its descriptor: the folder may be the Agent's, and whoever may write to that could put a link in the place of the
    name, by which root would change what it leads to.
    """
    output.write(content)
    output.flush()
    number = output.fileno()
    os.fchown(number, status.st_uid, status.st_gid)
    os.fchmod(number, stat.S_IMODE(status.st_mode))
    with contextlib.suppress(OSError):  # not every file system has them, and some are the kernel's to set
        for label in os.listxattr(like):  # such as SELinux's
            os.setxattr(number, label, os.getxattr(like, label))
    os.fsync(number)
