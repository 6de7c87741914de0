"""Three real histories through two workers: the totals per product are the files' own.

The files are not in the project; where they are not beside it, these tests are skipped.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from stream.client import LiveCounters
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[3] / "shared" / "data"
BEAUTY = DATA / "amazon2018_All_Beauty_5.json.gz"
INSTRUMENTS = DATA / "amazon2014_Musical_Instruments_first5050.csv.gz"
PESTICIDES = DATA / "amazon_pesticide_10181.csv.gz"
PESTICIDE_COLUMNS = (
    "text=review_content",
    "event_time=review_date",
    "rating=review_rating",
    "author_id=review_author_name",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BEAUTY.exists(), reason="the review histories are not beside the project"),
]


class OwnCounts(NamedTuple):
    """What the files say, read without any of the project's code."""

    counted: Counter[str]
    """Reviews with a text by product; one that is there again, word by word, counts once."""
    empty: int
    repeated: int


def own_counts() -> OwnCounts:
    with gzip.open(BEAUTY, "rt", encoding="utf-8") as file:
        reviews = [json.loads(line) for line in file]
    with gzip.open(INSTRUMENTS, "rt", encoding="utf-8", newline="") as file:
        reviews += csv.DictReader(file)
    columns = ("asin", "reviewerID", "unixReviewTime", "summary", "reviewText")
    rows = [tuple(str(review.get(column) or "").strip() for column in columns) for review in reviews]
    with gzip.open(PESTICIDES, "rt", encoding="utf-8", newline="") as file:
        columns = ("product_id", "review_author_name", "review_date", "", "review_content")
        rows += [tuple((row.get(column) or "").strip() for column in columns) for row in csv.DictReader(file)]
    with_text = [row for row in rows if row[3] or row[4]]
    return OwnCounts(
        counted=Counter(product_id for product_id, *_ in set(with_text)),
        empty=len(rows) - len(with_text),
        repeated=len(with_text) - len(set(with_text)),
    )


def reviewpulse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments], capture_output=True, text=True, check=True
    )


def test_totals_of_real_histories_are_the_files_own(
    start_worker: Callable[..., Any], wait_until_ended: Callable[..., Any]
) -> None:
    workers = [start_worker(), start_worker()]
    for worker in workers:
        worker.wait_for("worker started")
    columns = [part for column in PESTICIDE_COLUMNS for part in ("--column", column)]
    replays = [
        reviewpulse("replay", str(BEAUTY), "--format", "amazon", "--json"),
        reviewpulse("replay", str(INSTRUMENTS), "--format", "amazon", "--json"),
        reviewpulse("replay", str(PESTICIDES), "--format", "csv", *columns, "--json"),
    ]
    rows = sum(json.loads(replay.stdout)["rows"] for replay in replays)

    expected, empty, repeated = own_counts()
    assert rows == expected.total() + empty + repeated == 20_500
    totals = wait_until_ended(rows)
    assert [worker.stop() for worker in workers] == [0, 0]

    reviews = totals["reviews"]
    assert (reviews.counted, reviews.dead, reviews.duplicate) == (expected.total(), empty, repeated)
    with LiveCounters(load()) as counters:
        counted = {each.product_id: each.events for each in counters.get_many(sorted(expected), "all")}
    assert counted == expected
    letters = [
        json.loads(line)
        for line in reviewpulse("dlq", "list", "--limit", "1000", "--json").stdout.splitlines()
    ]
    assert Counter(letter["reason"] for letter in letters) == {"the text is empty": empty}
