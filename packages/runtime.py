"""The runtime: CPython and the libraries that the relay needs, for one fixed place; of the host it needs glibc."""

from __future__ import annotations

import base64
import csv
import hashlib
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packages.commands import call
from packages.interpreter import PREFIX, PYTHON
from packages.toolchain import Toolchain

# Nothing of these is imported by the relay, and no agent's host needs them.
_UNWANTED = (
    "bin/2to3*",
    "bin/idle*",
    "bin/pydoc*",
    "bin/python3*-config",
    "include",
    "lib/libpython*",
    "lib/pkgconfig",
    f"lib/{PYTHON}/config-*",
    f"lib/{PYTHON}/distutils",
    f"lib/{PYTHON}/ensurepip",
    f"lib/{PYTHON}/idlelib",
    f"lib/{PYTHON}/lib2to3",
    f"lib/{PYTHON}/pydoc_data",
    f"lib/{PYTHON}/test",
    f"lib/{PYTHON}/tkinter",
    f"lib/{PYTHON}/turtledemo",
    f"lib/{PYTHON}/unittest/test",
    f"lib/{PYTHON}/**/__pycache__",
    f"lib/{PYTHON}/site-packages/**/test",
    f"lib/{PYTHON}/site-packages/**/tests",
    f"lib/{PYTHON}/site-packages/bin",
    "share/man",
)
_COMMAND = """#!{prefix}/bin/python3 -I
import sys

from {module} import {function}

sys.exit({function}())
"""
_COMMANDS = {"fipsrelay": ("fipsrelay.cli", "main"), "twistd": ("twisted.scripts.twistd", "run")}


def furnish(root: Path, requirements: Path, patches: Path, wheel: Path, toolchain: Toolchain) -> None:
    """Turn the root into what is packed: libraries by their pinned digests, the relay, its commands, byte code.

    Args:
        root: from ``interpreter.build``; changed.
        requirements: pins with digests.
        patches: a folder of what has to be changed in the libraries for an interpreter without ``ssl``.
        wheel: the relay's.
        toolchain: that built the interpreter.
    """
    prefix = root / PREFIX.relative_to("/")
    library = prefix / "lib" / PYTHON
    packages = library / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(packages)]
    machine = toolchain.root.name.partition("-")[0]
    tags = [f"--platform={name}_{machine}" for name in ("manylinux2014", "manylinux_2_17")]
    tags += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    tags += ["--abi=cp311", "--abi=abi3", "--abi=none"]
    call([*pip, *tags, "--require-hashes", "-r", requirements], root)
    for patch in sorted(patches.glob("*.diff")):
        call(["patch", "--batch", "--forward", "--strip=1", f"--input={patch}"], packages)
    with zipfile.ZipFile(wheel) as archive:  # pip does not put anything into a folder that is there: twisted/plugins
        archive.extractall(packages)
    for pattern in _UNWANTED:
        for path in sorted(prefix.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _correct_records(packages)
    for name, (module, function) in _COMMANDS.items():
        command = prefix / "bin" / name
        command.write_text(_COMMAND.format(prefix=PREFIX, module=module, function=function))
        command.chmod(0o755)
    # Not the libraries' wheels: the relay finds OpenSSL's functions by cryptography's table of symbols.
    call([toolchain.strip, prefix / "bin" / PYTHON, *sorted((library / "lib-dynload").glob("*.so"))], root)
    (prefix / "share" / "fipsrelay").mkdir(parents=True)
    _compile(prefix, library, root)
    # twistd would look for its plugins at each start, and say that it cannot write down what it has found.
    _run(prefix, "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))")


def _correct_records(packages: Path) -> None:
    """Have each library's list of files tell of what is packed: not of what is left out, and of what was patched.

    It would else have the digests of commands that name the interpreter of who installs.
    """
    for record in packages.glob("*.dist-info/RECORD"):
        rows = []
        for name, digest, size in csv.reader(record.read_text().splitlines()):
            path = packages / name
            if path.is_file():
                data = path.read_bytes()
                found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                rows.append((name, f"sha256={found}", str(len(data))) if digest else (name, digest, size))
        with record.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _compile(prefix: Path, library: Path, root: Path) -> None:
    """By the interpreter itself, without times, so that it is the same whenever it is built."""
    _run(
        prefix,
        "import compileall, py_compile, sys; "
        f"sys.exit(not compileall.compile_dir({str(library)!r}, quiet=1, stripdir={str(root)!r}, prependdir='/', "
        "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH))",
    )


def _run(prefix: Path, code: str) -> None:
    """In the interpreter, where it is now."""
    # The same seed, and files one after the other: byte code depends a little on what the compiler has seen before.
    environ = {"PYTHONHOME": str(prefix), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    call([prefix / "bin" / PYTHON, "-s", "-P", "-c", code], prefix, environ)


def binaries(root: Path) -> Iterator[Path]:
    """ELF files."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path
