"""Which upstream a request goes to. Pure."""

from __future__ import annotations

import re

from fipsrelay.config.model import Intake


class Routes:
    """Picks an upstream's name by path; the longest prefix wins, on whole segments."""

    def __init__(self, intake: Intake) -> None:
        self._default = intake.upstream
        routes = sorted(intake.routes, key=lambda route: len(route.path_prefix), reverse=True)
        prefixes = (b"(%b)" % re.escape(route.path_prefix.rstrip("/").encode("ascii")) for route in routes)
        # One expression for all of them: a request pays for one match, not for one a route.
        self._pattern = re.compile(b"(?:%b)(?=[/?]|$)" % b"|".join(prefixes)) if routes else None
        self._upstreams = [route.upstream for route in routes]

    def choose(self, target: bytes) -> str:
        """The upstream for a request target in origin form; its query string does not count."""
        match = self._pattern.match(target) if self._pattern else None
        if match is None or match.lastindex is None:
            return self._default
        return self._upstreams[match.lastindex - 1]
