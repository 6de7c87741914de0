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
from typing import TYPE_CHECKING, Any

import pytest

from stream.client import LiveCounters
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def has_text(row: dict[str, Any], *columns: str) -> bool:
    return any((row.get(column) or "").strip() for column in columns)


def own_counts() -> tuple[Counter[str], int]:
    """Reviews with a text by product, and how many have none, read without any of the project's code."""
    with gzip.open(BEAUTY, "rt", encoding="utf-8") as file:
        beauty = [json.loads(line) for line in file]
    with gzip.open(INSTRUMENTS, "rt", encoding="utf-8", newline="") as file:
        instruments = list(csv.DictReader(file))
    with gzip.open(PESTICIDES, "rt", encoding="utf-8", newline="") as file:
        pesticides = list(csv.DictReader(file))
    counts: Counter[str] = Counter()
    empty = 0
    named: Iterable[tuple[str, bool]] = [
        *((row["asin"], has_text(row, "reviewText", "summary")) for row in beauty + instruments),
        *((row["product_id"], has_text(row, "review_content")) for row in pesticides),
    ]
    for product_id, counted in named:
        if counted:
            counts[product_id] += 1
        else:
            empty += 1
    return counts, empty


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

    expected, empty = own_counts()
    assert rows == expected.total() + empty == 20_500
    totals = wait_until_ended(rows)
    assert [worker.stop() for worker in workers] == [0, 0]

    assert (totals["reviews"].counted, totals["reviews"].dead) == (expected.total(), empty)
    with LiveCounters(load()) as counters:
        counted = {each.product_id: each.events for each in counters.get_many(sorted(expected), "all")}
    assert counted == expected
    letters = [
        json.loads(line)
        for line in reviewpulse("dlq", "list", "--limit", "1000", "--json").stdout.splitlines()
    ]
    assert Counter(letter["reason"] for letter in letters) == {"the text is empty": empty}
