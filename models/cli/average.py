"""``reviewpulse average``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotation
from typing import Annotated

import typer

from models.cli.extra import require_training_extra
from stream.errors import UsageError


def average(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(help="Checkpoint folders, two or more, of one base.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder to write.")] = None,
    weights: Annotated[
        list[float] | None,
        typer.Option("--weight", help="Of each checkpoint, in their order; equal where none is given."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the mean; the first one's by default.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with a table [average]; what is given here wins over it.")
    ] = None,
) -> None:
    """Makes one checkpoint of several: the mean of their weights.

    Runs that began at one base and differ in their seed, settings or training texts are often better
    together, at the cost of one. Calibrate the mean and measure it before you use it.

    `reviewpulse average run-a/checkpoint run-b/checkpoint --out mean`

    `reviewpulse calibrate mean prepared`

    Prints one JSON object: `path`, `checkpoints`, `shares` (what each has of the mean), `temperature`.
    """
    require_training_extra()
    import msgspec

    from models.average import AverageOptions, shares_of
    from models.average import average as mean_of
    from models.recipe import options

    chosen = options(
        AverageOptions,
        recipe,
        "average",
        checkpoints=checkpoints or None,
        weights=weights or None,
        out=out,
        name=name,
    )
    if not chosen.checkpoints or not chosen.out:
        raise UsageError("Name the checkpoints and the folder --out, here or in the recipe.")
    record = mean_of(chosen)
    shares = shares_of(chosen.weights, len(chosen.checkpoints))
    answer = {"path": chosen.out, "checkpoints": chosen.checkpoints, "shares": shares}
    print(msgspec.json.encode({**answer, "temperature": record.temperature}).decode())
