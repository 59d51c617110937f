"""Which upstream a request goes to. Pure."""

from __future__ import annotations

from fipsrelay.config.model import Intake


class Routes:
    """Picks an upstream's name by path; the longest prefix wins, on whole segments."""

    def __init__(self, intake: Intake) -> None:
        self.default = intake.upstream
        ordered = sorted(intake.routes, key=lambda route: len(route.path_prefix), reverse=True)
        self._routes = [(route.path_prefix.rstrip("/").encode("ascii"), route.upstream) for route in ordered]

    def choose(self, target: bytes) -> str:
        """The upstream for a request target in origin form; its query string does not count."""
        for prefix, upstream in self._routes:
            if target.startswith(prefix):
                rest = target[len(prefix) : len(prefix) + 1]
                if rest in (b"", b"/", b"?"):
                    return upstream
        return self.default
