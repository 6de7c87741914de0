"""Findings on the terminal: one line each, and the remedy below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from stream.cli.terminal import output, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLES = {
    "ok": "green",
    "created": "green",
    "warn": "yellow",
    "differs": "red",
    "missing": "red",
    "fail": "red",
    "ready": "green",
    "switched": "green",
    "comparing": "yellow",
    "refused": "red",
}


class Row(NamedTuple):
    """One finding; ``remedy`` is empty when there is nothing to do."""

    state: str
    name: str
    detail: str
    remedy: str = ""


def print_rows(rows: Sequence[Row]) -> None:
    """Prints the rows in columns to standard output; control characters are shown, never sent."""
    out = output()
    states = max(len(row.state) for row in rows)
    names = max(len(row.name) for row in rows)
    for row in rows:
        line = Text(f"{row.state:<{states}}  ", STYLES.get(row.state, ""))
        line.append(f"{printable(row.name):<{names}}  {printable(row.detail)}", "default")
        out.print(line, soft_wrap=True)
        if row.remedy:
            out.print(Text(f"{'':{states}}  → {printable(row.remedy)}", "bold"), soft_wrap=True)
