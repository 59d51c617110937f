"""The image's root, file by file; from the same commit and the same packages of Debian come the same bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from fipsrelay.crypto.obtain import place
from packages.build import CACHE, settle, stage
from packages.image import debian
from packages.interpreter import PREFIX
from packages.wheel import PROJECT

HERE = Path(__file__).resolve().parent
ROOT = CACHE / "image"
MODULE_PLACE = PREFIX / "share" / "fipsrelay"
CONFIG = Path("/etc/fipsrelay/proxy.yaml")
# Where the Agent FIPS Proxy has its own. The image's command names this one, so that a file mounted at either counts.
DROP_IN = Path("/etc/datadog-fips-proxy/datadog-fips-proxy.cfg")


def assemble(root: Path, module: Path | None = None) -> None:
    """Put it together.

    Args:
        root: folder for it; replaced.
        module: a ``fips.so`` for it; without one its place is empty, for a mount.

    Raises:
        BuildError, OSError: a step failed.
        FipsError: there is no such module, or apt has failed.
    """
    stage(root)
    shutil.rmtree(root / "usr/share/man")  # nobody can page through it here
    with tempfile.TemporaryDirectory(prefix="fipsrelay-image-") as name:
        debian.install(root, Path(name))
    shutil.copytree(HERE / "etc", root / "etc", dirs_exist_ok=True)
    _put(PROJECT / "conf" / "proxy.yaml", root, CONFIG)
    _put(PROJECT / "LICENSE", root, Path("/usr/share/doc/fipsrelay/copyright"))
    link = _below(root, DROP_IN)
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(CONFIG, DROP_IN.parent))
    if module:
        place(module, _below(root, MODULE_PLACE))
    (root / "tmp").mkdir()
    _set_modes(root)
    settle(root)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _put(source: Path, root: Path, path: Path) -> None:
    place = _below(root, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, place)


def _set_modes(root: Path) -> None:
    """Not those of who puts it together. Nothing in it is its user's to write."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    (root / "tmp").chmod(0o1777)
