"""``reviewpulse train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from models.cli.extra import require_training_extra
from stream.errors import UsageError

if TYPE_CHECKING:
    from models.finetune import Trained


def train(
    prepared: Annotated[
        Path | None, typer.Argument(help="Folder that `reviewpulse prepare` left; or in the recipe.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Packaged base, checkpoint, bundle, or hub name (bert-base-uncased)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; a run there that was interrupted goes on.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; its table [train] is read.")] = None,
    restart: Annotated[bool, typer.Option(help="Delete the run at OUT and start it anew.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs. [4]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Texts of a micro-batch, on each device. [32]")
    ] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Micro-batches of a step. [1]")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Of the encoder. [5e-5]")] = None,
    head_learning_rate: Annotated[float | None, typer.Option(min=0, help="Of the head. [1e-3]")] = None,
    layer_decay: Annotated[
        float | None, typer.Option(min=0, max=1, help="Rate of a layer over that of the one above it. [1]")
    ] = None,
    warm_up: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Share of the steps with a rising rate. [0.1]")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens that serving reads. [256]")] = None,
    train_length: Annotated[
        int | None, typer.Option(min=8, help="Tokens of a training text. [max-length]")
    ] = None,
    freeze_words: Annotated[
        bool | None,
        typer.Option("--freeze-words/--train-words", help="Keep the word embedding as it is. [freeze]"),
    ] = None,
    pooling: Annotated[
        Literal["auto", "mean", "first", "own"] | None,
        typer.Option(help="Of a new head; `own` is the architecture's. [auto]"),
    ] = None,
    new_head: Annotated[
        bool | None, typer.Option("--new-head", help="Drop the head a classifier has.")
    ] = None,
    class_weights: Annotated[
        Literal["none", "balanced", "by-length"] | None,
        typer.Option(help="Weigh rarer labels' errors more, overall or among texts of like length. [none]"),
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Share of a target spread over all labels. [0]")
    ] = None,
    r_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Read each text twice; weight of how far the readings differ. [0: once]"),
    ] = None,
    metric: Annotated[
        Literal["loss", "macro_f1"] | None, typer.Option(help="Validation figure that chooses. [loss]")
    ] = None,
    evaluations: Annotated[int | None, typer.Option(min=1, help="Of each epoch. [1]")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Evaluations without a better figure until the end. [2]")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bf16", "fp16"] | None,
        typer.Option(help="`auto` is bf16 on a GPU that has it. [auto]"),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="One run each; the best is kept: 1,2,3. [7]")] = None,
    save_minutes: Annotated[
        float | None, typer.Option(min=0, help="Between checkpoints, besides one an evaluation. [5]")
    ] = None,
    save_steps: Annotated[int | None, typer.Option(min=0, help="Steps between checkpoints. [0: off]")] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="PyTorch's; 0 leaves it to it. [0]")] = None,
    device: Annotated[Literal["auto", "cpu"] | None, typer.Option(help="[auto: a GPU if any]")] = None,
    name: Annotated[str | None, typer.Option(help="Of the model. [OUT's]")] = None,
) -> None:
    """Fine-tunes a base on a prepared set and calibrates it; leaves OUT/checkpoint.

    Killed or interrupted, the same command goes on from its last checkpoint and ends with the same weights.
    Every option can stand in a recipe's table [train], with underscores; the command line wins.

    Prints one JSON object: `checkpoint`, `record` (temperature, neutral band, validation figures), `figures`
    (mean and spread over the seeds) and `runs` (a run each seed).

    reviewpulse prepare reviews.csv --text text --label label --out prepared

    reviewpulse train prepared --base bert-base-uncased --out run
    """
    require_training_extra("torch", "transformers", "accelerate")
    from models.cli.progress import shown
    from models.examples import read_prepared
    from models.finetune import TrainOptions
    from models.finetune import train as run
    from models.recipe import options

    chosen = options(
        TrainOptions,
        recipe,
        "train",
        prepared=str(prepared) if prepared else None,
        base=base,
        out=str(out) if out else None,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        layer_decay=layer_decay,
        warm_up=warm_up,
        max_length=max_length,
        train_length=train_length,
        freeze_words=freeze_words,
        pooling=pooling,
        new_head=new_head,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        r_drop=r_drop,
        metric=metric,
        evaluations=evaluations,
        patience=patience,
        precision=precision,
        seeds=whole_numbers(seeds),
        save_minutes=save_minutes,
        save_steps=save_steps,
        threads=threads,
        device=device,
        name=name,
    )
    require(chosen, prepared="PREPARED, the prepared set", base="--base", out="--out")
    with shown() as watcher:
        watcher.stage("read")
        done = run(read_prepared(Path(chosen.prepared)), chosen, Path(chosen.out), watcher, restart=restart)
    print_trained(done, Path(chosen.out))


def print_trained(done: Trained, out: Path) -> None:
    """Prints what a training gave, and on standard error what is wrong with it."""
    import msgspec

    from models.calibrate import warning

    answer = {
        "checkpoint": str(out / "checkpoint"),
        "record": done.record,
        "figures": done.summary,
        "runs": done.runs,
    }
    print_once(msgspec.json.format(msgspec.json.encode(answer)).decode())
    if said := warning(done.record.temperature):
        print_once(said, sys.stderr)


def whole_numbers(given: str | None) -> list[int] | None:
    """Numbers of ``1,2,3``.

    Raises:
        UsageError: one is none.
    """
    if given is None:
        return None
    try:
        return [int(each) for each in given.split(",")]
    except ValueError:
        raise UsageError(
            f"--seeds {given!r} is not whole numbers with commas between, such as 1,2,3."
        ) from None


def require(options: object, **wanted: str) -> None:
    """Checks that options which have no default were given.

    Args:
        options: the struct.
        wanted: by field, what the command line calls it.

    Raises:
        UsageError: one was not.
    """
    for field, said in wanted.items():
        if not getattr(options, field):
            raise UsageError(f"Name {said}, on the command line or as {field!r} in the recipe.")


def print_once(text: str, file: TextIO | None = None) -> None:
    """Prints from the first process alone, where accelerate launched several."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(text, file=file)
