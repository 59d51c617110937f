"""Knows a configuration of HAProxy, as the relay's predecessor had it, before YAML's parser stumbles over it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fipsrelay.config.nodes import shown
from fipsrelay.errors import ConfigError, Problem

# HAProxy's configuration manual, §2.1 and what later versions added: what may begin a section. Outside of sections it
# takes nothing but its preprocessor's words, which begin with a dot.
_WITHOUT_NAME: Final = frozenset({"global", "defaults"})
_WITH_NAME: Final = frozenset(
    (
        *("backend", "cache", "crt-store", "fcgi-app", "frontend", "http-errors", "listen", "log-forward"),
        *("log-profile", "mailers", "peers", "program", "resolvers", "ring", "traces", "userlist"),
    )
)
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")
_REMEDY: Final = (
    "has every port by itself: write a file of that one line and of what is to differ, or leave this one away where "
    "the shipped one serves (docs/packaging.md)"
)


def refuse_haproxy(text: str, file: str, presets: Sequence[str]) -> None:
    """Say so once where a text is HAProxy's; anything else is left to who reads YAML.

    Only a text whose first line could not be a key is refused, so none that could be read.

    Args:
        text: of a configuration.
        file: its name for messages.
        presets: that there are.

    Raises:
        ConfigError: it begins with a section of HAProxy.
    """
    for line, statement in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        words = _COMMENT.sub("", statement).split()
        if _begins_section(words):
            section = shown(" ".join(words[:2]))
            found = f"a configuration of HAProxy (its section {section}), which fipsrelay does not read"
            message = f"{found}; 'preset: {' or '.join(presets)}' {_REMEDY}"
            raise ConfigError((Problem(file, line, "", message),))
        if words and not words[0].startswith("."):
            return


def _begins_section(words: list[str]) -> bool:
    if any(word.endswith(":") for word in words):
        return False  # a key: YAML takes blanks in it, and before its colon
    return bool(words) and (words[0] in _WITHOUT_NAME or (len(words) > 1 and words[0] in _WITH_NAME))
