"""Where each key of a TOML text stands, so that a complaint about it can name the line.

Rules:
- The standard library's parser tells no lines (nor does tomlkit's tree). So the text is cut into statements
  (a header, a ``key = value``, a comment), and each is read by that parser on its own: what is a string, an
  array over several lines or a dotted key is never decided here.
- A statement begins on the first line after the one before it, and ends with the first line at which it
  parses: what is cut inside a string or an array never parses.
- What stands inside a value (an inline table, an array) is on the line where its statement begins.
- The text is TOML; a text that is not has lines up to where it breaks.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENDS = ("]", '"""', "'''", "}")
"""One of them is in the last line of every statement that has several."""

Path = tuple[str | int, ...]
"""From the top of the text down: keys, and places in arrays counted from 0."""


def lines_of(text: str) -> dict[Path, int]:
    r"""The line, counted from 1, of every key and table of a TOML text.

    >>> lines_of('version = 1\n\n[[threshold]]\nname = "many"')
    {('version',): 1, ('threshold',): 3, ('threshold', 0): 3, ('threshold', 0, 'name'): 4}
    """
    found: dict[Path, int] = {}
    lengths: dict[Path, int] = {}
    table: Path = ()
    for line, statement in statements(text):
        try:
            stated = tomllib.loads(statement)
        except (ValueError, RecursionError):
            break
        opening = statement.lstrip()
        if not opening.startswith("["):
            _note(stated, table, line, found)
            continue
        table = ()
        keys = _keys(stated)
        for depth, key in enumerate(keys, start=1):
            table = (*table, key)
            found.setdefault(table, line)
            if depth == len(keys) and opening.startswith("[["):
                lengths[table] = lengths.get(table, 0) + 1
            if table in lengths:
                # A header below an array of tables means its newest table.
                table = (*table, lengths[table] - 1)
                found.setdefault(table, line)
    return found


def line_at(lines: Mapping[Path, int], path: Path) -> int:
    """The line of ``path``, or of what it would stand in; 1 where there is neither.

    >>> line_at({("threshold", 0): 3}, ("threshold", 0, "name")), line_at({}, ("version",))
    (3, 1)
    """
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def statements(text: str) -> Iterator[tuple[int, str]]:
    r"""The statements of a TOML text, each with its first line; the last may be one that never ends.

    >>> list(statements("a = [\n1,\n]\nb = '"))
    [(1, 'a = [\n1,\n]\n'), (4, "b = '\n")]
    """
    first, waiting = 1, ""
    for number, line in enumerate(text.split("\n"), start=1):
        begins = not waiting
        waiting += line + "\n"
        if not begins and not any(end in line for end in ENDS):
            continue  # so that a list of thousands of lines is not read thousands of times
        try:
            tomllib.loads(waiting)
        except (ValueError, RecursionError):  # TOML that does not end, or that the parser cannot hold
            continue
        yield first, waiting
        first, waiting = number + 1, ""
    if waiting:
        yield first, waiting


def _keys(header: dict[str, Any]) -> list[str]:
    """The keys of a header, of what the parser makes of it: ``{"a": {"b": [{}]}}`` has a and b."""
    keys = []
    below: Any = header
    while isinstance(below, dict) and below:
        ((key, below),) = below.items()
        keys.append(key)
    return keys


def _note(stated: Any, path: Path, line: int, found: dict[Path, int]) -> None:
    if isinstance(stated, dict):
        for key, value in stated.items():
            found.setdefault((*path, key), line)
            _note(value, (*path, key), line, found)
    elif isinstance(stated, list):
        for place, value in enumerate(stated):
            found.setdefault((*path, place), line)
            _note(value, (*path, place), line, found)
