"""A second FIPS module for the suite, of another version than the one that ``fipsrelay module`` has obtained.

It is built once from Debian's source of OpenSSL 3.0, by the program's own means, and kept in the Python environment.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fipsrelay.crypto import module, obtain
from fipsrelay.crypto.sources import mirror

SUITE = "bookworm"
CACHE = Path(sys.prefix) / "share" / "fipsrelay-suite"


def second() -> module.Module:
    """The module; the first call in an environment takes a minute.

    Raises:
        FipsError: it cannot be had: there is no mirror, or a program is missing to build it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "fips.so").exists():
            with tempfile.TemporaryDirectory(prefix="fipsrelay-suite-") as name:
                folder = Path(name)
                obtain.place(obtain.build(source(folder), folder), CACHE)
    return module.find(str(CACHE / "fips.so"))


def source(folder: Path) -> Path:
    """Debian's source of OpenSSL, without Debian's patches, which do not concern the module."""
    command = obtain.apt(folder, mirror().stanza(SUITE, "deb-src"))
    subprocess.run([*command, "source", "--download-only", "openssl"], cwd=folder, check=True, capture_output=True)
    [archive] = (path for path in folder.glob("openssl_*.orig.tar.*") if path.suffix != ".asc")
    shutil.unpack_archive(archive, folder / "source")
    [tree] = (folder / "source").iterdir()
    return tree
