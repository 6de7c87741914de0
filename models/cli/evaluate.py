"""``reviewpulse evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from models.checkpoint import RECORD
from models.cli.extra import require_training_extra
from models.examples import Split  # noqa: TC001  # msgspec reads the annotation
from models.recipe import options
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.chats import Chats
    from models.classifier import Classifier
    from models.evaluate import Evaluation


class EvaluateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `reviewpulse evaluate` is told."""

    model: str = ""
    prepared: str = ""
    split: Split = "test"
    html: str = ""
    chats: str = ""
    baseline: bool = True
    record: str = ""
    draws: Annotated[int, msgspec.Meta(ge=100)] = 1000
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Folder of a checkpoint or a bundle.", show_default=False)
    ] = None,
    prepared: Annotated[
        str | None,
        typer.Argument(help="Folder that `reviewpulse prepare` left; not needed with --chats."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to measure on: train, validation or test (the default).")
    ] = None,
    html: Annotated[
        str | None, typer.Option(help="File to write a report to, readable without a network.")
    ] = None,
    chats: Annotated[
        str | None,
        typer.Option(
            help="Chats with satisfaction ratings (uss_MWOZ.txt.gz): how well are the dissatisfied found?"
        ),
    ] = None,
    baseline: Annotated[
        bool | None,
        typer.Option(
            help="Measure TF-IDF and logistic regression of the set's train split beside the model."
        ),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint to keep the figures with, for its bundles' cards: MODEL, or what the bundle "
            "MODEL was exported from."
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Bootstrap resamples behind each interval; 1,000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the resampling.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file whose table [evaluate] has options.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: `evaluation` and `chats`.")
    ] = False,
) -> None:
    """Measures a model: figures with 95% intervals, slices, calibration, the worst mistakes.

    A baseline stands beside it wherever the set has a train split. JSON: `evaluation` has `model`, `set`,
    `figures` (each `value` and `interval`), `confusion`, `reliability`, `curves`, `slices`, `mistakes` and
    `baseline`; `chats` has `ways`, each with `roc_auc` and `average_precision`.
    """
    chosen = options(
        EvaluateOptions,
        recipe,
        "evaluate",
        model=model,
        prepared=prepared,
        split=split,
        html=html,
        chats=chats,
        baseline=baseline,
        record=record,
        draws=draws,
        seed=seed,
    )
    if not chosen.model or not (chosen.prepared or chosen.chats):
        raise UsageError(
            "Name a model and a prepared set: reviewpulse evaluate MODEL PREPARED (or --chats FILE)."
        )
    if chosen.record and not (chosen.prepared and (Path(chosen.record) / RECORD).is_file()):
        raise UsageError("--record keeps the figures of a prepared set with a checkpoint that train left.")
    if chosen.html and not chosen.prepared:
        raise UsageError("--html is the report of a prepared set; name one, or leave it out.")
    if chosen.html:
        _check_place(Path(chosen.html))
    require_training_extra("sklearn", *(("matplotlib", "jinja2") if chosen.html else ()))
    from models.checkpoint import keep_figures
    from models.classifier import open_classifier
    from models.evaluate import for_card
    from stream.cli.terminal import print_json, status_line

    with status_line() as status:
        status("Opening the model")
        classifier = open_classifier(Path(chosen.model))
        evaluation = _on_prepared(classifier, chosen, status) if chosen.prepared else None
        on_chats = _on_chats(classifier, chosen, status) if chosen.chats else None
    if chosen.html and evaluation:
        from models.report import write_html

        write_html(evaluation, Path(chosen.html))
    if chosen.record and evaluation:
        keep_figures(Path(chosen.record), for_card(evaluation))
    if as_json:
        print_json({"evaluation": evaluation, "chats": on_chats})
        return
    if evaluation:
        _print(evaluation)
    if on_chats:
        _print_chats(on_chats)


def _check_place(report: Path) -> None:
    """Says before the scoring what would else be said after it."""
    if report.is_dir():
        raise UsageError(f"--html {report} is a folder; name a file, such as {report / 'report.html'}.")
    if not report.parent.is_dir():
        raise UsageError(f"--html {report}: there is no folder {report.parent}; make it, or name another.")


def _on_prepared(
    classifier: Classifier, chosen: EvaluateOptions, status: Callable[[str], None]
) -> Evaluation:
    from models import baseline
    from models.evaluate import evaluate as measure
    from models.evaluate import weights_checksum
    from models.examples import check_no_leak, read_prepared

    folder = Path(chosen.prepared)
    prepared = read_prepared(folder)
    check_no_leak(prepared.splits)
    examples = prepared[chosen.split]
    status(f"Scoring {len(examples):,} texts")
    name = folder.resolve().name
    found = measure(
        classifier,
        examples,
        name=name,
        split=chosen.split,
        sha256=weights_checksum(Path(chosen.model)),
        description=prepared.description,
        draws=chosen.draws,
        seed=chosen.seed,
    )
    if not chosen.baseline or not baseline.can_learn(prepared):
        return found
    status(f"Fitting the baseline to {len(prepared['train']):,} texts")
    beside = measure(
        baseline.fit(prepared), examples, name=name, split=chosen.split, draws=chosen.draws, seed=chosen.seed
    )
    return msgspec.structs.replace(found, baseline=beside)


def _on_chats(classifier: Classifier, chosen: EvaluateOptions, status: Callable[[str], None]) -> Chats:
    from models.chats import evaluate_chats, read_chats

    turns = read_chats(Path(chosen.chats))
    status(f"Scoring {len(turns):,} turns of chats")
    return evaluate_chats(classifier, turns, draws=chosen.draws, seed=chosen.seed)


def _print(evaluation: Evaluation) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from models.report import OVERALL
    from stream.cli.terminal import output, printable

    console, beside = output(), evaluation.baseline
    console.print(
        Text(
            f"{printable(evaluation.model.name)} on {evaluation.set.rows:,} texts of "
            f"{printable(evaluation.set.name)}, {evaluation.set.split}"
        ),
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure")
    for heading in ("model", "95% interval", *(("baseline", "95% interval") if beside else ())):
        table.add_column(heading, justify="right")
    rows = [(name, title) for name, title, _ in OVERALL]
    rows += [(f"f1.{label}", f"F1, {label}") for label in evaluation.model.labels]
    for name, title in rows:
        if name in evaluation.figures:
            cells = _cells(evaluation, name) + (_cells(beside, name) if beside else [])
            table.add_row(title, *cells)
    console.print(table)
    for each in evaluation.slices:
        if each.worse:
            said = f"worse: {each.kind} {printable(each.value)}: {each.accuracy:.3f} of {each.rows:,} texts"
            console.print(Text(said, "red"), soft_wrap=True)


def _cells(evaluation: Evaluation, name: str) -> list[str]:
    figure = evaluation.figures.get(name)
    if figure is None:
        return ["", ""]
    return [f"{figure.value:.3f}", f"{figure.interval[0]:.3f} to {figure.interval[1]:.3f}"]


def _print_chats(chats: Chats) -> None:
    from rich import box
    from rich.table import Table

    from stream.cli.terminal import output

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{chats.dissatisfied:,} of {chats.turns:,} turns dissatisfied, {chats.dialogues:,} dialogues",
        title_justify="left",
    )
    table.add_column("score by")
    for heading in ("ROC AUC", "95% interval", "average precision", "95% interval"):
        table.add_column(heading, justify="right")
    for way in chats.ways:
        cells = [
            text
            for figure in (way.roc_auc, way.average_precision)
            for text in (f"{figure.value:.3f}", f"{figure.interval[0]:.3f} to {figure.interval[1]:.3f}")
        ]
        table.add_row(way.meaning, *cells)
    output().print(table)
