"""A training run on the terminal: a bar where there is one, else a line now and then."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import TaskID

LINES = 20
"""Of a run that is not shown on a terminal."""

SHOWN = {"fitted_loss": "validation loss", "loss": "validation loss", "accuracy": "accuracy"}
SHOWN |= {"macro_f1": "macro F1"}


class Shown:
    """A ``models.fitting.Watcher`` that draws on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage = "start"
        self._task: TaskID = progress.add_task("start", total=None)

    def stage(self, name: str) -> None:
        """Prints what begins."""
        self._stage = name
        self._progress.console.print(name, markup=False, highlight=False)
        self._progress.update(self._task, description=name, total=None, completed=0)

    def step(self, step: int, steps: int, loss: float | None) -> None:
        """Moves the bar."""
        said = self._stage if loss is None else f"{self._stage}, loss {loss:.3f}"
        self._progress.update(self._task, total=steps, completed=step, description=said)
        if not self._progress.console.is_terminal and step % max(steps // LINES, 1) == 0:
            self._progress.console.print(f"{said}, step {step} of {steps}", markup=False, highlight=False)

    def evaluated(self, step: int, epoch: float, figures: Mapping[str, float], *, best: bool) -> None:
        """Prints the figures."""
        chosen = dict(figures)
        if "fitted_loss" in chosen:
            chosen.pop("loss", None)  # the same at temperature 1; two losses would only puzzle
        said = ", ".join(f"{SHOWN[name]} {value:.4f}" for name, value in chosen.items() if name in SHOWN)
        mark = " (best)" if best else ""
        self._progress.console.print(
            f"epoch {epoch:.2f}, step {step}: {said}{mark}", markup=False, highlight=False
        )


@contextmanager
def shown() -> Iterator[Shown]:
    """A watcher on standard error, its bar cleared at the end; silent on all processes but the first."""
    from accelerate import PartialState

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, quiet=not PartialState().is_main_process)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Shown(progress)
