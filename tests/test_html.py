"""Elements of HTML as text."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.observe.html import raw, tag, void


class Reader(HTMLParser):
    """Events of a parser that is not ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.starts: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.ends: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self.ends.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


class HtmlTests(SynchronousTestCase):
    def test_elements(self) -> None:
        """Elements stay, text is quoted."""
        made = tag("p", "a<b ", tag("b", "&"), ' "c"', class_="x", aria_label='"', id="")
        self.assertEqual(made, '<p class="x" aria-label="&quot;">a&lt;b <b>&amp;</b> &quot;c&quot;</p>')
        self.assertEqual(void("meta", name="a", content="b"), '<meta name="a" content="b">')
        self.assertEqual(raw("script", "a < b && c"), "<script>a < b && c</script>")

    @given(strategies.text(), strategies.text(min_size=1))
    def test_any(self, text: str, value: str) -> None:
        """No text gets out of its place; a parser gives it back."""
        found = Reader(tag("p", tag("td", text), title=value))
        self.assertEqual(([name for name, _ in found.starts], found.ends), (["p", "td"], ["td", "p"]))
        self.assertEqual(found.text, text)
        self.assertEqual(found.starts[0][1], [("title", value)])
