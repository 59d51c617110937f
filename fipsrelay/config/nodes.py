"""YAML text as nodes that know their file, line and key path. Decides nothing about keys or values; opens no file.

Scalars stay the text that was written, quoted or not: what a value means is decided by who reads it, not by YAML.
So ``1.2`` is no float, ``no`` no truth value, and a digest of digits alone keeps its zeros.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import yaml

from fipsrelay.errors import ConfigError, Problem

MAXIMUM_DEPTH: Final = 16
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SHOWN_CHARACTERS: Final = 60
_NULL: Final = "tag:yaml.org,2002:null"


@attrs.frozen
class Node:
    """One value of a document.

    Attributes:
        content: text, a mapping, a list, or None where nothing (or ``null``) was written.
        file: the document's name.
        line: where an operator looks for it, from 1: the line of its key, or the list item's own; 0 without a line.
        path: the key path, such as ``intakes.logs.routes[0]``.
    """

    content: str | dict[str, Node] | tuple[Node, ...] | None
    file: str
    line: int
    path: str

    def problem(self, message: str) -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, self.path, message)

    def wrong(self, allowed: str) -> ConfigError:
        """An error that says what was found here and what is allowed."""
        return ConfigError((self.problem(f"found {self._found()}; allowed: {allowed}"),))

    def text(self, allowed: str) -> str:
        """The text of a scalar.

        Raises:
            ConfigError: it is something else; ``allowed`` says what the reader wants.
        """
        if not isinstance(self.content, str):
            raise self.wrong(allowed)
        return self.content

    def entries(self) -> dict[str, Node]:
        """The values of a mapping by key, in the file's order; none when nothing was written.

        Raises:
            ConfigError: it is something else.
        """
        if self.content is None:
            return {}
        if not isinstance(self.content, dict):
            raise self.wrong("a mapping (KEY: VALUE)")
        return self.content

    def items(self) -> tuple[Node, ...]:
        """The values of a list.

        Raises:
            ConfigError: it is something else.
        """
        if not isinstance(self.content, tuple):
            raise self.wrong("a list ([A, B])")
        return self.content

    def _found(self) -> str:
        if isinstance(self.content, dict):
            return "a mapping"
        if isinstance(self.content, tuple):
            return "a list"
        return "nothing" if self.content is None else shown(self.content)


def shown(text: str) -> str:
    """A quoted excerpt for one line of a log: no control characters, and nothing that may be a URL's password."""
    text = re.sub(r".*@", "…@", text, flags=re.DOTALL)
    return f"'{_printable(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + '…')}'"


def parse(text: str, file: str, problems: list[Problem]) -> Node:
    """The only document of a text.

    Args:
        text: YAML.
        file: its name for messages.
        problems: what is wrong with single keys is added here; of a duplicate key the first value counts.

    Raises:
        ConfigError: the text is not one YAML document, or holds aliases, tags or too many levels.
    """
    try:
        loader = _Composer(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _broken(file, line, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML") from error
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _broken(file, mark.line + 1 if mark else 0, _reason(error)) from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets int() and chr() fail over an endless %YAML version and an escape beyond Unicode.
        raise _broken(file, loader.line + 1, f"not YAML: {_printable(str(error))}") from error
    finally:
        loader.dispose()
    if node is None:
        return Node(None, file, 0, "")
    return _convert(node, Node(None, file, node.start_mark.line + 1, ""), problems)


def merge(base: Node, over: Node) -> Node:
    """``over`` laid on ``base``: mappings key by key, anything else whole; a key without a value takes the key away."""
    if not isinstance(base.content, dict) or not isinstance(over.content, dict):
        return over
    content = dict(base.content)
    for key, node in over.content.items():
        if key not in content:
            content[key] = node
        elif node.content is None:
            del content[key]
        else:
            content[key] = merge(content[key], node)
    return attrs.evolve(over, content=content)


class _Composer(yaml.SafeLoader):
    """Composes nodes within bounds: no aliases (a few lines of them stand for billions of nodes), no deep nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*NAME) are not allowed", problem_mark=mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags (!NAME) are not allowed", problem_mark=mark)
        if self._depth == MAXIMUM_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAXIMUM_DEPTH} levels of nesting", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _convert(node: yaml.Node, place: Node, problems: list[Problem]) -> Node:
    content: str | dict[str, Node] | tuple[Node, ...] | None
    if isinstance(node, yaml.MappingNode):
        content = _mapping(node, place, problems)
    elif isinstance(node, yaml.SequenceNode):
        content = tuple(
            _convert(item, Node(None, place.file, item.start_mark.line + 1, f"{place.path}[{index}]"), problems)
            for index, item in enumerate(node.value)
        )
    else:
        content = None if node.tag == _NULL else node.value
    return attrs.evolve(place, content=content)


def _mapping(node: yaml.MappingNode, place: Node, problems: list[Problem]) -> dict[str, Node]:
    content: dict[str, Node] = {}
    for key_node, value in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(place.file, line, place.path, "a key must be a word, not a list or a mapping"))
            continue
        key = key_node.value
        step = key if _PLAIN_KEY.fullmatch(key) else shown(key)
        child = _convert(value, Node(None, place.file, line, f"{place.path}.{step}" if place.path else step), problems)
        if key in content:
            problems.append(child.problem(f"duplicate key; it stands on line {content[key].line} already"))
        else:
            content[key] = child
    return content


def _reason(error: yaml.MarkedYAMLError) -> str:
    reason = _printable(": ".join(part for part in (error.context, error.problem) if part))
    # PyYAML takes the first colon of [::1] for a key's end; a block list and other parsers take it as it is.
    return f"{reason} (an IPv6 address in a list needs quotes)" if reason.endswith("but found ':'") else reason


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _broken(file: str, line: int, message: str) -> ConfigError:
    return ConfigError((Problem(file, line, "", message),))
