"""Files and what is said of them, in a text file: a title, the file, ``---``, what is said, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def told_files(path: Path) -> dict[str, tuple[str, list[str]]]:
    """By title: a file's text, and what is said of it, if anything."""
    _, *parts = path.read_text("utf-8").split("\n=== ")
    found = {}
    for part in parts:
        title, _, rest = part.partition("\n")
        text, line, said = rest.partition("---\n")
        assert line, f"{title}: a line --- is missing"
        assert title not in found, f"{title}: it stands twice"
        found[title] = text, said.strip().splitlines()
    return found
