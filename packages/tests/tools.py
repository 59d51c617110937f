"""Programs that are only looked into packages for, and not installed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fipsrelay.crypto.obtain import apt
from fipsrelay.crypto.sources import mirror
from packages.commands import call
from packages.sources import SUITE


def kubectl(cache: Path) -> Path:
    """Debian's, unpacked into the cache: it has kustomize in it, and needs no cluster for that."""
    program = cache / "kubectl"
    if not program.exists():
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            work = Path(name)
            call([*apt(work, mirror().stanza(SUITE)), "download", "kubernetes-client"], work)
            (package,) = work.glob("kubernetes-client_*.deb")
            call(["dpkg-deb", "-x", package, work / "files"], work)
            (work / "files" / "usr" / "bin" / "kubectl").rename(program)
    return program
