"""``reviewpulse adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from models.cli.extra import require_training_extra
from models.cli.train import print_once, require


def adapt(
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Prepared sets, tables (CSV, TSV, JSON lines, Parquet) or .txt, a text a line."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Packaged base, checkpoint, bundle, or hub name (bert-base-uncased)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; a run there that was interrupted goes on.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; its table [adapt] is read.")] = None,
    restart: Annotated[bool, typer.Option(help="Delete the run at OUT and start it anew.")] = False,
    column: Annotated[str | None, typer.Option(help="Of tables. [text]")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs. [3]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts of a micro-batch. [32]")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Micro-batches of a step. [1]")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Of the encoder. [5e-5]")] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens of a text. [128]")] = None,
    masked: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Share of the tokens that are hidden. [0.15]")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bf16", "fp16"] | None,
        typer.Option(help="`auto` is bf16 on a GPU that has it. [auto]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of order, masks and dropout. [7]")] = None,
    save_minutes: Annotated[
        float | None, typer.Option(min=0, help="Between checkpoints, besides one an evaluation. [5]")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="PyTorch's; 0 leaves it to it. [0]")] = None,
    device: Annotated[Literal["auto", "cpu"] | None, typer.Option(help="[auto: a GPU if any]")] = None,
) -> None:
    """Lets an encoder read unlabelled texts of your domain before it is fine-tuned; leaves OUT/checkpoint.

    Of each text some tokens are hidden, and it learns to guess them. Killed, the same command goes on.

    Prints one JSON object: `checkpoint` and `run` (steps, and the loss of held-out texts).

    reviewpulse adapt reviews.csv --base bert-base-uncased --out adapted

    reviewpulse train prepared --base adapted/checkpoint --out run
    """
    require_training_extra("torch", "transformers", "accelerate")
    import msgspec

    from models.adapt import AdaptOptions
    from models.adapt import adapt as run
    from models.cli.progress import shown
    from models.recipe import options
    from models.unlabelled import read_unlabelled

    chosen = options(
        AdaptOptions,
        recipe,
        "adapt",
        texts=texts or None,
        base=base,
        out=str(out) if out else None,
        column=column,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        max_length=max_length,
        masked=masked,
        precision=precision,
        seed=seed,
        save_minutes=save_minutes,
        threads=threads,
        device=device,
    )
    require(chosen, texts="TEXTS, files or prepared sets", base="--base", out="--out")
    with shown() as watcher:
        watcher.stage("read")
        read = read_unlabelled(chosen.texts, chosen.column)
        fitted = run(read, chosen, Path(chosen.out), watcher, restart=restart)
    answer = {"checkpoint": str(Path(chosen.out) / "checkpoint"), "run": fitted}
    print_once(msgspec.json.format(msgspec.json.encode(answer)).decode())
