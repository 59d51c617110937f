"""The guide's pages: what they are made of, that both languages say the same, and that the site they make is whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from twisted.trial.unittest import SynchronousTestCase

from docs.site import generated
from docs.site.pages import DOCS, EXCUSE, MEASURED, Block, Command, Order, Page, guide, matches, read
from fipsrelay.config.load import load_text
from tests.folders import Folders

ROOT = DOCS.parent
MADE = "<!-- generated: measured -->\n"
# Names of things, which are the same in every language.
SAME_TITLES = frozenset(
    {"fipsrelay", "FIPS", "FAQ", "Helm", "Datadog Operator", "kustomize", "ECS"}
    | {"OpenTelemetry", "syslog", "RELP", "Prometheus remote write", "datadog", "datadog-api-client", "ddtrace"}
)
# What other programs than the relay are told: tests.scenarios.test_sender_* run them with these very blocks.
SENDERS = frozenset({"python", "sh", "text"})
# Blocks that nobody runs, because they are not of any program's: pictures, and what Sphinx reads.
DRAWN = frozenset({"{graphviz}", "{toctree}"})


class PageTests(Folders):
    """How a page is read."""

    def page(self, text: str) -> Page:
        return read(self.put(self.folder() / "page.md", text))

    def test_headings_and_code(self) -> None:
        page = self.page("# The `one`\n\n`a` and `b`\n\n## Two\n\n* `a` `a`\n\n| `t` |\n|---|\n| `u` |\n")
        self.assertEqual([(each.level, each.title) for each in page.sections], [(1, "The `one`"), (2, "Two")])
        self.assertEqual(
            [sorted(each.code.elements()) for each in page.sections], [["a", "b", "one"], ["a", "a", "t", "u"]]
        )

    def test_steps(self) -> None:
        page = self.page(
            "<!-- suite: run a b -->\n<!-- suite: now -->\n\n```yaml\n# in /x/y\na: 1\n```\n<!-- else -->\n"
        )
        self.assertEqual(page.steps, (Order("run", "a b"), Order("now", ""), Block(4, "", "yaml", "# in /x/y\na: 1\n")))
        self.assertEqual(page.blocks[0].file, ("/x/y", True))

    def test_commands(self) -> None:
        block = Block(1, "", "console", "$ a b \\\n    c\nout\n\nmore\n$ d\n")
        self.assertEqual(block.commands(), [Command("a b \\\n    c", "out\n\nmore\n"), Command("d", "")])
        self.assertEqual((block.excuse, block.file), ("", None))
        self.assertEqual(Block(1, "", "console", f"{EXCUSE}why\n$ a\n").excuse, "why")


class MatchTests(SynchronousTestCase):
    """What a command printed, beside what the page shows."""

    def test_matching(self) -> None:
        for wanted, found in (
            ("", ""),
            ("", "\n"),
            ("a b\n", "a b\n\n"),
            ("a … c\n", "a b c\n"),
            ("a …\n", "a b  \n"),
            ("…\nb\n…\n", "a\na\nb\n"),
            ("…\n", ""),
            ("a.c\n", "a.c\n"),
        ):
            self.assertTrue(matches(wanted, found), (wanted, found))

    def test_not_matching(self) -> None:
        for wanted, found in (
            ("", "a\n"),
            ("a\n", ""),
            ("a\n", "a\nb\n"),
            ("a … c\n", "a\nc\n"),
            ("a.c\n", "abc\n"),
            ("…\nb\n", "a\nb\nc\n"),
            ("a\nb\n", "b\na\n"),
        ):
            self.assertFalse(matches(wanted, found), (wanted, found))


class BlockTests(SynchronousTestCase):
    """Every block is something that is looked at."""

    def blocks(self) -> Iterator[tuple[str, Block]]:
        for page in (*guide(), *guide("ja")):
            for block in page.blocks:
                if block.language not in DRAWN and not block.excuse:
                    yield f"{page.name}:{block.line}", block

    def test_every_block_is_looked_at(self) -> None:
        for where, block in self.blocks():
            kinds = {"console", "yaml", *(SENDERS if "senders.md" in where else ())}
            self.assertIn(block.language, kinds, where)

    def test_senders_are_run(self) -> None:
        """Every heading with blocks under it is that of a test."""
        texts = "".join(path.read_text() for path in (ROOT / "tests" / "scenarios").glob("test_sender_*.py"))
        for block in read(DOCS / "senders.md").blocks:
            self.assertIn(f'"{block.section}"', texts)

    def test_configurations(self) -> None:
        """A block of YAML without a path is the relay's, and is taken; so are those for its file."""
        for where, block in self.blocks():
            if block.language == "yaml" and (block.file is None or block.file[0].startswith("/etc/fipsrelay/")):
                text = block.text if "preset:" in block.text else f"preset: datadog\n{block.text}"
                self.assertTrue(load_text(text, where).intakes)

    def test_other_files_are_yaml(self) -> None:
        for where, block in self.blocks():
            if block.language == "yaml":
                self.assertIsInstance(yaml.safe_load(block.text), dict, where)

    def test_pages_with_commands_are_followed(self) -> None:
        text = (ROOT / "packages" / "tests" / "test_guide.py").read_text()
        pages = {
            page.name for page in guide() for block in page.blocks if block.language == "console" and not block.excuse
        }
        followed = {name for name in pages if f'"{name}"' in text}
        self.assertEqual(pages - followed, set())


class LanguageTests(SynchronousTestCase):
    """The Japanese pages are the English ones in other words."""

    def pairs(self) -> Iterator[tuple[Page, Page]]:
        for page in guide("ja"):
            yield read(DOCS / Path(page.name).relative_to("ja")), page

    def test_headings(self) -> None:
        for english, japanese in self.pairs():
            levels = [[section.level for section in page.sections] for page in (english, japanese)]
            self.assertEqual(levels[0], levels[1], japanese.name)
            titles = {section.title for section in japanese.sections} & {section.title for section in english.sections}
            self.assertLessEqual(titles, SAME_TITLES, japanese.name)

    def test_blocks(self) -> None:
        for english, japanese in self.pairs():
            one, other = (
                [(block.language, block.text) for block in page.blocks if block.language not in DRAWN]
                for page in (english, japanese)
            )
            self.assertEqual(one, other, japanese.name)

    def test_generated_parts(self) -> None:
        for english, japanese in self.pairs():
            texts = [(DOCS / page.name).read_text() for page in (english, japanese)]
            one, other = (generated.MARK.findall(MEASURED.sub(MADE, text)) for text in texts)
            self.assertEqual(one, other, japanese.name)

    def test_words_of_code(self) -> None:
        """Commands, options, settings, paths: section by section the same."""
        for english, japanese in self.pairs():
            for one, other in zip(english.sections, japanese.sections, strict=True):
                self.assertEqual(
                    sorted(one.code.elements()), sorted(other.code.elements()), f"{japanese.name}: {other.title}"
                )

    def test_every_guide_page_is_translated(self) -> None:
        """All that the index calls the guide, and the generated reference."""
        text = (DOCS / "index.md").read_text()
        names = text.partition(":caption: Guide\n:hidden:\n\n")[2].partition("\n```")[0].split()
        self.assertGreater(len(names), 10)
        names += [f"reference/{path.stem}" for path in (DOCS / "reference").glob("*.md")]
        self.assertEqual({page.name for page in guide("ja")}, {f"ja/{name}.md" for name in ("index", *names)})


class GeneratedTests(SynchronousTestCase):
    """Parts that come from the program."""

    def test_each_is_used_and_none_unknown(self) -> None:
        texts = "".join(path.read_text() for path in DOCS.rglob("*.md"))
        for name in generated.PARTS:
            self.assertIn(f"<!-- generated: {name} -->", texts)
        self.assertRaises(KeyError, generated.expanded, "<!-- generated: nonsense -->\n")

    def test_settings(self) -> None:
        text = generated.expanded("<!-- generated: settings -->\n")
        for row in (
            "| `drain` | seconds from 0 to 3600, such as 5, 0.5, 500ms, 5s or 2m | `15` |",
            "| `protocol` | http or tcp | `http` |",
            "| `host` | a host name such as intake.example.com or intake.{site}; ",
            "| `certificates` | a list: number, name, version, build_info, source, standard, sunset, checked | none |",
        ):
            self.assertIn(row, text)

    def test_tables(self) -> None:
        for name, row in {
            "products": "| 9804 | `metrics-forwarder` | `/support/flare` | `datadog-flare` | flare.*site* |",
            "metrics": "| `fipsrelay_requests_total` | counter | `code`, `intake` | Answers by status. |",
            "upstream codes": "| `answer-timeout` | 504 | ",
            "agent codes": "| `tls-to-plaintext` | none | ",
            "FIPS codes": "| `module-sha256` | ",
            "commands": "usage: fipsrelay evidence [-h] -c FILE -o DIR [--stand-alone]",
            "house": '  "relay" -> "upstream"',
        }.items():
            self.assertIn(row, generated.PARTS[name]())

    def test_what_is_not_run(self) -> None:
        text = generated.not_run()
        for page in guide():
            for block in page.blocks:
                self.assertTrue(not block.excuse or f"| {page.name} | " in text)
        self.assertIn("| agent.md | `sudo systemctl restart datadog-agent` | it needs the Datadog Agent |", text)


class _Links(HTMLParser):
    """What a file of the site refers to, what it loads, and where it can be referred to.

    Args:
        text: of the file.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places |= {given[key] or "" for key in ("id", "name") if key in given}
        if tag == "a":
            self.links.add(given.get("href") or "")
        for key in ("src", "data") if tag != "link" else ("href",):
            if key in given and "data-content_root" not in given:
                self.loaded.add(given[key] or "")


class SiteTests(Folders):
    """``make docs``, without a warning; every link within leads somewhere, and nothing is loaded from elsewhere."""

    def test_site(self) -> None:
        site = self.folder()
        self.build(DOCS, site)
        self.build(DOCS / "ja", site / "ja", "--define", "language=ja")
        files = {path: _Links(path.read_text()) for path in site.rglob("*.html")}
        self.assertGreater(len(files), 2 * len(list(guide("ja"))))
        for path, found in files.items():
            for link in found.links | found.loaded:
                self.check(path, link, files)
            for link in found.loaded:
                self.assertEqual(urlsplit(link).netloc, "", f"{path} loads {link}")
        self.assertIn('lang="ja"', (site / "ja" / "index.html").read_text())
        for page in ("how-it-works.html", "ja/how-it-works.html"):
            drawn = [link for link in files[site / page].loaded if Path(link).name.startswith("graphviz-")]
            self.assertEqual(len(drawn), 3, page)

    def build(self, source: Path, target: Path, *options: str) -> None:
        words = ("--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", str(DOCS))
        command = [sys.executable, "-m", "sphinx", *words, *options, str(source), str(target)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def check(self, path: Path, link: str, files: dict[Path, _Links]) -> None:
        """That a link of a file leads somewhere, if it is one within the site."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            self.assertIn(parts.scheme, {"https", "http", "data"}, f"{path}: {link}")
            return
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        self.assertTrue(target.exists(), f"{path}: {link}")
        if parts.fragment and target in files:
            self.assertIn(unquote(parts.fragment), files[target].places, f"{path}: {link}")
