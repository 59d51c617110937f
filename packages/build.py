"""Build the packages: ``python -m packages.build``. What takes long is kept in ``.cache``."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from fipsrelay import __version__
from fipsrelay.errors import FipsError
from packages import interpreter, runtime, sbom, toolchain
from packages.commands import BuildError, call
from packages.wheel import PROJECT, epoch, wheel

HERE = Path(__file__).resolve().parent
CACHE = PROJECT / ".cache"
ROOT = CACHE / "root"
DIST = PROJECT / "dist"
SBOM = "usr/share/doc/fipsrelay/sbom.cdx.json"  # below a root
# Of what decides about the interpreter: it is built anew when one of them changes.
_RECIPE = ("interpreter.py", "sources.py", "toolchain.py")


def main() -> int:
    """Build the packages and the list of what is in them, name the files, and return 0; 1 when a step failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default=__version__, help="of the packages")
    parser.add_argument("--output", type=Path, default=DIST, help="folder for them")
    parser.add_argument("--stage", type=Path, default=ROOT, help="folder for what is in them; replaced")
    options = parser.parse_args()
    try:
        root = options.stage.resolve()
        stage(root)
        for kind in ("deb", "rpm"):
            file = pack(root, kind, options.version, options.output.resolve())
            print(file)
        print(shutil.copy(root / SBOM, file.with_suffix(".cdx.json")))
    except (BuildError, FipsError, OSError) as error:  # FipsError: no mirror to have the sources from
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


def stage(root: Path) -> None:
    """Fill a root with /opt/fipsrelay, from the cache as far as that has it, and the man page."""
    compiler = toolchain.unpack(CACHE / "toolchain")
    python = CACHE / f"python-{_digest(HERE / name for name in _RECIPE)}"
    if not python.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            work = Path(name) / "work"
            built = interpreter.build(compiler, CACHE / "sources", work)
            built.rename(python)
    if root.exists():
        shutil.rmtree(root)
    shutil.copytree(python, root, symlinks=True)
    with tempfile.TemporaryDirectory() as name:
        runtime.furnish(root, HERE / "requirements.txt", HERE / "patches", wheel(Path(name)), compiler)
    sbom.write(root, CACHE / "sources", int(epoch()), root / SBOM)
    page = root / "usr/share/man/man8/fipsrelay.8.gz"
    page.parent.mkdir(parents=True)
    page.write_bytes(gzip.compress((HERE / "services" / "fipsrelay.8").read_bytes(), mtime=0))
    settle(root)


def settle(root: Path) -> None:
    """Give all files times that do not tell when they were made."""
    for path in (root, *root.rglob("*")):
        # Twisted reads its list of plugins (dropin.cache) anew unless it is younger than all of them.
        is_plugin = path.parent.name == "plugins" and path.suffix == ".py"
        os.utime(path, (int(epoch()) - is_plugin,) * 2, follow_symlinks=False)


def pack(root: Path, kind: str, version: str, output: Path) -> Path:
    """Make a package of a staged root.

    Args:
        root: see ``stage``.
        kind: ``deb`` or ``rpm``.
        version: of the package.
        output: folder for it.
    """
    output.mkdir(parents=True, exist_ok=True)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    file = output / f"fipsrelay_{version}_{architecture}.{kind}"
    environ = {"ROOT": str(root), "VERSION": version, "ARCHITECTURE": architecture, "SOURCE_DATE_EPOCH": epoch()}
    program = Path(sys.executable).with_name("nfpm")
    call([program, "package", "--config", HERE / "nfpm.yaml", "--packager", kind, "--target", file], PROJECT, environ)
    return file


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
