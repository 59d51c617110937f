"""The page as HTML, without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe import page
from tests.documents import NASTY, Relay


class Reader(HTMLParser):
    """What a page consists of.

    Attributes:
        tags: every tag that begins, with its attributes.
        cells: texts of table cells, by the table's name.
        text: all of it that is read by people.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: dict[str, list[str]] = {}
        self.text = ""
        self._table = ""
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._table = dict(attrs)["id"] or ""
            self.cells[self._table] = []
        elif tag == "td":
            self.cells[self._table].append("")
        if tag in ("td", "style", "script"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] in (["style"], ["script"]):
            return
        self.text += data
        if self._inside:
            self.cells[self._table][-1] += data


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.relay = Relay()

    def read(self, state: str = "ready", lost: str | None = None) -> Reader:
        self.html = page.render(self.relay.document(state, lost)).decode()
        return Reader(self.html)

    def test_quoted(self) -> None:
        """What servers and certificates say is text, wherever it stands."""
        found = self.read()
        self.assertNotIn(NASTY, self.html)
        self.assertIn(NASTY, found.text)
        self.assertEqual([tag for tag, _ in found.tags].count("script"), 1)

    def test_nothing_from_elsewhere(self) -> None:
        """And nothing that the policy would not let pass: one style and one script, by their digests."""
        for tag, attributes in self.read().tags:
            self.assertEqual([name for name in attributes if name == "style" or name.startswith("on")], [], tag)
            for name in ("src", "href", "action"):
                self.assertIn(attributes.get(name), (None, "data:,"))
        self.assertNotIn("unsafe", page.POLICY)
        self.assertEqual(len(re.findall("'sha256-", page.POLICY)), 2)

    def test_numbers(self) -> None:
        cells = self.read().cells
        width = 13
        metrics, logs, raw = (cells["intakes"][at : at + width] for at in range(0, 3 * width, width))
        last = "requests of the last ten minutes, at most 0 a second"
        self.assertEqual(
            metrics,
            [
                *("metrics", "9001", "2", "5", "0", "12.3 K", "678", "0", "1.8 ms", "3.12 s", last),
                *("202: 4 503: 1 ", "connect: 12 tls: 1 retried connect: 2 "),
            ],
        )
        self.assertEqual((logs[0], raw[0], raw[3:6]), ("logs (TLS)", "raw (raw TCP)", ["-", "-", "1 K"]))

    def test_states(self) -> None:
        """In words and marks, not in colours alone."""
        cells = self.read().cells["servers"]
        self.assertEqual(cells[2::9][:3], ["✖ DOWN", "✔ UP", "○ not checked"])
        self.assertEqual(cells[4::9][:3], ["10 s ago", "5 s ago", "-"])
        self.assertEqual(cells[-9:-6], ["new", "new.example.com", "✖ no address"])

    def test_fips(self) -> None:
        self.assertIn("✔ FIPS module in force: Provider 3.1.2", self.read().text)
        self.assertIn("⚠ Look.", self.read().text)
        found = self.read("lost", "FIPS check x failed")
        self.assertIn("✖ FIPS state lost: FIPS check x failed", found.text)
        self.assertIn(("div", {"class": "banner bad", "id": "fips"}), found.tags)
        self.assertIn("<title>FIPS LOST - fipsrelay</title>", self.html)

    def test_title(self) -> None:
        """What is seen of a page in the background."""
        self.read()
        self.assertIn("<title>1 DOWN - fipsrelay</title>", self.html)

    def test_chart(self) -> None:
        """The newest value is on the right, the highest at the top."""
        history = self.relay.histories["metrics"]
        for count in (0, 10, 5):
            self.relay.counters.intakes["metrics"].requests[202] += count
            history.sample()
        found = self.read()
        points = [attributes.get("points") for tag, attributes in found.tags if tag == "polyline"]
        # The first sample holds the five of before.
        self.assertEqual(points[0], "57,10.00 58,1.00 59,10.00")
        self.assertIn("at most 1 a second", found.text)

    def test_sizes_and_ages(self) -> None:
        for count, words in (
            (0, "0"),
            (999, "999"),
            (1000, "1 K"),
            (12345678, "12.3 M"),
            (5e9, "5 G"),
            (7e15, "7000 T"),
        ):
            self.assertEqual(page._size(count), words)
        for seconds, words in ((0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")):
            self.assertEqual(page._age(seconds), words)
