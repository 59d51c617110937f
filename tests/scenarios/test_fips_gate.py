"""Every situation in which TLS would work without FIPS, or not at all, ends the real program before it listens.

Each row of the reference starts the program on a port that the test itself already holds, see ``Program``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess

from fipsrelay.crypto import library, module, obtain
from tests import modules, routes
from tests.scenarios.program import Program

# The gate's steps with a configuration of the test's choice, which the program itself has no way to be given.
DOCTORED = """
import sys
from pathlib import Path
from fipsrelay.crypto import gate, module
from fipsrelay.errors import FipsError
gate.refuse_early_imports()
found = module.find(sys.argv[1])
sha256 = gate.check_pin(found, None)
try:
    exec(sys.argv[3])
    gate.activate(Path(sys.argv[2]))
    exec(sys.argv[4])
    gate.examine(found, sha256)
except FipsError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""
EARLY_IMPORT = "import hashlib, sys; from fipsrelay.cli import main; sys.exit(main(sys.argv[1:]))"
AFTERWARDS = """
import json, os, sys
from fipsrelay.config.model import Fips
from fipsrelay.crypto import gate, library
os.environ["OPENSSL_CONF"] = "/nowhere"
evidence = gate.prove(Fips(module=sys.argv[1], unlisted_module="warn"))
import hashlib, ssl
try:
    md5 = hashlib.md5(b"").hexdigest()
except ValueError:
    md5 = "refused"
print(json.dumps({
    "module": evidence.module,
    "sha256": evidence.sha256,
    "variables": [name for name in gate.VARIABLES if name in os.environ],
    "md5": md5,
    "mapped": [path for path in library.mapped() if path.endswith("fips.so")],
}))
"""


class GateTests(Program):
    """The program's exit status and its line.

    Attributes:
        md5: of nothing, as hashlib of a process that has passed the gate has it: its library is one of its own.
    """

    md5 = "d41d8cd98f00b204e9800998ecf8427e"

    def assert_service_refused(self, code: str, *words: str, **fips: str) -> None:
        self.assert_refused(self.run_program(self.service(self.config(**fips))), code, *words)

    def run_doctored(self, text: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
        """``before`` and ``after`` are code that runs around the loading of the module."""
        path = self.folder / "doctored.cnf"
        path.write_text(text)
        return self.run_program(["-c", DOCTORED, str(self.module), str(path), before, after])

    def assert_doctored_refused(self, text: str, code: str, *words: str) -> None:
        self.assert_refused(self.run_doctored(text), code, *words)

    def text(self) -> str:
        return module.configuration(module.find(str(self.module)))

    def test_module_missing(self) -> None:
        self.module.unlink()
        self.assert_service_refused("module-missing", str(self.module))

    def test_module_is_not_a_module(self) -> None:
        self.module.write_bytes(b"not a shared library")
        self.assert_service_refused("module-inactive", "could not load the shared library")

    def test_one_byte_changed(self) -> None:
        image = bytearray(self.module.read_bytes())
        at = image.index(b"OpenSSL FIPS Provider\0")
        image[at] ^= 0x20
        self.module.write_bytes(image)
        self.assert_service_refused("module-inactive", "module integrity failure")

    def test_cut_short(self) -> None:
        """Unchecked, the process would die of SIGBUS: at the loader's hand, and without a line."""
        size = self.module.stat().st_size
        for kept in (size // 2, size - 1):
            os.truncate(self.module, kept)
            self.assert_service_refused("module-cut", str(self.module))

    def test_wrong_mac(self) -> None:
        self.record(":".join(["00"] * 32))
        self.assert_service_refused("module-inactive", "module integrity failure")

    def test_no_mac(self) -> None:
        self.module.with_name("fipsmodule.cnf").unlink()
        self.assert_service_refused("module-mac-missing")

    def test_pin(self) -> None:
        self.assert_service_refused("module-sha256", sha256="0" * 64)

    def test_unlisted(self) -> None:
        self.assert_service_refused("module-unlisted", unlisted_module="refuse")

    def test_unlisted_with_a_warning(self) -> None:
        done = self.run_program(["-m", "fipsrelay", "module", "--prove", "-c", self.config()])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("warnings: The FIPS module is not validated", done.stdout)

    def test_written_by_all(self) -> None:
        self.module.chmod(0o646)
        self.assert_service_refused("module-owner", str(self.module), "-rw-r--rw-")

    def test_of_another_user(self) -> None:
        """Only root can give a file away. One that is root's is fine for everybody."""
        if os.geteuid() == 0:
            os.chown(self.module, 65534, -1)
            self.assert_service_refused("module-owner", "uid 65534")
        self.module.unlink()
        self.module.symlink_to("/bin/sh")  # which is refused for what it is
        self.assert_service_refused("module-inactive", "could not load the shared library")

    def test_sitecustomize(self) -> None:
        (self.folder / "sitecustomize.py").write_text("import hashlib")
        paths = os.pathsep.join((str(self.folder), *self.route().paths))
        done = self.run_program(self.service(self.config()), {"PYTHONPATH": paths})
        self.assert_refused(done, "early-import", "_hashlib")

    def test_preloaded(self) -> None:
        early = next(path for path in library.mapped() if os.path.basename(path).startswith("libcrypto."))
        done = self.run_program(self.service(self.config()), {"LD_PRELOAD": early})
        self.assert_refused(done, "early-import", early)

    def test_hashlib_first(self) -> None:
        done = self.run_program(["-c", EARLY_IMPORT, *self.service(self.config())[2:]])
        self.assert_refused(done, "early-import", "_hashlib")

    def test_a_libcrypto_that_python_did_not_import(self) -> None:
        """As LD_PRELOAD or another extension module brings it."""
        early = next(path for path in library.mapped() if os.path.basename(path).startswith("libcrypto."))
        code = f"import ctypes; ctypes.CDLL({early!r}); " + EARLY_IMPORT.replace("hashlib, ", "")
        done = self.run_program(["-c", code, *self.service(self.config())[2:]])
        self.assert_refused(done, "early-import", early)

    def test_inherited_variables_do_not_count(self) -> None:
        environ = {"OPENSSL_CONF": "/nowhere/openssl.cnf", "OPENSSL_MODULES": "/nowhere"}
        done = self.run_program(["-m", "fipsrelay", "module", "--prove", "-c", self.config()], environ)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_configuration_file_missing(self) -> None:
        done = self.run_program(["-c", DOCTORED, str(self.module), str(self.folder / "nowhere.cnf"), "", ""])
        self.assert_refused(done, "fips-not-enabled")

    def test_configuration_ignored(self) -> None:
        """``secure_getenv`` hides OPENSSL_CONF from a setgid interpreter as it does from one with capabilities."""
        python = self.folder / "python"
        shutil.copyfile(os.path.realpath(self.route().python), python)
        python.chmod(0o755)
        control = self.run_program(self.service(self.config(sha256="0" * 64)), python=str(python))
        self.assert_refused(control, "module-sha256")
        control = self.run_program(["-m", "fipsrelay", "module", "--prove", "-c", self.config()], python=str(python))
        self.assertEqual(control.returncode, 0, control.stderr)
        # Only root may give a file to a group that is not one of its own.
        groups = [*(group for group in os.getgroups() if group != os.getegid()), 65534]
        os.chown(python, -1, groups[0])
        python.chmod(0o2755)
        done = self.run_program(self.service(self.config()), python=str(python))
        self.assert_refused(done, "fips-not-enabled", "OPENSSL_CONF")

    def test_doctoring_alone_does_no_harm(self) -> None:
        """Otherwise the rows below could be refused for another reason than theirs."""
        done = self.run_doctored(self.text())
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_no_default_properties(self) -> None:
        self.assert_doctored_refused(self.text().replace("default_properties = fips=yes", ""), "fips-not-enabled")

    def test_not_activated(self) -> None:
        text = module.configuration(module.find(str(self.module)), activate=False)
        self.assert_doctored_refused(text, "module-inactive")

    def test_diagnostics_do_not_replace_the_gate(self) -> None:
        self.record(":".join(["00"] * 32))
        text = self.text().replace("openssl_conf =", "config_diagnostics = 1\nopenssl_conf =")
        self.assert_doctored_refused(text, "module-inactive")

    def test_another_module_is_mapped(self) -> None:
        other = self.folder / "other" / "fips.so"
        other.parent.mkdir()
        shutil.copyfile(self.module, other)
        text = self.text().replace(f"module = {self.module}", f"module = {other}")
        self.assert_doctored_refused(text, "module-not-mapped", str(other))

    def test_replaced_after_loading(self) -> None:
        other = self.module.with_name("other.so")
        shutil.copyfile(self.module, other)
        done = self.run_doctored(self.text(), after=f"Path({str(other)!r}).rename({str(self.module)!r})")
        self.assert_refused(done, "module-not-mapped", "(deleted)")

    def test_changed_between_the_pin_and_loading(self) -> None:
        """Whoever writes the file writes its record too."""
        changed = self.module.with_name("changed.so")
        changed.write_bytes(self.module.read_bytes() + b"x")
        changed.with_name("fipsmodule.cnf").write_text(obtain.record(changed))
        before = f"Path({str(changed)!r}).rename({str(self.module)!r})"
        self.assert_refused(self.run_doctored(self.text(), before), "module-changed")

    def test_another_provider_is_active(self) -> None:
        text = self.text().replace("base = base_sect", "base = base_sect\nnull = base_sect")
        self.assert_doctored_refused(text, "provider-others", "null")

    def test_the_module_alone_does_not_suffice(self) -> None:
        text = self.text().replace("base = base_sect", "")
        self.assert_doctored_refused(text, "provider-others")

    def test_no_place_for_the_configuration(self) -> None:
        """A full disk or a read-only system; here the process may not write files."""
        done = self.run_program(
            self.service(self.config()), prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        )
        self.assert_refused(done, "runtime-folder", "TMPDIR")

    def test_afterwards(self) -> None:
        """What the interpreter's hashlib does, and that nothing but the module is left."""
        done = self.run_program(["-c", AFTERWARDS, str(self.module)])
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual(found["module"], str(self.module))
        self.assertEqual(found["sha256"], module.digest(self.module))
        self.assertEqual(found["variables"], [])
        self.assertEqual(found["md5"], self.md5)
        self.assertEqual(found["mapped"], [str(self.module)])

    def test_no_runtime_folder_is_left(self) -> None:
        temporary = self.folder / "tmp"
        temporary.mkdir()
        command = ["-m", "fipsrelay", "module", "--prove", "-c", self.config()]
        self.assertEqual(self.run_program(command, {"TMPDIR": str(temporary)}).returncode, 0)
        self.assertEqual(list(temporary.iterdir()), [])


class SecondModuleGateTests(GateTests):
    """Every row again with a module of another version."""

    def origin(self) -> module.Module:
        return modules.second()

    def test_versions_differ(self) -> None:
        found = [obtain.facts(str(place.path)) for place in (module.find("auto"), self.origin())]
        versions = {line for facts in found for line in facts.splitlines() if line.startswith("provider_version: ")}
        self.assertEqual(len(versions), 2, versions)


class SharedGateTests(GateTests):
    """Every row again with the platform's OpenSSL, which the interpreter and pyOpenSSL share."""

    md5 = "refused"

    def route(self) -> routes.Route:
        return routes.shared()


class SharedSecondModuleGateTests(SharedGateTests):
    """And with the other module."""

    def origin(self) -> module.Module:
        return modules.second()
