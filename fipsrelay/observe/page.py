"""The statistics page: plain text, read-only. Shows ``counters`` and what the gate found; knows nothing of sockets."""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from fipsrelay import __version__
from fipsrelay.counters import Counters


def render(counters: Counters, facts: tuple[str, ...], now: float) -> str:
    """The page's text.

    Args:
        counters: of the process.
        facts: what the gate found, one line each.
        now: seconds of the wall clock.
    """
    rows = [("intake", "open", "connections", "bytes in", "bytes out", "answers", "errors")]
    for name, intake in counters.intakes.items():
        rows.append(
            (
                name,
                str(intake.open_connections),
                str(intake.connections),
                str(intake.bytes_in),
                str(intake.bytes_out),
                _counts(intake.requests.items()),
                _counts(intake.errors.items()),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    head = f"fipsrelay {__version__}, up {now - counters.started:.0f} s"
    return "\n".join((head, *facts, "", *table, ""))


def _counts(items: object) -> str:
    return " ".join(f"{key}:{count}" for key, count in sorted(items)) or "-"  # type: ignore[call-overload]


class _Page(Resource):
    isLeaf = True

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        return self._text().encode()


class _Site(Site):
    def log(self, request: object) -> None:
        """A look at the page is no news."""


def site(text: Callable[[], str]) -> Site:
    """A web site of one page.

    Args:
        text: called for each request.
    """
    return _Site(_Page(text))
