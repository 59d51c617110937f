"""Get a ``fips.so`` for this machine: the platform's, Debian's prebuilt one, one from a source tree, or the operator's.

Writes nothing outside a temporary folder and the data folder, and needs no privileges. A module is proven by the gate,
in a process of its own because the gate wants a fresh one, before it replaces one that works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fipsrelay.config.model import Fips
from fipsrelay.crypto import gate, interpreter, module
from fipsrelay.crypto.sources import mirror
from fipsrelay.errors import FipsError

_PROVE = "from fipsrelay.crypto import obtain; sys.exit(obtain.prove(sys.argv[1]))"
PACKAGE = "openssl-provider-fips"
TOOL_PACKAGES = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "perl": "perl",
    "make": "build-essential",
    "cc": "build-essential",
}
# OpenSSL's documented integrity key: FIPS_KEY_ELEMENTS in providers/fips/self_test.c. It guards against damage, and
# is public by design; the protection against an exchanged file is the operator's `fips.sha256`.
INTEGRITY_KEY = bytes.fromhex("f4556650ac31d35461610bac4ed81b1a181b2d8a43ea2854cbae22ca74560813")


def run(install: Path | None, source: Path | None, suite: str, quiet: bool) -> int:
    """Make sure that a module is there and print its facts.

    Args:
        install: a ``fips.so`` to copy, or None.
        source: an OpenSSL source tree to build the module from, or None.
        suite: the Debian suite whose prebuilt module serves when neither is given and the platform has none.
        quiet: print nothing unless something fails, and do not run the gate on a module that is already there.

    Returns:
        The exit status: 0, or 3 when no module could be had or proven.
    """
    try:
        if install or source or not present():
            _obtain(install, source, suite)
        if not quiet:
            print(facts("auto"))
        return 0
    except FipsError as error:
        print(f"fipsrelay: {gate.one_line(error)}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"fipsrelay: the module could not be put into {module.data_folder()}: {error}", file=sys.stderr)
        return 3


def facts(setting: str) -> str:
    """What the gate finds about ``auto`` or a path, one fact a line.

    Raises:
        FipsError: ``module-unproven``.
    """
    done = subprocess.run(interpreter.command(_PROVE, setting), capture_output=True, text=True, check=False)
    if done.returncode:
        found = (done.stderr.strip().splitlines() or [f"no reason given, status {done.returncode}"])[-1]
        raise FipsError("module-unproven", "the gate to pass", f"'{found}'", "bring another module with --install")
    return done.stdout.rstrip()


def prove(setting: str) -> int:
    """The child of ``facts``: run the gate on a module that is to be looked at, not relied upon."""
    try:
        print("\n".join(gate.prove(Fips(module=setting, unlisted_module="warn")).lines()))
    except FipsError as error:
        print(gate.one_line(error), file=sys.stderr)
        return 3
    return 0


def present(root: Path = Path("/"), folder: Path | None = None) -> bool:
    """Whether ``auto`` finds a module, see ``module.find``.

    A platform's module without a recorded mac gets one, once, in our folder: packages are trusted when installed.
    """
    own = module.data_folder() if folder is None else folder
    platform = module.platform_module(root)
    try:
        module.find("auto", root, own)
    except FipsError:
        if platform is None or (own / "fips.so").exists():
            return False
        _write({own / module.PLATFORM_RECORD: record(platform).encode()})
    return True


def _obtain(install: Path | None, source: Path | None, suite: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fipsrelay-module-") as name:
        folder = Path(name)
        if install:
            built = install
        elif source:
            built = build(source, folder)
        else:
            built = download(suite, folder)
        place(built, folder / "staged")
        facts(str(folder / "staged" / "fips.so"))
        place(built, module.data_folder())


def place(built: Path, folder: Path) -> None:
    """Put a module and its record into ``folder``, both or, where there is no room for both, neither."""
    if not built.is_file():
        raise FipsError("module-missing", "a fips.so", f"no file {built}", "name an existing file")
    image = built.read_bytes()
    _write({folder / "fipsmodule.cnf": _record(image).encode(), folder / "fips.so": image})


def _write(files: Mapping[Path, bytes]) -> None:
    """Replace files, once all have been written; a process that has an old one mapped keeps the old one."""
    written: list[tuple[str, Path]] = []
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
            written.append((name, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(name, 0o644)
        for name, path in written:
            os.replace(name, path)
    except BaseException:
        for name, _ in written:
            Path(name).unlink(missing_ok=True)
        raise


def record(path: Path) -> str:
    """The ``fipsmodule.cnf`` of a module, as ``openssl fipsinstall`` writes it but without ``install-status``."""
    return _record(path.read_bytes())


def _record(image: bytes) -> str:
    import hmac

    digits = hmac.digest(INTEGRITY_KEY, image, "sha256").hex().upper()
    mac = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    return f"[fips_sect]\nactivate = 1\nconditional-errors = 1\nsecurity-checks = 1\nmodule-mac = {mac}\n"


def download(suite: str, folder: Path) -> Path:
    """Fetch Debian's package from this machine's own mirror with a private apt state, and unpack it: 6 seconds."""
    unpack = _tool("dpkg-deb")
    _call([*apt(folder, mirror().stanza(suite)), "download", PACKAGE], folder)
    package = next(folder.glob(f"{PACKAGE}_*.deb"))
    _call([unpack, "-x", str(package), str(folder / "unpacked")], folder)
    return _only(folder / "unpacked")


def apt(folder: Path, stanza: str | None = None) -> list[str]:
    """The command apt-get with a private state, up to date; the machine's own is not touched.

    Args:
        folder: for that state.
        stanza: the archives that it knows, see ``sources.Mirror``; without it, all of the machine's sources.

    Raises:
        FipsError: ``module-unobtainable``.
    """
    private = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (private / part).mkdir(parents=True)
    (private / "status").touch()
    options = [
        f"Dir::State={private}",
        f"Dir::State::Lists={private / 'lists'}",
        f"Dir::State::status={private / 'status'}",
        f"Dir::Cache={private / 'cache'}",
        "APT::Sandbox::User=",
    ]
    if stanza is not None:
        (private / "debian.sources").write_text(stanza)
        options += [f"Dir::Etc::sourcelist={private / 'debian.sources'}", "Dir::Etc::sourceparts=-"]
    command = [_tool("apt-get"), "-qq", *(word for option in options for word in ("-o", option))]
    _call([*command, "update"], folder)
    return command


def build(source: Path, folder: Path) -> Path:
    """Build only the module from an OpenSSL source tree, outside of that tree: 42 seconds on two cores."""
    perl, make, _ = _tool("perl"), _tool("make"), _tool("cc")
    configure = source.resolve() / "Configure"
    if not configure.is_file():
        remedy = "name the folder of an unpacked OpenSSL release"
        raise FipsError("source-missing", "an OpenSSL source tree", f"{source} holds no Configure", remedy)
    work = folder / "build"
    work.mkdir()
    jobs = f"-j{os.cpu_count() or 1}"
    _call([perl, str(configure), "enable-fips", "no-tests"], work)
    _call([make, jobs, "build_generated"], work)
    _call([make, jobs, "providers/fips.so"], work)
    return work / "providers" / "fips.so"


def _only(folder: Path) -> Path:
    found = next(folder.rglob("fips.so"), None)
    if found is None:
        raise FipsError("module-missing", f"fips.so in {PACKAGE}", "a package without it", "try another --suite")
    return found


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        remedy = f"install the Debian package {TOOL_PACKAGES[name]}, or bring a module with --install"
        raise FipsError("tool-missing", f"the program {name}", "none on PATH", remedy)
    return path


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        what = f"{Path(command[0]).name} {command[-1]}"
        remedy = "mend that, or bring a module with --install"
        raise FipsError("module-unobtainable", f"{what} to succeed", f"status {done.returncode}: {lines[-1]}", remedy)
