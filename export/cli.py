"""Commands of export/, added to ``reviewpulse`` through the entry-point group ``reviewpulse.commands``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

PARITY_TEXTS = 500


def register(app: typer.Typer) -> None:
    """Adds this room's commands to ``app``."""
    app.command("export")(export)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder that `reviewpulse train` left.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write; a bundle that is there is replaced.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of review sets: the checkpoint and the bundle are compared on their texts."
        ),
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of texts, one a line, or a prepared set, to compare them on instead. Repeatable."
        ),
    ] = None,
    storage: Annotated[
        Literal["float16", "float32", "int8", "float16+int8-words"],
        typer.Option(help="How the weights are stored; they are widened when loaded."),
    ] = "float16",
) -> None:
    """Exports a checkpoint as a bundle, after checking that both say the same.

    Prints one JSON object on standard output: `path`, `version`, `size_bytes` and `parity`.
    """
    if (data is None) == (not texts):
        raise UsageError("Name the real texts to compare on: --data FOLDER or --texts FILE.")
    _require_training_extra()
    import msgspec
    from rich.console import Console
    from transformers.utils import logging

    from export.bundle import write_bundle
    from models.checkpoint import load_checkpoint, read_record
    from models.texts import read_texts

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    record = read_record(checkpoint)
    network, tokenizer = load_checkpoint(checkpoint, record.max_length)
    found = list(read_texts(texts) if texts else _reviews(data))
    if not found:
        raise UsageError(f"There are no texts in {data or texts}; parity cannot be judged.")
    # Spread over all that was read: a file's beginning may be all of one kind.
    chosen = found[:: -(-len(found) // PARITY_TEXTS)]
    with Console(stderr=True).status(f"exporting, and comparing on {len(chosen)} texts"):
        done = write_bundle(network, tokenizer, record, out, parity_texts=chosen, storage=storage)
    answer = {
        "path": str(done.path),
        "version": done.manifest.version,
        "size_bytes": done.size_bytes,
        "parity": done.parity._asdict(),
    }
    print(msgspec.json.encode(answer).decode())


def _reviews(folder: Path | None) -> Iterator[str]:
    """Texts of every evaluation set in turn, so that one set's habits do not decide."""
    from models import evaluation_sets

    assert folder is not None
    there = [name for name, file in evaluation_sets.FILES.items() if (folder / file).is_file()]
    for row in zip(*(evaluation_sets.examples(name, folder) for name in there), strict=False):
        yield from (example.text for example in row)


def _require_training_extra() -> None:
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UsageError(f"Export needs {error.name}; run `pip install 'reviewpulse[train]'`.") from None
