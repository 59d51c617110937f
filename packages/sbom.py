"""What is in the runtime, as a CycloneDX document: libraries, interpreter, and what is compiled into them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.spdx import is_expression
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from packages.commands import BuildError, call
from packages.interpreter import PREFIX, PYTHON
from packages.sources import SUITE, version

OWN = "fipsrelay"
_SITE = f"lib/{PYTHON}/site-packages"
# For libraries whose metadata has no SPDX expression, but only a classifier.
_CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
}
# Debian's source packages that the interpreter is built of, and their licences (debian/copyright).
_BUILT = {PYTHON: "PSF-2.0", "libffi": "MIT", "zlib": "Zlib"}
# What wheels have compiled in and say in a document of their own (PEP 770), but for its licence.
_UNSAID = {"openssl": "Apache-2.0"}
# What they do not say: how it says its version itself, and its licence.
_SILENT = {"pyyaml": ("libyaml", "import yaml._yaml; print(yaml._yaml.get_version_string())", "MIT")}


def write(root: Path, sources: Path, epoch: int, file: Path) -> None:
    """Describe a staged root.

    Args:
        root: from ``runtime.furnish``.
        sources: the folder that Debian's sources were fetched into.
        epoch: seconds since 1970, the document's time: the same root gives the same bytes.
        file: written.

    Raises:
        BuildError: a library says nothing of its licence, or cannot be asked what is compiled in.
        KeyError: what a wheel says it has compiled in has no licence.
    """
    prefix = root / PREFIX.relative_to("/")
    found: dict[str, Distribution] = {
        canonicalize_name(each.name): each for each in distributions(path=[str(prefix / _SITE)])
    }
    libraries = {name: _library(each) for name, each in sorted(found.items())}
    own = libraries[OWN]
    own.type = ComponentType.APPLICATION
    interpreter = [_source(name, sources) for name in _BUILT]
    bom = Bom(components=[*(each for each in libraries.values() if each is not own), *interpreter])
    bom.metadata.component = own
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, timezone.utc)
    for name, each in found.items():
        inside = list(_compiled_in(name, each, prefix))
        bom.components.update(inside)
        wanted = [libraries[other] for other in _requirements(each) if other in libraries]
        bom.register_dependency(libraries[name], [*wanted, *inside])
    bom.register_dependency(own, interpreter[:1])
    bom.register_dependency(interpreter[0], interpreter[1:])
    purls = sorted(str(component.purl) for component in (own, *bom.components))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, " ".join((*purls, str(epoch))))
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n")


def _library(found: Distribution) -> Component:
    name = canonicalize_name(found.name)
    return _component(name, found.version, PackageURL("pypi", None, name, found.version), _licence(found.metadata))


def _component(name: str, number: str, purl: PackageURL, licence: str) -> Component:
    return Component(
        name=name,
        version=number,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseExpression(licence)],
    )


def _licence(metadata: PackageMetadata) -> str:
    said = [*metadata.get_all("License-Expression", []), *metadata.get_all("License", [])]
    classified = [_CLASSIFIERS.get(each, "") for each in metadata.get_all("Classifier", [])]
    for each in (*said, *classified):
        if each and is_expression(each):
            return str(each)
    raise BuildError(f"{metadata['Name']} has no licence that can be read: {said}")


def _requirements(found: Distribution) -> Iterator[str]:
    here = {"extra": "", "python_version": PYTHON.removeprefix("python")}
    for line in found.requires or ():
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(here):
            yield canonicalize_name(wanted.name)


def _source(name: str, sources: Path) -> Component:
    number = version(name, sources)
    purl = PackageURL("deb", "debian", name, number, {"arch": "source", "distro": SUITE})
    return _component(name, number, purl, _BUILT[name])


def _compiled_in(name: str, found: Distribution, prefix: Path) -> Iterator[Component]:
    for document in sorted(
        (prefix / _SITE).glob(f"{found.name.replace('-', '_')}-{found.version}.dist-info/sboms/*.json")
    ):
        for each in json.loads(document.read_text())["components"]:
            said = [licence["expression"] for licence in each.get("licenses", ())]
            purl = PackageURL.from_string(each["purl"])
            yield _component(each["name"], each["version"], purl, *(said or [_UNSAID[each["name"]]]))
    if name in _SILENT:
        inside, code, licence = _SILENT[name]
        number = call([prefix / "bin" / PYTHON, "-s", "-P", "-c", code], prefix, {"PYTHONHOME": str(prefix)}).strip()
        yield _component(inside, number, PackageURL("generic", None, inside, number), licence)
