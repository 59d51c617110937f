"""Sphinx's configuration for the guide, in both languages: ``make docs`` builds docs/ja with ``-D language=ja``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.site import generated
from fipsrelay import __version__

JAPANESE = Path(__file__).resolve().parent / "ja"

project = "fipsrelay"
author = "the fipsrelay developers"
copyright = author
version = release = __version__
language = "en"
extensions = ["myst_parser", "sphinx.ext.graphviz"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["ja", "site"]
templates_path = ["site/templates"]

# Every reference has to lead somewhere, and ``make docs`` takes a warning for an error.
nitpicky = True
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "above": "{{path}}#{{fragment}}"}

html_theme = "furo"
# Furo's own, and a link to the other language's page.
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_context = {
    "translated": [path.relative_to(JAPANESE).with_suffix("").as_posix() for path in JAPANESE.rglob("*.md")],
}
html_title = f"fipsrelay {release}"
html_copy_source = False
html_show_sphinx = False
# One file for a diagram, whose letters can be searched and scale; no script is needed to show it.
graphviz_output_format = "svg"

setup = generated.setup
