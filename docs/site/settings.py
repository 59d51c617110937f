"""The reference of the configuration: keys and meanings by the model, what is allowed by the program's own refusals."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

from fipsrelay.config import model
from fipsrelay.config.load import DEFAULT_SITE, load_text
from fipsrelay.errors import ConfigError

# What no key takes but a mapping, whose own keys are then named.
_WRONG = {"x": "x"}
# The model has an intake's port alone: an offset has been added up by then.
_OFFSET = "instead of `port`: how far behind `listen.port_range_start`"


@attrs.frozen
class Section:
    """A part of the file.

    Attributes:
        path: where its keys stand; ``NAME`` is a name of the operator's choosing, ``[]`` a list.
        kind: the class of the model that holds it.
        beside: what has to be written beside a key for it to be judged.
    """

    path: str
    kind: type
    beside: dict[str, Any] = attrs.field(factory=dict)

    def place(self, key: str) -> str:
        """The key's path, as a refusal has it."""
        return f"{self.path.replace('[]', '[0]')}.{key}"

    def document(self, key: str, value: object) -> dict[str, Any]:
        """A whole configuration with this value for a key."""
        content: Any = {**self.beside, key: value}
        for step in reversed(self.path.split(".")):
            content = {step.removesuffix("[]"): [content] if step.endswith("[]") else content}
        return {"preset": "datadog", **content}

    def names(self) -> list[str]:
        """All that may be written here, as the refusal of another key names them."""
        return _refusal(self.document("x", "x"), self.place("x")).split(", ")

    def allowed(self, key: str) -> str:
        """What the refusal of something else says that a key takes."""
        words = _refusal(self.document(key, _WRONG), self.place(key))
        if words.startswith("a list"):
            return f"a list: {_refusal(self.document(key, [_WRONG]), self.place(key))}"
        return words

    def loaded(self, key: str) -> Any:
        """What counts where a key of an entry is not written; ``attrs.NOTHING`` if that is refused."""
        document = self.document(key, None)
        try:
            config: Any = load_text(json.dumps(document), "reference")
        except ConfigError:
            return attrs.NOTHING
        kind, _, name = self.path.partition(".")
        return getattr(getattr(config, kind)[name], key)


SECTIONS = (
    Section("listen", model.Listen),
    Section("fips", model.Fips),
    Section("fips.certificates[]", model.Certificate),
    Section("tls", model.Tls),
    Section("resolver", model.Resolver),
    Section("egress", model.Egress),
    Section("probes", model.Probes),
    Section("upstreams.NAME", model.Upstream, {"host": f"intake.{DEFAULT_SITE}"}),
    Section("upstreams.NAME.retries", model.Retries),
    Section("intakes.NAME", model.Intake, {"upstream": "datadog-metrics", "port": 1}),
    Section("intakes.NAME.routes[]", model.Route),
    Section("intakes.NAME.tls", model.LocalTls),
    Section("timeouts", model.Timeouts),
    Section("limits", model.Limits),
    Section("log", model.Log),
)


def reference() -> str:
    """All sections, as Markdown."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    yield from ("## The top level", "", "| key | allowed | default | |", "|---|---|---|---|")
    preset = _refusal({"preset": _WRONG}, "preset")
    yield f"| `preset` | {preset} | none | upstreams and intakes to begin with |"
    site = _refusal({"preset": "datadog", "site": _WRONG}, "site")
    yield f"| `site` | {site} | `{DEFAULT_SITE}` | payload leaves only for hosts of it |"
    for section in SECTIONS:
        yield from ("", f"## `{section.path}`", "", *_table(section))


def _table(section: Section) -> Iterator[str]:
    summary, meanings = described(section.kind)
    yield from (summary, "", "| key | allowed | default | |", "|---|---|---|---|")
    fields = {field.name: field for field in attrs.fields(section.kind)}
    for key in section.names():
        meaning = meanings.get(key, _OFFSET if key == "offset" else "")
        if not meaning:
            raise LookupError(f"{section.kind.__name__} does not say what {key} is")
        yield f"| `{key}` | {section.allowed(key)} | {_default(section, fields.get(key))} | {meaning} |"


def _refusal(document: dict[str, Any], place: str) -> str:
    """What is allowed instead of what stands at this place or in it."""
    try:
        load_text(json.dumps(document), "reference")
    except ConfigError as error:
        for problem in error.problems:
            _, found, words = problem.message.partition("; allowed: ")
            if found and problem.path.startswith(place):
                return words.replace("|", "\\|").replace("*", "\\*")
    raise LookupError(f"nothing is refused at {place} in {document}")


def described(kind: type) -> tuple[str, dict[str, str]]:
    """A class's docstring: what it is in a sentence, and the meaning of each attribute."""
    text = inspect.getdoc(kind) or ""
    head, _, attributes = text.partition("Attributes:\n")
    meanings = {}
    for names, words in re.findall(r"(?m)^    (\w[\w, ]*): ((?:.|\n {8})*)", attributes):
        for name in names.split(", "):
            words = re.sub(r"\s+", " ", words).strip().replace("``", "`").rstrip(".")
            meanings[name] = re.sub(r"\bNone\b", "`null`", words)
    return head.strip(), meanings


def _default(section: Section, field: attrs.Attribute[Any] | None) -> str:
    if field is None:
        return "none"
    value = field.default
    if value is attrs.NOTHING:
        value = section.loaded(field.name)
    if value is attrs.NOTHING:
        return "required"
    if attrs.has(type(value)):
        return "see there"
    if value in (None, "", ()):
        return "none"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
