"""The list of what is in the packages: complete, valid, and the same twice."""

from __future__ import annotations

import json
import re
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from packages.build import CACHE, HERE, SBOM
from packages.sbom import write
from packages.tests.test_contents import Unpacked
from packages.wheel import epoch

# What may be shipped in a package under the Apache licence, as it is or by one of its alternatives. MPL-2.0 and ZPL-2.1
# hold for their own files only.
ALLOWED = {
    *("Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "MPL-2.0"),
    *("PSF-2.0", "Unicode-3.0", "ZPL-2.1", "Zlib"),
}


class SbomTests(Unpacked):
    def setUp(self) -> None:
        super().setUp()
        self.text = (self.root / SBOM).read_text()
        document: dict[str, Any] = json.loads(self.text)
        self.document = document
        self.components = [document["metadata"]["component"], *document["components"]]

    def test_valid(self) -> None:
        validator = JsonStrictValidator(SchemaVersion.V1_6)
        self.assertIsNone(validator.validate_str(self.text))
        self.assertIsNotNone(validator.validate_str(self.text.replace('"version":', '"nonsense":')))

    def test_libraries(self) -> None:
        """Those that are there, and no others; and those are the pinned ones."""
        listed = {each["purl"] for each in self.components if each["purl"].startswith("pkg:pypi/")}
        folders = (self.prefix / "lib/python3.11/site-packages").glob("*.dist-info")
        there = {path.name.removesuffix(".dist-info").lower().replace("_", "-").rpartition("-") for path in folders}
        self.assertEqual(listed, {f"pkg:pypi/{name.replace('.', '-')}@{version}" for name, _, version in there})
        pins = re.findall(r"^([\w.-]+)==(\S+)", (HERE / "requirements.txt").read_text(), re.MULTILINE)
        self.assertEqual(
            {f"pkg:pypi/{name}@{version}" for name, version in pins}, {p for p in listed if "fipsrelay" not in p}
        )

    def test_compiled_in(self) -> None:
        """The OpenSSL of the bindings, and the interpreter with its libraries from Debian."""
        names = {each["name"] for each in self.components}
        self.assertLessEqual({"openssl", "libyaml", "python3.11", "libffi", "zlib"}, names)
        (python,) = (each for each in self.components if each["name"] == "python3.11")
        self.assertRegex(python["purl"], r"^pkg:deb/debian/python3\.11@3\.11\.2-.*distro=bookworm$")

    def test_licences(self) -> None:
        """Each has one that allows it to be here."""
        for each in self.components:
            [licence] = each["licenses"]
            text = licence.get("expression") or licence["license"]["id"]
            needed = [part.strip("() ").split(" OR ") for part in text.split(" AND ")]
            self.assertTrue(
                all(ALLOWED & {word.strip("() ") for word in words} for words in needed), f"{each['name']}: {text}"
            )

    def test_once_more(self) -> None:
        """The same bytes; it says neither the time nor a number of its own making."""
        again = self.folder() / "again.json"
        write(self.root, CACHE / "sources", int(epoch()), again)
        self.assertEqual(again.read_text(), self.text)
        write(self.root, CACHE / "sources", int(epoch()) + 1, again)
        self.assertNotEqual(again.read_text(), self.text)
