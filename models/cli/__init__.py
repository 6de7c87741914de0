"""Commands of models/, added to ``reviewpulse`` through the entry-point group ``reviewpulse.commands``.

Rules:
- A command is a file with a function of its name; ``register`` is the only place that knows them all.
- Commands import what they need when they run, so that ``--help`` is quick.
- A command's options are one struct of its room, read by ``models.recipe.options``: a recipe's table and the
  command line cannot drift apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.cli.adapt import adapt
from models.cli.average import average
from models.cli.behave import behave
from models.cli.calibrate import calibrate
from models.cli.compare import compare
from models.cli.distil import distil
from models.cli.evaluate import evaluate
from models.cli.prepare import prepare
from models.cli.train import train
from models.cli.trim import trim

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Adds this room's commands to ``app``."""
    app.command("prepare")(prepare)
    app.command("adapt")(adapt)
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    app.command("compare")(compare)
    app.command("behave")(behave)
    app.command("calibrate")(calibrate)
    app.command("average")(average)
    app.command("distil")(distil)
    app.command("trim")(trim)
