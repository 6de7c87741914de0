"""``reviewpulse prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from models.cli.extra import require_training_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COLUMNS, LABELS, CLEANING, SPLITS = "Columns", "Labels", "What is left out", "Splits"


def prepare(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="CSV, TSV, JSON lines or Parquet, each also gzipped. Several become one set."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder to write; `prepared` by default.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with a table [prepare]; what is given here wins over it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one line of JSON.")] = False,
    text: Annotated[
        str | None, typer.Option(help="Column of the texts; `text` by default.", rich_help_panel=COLUMNS)
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            help="Column of the titles; put before the text, as serving does.", rich_help_panel=COLUMNS
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Column of the labels; `label` where neither this nor --stars is given.",
            rich_help_panel=COLUMNS,
        ),
    ] = None,
    stars: Annotated[
        str | None,
        typer.Option(
            help="Column of star ratings: the label, where --label is not given.", rich_help_panel=COLUMNS
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column of what must not be in two splits: the product.", rich_help_panel=COLUMNS),
    ] = None,
    author: Annotated[
        str | None,
        typer.Option(help="Column of the authors: the group, where there is none.", rich_help_panel=COLUMNS),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column of dates or times.", rich_help_panel=COLUMNS)
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Column of language codes.", rich_help_panel=COLUMNS)
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Column of categories.", rich_help_panel=COLUMNS)
    ] = None,
    default_language: Annotated[
        str | None,
        typer.Option(help="Language of rows that name none, such as `en`.", rich_help_panel=COLUMNS),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of CSV and TSV; `utf-8` by default.", rich_help_panel=COLUMNS)
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between fields, where it is not the usual.", rich_help_panel=COLUMNS)
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=3,
            help="2: negative, positive; neutral texts are left out. 3: neutral, too. 2 by default.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    most_negative_stars: Annotated[
        float | None,
        typer.Option(help="So many stars or fewer are negative; 2 by default.", rich_help_panel=LABELS),
    ] = None,
    least_positive_stars: Annotated[
        float | None,
        typer.Option(
            help="So many or more are positive, 4 by default; between is neutral.", rich_help_panel=LABELS
        ),
    ] = None,
    unknown_labels: Annotated[
        Literal["error", "drop"] | None,
        typer.Option(help="What becomes of rows whose label has no class.", rich_help_panel=LABELS),
    ] = None,
    least_chars: Annotated[
        int | None,
        typer.Option(help="Of a text; 1 by default: an emoji is a review.", rich_help_panel=CLEANING),
    ] = None,
    most_chars: Annotated[
        int | None,
        typer.Option(help="Of a text; 20000 by default, as serving.", rich_help_panel=CLEANING),
    ] = None,
    duplicates: Annotated[
        Literal["near", "exact"] | None,
        typer.Option(
            help="Leave out near-duplicates, too (the default), or only texts that are the same.",
            rich_help_panel=CLEANING,
        ),
    ] = None,
    similarity: Annotated[
        float | None,
        typer.Option(
            help="Overlap of two texts' n-grams that makes them near-duplicates; 0.8 by default.",
            rich_help_panel=CLEANING,
        ),
    ] = None,
    split: Annotated[
        Literal["auto", "group", "author", "time", "text"] | None,
        typer.Option(help="What keeps rows together; `auto` takes the first given.", rich_help_panel=SPLITS),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share held out while training; 0.1 by default.", rich_help_panel=SPLITS),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share held out until the end; 0.1 by default.", rich_help_panel=SPLITS),
    ] = None,
    corpora: Annotated[
        Literal["ship", "ship-en", "ship-zh"] | None,
        typer.Option(help="The sets that the shipped model is trained on, instead of files."),
    ] = None,
    evaluation: Annotated[
        Literal["blitzer", "online_shopping", "beauty", "instruments", "pesticide"] | None,
        typer.Option(help="A set to evaluate on only, instead of files: all of it is the test split."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of those sets.")] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<negation|switching>",
            help="Add training texts made of the others: ones that deny something, or English and Chinese "
            "mixed. Give it twice for both.",
        ),
    ] = None,
) -> None:
    """Makes a set to train and evaluate on out of labelled reviews.

    It maps columns and labels, cleans texts exactly as serving does, leaves out what teaches nothing (empty
    and repeated texts, texts that two labels claim), splits so that no product or author is on both sides,
    and says what it left out and why. The same files and options give the same set.

    `reviewpulse prepare reviews.csv --text text --label label --out prepared`

    `reviewpulse prepare reviews.jsonl.gz --title title --stars rating --group asin --classes 3`

    Labels such as 0 and 1, pos and neg, positive, 好评 are known. Others are named in a recipe:
    `[prepare.labels]` with `angry = "negative"` or `spam = "drop"`. OUT/prepared.json has the report,
    OUT/train.jsonl.gz, validation and test the rows.

    With `--json`: `{"out", "labels", "options", "splits", "files": [{"file", "sha256", "rows"}], "rows",
    "dropped": {reason: {"count", "meaning", "examples"}}}`.
    """
    require_training_extra("datasketch", "pyarrow")
    from models.examples import write_prepared
    from models.prepare import PrepareOptions
    from models.prepare import prepare as prepared_of
    from models.recipe import options as options_of
    from stream.cli.terminal import print_json

    given = {name: value for name, value in locals().items() if name in PrepareOptions.__struct_fields__}
    given["files"] = files or None
    options = options_of(PrepareOptions, recipe, "prepare", **given)
    prepared = prepared_of(options)
    write_prepared(prepared, Path(options.out))
    if as_json:
        print_json({"out": options.out, "labels": prepared.labels, **prepared.description})
        return
    for line in _report(options.out, prepared.description):
        print(line)


def _report(out: str, description: Mapping[str, Any]) -> Iterator[str]:
    """The description for a reader, a line each."""
    from stream.cli.terminal import printable, shortened

    yield f"{printable(out)}:"
    for split, counts in description["splits"].items():
        labels = ", ".join(f"{count:,} {label}" for label, count in counts["labels"].items())
        units = f", {counts['groups']:,} groups" if counts["groups"] else ""
        if counts["examples"]:
            yield f"  {split:<10} {counts['examples']:>9,}  ({labels}{units})"
    for made in description.get("made", []):
        yield f"  of these {made['rows']:>11,}  {made['name']}"
    dropped = description.get("dropped", {})
    if "rows" in description:
        lost = sum(each["count"] for each in dropped.values())
        yield f"  left out   {lost:>9,}  of {description['rows']:,} rows{':' if lost else ''}"
    for reason in dropped.values():
        yield f"    {reason['count']:,} {reason['meaning']}"
        for example in reason["examples"]:
            yield f"      {printable(example['file'])}:{example['line']}: {shortened(example['text'], 72)}"
