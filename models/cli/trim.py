"""``reviewpulse trim``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.cli.extra import require_training_extra
from stream.errors import UsageError


def trim(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a checkpoint, or a packaged base: e5-small-multilingual, minilm-l6-en."
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            help="Prepared sets, tables (CSV, JSON lines, Parquet) or .txt, a text a line; may be repeated."
        ),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of tables. [text]")] = None,
    out: Annotated[str | None, typer.Option(help="Folder to write.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with a table [trim]; what is given here wins over it.")
    ] = None,
    entries: Annotated[
        int | None, typer.Option(min=0, help="Entries to keep; by default those that the texts need.")
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            help="A WordPiece tokenizer (file, checkpoint or base) whose words are kept before others."
        ),
    ] = None,
) -> None:
    """Drops the vocabulary entries that a corpus does not use, from the tokenizer and the network.

    The texts' tokens, and so their logits, stay what they were: that is checked on every text. Other texts
    of the same scripts can still be spelled, in smaller pieces. A fine-tuned checkpoint can be trimmed, or a
    base before it is fine-tuned.

    `reviewpulse trim e5-small-multilingual --texts prepared --entries 32000 --words minilm-l6-en --out base`

    Prints one JSON object: `path`, `texts`, `tokens`, `used` (entries that they use), and before and after:
    `entries`, `weight_bytes`, `tokenizer_bytes`.
    """
    require_training_extra()
    import msgspec

    from models.bases import BASES, base_folder
    from models.checkpoint import TOKENIZER
    from models.provenance import of_base
    from models.recipe import options
    from models.trim import TrimOptions, read_tokenizer, trim_checkpoint
    from models.unlabelled import read_unlabelled

    chosen = options(
        TrimOptions,
        recipe,
        "trim",
        checkpoint=checkpoint,
        texts=texts,
        column=column,
        out=out,
        entries=entries,
        words=words,
    )
    if not chosen.checkpoint or not chosen.texts or not chosen.out:
        raise UsageError("Name the checkpoint, its --texts and the folder --out, here or in the recipe.")

    made_of = of_base(chosen.checkpoint) if chosen.checkpoint in BASES else None

    def folder(named: str) -> Path:
        return base_folder(named) if named in BASES else Path(named)

    tokenizer = None
    if chosen.words:
        where = folder(chosen.words)
        tokenizer = read_tokenizer(where / TOKENIZER if where.is_dir() else where)
    done = trim_checkpoint(
        folder(chosen.checkpoint),
        read_unlabelled(chosen.texts, chosen.column, ("train", "validation")),
        Path(chosen.out),
        entries=chosen.entries,
        words=tokenizer,
        made_of=made_of,
    )
    print(msgspec.json.encode(done._asdict()).decode())
