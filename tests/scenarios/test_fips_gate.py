"""Every situation in which TLS would work without FIPS, or not at all, ends the real program before it listens.

Each row starts the program on a port that the test itself already holds: a program that tried to listen before its gate
would end with status 4 (port taken), not 3.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.crypto import module

TIMEOUT = 60
# The gate's steps with a configuration of the test's choice, which the program itself has no way to be given.
DOCTORED = """
import sys
from pathlib import Path
from fipsrelay.crypto import gate, module
from fipsrelay.errors import FipsError
gate.refuse_early_imports()
try:
    gate.activate(Path(sys.argv[2]))
    gate.examine(module.find(sys.argv[1]))
except FipsError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""
EARLY_IMPORT = "import hashlib, sys; from fipsrelay.cli import main; sys.exit(main(sys.argv[1:]))"
AFTERWARDS = """
import json, os, sys
from fipsrelay.config.model import Fips
from fipsrelay.crypto import gate, provider
os.environ["OPENSSL_CONF"] = "/nowhere"
evidence = gate.prove(Fips(module=sys.argv[1], unlisted_module="warn"))
import hashlib, ssl, _hashlib
print(json.dumps({
    "module": evidence.module,
    "sha256": evidence.sha256,
    "variables": [name for name in gate.VARIABLES if name in os.environ],
    "own_library": hashlib.md5 is _hashlib.openssl_md5 and not _hashlib.get_fips_mode(),
    "md5": hashlib.md5(b"").hexdigest(),
    "mapped": [path for path in provider.mapped() if path.endswith("fips.so")],
}))
"""


class GateTests(SynchronousTestCase):
    """The program's exit status and its line."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.taken.close)
        found = module.find("auto")
        self.module = self.folder / "fips.so"
        shutil.copyfile(found.path, self.module)
        self.mac = found.mac
        self.record(found.mac)

    def record(self, mac: str) -> None:
        self.module.with_name("fipsmodule.cnf").write_text(f"[fips_sect]\nmodule-mac = {mac}\n")

    def config(self, **fips: str) -> str:
        """A configuration file; JSON is YAML."""
        settings = {"module": str(self.module), "unlisted_module": "warn", **fips}
        listen = {"addresses": ["127.0.0.1"], "port_range_start": self.taken.getsockname()[1]}
        path = self.folder / "relay.yaml"
        path.write_text(json.dumps({"listen": listen, "fips": settings}))
        return str(path)

    def run_program(
        self, words: Sequence[str], environ: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.run(
            [python, *words],
            env={**os.environ, "PYTHONPATH": paths, **(environ or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def service(self, config: str) -> list[str]:
        return ["-m", "fipsrelay", "twistd", "-n", "--pidfile=", "fipsrelay", "-c", config]

    def assert_refused(self, done: subprocess.CompletedProcess[str], code: str, *words: str) -> None:
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in (f"FIPS check {code} failed", *words):
            self.assertIn(word, done.stderr)

    def assert_service_refused(self, code: str, *words: str, **fips: str) -> None:
        self.assert_refused(self.run_program(self.service(self.config(**fips))), code, *words)

    def run_doctored(self, text: str) -> subprocess.CompletedProcess[str]:
        path = self.folder / "doctored.cnf"
        path.write_text(text)
        return self.run_program(["-c", DOCTORED, str(self.module), str(path)])

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

    def test_hashlib_first(self) -> None:
        done = self.run_program(["-c", EARLY_IMPORT, *self.service(self.config())[2:]])
        self.assert_refused(done, "early-import", "_hashlib")

    def test_inherited_variables_do_not_count(self) -> None:
        environ = {"OPENSSL_CONF": "/nowhere/openssl.cnf", "OPENSSL_MODULES": "/nowhere"}
        done = self.run_program(["-m", "fipsrelay", "module", "--prove", "-c", self.config()], environ)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_configuration_file_missing(self) -> None:
        done = self.run_program(["-c", DOCTORED, str(self.module), str(self.folder / "nowhere.cnf")])
        self.assert_refused(done, "fips-not-enabled")

    def test_configuration_ignored(self) -> None:
        """``secure_getenv`` hides OPENSSL_CONF from a setgid interpreter as it does from one with capabilities."""
        python = self.folder / "python"
        shutil.copyfile(os.path.realpath(sys.executable), python)
        python.chmod(0o755)
        control = self.run_program(["-m", "fipsrelay", "module", "--prove", "-c", self.config()], python=str(python))
        self.assertEqual(control.returncode, 0, control.stderr)
        os.chown(python, -1, next(group for group in (*os.getgroups(), 65534) if group != os.getgid()))
        python.chmod(0o2755)
        done = self.run_program(self.service(self.config()), python=str(python))
        self.assert_refused(done, "fips-not-enabled", "OPENSSL_CONF")

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

    def test_another_provider_is_active(self) -> None:
        text = self.text().replace("base = base_sect", "base = base_sect\nnull = base_sect")
        self.assert_doctored_refused(text, "provider-others", "null")

    def test_the_module_alone_does_not_suffice(self) -> None:
        text = self.text().replace("base = base_sect", "")
        self.assert_doctored_refused(text, "provider-others")

    def test_afterwards(self) -> None:
        """The interpreter's own library goes on without the module, which stays mapped in this process alone."""
        done = self.run_program(["-c", AFTERWARDS, str(self.module)])
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual(found["module"], str(self.module))
        self.assertEqual(found["sha256"], module.digest(self.module))
        self.assertTrue(found["own_library"])
        self.assertEqual(found["variables"], [])
        self.assertEqual(found["md5"], "d41d8cd98f00b204e9800998ecf8427e")
        self.assertEqual(found["mapped"], [str(self.module)])

    def test_no_runtime_folder_is_left(self) -> None:
        temporary = self.folder / "tmp"
        temporary.mkdir()
        command = ["-m", "fipsrelay", "module", "--prove", "-c", self.config()]
        self.assertEqual(self.run_program(command, {"TMPDIR": str(temporary)}).returncode, 0)
        self.assertEqual(list(temporary.iterdir()), [])
