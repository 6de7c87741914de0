"""How good a model is: accuracy, macro F1 and calibration error, each with a bootstrap interval.

Rules:
- Sets read here are for evaluation only; nothing of them is trained or calibrated on.
- Texts are put together as serving does it: ``stream.core.events.scored_text`` of title and body.
- Ratings of 3 of 5 say neither, and are left out.
"""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream.core.events import scored_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BOOTSTRAPS = 1000


class LabelledSet(NamedTuple):
    """Whole reviews with their polarity."""

    name: str
    texts: list[str]
    positive: NDArray[np.bool_]


class Figure(NamedTuple):
    """A metric with its 95% interval."""

    name: str
    value: float
    interval: tuple[float, float]


def accuracy(p_positive: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Share of rows on the right side of one half.

    >>> accuracy(np.array([0.9, 0.2, 0.6]), np.array([True, False, False]))
    0.6666666666666666
    """
    return float(((p_positive > 0.5) == positive).mean())


def macro_f1(p_positive: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mean of both labels' F1, so that the rarer one weighs as much.

    >>> macro_f1(np.array([0.9, 0.9]), np.array([True, False]))
    0.3333333333333333
    """
    said = p_positive > 0.5
    scores = []
    for label in (False, True):
        hits = int(((said == label) & (positive == label)).sum())
        wrong = int(((said == label) != (positive == label)).sum())
        scores.append(2 * hits / (2 * hits + wrong) if hits or wrong else 0.0)
    return float(np.mean(scores))


def calibration_error(p_positive: NDArray[np.float64], positive: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error of the said label's probability (Guo et al. 2017), equal-width bins.

    >>> calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    confidence = np.maximum(p_positive, 1 - p_positive)
    right = (p_positive > 0.5) == positive
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == each].mean() - right[which == each].mean()) * (which == each).mean()
        for each in np.unique(which)
    ]
    return float(sum(gaps))


METRICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.bool_]], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "ece": calibration_error,
}


def figures(p_positive: NDArray[np.float64], positive: NDArray[np.bool_], seed: int = 0) -> list[Figure]:
    """Every metric with the 2.5% and 97.5% quantiles of its bootstrap over rows.

    Args:
        p_positive: probability of positive, shape (n,).
        positive: the truth, shape (n,).
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(positive), len(positive)) for _ in range(BOOTSTRAPS)]
    out = []
    for name, metric in METRICS.items():
        low, high = np.quantile([metric(p_positive[rows], positive[rows]) for rows in draws], (0.025, 0.975))
        out.append(Figure(name, metric(p_positive, positive), (float(low), float(high))))
    return out


def evaluation_sets(folder: Path) -> Iterator[LabelledSet]:
    """Each evaluation set that ``folder`` has."""
    readers: tuple[tuple[str, str, Callable[[Path], Iterator[tuple[str, float]]]], ...] = (
        ("blitzer_amazon", "blitzer_amazon.jsonl.gz", _blitzer),
        ("amazon2018_beauty", "amazon2018_All_Beauty_5.json.gz", _beauty),
        ("amazon2014_musical_instruments", "amazon2014_Musical_Instruments_first5050.csv.gz", _instruments),
        ("amazon_pesticide", "amazon_pesticide_10181.csv.gz", _pesticide),
    )
    for name, file, reader in readers:
        if (folder / file).is_file():
            rows = {text: stars for text, stars in reader(folder / file) if text and stars != 3}
            yield LabelledSet(name, list(rows), np.array([stars > 3 for stars in rows.values()]))


def _blitzer(file: Path) -> Iterator[tuple[str, float]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield scored_text(row["title"], row["text"]), row["rating"]


def _beauty(file: Path) -> Iterator[tuple[str, float]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield scored_text(row.get("summary"), row.get("reviewText", "")), row["overall"]


def _instruments(file: Path) -> Iterator[tuple[str, float]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield scored_text(row["summary"], row["reviewText"]), float(row["overall"])


def _pesticide(file: Path) -> Iterator[tuple[str, float]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield scored_text(None, row["review_content"]), float(row["review_rating"].split()[0])
