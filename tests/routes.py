"""The ways for Python to have OpenSSL: a wheel with its own, or the platform's shared libraries."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import attrs

from tests import modules

ROOT = Path(__file__).resolve().parents[1]
PLATFORM_PYTHON = "/usr/bin/python3"
PLATFORM_PACKAGES = ("cryptography", "pyopenssl")
_VERSIONS = "import sys; from importlib.metadata import version; [print(f'{n}=={version(n)}') for n in sys.argv[1:]]"


@attrs.frozen
class Route:
    """An interpreter that has all that the program needs.

    Attributes:
        python: its path.
        paths: where it looks for modules; a copy of it has to be told.
    """

    python: str
    paths: tuple[str, ...]


def own() -> Route:
    """That of the suite itself: a wheel."""
    return Route(sys.executable, tuple(path for path in sys.path if path))


@cache
def shared() -> Route:
    """Debian's packages of cryptography and pyOpenSSL, as its interpreter uses them; everything else from wheels.

    The environment is made once, and again when the packaging changes.
    """
    modules.CACHE.mkdir(parents=True, exist_ok=True)
    folder = modules.CACHE / "shared"
    python = str(folder / "bin" / "python")
    packaging = (ROOT / "setup.cfg").read_text()
    stamp = folder / "setup.cfg"
    with (modules.CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != packaging:
            # Otherwise other packages ask for newer ones of these.
            pinned = _run(PLATFORM_PYTHON, "-c", _VERSIONS, *PLATFORM_PACKAGES).split()
            # pip of the suite does the installing: Debian has taken the interpreter's own one apart.
            options = ("--clear", "--without-pip", "--system-site-packages")
            _run(PLATFORM_PYTHON, "-m", "venv", *options, str(folder))
            install = ("install", "--quiet", "--disable-pip-version-check")
            editable = ("--editable", str(ROOT), "--config-settings", "editable_mode=compat")
            _run(sys.executable, "-m", "pip", "--python", python, *install, *editable, *pinned)
            stamp.write_text(packaging)
    code = "import os, sys; print(os.pathsep.join(filter(None, sys.path)))"
    return Route(python, tuple(_run(python, "-c", code).strip().split(os.pathsep)))


def _run(*command: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd="/", env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
