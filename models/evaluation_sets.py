"""Readers of the review sets that may be evaluated on, and never trained or calibrated on.

Rules:
- Texts are put together as serving does it: ``stream.core.events.scored_text`` of title and body.
- Ratings of 3 of 5 say neither, and are left out; so are empty texts, and a text's later copies.
- A group is a product, where the set names one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from models.examples import Example
from models.tables import Row, read_table
from stream.core.events import rfc3339, scored_text
from stream.errors import UsageError
from stream.replay import parse_rating, parse_time

if TYPE_CHECKING:
    from pathlib import Path


class Columns(NamedTuple):
    """Where a set has what; "" where it has it not."""

    file: str
    text: str
    stars: str = ""
    label: str = ""
    """0 or 1, where there are no stars."""
    title: str = ""
    group: str = ""
    time: str = ""
    category: str = ""
    language: str = "en"


SETS = {
    "blitzer": Columns(
        "blitzer_amazon.jsonl.gz", "text", "rating", "", "title", "asin", "date_iso", "domain"
    ),
    "online_shopping": Columns(
        "zh_online_shopping.csv.gz", "review", label="label", category="cat", language="zh"
    ),
    "beauty": Columns(
        "amazon2018_All_Beauty_5.json.gz", "reviewText", "overall", "", "summary", "asin", "unixReviewTime"
    ),
    "instruments": Columns(
        "amazon2014_Musical_Instruments_first5050.csv.gz",
        "reviewText",
        "overall",
        "",
        "summary",
        "asin",
        "unixReviewTime",
    ),
    "pesticide": Columns(
        "amazon_pesticide_10181.csv.gz",
        "review_content",
        "review_rating",
        group="product_id",
        time="review_date",
        category="class_id",
    ),
}
FILES = {name: columns.file for name, columns in SETS.items()}


def examples(name: str, folder: Path) -> list[Example]:
    """A set's reviews, with the labels negative and positive.

    Raises:
        UsageError: the file is missing or is another.
    """
    columns = SETS[name]
    if not (folder / columns.file).is_file():
        raise UsageError(
            f"The evaluation set {columns.file} is not in {folder}; name its folder with --data."
        )
    wanted = {option: column for option, column in columns._asdict().items() if column}
    del wanted["file"], wanted["language"]
    made: dict[str, Example] = {}
    for row in read_table(folder / columns.file, wanted):
        example = _example(row, columns, name)
        if example:
            made.setdefault(example.text, example)
    return list(made.values())


def _example(row: Row, columns: Columns, name: str) -> Example | None:
    def cell(column: str) -> str:
        value = row.values.get(column)
        return "" if value is None else str(value)

    text = scored_text(cell(columns.title), cell(columns.text))
    stars = parse_rating(cell(columns.stars)) if columns.stars else None
    if not text or stars == 3:
        return None
    positive = stars > 3 if stars is not None else cell(columns.label) == "1"
    return Example(
        text=text,
        target=(0.0, 1.0) if positive else (1.0, 0.0),
        group=cell(columns.group),
        source=name,
        language=columns.language,
        category=cell(columns.category),
        stars=stars,
        at=rfc3339(parse_time(cell(columns.time))) if columns.time else None,
    )
