"""Which module is meant, and the OpenSSL configuration for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.crypto import module, policy
from fipsrelay.errors import FipsError
from tests.folders import MAC, Folders


class FindTests(Folders):
    """``module.find``."""

    def test_absolute_path_with_record(self) -> None:
        path = self.put(self.folder() / "fips.so")
        self.record(path.with_name("fipsmodule.cnf"))
        self.assertEqual(module.find(str(path)), module.Module(path, MAC))

    def test_path_is_real(self) -> None:
        path = self.put(self.folder() / "fips.so")
        self.record(path.with_name("fipsmodule.cnf"))
        link = self.folder() / "fips.so"
        link.symlink_to(path)
        self.assertEqual(module.find(str(link)).path, path)

    def test_auto_takes_the_platforms(self) -> None:
        root = self.folder()
        path = self.put(root / "usr/lib/x86_64-linux-gnu/ossl-modules/fips.so")
        self.record(root / "etc/ssl/fipsmodule.cnf")
        self.assertEqual(module.find("auto", root, self.folder()), module.Module(path, MAC))

    def test_auto_takes_an_installed_one_first(self) -> None:
        """Otherwise ``--install`` would do nothing where the platform has a module too."""
        root, own = self.folder(), self.folder()
        self.put(root / "usr/lib/x86_64-linux-gnu/ossl-modules/fips.so")
        self.record(root / "etc/ssl/fipsmodule.cnf")
        path = self.put(own / "fips.so")
        self.record(own / "fipsmodule.cnf")
        self.assertEqual(module.find("auto", root, own).path, path)

    def test_the_platforms_by_another_path(self) -> None:
        """``/lib`` is a link to ``/usr/lib`` nearly everywhere."""
        root = self.folder()
        path = self.put(root / "usr/lib/x86_64-linux-gnu/ossl-modules/fips.so")
        self.record(root / "etc/ssl/fipsmodule.cnf")
        (root / "lib").symlink_to("usr/lib")
        setting = str(root / "lib/x86_64-linux-gnu/ossl-modules/fips.so")
        self.assertEqual(module.find(setting, root, self.folder()), module.Module(path, MAC))

    def test_platform_module_may_be_recorded_in_the_data_folder(self) -> None:
        root, own = self.folder(), self.folder()
        self.put(root / "usr/lib64/ossl-modules/fips.so")
        self.record(own / module.PLATFORM_RECORD)
        self.assertEqual(module.find("auto", root, own).mac, MAC)

    def test_another_modules_record_does_not_serve(self) -> None:
        root, own = self.folder(), self.folder()
        path = self.put(self.folder() / "fips.so")
        self.record(root / "etc/ssl/fipsmodule.cnf")
        self.record(own / "fipsmodule.cnf")
        self.assertEqual(self.code(str(path), root, own), "module-mac-missing")

    def test_missing(self) -> None:
        self.assertEqual(self.code("auto", self.folder(), self.folder()), "module-missing")
        self.assertEqual(self.code("/nowhere/fips.so", self.folder(), self.folder()), "module-missing")
        self.assertEqual(self.code("/" + "n" * 5000, self.folder(), self.folder()), "module-missing")

    def test_malformed_mac(self) -> None:
        path = self.put(self.folder() / "fips.so")
        self.put(path.with_name("fipsmodule.cnf"), "module-mac = AB:CD\n")
        self.assertEqual(self.code(str(path), self.folder(), self.folder()), "module-mac-missing")

    def code(self, setting: str, root: Path, own: Path) -> str:
        error: FipsError = self.assertRaises(FipsError, module.find, setting, root, own)
        return error.code


class ConfigurationTests(SynchronousTestCase):
    """``module.configuration``."""

    text = module.configuration(module.Module(Path("/opt/fips.so"), MAC))

    def sections(self, text: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {"": {}}
        name = ""
        for line in filter(None, text.splitlines()):
            if line.startswith("["):
                name = line[1:-1]
                found[name] = {}
            else:
                key, _, value = line.partition(" = ")
                found[name][key] = value
        return found

    def test_module(self) -> None:
        fips = self.sections(self.text)["fips_sect"]
        self.assertEqual(fips["module"], "/opt/fips.so")
        self.assertEqual(fips["module-mac"], MAC)
        self.assertEqual(fips["activate"], "1")
        self.assertEqual(fips["security-checks"], "1")
        self.assertEqual(fips["conditional-errors"], "1")
        self.assertEqual(fips["tls1-prf-ems-check"], "1")
        self.assertNotIn("install-status", fips)

    def test_properties(self) -> None:
        self.assertEqual(self.sections(self.text)["algorithm_sect"], {"default_properties": "fips=yes"})

    def test_only_fips_and_base(self) -> None:
        self.assertEqual(set(self.sections(self.text)["provider_sect"]), {"fips", "base"})

    def test_tls(self) -> None:
        tls = self.sections(self.text)["tls_sect"]
        self.assertEqual(tls["MinProtocol"], "TLSv1.2")
        self.assertEqual(tls["CipherString"], ":".join([*policy.TLS12_SUITES, "@SECLEVEL=2"]))
        self.assertEqual(tls["Ciphersuites"].split(":"), list(policy.TLS13_SUITES))
        self.assertEqual(tls["Groups"].split(":"), list(policy.GROUPS))
        self.assertEqual(tls["SignatureAlgorithms"].split(":"), list(policy.SIGNATURE_ALGORITHMS))
        self.assertEqual(tls["Options"], "NoRenegotiation")

    def test_every_named_section_exists(self) -> None:
        sections = self.sections(self.text)
        named = [sections[""]["openssl_conf"], *sections["openssl_init"].values(), *sections["provider_sect"].values()]
        self.assertLessEqual({*named, sections["ssl_sect"]["system_default"]}, set(sections))

    def test_not_activated(self) -> None:
        text = module.configuration(module.Module(Path("/opt/fips.so"), MAC), activate=False)
        self.assertNotIn("activate", self.sections(text)["fips_sect"])
        self.assertIn("activate", self.sections(text)["base_sect"])

    def test_path_is_escaped(self) -> None:
        text = module.configuration(module.Module(Path("/opt/$HOME#1/fips.so"), MAC))
        self.assertEqual(self.sections(text)["fips_sect"]["module"], r"/opt/\$HOME\#1/fips.so")


class DigestTests(Folders):
    """``module.digest``."""

    def test_agrees_with_hashlib(self) -> None:
        path = self.put(self.folder() / "file", "x" * (module._CHUNK + 1))
        self.assertEqual(module.digest(path), hashlib.sha256(path.read_bytes()).hexdigest())
