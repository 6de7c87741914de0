"""``reviewpulse train``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from models.cli.extra import require_training_extra
from stream.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from models.finetune import Epoch


def train(
    data: Annotated[Path, typer.Option(help="Folder of the training sets.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run there is continued.")],
    recipe: Annotated[Literal["en"], typer.Option(help="What to train.")] = "en",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs; the recipe's own by default.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="PyTorch threads; 0 leaves the choice to it.")] = 0,
    evaluation_rows: Annotated[
        int, typer.Option(min=100, help="Most texts of each evaluation set that are scored.")
    ] = 5000,
) -> None:
    """Fine-tunes, calibrates and evaluates a model; leaves OUT/checkpoint for `reviewpulse export`.

    Prints the checkpoint's record (JSON: temperature, neutral band, sources, metrics) on standard output.
    """
    del recipe  # one so far
    require_training_extra()
    import msgspec
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from transformers.utils import logging

    from models.finetune import Recipe
    from models.train import train_english

    if threads:
        torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not data.is_dir():
        raise UsageError(f"There is no folder {data}; name the folder of the training sets with --data.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        record = train_english(
            data,
            out,
            _Shown(progress),
            recipe=Recipe(epochs=epochs) if epochs else Recipe(),
            evaluation_rows=evaluation_rows,
        )
    print(msgspec.json.format(msgspec.json.encode(record)).decode())


class _Shown:
    """A training run on the terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("start", total=None)

    def stage(self, name: str) -> None:
        self._progress.console.print(name, markup=False)
        self._progress.update(self._task, description=name, total=None, completed=0)

    def step(self, step: int, steps: int, loss: float) -> None:
        said = f"fine-tune, loss {loss:.3f}"
        self._progress.update(self._task, total=steps, completed=step, description=said)
        if not self._progress.console.is_terminal and step % max(steps // 20, 1) == 0:
            self._progress.console.print(f"{said}, step {step} of {steps}", markup=False)

    def epoch(self, epoch: Epoch) -> None:
        self._progress.console.print(
            f"epoch {epoch.number + 1}: training loss {epoch.train_loss:.4f}, held-out loss "
            f"{epoch.held_out_loss:.4f}, held-out accuracy {epoch.held_out_accuracy:.4f}"
            f"{' (best)' if epoch.best else ''}",
            markup=False,
        )
