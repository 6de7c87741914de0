"""HTML pages that need no network: the templates' surroundings.

Rules:
- Texts and names are hostile: everything but our own drawings is escaped, and what could reorder or hide
  text (control characters, direction overrides) is written out.
- A name that a template does not know is an error, never an empty place.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Template

_DIRECTION = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def template(file: Path) -> Template:
    """A template that escapes, with the filters ``visible`` and ``percent``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  # pages are rare

    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["percent"] = percent
    return environment.get_template(file.name)


def visible(text: str) -> str:
    r"""A text with what a reader would not see, or would be misled by, written out.

    >>> visible("good\x00 \u202etxt\n👍")
    'good\\x00 \\u202etxt\n👍'
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if (unicodedata.category(char) == "Cc" and char not in "\n\t")
        or unicodedata.bidirectional(char) in _DIRECTION
        else char
        for char in text
    )


def percent(share: float) -> str:
    """For a place or size in a style, which takes no other characters.

    >>> percent(0.125)
    '12.50%'
    """
    return f"{100 * share:.2f}%"
