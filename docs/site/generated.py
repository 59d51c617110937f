"""Parts of pages that come from the program. A page names one on a line of its own: ``<!-- generated: NAME -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from docs.site import house, settings, tables
from docs.site.pages import DOCS, MEASURED, guide

# Japanese is written without blanks, and a browser makes one of the end of a line.
_WIDE: Final = "[\u3000-\u9fff\uff00-\uffef]"
_BROKEN: Final = re.compile(f"(?<={_WIDE})\n *(?={_WIDE})")
MARK: Final = re.compile(r"(?m)^<!-- generated: (.+?) -->$")


def drawn(graph: str) -> str:
    """A diagram, as MyST has it."""
    return f"```{{graphviz}}\n{graph.rstrip()}\n```"


def measured() -> str:
    """What the benchmark has found, for a page in a folder below the one that has it."""
    found = MEASURED.search((DOCS / "performance.md").read_text())
    assert found is not None
    return found[1].replace("](performance-", "](../performance-")


def not_run() -> str:
    """Every block that the suite does not run, with its reason."""
    lines = ["| page | block | why |", "|---|---|---|"]
    for page in guide():
        for block in page.blocks:
            if block.excuse:
                shown = block.text.splitlines()[1].removeprefix("$ ")
                lines.append(f"| {page.name} | `{shown}` | {block.excuse} |")
    return "\n".join(lines)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "settings": settings.reference,
    "products": tables.products,
    "metrics": tables.metrics,
    "upstream codes": tables.upstream_codes,
    "agent codes": tables.agent_codes,
    "FIPS codes": tables.fips_codes,
    "commands": tables.commands,
    "house": lambda: drawn(house.diagram()),
    "a request's way": lambda: drawn((DOCS / "diagrams" / "request.dot").read_text()),
    "the start": lambda: drawn((DOCS / "diagrams" / "start.dot").read_text()),
    "measured": measured,
    "not run": not_run,
}


def expanded(text: str) -> str:
    """A page with its generated parts.

    Raises:
        KeyError: there is no such part.
    """
    return MARK.sub(lambda mark: PARTS[mark[1]](), text)


def japanese(text: str, name: str) -> str:
    """A Japanese page: its lines are joined, and links to English pages are links into the site made of those.

    Args:
        text: of the page.
        name: its path below docs/ja.
    """
    up = "../" * (name.count("/") + 1)
    return re.sub(rf"\]\(({re.escape(up)}[\w-][\w/-]*)\.md(?=[#)])", r"](above:\1.html", _BROKEN.sub("", text))


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's hook: each language is a site of its own, the Japanese one below the English one."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}


def _read(app: Any, docname: str, source: list[str]) -> None:
    text = expanded(source[0])
    source[0] = text if app.config.language == "en" else japanese(text, docname)
