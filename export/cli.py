"""Commands of export/, added to ``reviewpulse`` through the entry-point group ``reviewpulse.commands``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from export.gpu_graph import Target  # noqa: TC001  # msgspec and typer read the annotation
from export.storage import Compute, Storage  # noqa: TC001
from models.recipe import options
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stream.core.events import Label

PARITY_TEXTS = 500


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of ``reviewpulse export``; the table ``[export]`` of a recipe."""

    checkpoint: str = ""
    out: str = ""
    data: str = ""
    """Folder of review sets to compare on."""
    texts: tuple[str, ...] = ()
    """Instead: prepared sets, of which the test split is left alone, tables or a text a line."""
    column: str = "text"
    """Of tables."""
    storage: Storage = "float16"
    labels: str = ""
    """Of the checkpoint's columns, in their order, with commas; where it does not name them."""
    force: bool = False
    target: Target = "cpu"
    packed: bool = False
    tail_tokens: int | None = None
    """None: what a bundle that is exported again reads, else 0."""
    compute: Compute = "float32"
    calibrate: tuple[str, ...] = ()
    """Of int8: texts that the layers are rounded for, as ``texts``."""


def register(app: typer.Typer) -> None:
    """Adds this room's commands to ``app``."""
    app.command("export")(export)
    from export.bench.command import bench_score
    from stream.cli.bench import bench

    bench.command("score")(bench_score)


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(help="Folder that `reviewpulse train` left, or a bundle of it; or in the recipe."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Bundle folder to write; a bundle that is there is replaced.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file; its table [export] is read.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder of review sets: the checkpoint and the bundle are compared on their texts."
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead: prepared sets, tables (CSV, JSON lines, Parquet) or .txt, a text a line; may be "
            "repeated."
        ),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of tables. [text]")] = None,
    storage: Annotated[
        Storage | None, typer.Option(help="How weights are stored; loading widens them. [float16]")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="What the checkpoint's columns mean, where it does not say: negative,positive or"
            " negative,neutral,positive, in the columns' order."
        ),
    ] = None,
    force: Annotated[
        bool | None,
        typer.Option(
            "--force", help="Writes a bundle that is outside a tolerance, too; its manifest says so."
        ),
    ] = None,
    target: Annotated[
        Target | None,
        typer.Option(
            help="`cpu` runs on any provider and is quick on CPUs; `cuda` is fused, float16, for NVIDIA GPUs"
            " alone, and compared on one; `tensorrt` is for TensorRT, likewise. [cpu]"
        ),
    ] = None,
    packed: Annotated[
        bool | None,
        typer.Option(
            "--packed", help="With `--target cuda`: real tokens alone are computed; no CUDA graphs."
        ),
    ] = None,
    tail_tokens: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many of the tokens read of a long text are its last ones. [0, or the bundle's]"
        ),
    ] = None,
    compute: Annotated[
        Compute | None,
        typer.Option(
            help="`int8`: linear layers in products of integers, for CPUs, on x86 with VNNI; wants"
            " --calibrate. [float32]"
        ),
    ] = None,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            help="Texts that int8 is rounded for, like those to come: prepared sets (their training split),"
            " tables or .txt; may be repeated. Texts that are compared on are left out."
        ),
    ] = None,
) -> None:
    """Exports a checkpoint as a bundle, after checking that both say the same.

    A bundle for CPUs can be exported again in another form: its weights are read back.

    Families: BERT, RoBERTa, XLM-RoBERTa, DistilBERT, ELECTRA. They are compared on texts of every length and
    on each execution provider that this machine can use: labels, logits, probabilities, batch mates, padding
    and, where texts have labels, accuracy and calibration.

    Prints one JSON object on standard output: `path`, `version`, `size_bytes`, `parity` on the CPU, and
    `forced`, what was outside a tolerance.
    """
    chosen = options(
        ExportOptions,
        recipe,
        "export",
        checkpoint=checkpoint,
        out=out,
        data=data,
        texts=texts or None,
        column=column,
        storage=storage,
        labels=labels,
        force=force,
        target=target,
        packed=packed,
        tail_tokens=tail_tokens,
        compute=compute,
        calibrate=calibrate or None,
    )
    if not chosen.checkpoint or not chosen.out:
        raise UsageError("Name the checkpoint and the bundle's folder --out, here or in the recipe.")
    if bool(chosen.data) == bool(chosen.texts):
        raise UsageError("Name the real texts to compare on: --data FOLDER or --texts FILE.")
    _check_compute(chosen)
    require_training_extra()
    from rich.console import Console

    from export.bundle import write_bundle
    from export.kinds import check_kind
    from export.parity import Sample
    from export.reopen import weights_of
    from models.checkpoint import load_checkpoint, read_record
    from stream.bundle import MANIFEST, load_manifest

    folder, tail_tokens = Path(chosen.checkpoint), chosen.tail_tokens or 0
    if chosen.tail_tokens is None and (folder / MANIFEST).is_file():
        tail_tokens = load_manifest(folder).tail_tokens
    folder = weights_of(folder)
    check_kind(folder)
    record = read_record(folder)
    if tail_tokens >= record.max_length:
        raise UsageError(
            f"--tail-tokens {tail_tokens} leaves no head: of a text, {record.max_length} are read."
        )
    network, tokenizer = load_checkpoint(folder, record.max_length)
    found = list(_labelled(chosen))
    if not found:
        where = chosen.data or ", ".join(chosen.texts)
        raise UsageError(f"There are no texts in {where}; parity cannot be judged.")
    # Spread over all that was read: a file's beginning may be all of one kind.
    some = found[:: -(-len(found) // PARITY_TEXTS)]
    sample = Sample([text for text, _ in some], [label for _, label in some])
    calibration = _calibration(chosen, sample.texts) if chosen.compute == "int8" else None
    with Console(stderr=True).status(f"exporting, and comparing on {len(some)} texts"):
        done = write_bundle(
            network,
            tokenizer,
            record,
            Path(chosen.out),
            parity_texts=sample,
            storage=chosen.storage,
            labels=_named(chosen.labels),
            force=chosen.force,
            target=chosen.target,
            packed=chosen.packed,
            tail_tokens=tail_tokens,
            calibrate=calibration,
        )
    answer = {
        "path": str(done.path),
        "version": done.manifest.version,
        "size_bytes": done.size_bytes,
        "parity": msgspec.to_builtins(done.parity),
        "forced": list(done.manifest.forced),
    }
    print(msgspec.json.encode(answer).decode())


def _check_compute(chosen: ExportOptions) -> None:
    """That what is said of int8 belongs together."""
    if chosen.compute == "int8" and not chosen.calibrate:
        raise UsageError("--compute int8 wants texts like those to come: name them with --calibrate FILE.")
    if chosen.compute != "int8" and chosen.calibrate:
        raise UsageError("--calibrate is for --compute int8; give both, or neither.")
    if chosen.packed and chosen.target != "cuda":
        raise UsageError("--packed is for NVIDIA GPUs; give --target cuda with it.")
    if chosen.compute == "int8" and chosen.target != "cpu":
        raise UsageError(
            f"--compute int8 is for CPUs; leave --target {chosen.target} away, which computes in float16."
        )


def _calibration(chosen: ExportOptions, compared: Sequence[str]) -> list[str]:
    """Texts to calibrate on, none of which is compared on."""
    from models.unlabelled import read_unlabelled

    held_out = set(compared)
    found = [each for each in read_unlabelled(chosen.calibrate, chosen.column) if each not in held_out]
    if not found:
        where = ", ".join(chosen.calibrate)
        raise UsageError(f"There are no texts in {where} that are not compared on, too; calibrate on others.")
    return found


def _named(labels: str) -> tuple[Label, ...] | None:
    """The labels that the option names, in the columns' order."""
    from stream.bundle import LABEL_SETS

    if not labels:
        return None
    named = [each.strip().lower() for each in labels.split(",")]
    known: dict[str, Label] = {label: label for each in LABEL_SETS for label in each}
    if sorted(named) not in [sorted(each) for each in LABEL_SETS]:
        raise UsageError(f"--labels {labels}: wanted each of {[*map(list, LABEL_SETS)]} once, in any order.")
    return tuple(known[each] for each in named)


def _labelled(chosen: ExportOptions) -> Iterator[tuple[str, Label | None]]:
    """Texts, and what a reader would say of them where that is known; no two the same."""
    from models.examples import DESCRIPTION, read_prepared
    from models.unlabelled import read_unlabelled

    if chosen.data:
        yield from _reviews(Path(chosen.data))
        return
    seen: set[str] = set()
    for path in chosen.texts:
        if (Path(path) / DESCRIPTION).is_file():
            prepared = read_prepared(Path(path), ("train", "validation"))
            for split in ("train", "validation"):
                for each in prepared.splits[split]:
                    if each.text not in seen:
                        seen.add(each.text)
                        yield each.text, prepared.labels[each.target.index(max(each.target))]
        else:
            for text in read_unlabelled((path,), chosen.column):
                if text not in seen:
                    seen.add(text)
                    yield text, None


def _reviews(folder: Path) -> Iterator[tuple[str, Label | None]]:
    """Every evaluation set in turn, so that one set's habits do not decide."""
    from models import evaluation_sets

    there = [name for name, file in evaluation_sets.FILES.items() if (folder / file).is_file()]
    for row in zip(*(evaluation_sets.examples(name, folder) for name in there), strict=False):
        yield from ((each.text, "negative" if each.target[0] else "positive") for each in row)


def require_training_extra() -> None:
    """Raises a UsageError where what ``pip install 'reviewpulse[train]'`` brings is missing."""
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UsageError(f"Export needs {error.name}; run `pip install 'reviewpulse[train]'`.") from None
