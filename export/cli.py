"""Commands of export/, added to ``reviewpulse`` through the entry-point group ``reviewpulse.commands``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Adds this room's commands to ``app``."""
