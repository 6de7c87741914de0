"""``reviewpulse compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from models.cli.extra import require_training_extra
from models.examples import Split  # noqa: TC001  # msgspec reads the annotation
from models.recipe import options
from stream.errors import UsageError

if TYPE_CHECKING:
    from models.classifier import Classifier
    from models.compare import Comparison
    from models.examples import PreparedSet

BASELINE = "baseline"


class CompareOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `reviewpulse compare` is told."""

    a: str = ""
    b: str = ""
    prepared: str = ""
    split: Split = "test"
    draws: Annotated[int, msgspec.Meta(ge=100)] = 1000
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


def compare(
    a: Annotated[
        str | None,
        typer.Argument(help="Folder of a checkpoint or a bundle, or `baseline` (TF-IDF of the train split)."),
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The other one.")] = None,
    prepared: Annotated[str | None, typer.Argument(help="Folder that `reviewpulse prepare` left.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to compare on: train, validation or test (the default).")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Bootstrap resamples behind each interval; 1,000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the resampling.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file whose table [compare] has options.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Says which of two models is better on the same texts, by how much, and whether that may be chance.

    McNemar's exact test, and paired bootstrap intervals of the differences (B less A). JSON: `verdict`,
    `pair` (`both`, `only_a`, `only_b`, `neither`, `p`), `figures_a`, `figures_b`, `differences`, `slices`.
    """
    chosen = options(
        CompareOptions, recipe, "compare", a=a, b=b, prepared=prepared, split=split, draws=draws, seed=seed
    )
    if not (chosen.a and chosen.b and chosen.prepared):
        raise UsageError("Name two models and a prepared set: reviewpulse compare A B PREPARED.")
    require_training_extra("sklearn")
    from models.compare import compare as measure
    from models.examples import check_no_leak, read_prepared
    from stream.cli.terminal import print_json, status_line

    with status_line() as status:
        prepared_set = read_prepared(Path(chosen.prepared))
        check_no_leak(prepared_set.splits)
        status("Opening the models")
        a_model, b_model = _open(chosen.a, prepared_set), _open(chosen.b, prepared_set)
        if a_model.name == b_model.name:  # as two runs of one recipe
            a_model.name, b_model.name = chosen.a, chosen.b
        status(f"Scoring {len(prepared_set[chosen.split]):,} texts twice")
        found = measure(
            a_model,
            b_model,
            prepared_set[chosen.split],
            name=Path(chosen.prepared).resolve().name,
            split=chosen.split,
            draws=chosen.draws,
            seed=chosen.seed,
        )
    if as_json:
        print_json(found)
    else:
        _print(found)


def _open(name: str, prepared: PreparedSet) -> Classifier:
    from models.baseline import fit
    from models.classifier import open_classifier

    return fit(prepared) if name == BASELINE else open_classifier(Path(name))


def _print(found: Comparison) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import output, printable

    console = output()
    console.print(Text(printable(found.verdict)), soft_wrap=True)
    pair = found.pair
    said = (
        f"Both right {pair.both:,}, only A {pair.only_a:,}, only B {pair.only_b:,}, neither {pair.neither:,}."
    )
    console.print(said, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure")
    for heading in ("A", "B", "B less A", "95% interval"):
        table.add_column(heading, justify="right")
    for name, figure in found.differences.items():
        low, high = figure.interval
        values = f"{found.figures_a[name]:.3f}", f"{found.figures_b[name]:.3f}"
        table.add_row(name, *values, f"{figure.value:+.3f}", f"{low:+.3f} to {high:+.3f}")
    console.print(table)
    for each in found.slices:
        if each.clear:
            said = (
                f"{each.kind} {printable(each.value)}: {100 * each.difference:+.1f} points on {each.rows:,} "
                f"texts (only A {each.only_a:,}, only B {each.only_b:,})"
            )
            console.print(Text(said), soft_wrap=True)
