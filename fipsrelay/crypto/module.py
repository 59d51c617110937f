"""Which ``fips.so`` is meant, and the OpenSSL configuration that switches it on.

Runs before the first libcrypto of the process is loaded: nothing here may import hashlib, ssl, hmac, secrets, asyncio,
OpenSSL, cryptography or twisted.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import attrs

from fipsrelay.crypto import policy
from fipsrelay.errors import FipsError

PLATFORM_PATTERNS = (
    "usr/lib/*/ossl-modules/fips.so",
    "usr/lib64/ossl-modules/fips.so",
    "usr/lib/ossl-modules/fips.so",
    "usr/local/lib*/ossl-modules/fips.so",
)
PLATFORM_RECORDS = ("etc/ssl/fipsmodule.cnf", "usr/lib/ssl/fipsmodule.cnf", "usr/local/ssl/fipsmodule.cnf")
PLATFORM_RECORD = "platform-fipsmodule.cnf"
_MAC = re.compile(r"^\s*module-mac\s*=\s*([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31})\s*$", re.MULTILINE)
_CHUNK = 1 << 20


@attrs.frozen
class Module:
    """A module as found on disk.

    Attributes:
        path: its real path.
        mac: the recorded HMAC that the module must prove at each start, as ``openssl fipsinstall`` writes it. Never
            computed here: a mac taken from the file of today would also fit a damaged one.
    """

    path: Path
    mac: str


def data_folder() -> Path:
    """Where ``fipsrelay module`` puts a module: inside this Python environment, so that it goes when that goes."""
    return Path(sys.prefix) / "share" / "fipsrelay"


def platform_module(root: Path = Path("/")) -> Path | None:
    """The module that the platform's package put in place, or None."""
    return next((path for pattern in PLATFORM_PATTERNS for path in sorted(root.glob(pattern))), None)


def find(setting: str, root: Path = Path("/"), folder: Path | None = None) -> Module:
    """Find the module and its record.

    Args:
        setting: ``auto`` or the absolute path of a module.
        root: where the platform's folders begin.
        folder: the data folder; ours when None.

    Raises:
        FipsError: ``module-missing`` or ``module-mac-missing``.
    """
    own = data_folder() if folder is None else folder
    if setting != "auto":
        path = Path(setting)
        if not os.path.isfile(path):
            raise FipsError("module-missing", f"the module {setting}", "no such file", "correct fips.module")
    else:
        # Ours first: it is there because the operator installed it, or because the platform had none.
        found = next((path for path in (own / "fips.so", platform_module(root)) if path and os.path.isfile(path)), None)
        if found is None:
            remedy = "run 'fipsrelay module', or name one in fips.module"
            raise FipsError("module-missing", "a fips.so of the platform or of fipsrelay", f"none in {own}", remedy)
        path = found
    return Module(path.resolve(), _recorded_mac(path, root, own))


def _recorded_mac(path: Path, root: Path, own: Path) -> str:
    records = [path.with_name("fipsmodule.cnf"), path.resolve().with_name("fipsmodule.cnf")]
    platform = platform_module(root)
    if platform and path.resolve() == platform.resolve():
        records += [*(root / record for record in PLATFORM_RECORDS), own / PLATFORM_RECORD]
    mac = _first_mac(records)
    if mac is None:
        remedy = (
            "put the output of openssl fipsinstall there, or use 'fipsrelay module --install' and fips.module: auto"
        )
        raise FipsError("module-mac-missing", f"module-mac in {records[0]}", "none", remedy)
    return mac


def _first_mac(records: Iterable[Path]) -> str | None:
    for record in records:
        try:
            match = _MAC.search(record.read_text(encoding="ascii", errors="replace"))
        except OSError:
            continue
        if match:
            return match.group(1).upper()
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, by the interpreter's own C code: ``hashlib`` would load a libcrypto."""
    if sys.version_info >= (3, 12):
        from _sha2 import sha256
    else:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
    state = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return str(state.hexdigest())


def configuration(module: Module, *, activate: bool = True) -> str:
    """The OpenSSL configuration for this process.

    ``install-status`` is left out on purpose: the self-tests then run at each start, as FIPS 140-3 wants. Groups are
    named because 3.0 modules serve X25519 as approved, ``@SECLEVEL`` because a private build of OpenSSL defaults to 1.

    Args:
        module: what to load.
        activate: False registers the module without loading it, so that a later explicit load tells why it fails.
    """
    providers = ["fips = fips_sect", "base = base_sect"]
    fips = [
        f"module = {_escape(os.fspath(module.path))}",
        *(["activate = 1"] if activate else []),
        "conditional-errors = 1",
        "security-checks = 1",
        "tls1-prf-ems-check = 1",
        f"module-mac = {module.mac}",
    ]
    tls = [
        "MinProtocol = TLSv1.2",
        f"CipherString = {':'.join(policy.TLS12_SUITES)}:@SECLEVEL=2",
        f"Ciphersuites = {':'.join(policy.TLS13_SUITES)}",
        f"Groups = {':'.join(policy.GROUPS)}",
        f"SignatureAlgorithms = {':'.join(policy.SIGNATURE_ALGORITHMS)}",
        "Options = NoRenegotiation",
    ]
    sections = {
        "openssl_init": ["providers = provider_sect", "alg_section = algorithm_sect", "ssl_conf = ssl_sect"],
        "provider_sect": providers,
        "fips_sect": fips,
        "base_sect": ["activate = 1"],
        "algorithm_sect": ["default_properties = fips=yes"],
        "ssl_sect": ["system_default = tls_sect"],
        "tls_sect": tls,
    }
    parts = ("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    return "openssl_conf = openssl_init\n\n" + "\n\n".join(parts) + "\n"


def _escape(value: str) -> str:
    """OpenSSL's configuration expands ``$`` and ends a value at ``#``."""
    return re.sub(r"""([\\$#"'`])""", r"\\\1", value)
