"""Routes: the longest prefix on whole segments."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.model import Intake, Route
from fipsrelay.relay.routes import Routes

SEGMENTS = st.sampled_from(["a", "b", "ab", "a.b", "a+b", "(", "[x]", "%2F", "a%20b", "$", "^", "a|b", "\\", "~", "*"])
PREFIXES = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda segments: "/" + "/".join(segments))
TAILS = st.sampled_from(["", "/", "?", "?a=/b", "x", "/?", "//", "%3F", ".", ";v=1"])
TARGETS = st.tuples(st.lists(SEGMENTS, max_size=4), TAILS).map(lambda parts: "/" + "/".join(parts[0]) + parts[1])


def routes(**prefixes: str) -> Routes:
    """Upstream names and their prefixes; ``default`` is the intake's own."""
    return Routes(Intake("web", 1, "http", "default", tuple(Route(path, name) for name, path in prefixes.items())))


def model(prefixes: list[str], target: str) -> str:
    path = target.partition("?")[0]
    fitting = [each for each in prefixes if path == each.rstrip("/") or path.startswith(each.rstrip("/") + "/")]
    return max(fitting, key=len, default="default")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], str]:
    """Prefixes, some of which go on from another, and a target, which goes on from one of them as a rule."""
    prefixes = draw(st.lists(PREFIXES, max_size=4))
    prefixes += [prefix + draw(PREFIXES) for prefix in prefixes if draw(st.booleans())]
    return list(dict.fromkeys(prefixes)), draw(st.sampled_from([*prefixes, ""])) + draw(TAILS | TARGETS)


class RouteTests(SynchronousTestCase):
    def choose(self, target: bytes, **prefixes: str) -> str:
        return routes(**prefixes).choose(target)

    def test_no_routes(self) -> None:
        self.assertEqual(self.choose(b"/a"), "default")
        self.assertEqual(self.choose(b""), "default")

    def test_whole_segments(self) -> None:
        for target in (b"/api", b"/api/", b"/api/x", b"/api?x", b"/api/x?y", b"/api//"):
            self.assertEqual(self.choose(target, api="/api"), "api", target)
        for target in (b"/", b"/apix", b"/ap", b"/x/api", b"/API", b"/?/api", b"/api.x", b"//api", b"/%61pi", b"*"):
            self.assertEqual(self.choose(target, api="/api"), "default", target)

    def test_longest(self) -> None:
        for order in (("/a", "/a/b"), ("/a/b", "/a")):
            chosen = Routes(Intake("web", 1, "http", "default", tuple(Route(path, path) for path in order)))
            self.assertEqual(chosen.choose(b"/a/b/c"), "/a/b")
            self.assertEqual(chosen.choose(b"/a/bc"), "/a")

    def test_slash_at_the_end(self) -> None:
        for target in (b"/api", b"/api/", b"/api/x"):
            self.assertEqual(self.choose(target, api="/api/"), "api")
        self.assertEqual(self.choose(b"/apix", api="/api/"), "default")

    def test_everything(self) -> None:
        for target in (b"/", b"/x", b"/?x"):
            self.assertEqual(self.choose(target, all="/"), "all")

    def test_characters_of_expressions(self) -> None:
        self.assertEqual(self.choose(b"/axb", dot="/a.b"), "default")
        self.assertEqual(self.choose(b"/a.b/", dot="/a.b"), "dot")

    @given(cases())
    @settings(derandomize=True, database=None, deadline=None, max_examples=500)
    def test_as_the_naive_model(self, case: tuple[list[str], str]) -> None:
        prefixes, target = case
        made = Routes(Intake("web", 1, "http", "default", tuple(Route(path, path) for path in prefixes)))
        self.assertEqual(made.choose(target.encode()), model(prefixes, target))
