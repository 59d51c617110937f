"""The gate: switches the FIPS module on and proves it, before anything listens.

``OPENSSL_CONF`` that is missing, ignored or incomplete leaves TLS working without FIPS, and a module that failed
leaves ``is_fips_enabled()`` true; so no single check is trusted. ``prove`` must be the first to load a libcrypto in its
process: a module's image serves only the first one, which has to be pyOpenSSL's. Nothing here may import hashlib, ssl,
hmac, secrets, asyncio, OpenSSL, cryptography or twisted at module level (``random``, which ``tempfile`` imports, takes
its hash from CPython's own C code and not from hashlib).
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import attrs

from fipsrelay.config.model import Fips
from fipsrelay.crypto import certificates, interpreter, library, provider
from fipsrelay.crypto.module import Module, configuration, digest, find
from fipsrelay.errors import FipsError

EARLY = ("_hashlib", "_ssl", "OpenSSL", "cryptography.hazmat.bindings._rust")
VARIABLES = ("OPENSSL_CONF", "OPENSSL_MODULES", "CRYPTOGRAPHY_OPENSSL_NO_LEGACY")
_CHACHA20 = b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
_REPLACE = "replace the module, or reinstall it with 'fipsrelay module --install'"
_RESTART = "restart the relay"
_ASK_WHY = "from fipsrelay.crypto import gate; gate.ask_why()"


@attrs.frozen
class Evidence:
    """What the gate saw, for the log, the statistics page and the auditor.

    Attributes:
        module: real path of the mapped ``fips.so``.
        sha256: of that file, hexadecimal.
        provider_name, provider_version, build_info: the provider's own words.
        library: version text of the libcrypto that does TLS.
        listed: whether a certificate that is active covers a module of this name and version.
        certificate: the matching row of the table, also a historical one, or None.
        warnings: what an operator should know, one sentence each.
    """

    module: str
    sha256: str
    provider_name: str
    provider_version: str
    build_info: str
    library: str
    listed: bool
    certificate: str | None
    warnings: tuple[str, ...]

    @property
    def words(self) -> str:
        """The module's name and version."""
        return f"{self.provider_name} {self.provider_version}"

    def lines(self) -> Iterator[str]:
        """One ``name: value`` a fact."""
        for name, value in attrs.asdict(self).items():
            for item in value if isinstance(value, tuple) else (value,):
                yield f"{name}: {item}"


def prove(fips: Fips) -> Evidence:
    """Switch the configured module on in this process and prove it.

    Raises:
        FipsError: the first check that failed.
    """
    refuse_early_imports()
    module = find(fips.module)
    warnings = check_owner(module.path)
    sha256 = check_pin(module, fips.sha256)
    with _configured(configuration(module)) as path:
        activate(path)
    evidence = judge(examine(module, sha256), module, sha256, fips, date.today().isoformat())
    return attrs.evolve(evidence, warnings=(*evidence.warnings, *warnings))


@contextmanager
def _configured(text: str) -> Iterator[Path]:
    """An OpenSSL configuration file in a folder that nobody else can enter (mode 0700)."""
    expected, remedy = "a folder for temporary files that keeps others out", "make /tmp writable or set TMPDIR"
    try:
        folder = tempfile.TemporaryDirectory(prefix="fipsrelay-")
        path = Path(folder.name) / "openssl.cnf"
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        status = os.stat(folder.name)
    except OSError as error:
        raise FipsError("runtime-folder", expected, str(error), remedy) from error
    with folder:
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            found = f"{folder.name} of uid {status.st_uid} with mode {stat.filemode(status.st_mode)}"
            raise FipsError("runtime-folder", expected, found, remedy)
        yield path


def refuse_early_imports() -> None:
    """See that no libcrypto was loaded before, by Python or by anything else."""
    early = [name for name in EARLY if name in sys.modules]
    early += sorted(path for path in library.mapped() if os.path.basename(path).startswith("libcrypto"))
    if early:
        remedy = "start with 'twistd fipsrelay', and keep .pth files, sitecustomize and LD_PRELOAD from loading it"
        raise FipsError("early-import", "no OpenSSL in the process yet", ", ".join(early), remedy)


def check_owner(path: Path, user: int | None = None) -> tuple[str, ...]:
    """See that nobody but root and the relay's user can exchange the module: its file, and the folders above it.

    Args:
        path: of the module.
        user: id of the relay's user; of this process when None.

    Returns:
        Warnings: a group that may.
    """
    owners = {0, os.geteuid() if user is None else user}
    warnings = []
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except OSError as error:
            raise FipsError("module-unreadable", f"to read {place}", str(error), "mend its permissions") from error
        found = f"{place} of uid {status.st_uid} with mode {stat.filemode(status.st_mode)}"
        # In a folder with the sticky bit, as /tmp is, only the owner of a file may exchange it.
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        others = 0 if sticky else status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if status.st_uid not in owners or others & stat.S_IWOTH:
            remedy = "give it to root, and take writing away from all others"
            raise FipsError("module-owner", "a module that only root and this user can change", found, remedy)
        if others:
            warnings.append(f"The FIPS module can be changed by a group: {found}.")
    return tuple(warnings)


def check_pin(module: Module, pin: str | None) -> str:
    """The digest of a whole file, which must be the pinned one: before a line of its code runs."""
    found = _digest(module)
    if pin is not None and pin.lower() != found:
        raise FipsError("module-sha256", f"sha256 {pin.lower()}", f"{found} in {module.path}", "correct fips.sha256")
    if library.is_cut(module.path):
        raise FipsError("module-cut", f"all of {module.path}", "a file that ends too early", _REPLACE)
    return found


def _digest(module: Module) -> str:
    try:
        return digest(module.path)
    except OSError as error:
        raise FipsError("module-unreadable", f"to read {module.path}", str(error), "mend its permissions") from error


def activate(path: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Load pyOpenSSL's libcrypto with this configuration, and clear the environment for the interpreter's own one."""
    for name in VARIABLES:
        environ.pop(name, None)
    environ["OPENSSL_CONF"] = os.fspath(path)
    environ["CRYPTOGRAPHY_OPENSSL_NO_LEGACY"] = "1"
    try:
        library.load()
    except FipsError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        remedy = "reinstall pyOpenSSL and cryptography"
        raise FipsError("library-unusable", "cryptography's bindings to load", words, remedy) from error
    finally:
        for name in VARIABLES:
            environ.pop(name, None)


def examine(module: Module, sha256: str) -> provider.ProviderFacts:
    """Every check that holds whatever the module's name is; ``sha256`` is what the file had before it was loaded."""
    _check_enabled()
    _check_tls(module)
    _check_mapped(module.path)
    provider.unload_others(library.load())
    facts = provider.facts(library.load())
    _check_facts(facts)
    _check_tls(module)
    _check_unchanged(module, sha256)
    return facts


def check_again(evidence: Evidence) -> None:
    """Repeat what costs little, in the process that has passed the gate: a millisecond or two.

    That a package has put another file in the module's place meanwhile is no failure: what is mapped is what was
    proven.

    Raises:
        FipsError: the process has lost what the gate saw.
    """
    _check_enabled()
    if _context() is None:
        found = "OpenSSL makes no context any more"
        raise FipsError("module-inactive", f"{evidence.module} to be active", found, _RESTART)
    _check_mapped(Path(evidence.module), replaced=True)
    _check_facts(provider.facts(library.load(), test=False))


def _check_enabled() -> None:
    if not library.load().is_fips_enabled():
        remedy = "an interpreter with file capabilities or setuid ignores OPENSSL_CONF: use a plain one"
        raise FipsError("fips-not-enabled", "FIPS properties in force", "a libcrypto without them", remedy)


def _check_tls(module: Module) -> None:
    if _context() is None:
        raise FipsError("module-inactive", f"{module.path} to be active", explain(module), _REPLACE)


def _context() -> object | None:
    """A context, or None if OpenSSL makes none.

    Raises:
        FipsError: it takes what is not approved.
    """
    from OpenSSL import SSL

    try:
        context = SSL.Context(SSL.TLS_METHOD)
    except SSL.Error:
        return None
    try:
        context.set_cipher_list(_CHACHA20)
    except SSL.Error:
        return context
    raise FipsError("chacha20-allowed", "ChaCha20 to be refused", "it is accepted", _REPLACE)


def _check_mapped(module: Path, *, replaced: bool = False) -> None:
    """See that no other module is in the process; ``replaced``: its file may have been meanwhile."""
    wanted = os.fspath(module)
    paths = library.mapped()
    if replaced:
        paths = frozenset(path.removesuffix(" (deleted)") for path in paths)  # the kernel's mark
    files = {path for path in paths if path == wanted or os.path.basename(path).startswith("fips.so")}
    if files != {wanted}:
        found = ", ".join(sorted(files)) or "no module"
        raise FipsError("module-not-mapped", f"only {wanted} in the process", found, "see OPENSSL_CONF and fips.module")


def _check_facts(facts: provider.ProviderFacts) -> None:
    checks = (
        ("cipher-provider", "AES-256-GCM from provider fips", facts.provider, "fips"),
        ("provider-status", "provider status 1", facts.status, 1),
        ("provider-self-test", "self-test result 1", 1 if facts.self_test is None else facts.self_test, 1),
        ("provider-others", "providers base, fips", ", ".join(sorted(facts.active)), "base, fips"),
    )
    for code, expected, found, wanted in checks:
        if found != wanted:
            raise FipsError(code, expected, str(found), _REPLACE)
    if facts.missing:
        raise FipsError("algorithm-missing", "all algorithms of TLS", f"not {', '.join(facts.missing)}", _REPLACE)
    if facts.forbidden:
        found = ", ".join(facts.forbidden)
        raise FipsError("algorithm-allowed", "what is not approved to be refused", found, _REPLACE)


def _check_unchanged(module: Module, sha256: str) -> None:
    """See that what was loaded is what was digested. A file that was put in its place shows in ``_check_mapped``."""
    found = _digest(module)
    if found != sha256:
        remedy = "start again, and see who may write to it"
        raise FipsError("module-changed", f"{module.path} with sha256 {sha256} as before it was loaded", found, remedy)


def explain(module: Module) -> str:
    """Why the module did not come up, asked in a throw-away child that loads it explicitly.

    Activation from a configuration file swallows the reason; an explicit load gives it back.
    """
    with _configured(configuration(module, activate=False)) as path:
        environ = {**os.environ, "OPENSSL_CONF": os.fspath(path), "CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"}
        command = interpreter.command(_ASK_WHY)
        try:
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return "no reason within 30 seconds"
    return " ".join(done.stdout.split()) or "no reason given"


def ask_why() -> None:
    """The child of ``explain``: load the module and print OpenSSL's reasons when that fails."""
    from cryptography.hazmat.backends.openssl.backend import backend

    try:
        backend._enable_fips()
    except Exception as error:
        reasons = [getattr(entry, "reason_text", b"").decode() for entry in getattr(error, "err_code", ())]
        print("; ".join(dict.fromkeys(filter(None, reasons))) or type(error).__name__)


def judge(facts: provider.ProviderFacts, module: Module, sha256: str, fips: Fips, day: str) -> Evidence:
    """Look the module up and decide about an unlisted one.

    Args:
        fips: the operator's word on unlisted ones, and own entries.
        day: today, as an ISO date.

    Raises:
        FipsError: ``module-unlisted``.
    """
    row = certificates.lookup(facts.name, facts.version, facts.build_info, fips.certificates)
    listed = row is not None and row.status_on(day) == "active"
    certificate = f"#{row.number} ({row.standard}, {row.status_on(day)})" if row else None
    warnings: tuple[str, ...] = ()
    if not listed:
        name = f"{facts.name} {facts.version} (build {facts.build_info})"
        found = f"{name}, certificate {certificate or 'none known'}"
        if fips.unlisted_module != "warn":
            remedy = "bring a validated module, add its entry to fips.certificates, or set fips.unlisted_module: warn"
            raise FipsError("module-unlisted", "a module with an active certificate", found, remedy)
        warnings = (f"The FIPS module is not validated: {found}.",)
    return Evidence(
        module=os.fspath(module.path),
        sha256=sha256,
        provider_name=facts.name,
        provider_version=facts.version,
        build_info=facts.build_info,
        library=facts.library,
        listed=listed,
        certificate=certificate,
        warnings=warnings,
    )


def one_line(error: FipsError) -> str:
    """Supervisors and log collectors keep one line together."""
    return " ".join(str(error).split())
