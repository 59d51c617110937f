"""CPython for one fixed place, of whose host it needs nothing but glibc."""

from __future__ import annotations

import ast
import os
import re
from email.utils import parsedate_to_datetime
from pathlib import Path
from pprint import pformat

from packages.commands import BuildError, call
from packages.sources import DEBIAN_ONLY, fetch, unpack
from packages.toolchain import Toolchain

PREFIX = Path("/opt/fipsrelay")
PYTHON = "python3.11"
SOURCES = (PYTHON, "libffi", "zlib")
# Would bring an OpenSSL of their own, or libraries of the host (Debian's sources have no expat), or are of no use.
_DISABLED = (
    *("_ssl", "_hashlib", "_bz2", "_lzma", "_sqlite3", "_dbm", "_gdbm", "_curses", "_curses_panel", "_tkinter"),
    *("readline", "nis", "_crypt", "_uuid", "pyexpat", "_elementtree"),
    *("audioop", "ossaudiodev", "spwd", "xxlimited", "xxlimited_35"),
)
_HOST_PLACES = (
    "            add_dir_to_list(self.compiler.library_dirs, '/usr/local/lib')\n",
    "            add_dir_to_list(self.compiler.include_dirs, '/usr/local/include')\n",
    "        self.add_multiarch_paths()\n",
)


def build(toolchain: Toolchain, sources: Path, work: Path) -> Path:
    """CPython as small as the relay needs it.

    Args:
        toolchain: that compiles it.
        sources: Debian's, fetched when the folder is not there; on one file system with ``work``.
        work: a folder for all that comes about.

    Returns:
        A root that has it below ``PREFIX``.
    """
    if not sources.exists():
        fetched = work / "sources"
        fetched.mkdir(parents=True)
        fetch(SOURCES, fetched)
        fetched.rename(sources)
    libraries = work / "libraries"
    environ = toolchain.environ(libraries)
    environ["CFLAGS"] += f" -ffile-prefix-map={work}=/build"
    jobs = f"-j{os.cpu_count() or 1}"
    ffi = unpack("libffi", sources, work / "libffi")
    static = ["--disable-shared", "--with-pic", "--disable-docs", "--disable-multi-os-directory"]
    call(["./configure", f"--prefix={libraries}", f"--libdir={libraries}/lib", *static], ffi, environ)
    call(["make", jobs, "install"], ffi)
    zlib = unpack("zlib", sources, work / "zlib")
    call(["./configure", f"--prefix={libraries}", "--static"], zlib, environ)
    call(["make", jobs, "install"], zlib)
    python = unpack(PYTHON, sources, work / "python", DEBIAN_ONLY)
    _look_only_here(python / "setup.py")
    (python / "Modules" / "Setup.local").write_text("*disabled*\n" + "\n".join(_DISABLED) + "\n")
    options = ["--without-ensurepip", "--disable-test-modules", "--without-static-libpython"]
    options += ["ac_cv_broken_nice=no"]  # or it says yes where the build itself runs under nice
    call(["./configure", f"--prefix={PREFIX}", *options], python, environ)
    # CPython has the time of its making in itself, in the zone of who makes it.
    time = {"SOURCE_DATE_EPOCH": _released(python), "TZ": "UTC"}
    call(["make", jobs], python, time)
    root = work / "root"
    call(["make", "install", f"DESTDIR={root}"], python, time)
    for path in (work, toolchain.root):
        _hide(path, root)
    return root


def _look_only_here(setup: Path) -> None:
    """CPython's modules would be compiled with headers of the host, which are younger than the glibc they are for."""
    text = setup.read_text()
    for line in _HOST_PLACES:
        if text.count(line) != 1:
            raise BuildError(f"{setup} has another form: {line.strip()}")
        text = text.replace(line, line[: -len(line.lstrip())] + "pass\n")
    setup.write_text(text)


def _released(tree: Path) -> str:
    """Seconds, when Debian made this version."""
    match = re.search(r"^ -- .*>  (.+)$", (tree / "debian" / "changelog").read_text(), re.MULTILINE)
    if match is None:
        raise BuildError(f"no date in {tree / 'debian' / 'changelog'}")
    return str(int(parsedate_to_datetime(match[1]).timestamp()))


def _hide(path: Path, root: Path) -> None:
    """Where it was built stands nowhere in the interpreter's record of its making, nor decides where lines end."""
    for data in root.rglob("_sysconfigdata_*.py"):
        head, name, values = data.read_text().replace(str(path), "/build").partition("build_time_vars = ")
        data.write_text(f"{head}{name}{pformat(ast.literal_eval(values))}\n")
