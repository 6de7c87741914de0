"""``reviewpulse distil``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from models.cli.extra import require_training_extra
from models.cli.train import print_trained, require, whole_numbers


def distil(
    prepared: Annotated[
        Path | None, typer.Argument(help="Folder that `reviewpulse prepare` left; or in the recipe.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Checkpoint or bundle that is learned from.")] = None,
    student: Annotated[
        str | None,
        typer.Option(help="Packaged base, checkpoint, bundle, or hub name that it starts from."),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many of the teacher's own layers.")
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(help="Unlabelled: prepared sets, tables, or .txt, a text a line; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; a run there that was interrupted goes on.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; its table [distil] is read.")] = None,
    restart: Annotated[bool, typer.Option(help="Delete the run at OUT and start it anew.")] = False,
    column: Annotated[str | None, typer.Option(help="Of tables. [text]")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.1, help="That softens both probabilities. [2]")
    ] = None,
    soft: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the teacher's probabilities in the loss. [0.7]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs. [5]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts of a micro-batch. [32]")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Micro-batches of a step. [1]")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Of the encoder. [5e-5]")] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens that serving reads. [256]")] = None,
    train_length: Annotated[
        int | None, typer.Option(min=8, help="Tokens of a training text. [max-length]")
    ] = None,
    pooling: Annotated[
        Literal["auto", "mean", "first", "own"] | None, typer.Option(help="Of a new head. [auto]")
    ] = None,
    metric: Annotated[
        Literal["loss", "macro_f1"] | None, typer.Option(help="Validation figure that chooses. [loss]")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bf16", "fp16"] | None,
        typer.Option(help="`auto` is bf16 on a GPU that has it. [auto]"),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="One run each; the best is kept: 1,2,3. [7]")] = None,
    save_minutes: Annotated[
        float | None, typer.Option(min=0, help="Between checkpoints, besides one an evaluation. [5]")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="PyTorch's; 0 leaves it to it. [0]")] = None,
    device: Annotated[Literal["auto", "cpu"] | None, typer.Option(help="[auto: a GPU if any]")] = None,
    name: Annotated[str | None, typer.Option(help="Of the model. [OUT's]")] = None,
) -> None:
    """Teaches a small student what a large teacher says; leaves OUT/checkpoint, calibrated.

    The student learns from the prepared set's labels and from the teacher's probabilities, also of unlabelled
    texts, of which there are usually many more. Killed, the same command goes on.

    Prints one JSON object, as `reviewpulse train` does.

    reviewpulse distil prepared --teacher run/checkpoint --layers 6 --texts unlabelled.csv --out small
    """
    require_training_extra("torch", "transformers", "accelerate")
    from models.cli.progress import shown
    from models.distil import DistilOptions
    from models.distil import distil as run
    from models.examples import read_prepared
    from models.recipe import options
    from models.unlabelled import read_unlabelled

    chosen = options(
        DistilOptions,
        recipe,
        "distil",
        prepared=str(prepared) if prepared else None,
        teacher=teacher,
        student=student,
        layers=layers,
        texts=texts or None,
        out=str(out) if out else None,
        column=column,
        temperature=temperature,
        soft=soft,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        max_length=max_length,
        train_length=train_length,
        pooling=pooling,
        metric=metric,
        precision=precision,
        seeds=whole_numbers(seeds),
        save_minutes=save_minutes,
        threads=threads,
        device=device,
        name=name,
    )
    require(chosen, prepared="PREPARED, the prepared set", teacher="--teacher", out="--out")
    with shown() as watcher:
        watcher.stage("read")
        done = run(
            read_prepared(Path(chosen.prepared)),
            read_unlabelled(chosen.texts, chosen.column),
            chosen,
            Path(chosen.out),
            watcher,
            restart=restart,
        )
    print_trained(done, Path(chosen.out))
