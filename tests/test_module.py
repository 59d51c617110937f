"""The parts of ``crypto`` and ``launch`` that need no libcrypto of their own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import util
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import launch
from fipsrelay.crypto import certificates, gate, module, obtain, policy, provider, sources
from fipsrelay.errors import FipsError

MAC = ":".join(["AB"] * 32)


class Folders(SynchronousTestCase):
    """Temporary folders with made-up modules."""

    def folder(self) -> Path:
        path = Path(self.mktemp()).resolve()
        path.mkdir(parents=True)
        return path

    def put(self, path: Path, content: str = "not really a module") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def record(self, path: Path) -> Path:
        return self.put(path, f"[fips_sect]\nactivate = 1\nmodule-mac = {MAC}\n")


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

    def test_auto_takes_the_platforms_first(self) -> None:
        root, own = self.folder(), self.folder()
        path = self.put(root / "usr/lib/x86_64-linux-gnu/ossl-modules/fips.so")
        self.record(root / "etc/ssl/fipsmodule.cnf")
        self.put(own / "fips.so")
        self.assertEqual(module.find("auto", root, own), module.Module(path, MAC))

    def test_auto_falls_back_to_the_data_folder(self) -> None:
        own = self.folder()
        path = self.put(own / "fips.so")
        self.record(own / "fipsmodule.cnf")
        self.assertEqual(module.find("auto", self.folder(), own).path, path)

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

    def test_malformed_mac(self) -> None:
        path = self.put(self.folder() / "fips.so")
        self.put(path.with_name("fipsmodule.cnf"), "module-mac = AB:CD\n")
        self.assertEqual(self.code(str(path), self.folder(), self.folder()), "module-mac-missing")

    def code(self, setting: str, root: Path, own: Path) -> str:
        return self.assertRaises(FipsError, module.find, setting, root, own).code


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
    """``module.digest`` and the pin."""

    def test_agrees_with_hashlib(self) -> None:
        path = self.put(self.folder() / "file", "x" * (module._CHUNK + 1))
        self.assertEqual(module.digest(path), hashlib.sha256(path.read_bytes()).hexdigest())

    def test_pin(self) -> None:
        path = self.put(self.folder() / "file")
        found = module.Module(path, MAC)
        right = hashlib.sha256(path.read_bytes()).hexdigest()
        self.assertEqual(gate.check_pin(found, right.upper()), right)
        self.assertEqual(gate.check_pin(found, None), right)
        self.assertEqual(self.assertRaises(FipsError, gate.check_pin, found, "0" * 64).code, "module-sha256")


class RecordTests(Folders):
    """``obtain``'s own computation of the integrity value."""

    def test_agrees_with_openssl(self) -> None:
        found = module.find("auto")
        path = self.folder() / "fipsmodule.cnf"
        command = ["openssl", "fipsinstall", "-quiet", "-module", str(found.path), "-out", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        self.put(path.with_name("ours"), obtain.record(found.path))
        self.assertEqual(module._first_mac([path.with_name("ours")]), module._first_mac([path]))

    def test_place_is_repeatable(self) -> None:
        source, folder = self.put(self.folder() / "some.so"), self.folder() / "share"
        obtain.place(source, folder)
        obtain.place(source, folder)
        self.assertEqual(sorted(path.name for path in folder.iterdir()), ["fips.so", "fipsmodule.cnf"])
        self.assertEqual(module.find(str(folder / "fips.so")).path, folder / "fips.so")


class MirrorTests(Folders):
    """``sources.mirror``."""

    def test_deb822(self) -> None:
        folder = self.folder()
        self.put(
            folder / "sources.list.d/debian.sources",
            "Types: deb\n# a remark\nURIs: http://mirror.example/debian-security\nSuites: a\nComponents: main\n"
            "\nTypes: deb\nURIs: http://off.example/debian\nSuites: a\nComponents: main\nEnabled: no\n"
            "\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: a b\nComponents: main contrib\n"
            "Signed-By:\n -----BEGIN\n .\n abc\n",
        )
        found = sources.mirror(folder)
        self.assertEqual(found.uri, "http://mirror.example/debian")
        self.assertEqual(found.signed_by, "-----BEGIN\n .\n abc")
        self.assertIn("\nSuites: trixie\n", found.stanza("trixie"))

    def test_one_line(self) -> None:
        folder = self.folder()
        self.put(
            folder / "sources.list",
            "# deb http://off.example/debian a main\ndeb-src http://src.example/debian a main\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ a main # why\n",
        )
        self.assertEqual(sources.mirror(folder), sources.Mirror("http://mirror.example/debian/", "/k.gpg"))

    def test_none(self) -> None:
        self.assertEqual(self.assertRaises(FipsError, sources.mirror, self.folder()).code, "mirror-missing")


class CertificateTests(SynchronousTestCase):
    """``certificates.yaml``."""

    def test_active(self) -> None:
        found = certificates.lookup("OpenSSL FIPS Provider", "3.1.2", "3.1.2")
        self.assertEqual(str(found), "#4985 (FIPS 140-3, active)")

    def test_historical(self) -> None:
        found = certificates.lookup("OpenSSL FIPS Provider", "3.0.9", "3.0.9")
        self.assertEqual(str(found), "#4282 (FIPS 140-2, historical)")

    def test_another_build_of_the_same_version(self) -> None:
        self.assertIsNone(certificates.lookup("OpenSSL FIPS Provider", "3.1.2", "3.1.2-vendor"))

    def test_status_words(self) -> None:
        self.assertLessEqual({row.status for row in certificates.table()}, {"active", "historical", "unconfirmed"})


class JudgeTests(SynchronousTestCase):
    """``gate.judge``."""

    module = module.Module(Path("/opt/fips.so"), MAC)

    def facts(self, version: str) -> provider.ProviderFacts:
        active = frozenset({"fips", "base"})
        return provider.ProviderFacts(
            "fips", "OpenSSL FIPS Provider", version, version, 1, 1, active, md5=False, library="OpenSSL 3"
        )

    def test_listed(self) -> None:
        evidence = gate.judge(self.facts("3.1.2"), self.module, "00", "refuse")
        self.assertTrue(evidence.listed)
        self.assertEqual(evidence.warnings, ())

    def test_historical_is_refused(self) -> None:
        error = self.assertRaises(FipsError, gate.judge, self.facts("3.0.9"), self.module, "00", "refuse")
        self.assertEqual(error.code, "module-unlisted")
        self.assertIn("#4282", str(error))

    def test_unlisted_is_warned_of(self) -> None:
        evidence = gate.judge(self.facts("9.9.9"), self.module, "00", "warn")
        self.assertFalse(evidence.listed)
        self.assertIn("9.9.9", evidence.warnings[0])


class SymbolTests(Folders):
    """``provider.symbols``."""

    def test_bindings(self) -> None:
        spec = util.find_spec("cryptography.hazmat.bindings._rust")
        assert spec is not None
        assert spec.origin is not None
        found = provider.symbols(Path(spec.origin), {"OSSL_PROVIDER_available", "no_such_function"})
        self.assertEqual(list(found), ["OSSL_PROVIDER_available"])
        self.assertGreater(found["OSSL_PROVIDER_available"], 0)

    def test_not_elf(self) -> None:
        self.assertEqual(provider.symbols(self.put(self.folder() / "file"), {"main"}), {})

    def test_stripped(self) -> None:
        path = self.folder() / "file"
        path.write_bytes(b"\x7fELF\x02\x01".ljust(64, b"\0"))
        self.assertEqual(provider.symbols(path, {"main"}), {})


class ArgumentTests(SynchronousTestCase):
    """How ``launch`` reads twistd's arguments."""

    def test_config(self) -> None:
        for words in ("-c F", "-cF", "--config F", "--config=F", "--conf=F", "-c E --config F"):
            self.assertEqual(launch.config_option(["-n", "fipsrelay", *words.split()]), "F", words)

    def test_twistds_own_options_are_not_ours(self) -> None:
        self.assertIsNone(launch.config_option(["-c", "F", "fipsrelay"]))

    def test_service(self) -> None:
        self.assertTrue(launch.starts_service(["-n", "fipsrelay"]))
        self.assertFalse(launch.starts_service(["--help"]))
        self.assertFalse(launch.starts_service(["fipsrelay", "--help"]))

    def test_reactor(self) -> None:
        for words in ("-r poll fipsrelay", "-nr poll fipsrelay", "--reactor=poll fipsrelay", "--rea poll fipsrelay"):
            self.assertTrue(launch.names_reactor(words.split()), words)
        for words in ("-n fipsrelay", "-lrelay.log fipsrelay", "--rundir=x fipsrelay", "fipsrelay -r x"):
            self.assertFalse(launch.names_reactor(words.split()), words)


class WallTests(SynchronousTestCase):
    """What may be loaded before the gate."""

    def test_no_libcrypto(self) -> None:
        early = "import sys, fipsrelay.cli, fipsrelay.launch; from fipsrelay.crypto import gate; "
        done = subprocess.run(
            [sys.executable, "-c", early + "gate.refuse_early_imports(); print('asyncio' in sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(done.stdout, "False\n")
