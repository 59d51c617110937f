"""Settings under one key of a YAML file, changed in its text: every other byte stays, comments and order too. Pure.

PyYAML says where each value stands. What comes of it is read again and compared: an edit that would not mean exactly
what was asked for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

Settings = Mapping[str, bool | int]
_Splice = tuple[int, int, str]  # from, to, and what comes in between


class EditError(Exception):
    """The file cannot be edited; the text says why."""


def change(text: str, section: str, settings: Settings) -> str:
    """The text with these settings in this section of its first level.

    Args:
        text: of the file.
        section: key of a mapping, which is added at the end if it is not there.
        settings: what is to be so; others in the section stay.

    Returns:
        The same text, if all is so already.

    Raises:
        EditError: it is no YAML, or not of a kind that can be edited.
    """
    before = read(text)
    there = before.get(section)
    if there is not None and not isinstance(there, dict):
        raise EditError(f"{section} is not a mapping")
    wanted = {**before, section: {**(there or {}), **settings}}
    _refuse_doubles(yaml.compose(text, Loader=yaml.SafeLoader), section)
    if before == wanted:
        return text
    after = text
    for start, end, new in sorted(_splices(text, section, settings), reverse=True):
        after = after[:start] + new + after[end:]
    try:
        is_right = read(after) == wanted
    except (EditError, RecursionError):  # the latter where an alias stands inside of what it names
        is_right = False
    if not is_right:
        raise EditError(f"the section {section} is written in a way that cannot be edited; edit it by hand")
    return after


def read(text: str) -> dict[str, Any]:
    """What the file says.

    Raises:
        EditError: it is no YAML, or no mapping, or a value cannot be read.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise EditError(f"it is not YAML{f', line {mark.line + 1}' if mark else ''}") from error
    except (ValueError, OverflowError) as error:  # PyYAML lets them pass
        raise EditError("it has a value that cannot be read, such as a date that there is not") from error
    except RecursionError as error:
        raise EditError("it is nested too deeply") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise EditError("it is not a mapping")
    return document


def _refuse_doubles(root: yaml.Node | None, section: str) -> None:
    """PyYAML takes the last of two, other readers the first, or neither."""
    keys = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    for name, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if name.value == section and isinstance(value, yaml.MappingNode):
            keys += [f"{section}.{key.value}" for key, _ in value.value]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise EditError(f"it says {', '.join(twice)} more than once")


def _splices(text: str, section: str, settings: Settings) -> Iterator[_Splice]:
    newline = "\r\n" if "\r\n" in text else "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = [(key, value) for key, value in (root.value if root else []) if key.value == section]
    if not entries:
        lines = [f"{section}:", *(f"  {name}: {_written(value)}" for name, value in settings.items()), ""]
        gap = "" if not text or text.endswith("\n") else newline
        yield len(text), len(text), gap + newline.join(lines)
        return
    [(key, value)] = entries
    if isinstance(value, yaml.MappingNode):
        yield from _inside(text, value, settings, newline)
    else:
        indent = " " * (key.start_mark.column + 2)
        lines = [f"{indent}{name}: {_written(setting)}{newline}" for name, setting in settings.items()]
        line_end = re.compile(r"\n|\Z").search(text, key.end_mark.index)
        assert line_end is not None
        gap = "" if line_end[0] else newline
        yield line_end.end(), line_end.end(), gap + "".join(lines)


def _inside(text: str, section: yaml.MappingNode, settings: Settings, newline: str) -> Iterator[_Splice]:
    """Change what is there, and put what is not before the first of the section's entries."""
    there = {key.value: value for key, value in section.value}
    missing = [f"{name}: {_written(value)}" for name, value in settings.items() if name not in there]
    for name in [name for name in settings if name in there]:
        value = there[name]
        gap = "" if text[value.start_mark.index - 1 : value.start_mark.index].isspace() else " "
        yield value.start_mark.index, value.end_mark.index, gap + _written(settings[name])
    if not missing:
        return
    if section.flow_style:
        at = section.start_mark.index + 1
        yield at, at, ", ".join(missing) + (", " if section.value else "")
    else:
        first = section.value[0][0].start_mark
        indent = " " * first.column
        yield first.index, first.index, "".join(f"{entry}{newline}{indent}" for entry in missing)


def _written(value: bool | int) -> str:
    return str(value).lower()
