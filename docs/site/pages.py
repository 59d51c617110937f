"""The guide's pages as what they are made of: headings, blocks, words of code, and orders to the suite.

A block of language ``console`` holds commands, each behind ``$ ``, and what they print; ``…`` stands for anything on a
line, and as a line of its own for any lines. A block whose first line is ``# not run by the suite: REASON`` is only
listed. A block of YAML whose first line is ``# /the/path`` is a file, ``# in /the/path`` a part of one. A comment
``<!-- suite: WORD ARGUMENTS -->`` has the suite bring about what the page goes on to tell of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from markdown_it import MarkdownIt

DOCS: Final = Path(__file__).resolve().parent.parent
FRONT: Final = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
ANYTHING: Final = "…"
EXCUSE: Final = "# not run by the suite: "
_ORDER: Final = re.compile(r"<!-- suite: (\S+) ?(.*?) -->\s*")
# What a benchmark has written into a page: it stands in one language only, and is generated in the other.
MEASURED: Final = re.compile(r"<!-- measured: begin -->\n(.*?)<!-- measured: end -->\n", re.DOTALL)
_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")


@attrs.frozen
class Command:
    """One command of a block.

    Attributes:
        words: as a shell takes them.
        output: the lines that it prints.
    """

    words: str
    output: str


@attrs.frozen
class Block:
    """A fenced block.

    Attributes:
        line: where it begins, from 1.
        section: title of the heading that it stands under.
        language: of its text, such as ``console``; empty for one that is only indented.
        text: what is in it, with the newline at its end.
    """

    line: int
    section: str
    language: str
    text: str

    @property
    def excuse(self) -> str:
        """Why the suite does not run it; empty if it does."""
        first = self.text.partition("\n")[0]
        return first.removeprefix(EXCUSE) if first.startswith(EXCUSE) else ""

    @property
    def file(self) -> tuple[str, bool] | None:
        """The path of a file that this is, and whether it is only a part of it; None for no file."""
        match = re.match(r"# (in )?(/\S+)\n", self.text)
        return (match[2], bool(match[1])) if match else None

    def commands(self) -> list[Command]:
        """The commands of a console, with what each prints."""
        found: list[Command] = []
        words = ""
        for line in self.text.splitlines():
            if words or line.startswith("$ "):
                words += line if words else line[2:]
                if line.endswith("\\"):
                    words += "\n"
                else:
                    found.append(Command(words, ""))
                    words = ""
            elif found:
                found[-1] = attrs.evolve(found[-1], output=f"{found[-1].output}{line}\n")
        return found


@attrs.frozen
class Order:
    """What the suite is to bring about.

    Attributes:
        word: what.
        argument: the rest of the line.
    """

    word: str
    argument: str


@attrs.frozen
class Section:
    """What stands under a heading.

    Attributes:
        level: of the heading, from 1.
        title: its text.
        code: words that are set as code, and how often.
    """

    level: int
    title: str
    code: Counter[str] = attrs.field(factory=Counter)


@attrs.frozen
class Page:
    """One page.

    Attributes:
        name: its path below docs.
        sections: in order.
        steps: blocks and orders, in order.
    """

    name: str
    sections: tuple[Section, ...]
    steps: tuple[Block | Order, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks alone."""
        return tuple(step for step in self.steps if isinstance(step, Block))


def read(path: Path) -> Page:
    """A page by its file."""
    sections: list[Section] = []
    steps: list[Block | Order] = []
    heading = 0
    text = MEASURED.sub(lambda found: "\n" * found[0].count("\n"), path.read_text(encoding="utf-8"))
    for token in _MARKDOWN.parse(text):
        if token.type == "heading_open":
            heading = int(token.tag[1:])
        elif token.type == "inline":
            if heading:
                sections.append(Section(heading, token.content))
                heading = 0
            words = [child.content for child in token.children or () if child.type == "code_inline"]
            if sections:
                sections[-1].code.update(words)
        elif token.type in ("fence", "code_block"):
            assert token.map is not None
            section = sections[-1].title if sections else ""
            steps.append(Block(token.map[0] + 1, section, token.info.strip(), token.content))
        elif token.type == "html_block":
            steps += [Order(*match.groups()) for match in _ORDER.finditer(token.content)]
    return Page(
        path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else path.name, tuple(sections), tuple(steps)
    )


def guide(language: str = "") -> Iterator[Page]:
    """All pages of a language, English without one; with it those beside docs that people read first."""
    folder = DOCS / language
    if not language:
        yield from (read(DOCS.parent / name) for name in FRONT)
    for path in sorted(folder.rglob("*.md")):
        if language or not path.is_relative_to(DOCS / "ja"):
            yield read(path)


def matches(wanted: str, found: str) -> bool:
    """Whether a text is what a page shows, whose ``…`` stands for anything on a line, or for lines if alone on one."""
    pattern = ""
    for line in wanted.rstrip("\n").split("\n"):
        if line.strip() == ANYTHING:
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split(ANYTHING)) + r"[ \t]*\n"
    return re.fullmatch(pattern, f"{found.rstrip()}\n" if found.strip() else "\n") is not None
