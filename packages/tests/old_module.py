"""A FIPS module for hosts with glibc 2.14 or newer, as an operator of such hosts would build one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from packages import sources, toolchain
from packages.build import CACHE
from packages.commands import call

_BUILD = """
import sys
from pathlib import Path
from fipsrelay.crypto.obtain import build
build(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def old_module() -> Path:
    """Built from Debian's OpenSSL by the packages' compiler, once: half a minute on two cores."""
    module = CACHE / "module" / "fips.so"
    if not module.exists():
        compiler = toolchain.unpack(CACHE / "toolchain")
        module.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            work = Path(name)
            sources.fetch(("openssl",), work)
            tree = sources.unpack("openssl", work, work / "source")
            call([sys.executable, "-c", _BUILD, tree, work], work, compiler.environ(work / "none"))
            (work / "build" / "providers" / "fips.so").rename(module)
    return module
