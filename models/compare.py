"""Two classifiers on the same rows: which is better, by how much, and whether that could be chance.

Rules:
- The test is McNemar's, exact: only rows that one has right and the other wrong say which is better; were
  both equally good, each such row would be a fair coin.
- Intervals are of the paired difference: a draw of rows is the same for both.
- A slice is named where its own test would be passed by chance less than once in a thousand times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.classifier import probabilities
from models.evaluate import check_labels
from models.examples import classes
from models.metrics import DRAWS, Figure, Measure, Rows, interval, resamples
from models.slices import CHANCE, members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.classifier import Classifier
    from models.examples import Example

SIGNIFICANT = 0.05

DIFFERENCES = ("accuracy", "macro_f1", "mcc", "roc_auc", "ece", "log_loss")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """How often which of the two was right."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    """McNemar's exact test, two-sided."""


class SliceDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The two on the rows that share one value."""

    kind: str
    value: str
    rows: int
    difference: float
    """Accuracy of B less that of A."""
    only_a: int
    only_b: int
    p: float
    clear: bool
    """Chance would hardly make it so."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """B beside A."""

    a: str
    b: str
    set: str
    split: str
    rows: int
    figures_a: dict[str, float]
    figures_b: dict[str, float]
    pair: Pair
    differences: dict[str, Figure]
    """B less A, with paired 95% intervals."""
    slices: tuple[SliceDifference, ...]
    draws: int
    verdict: str


def compare(
    a: Classifier,
    b: Classifier,
    examples: Sequence[Example],
    *,
    name: str = "",
    split: str = "test",
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares two classifiers on examples.

    Raises:
        UsageError: there are none, or a classifier's labels are not theirs.
    """
    check_labels(a, examples, name or "the set", split)
    check_labels(b, examples, name or "the set", split)
    texts, truth = [example.text for example in examples], classes(examples)
    rows_a = Rows(probabilities(a, texts), truth, a.labels)
    rows_b = Rows(probabilities(b, texts), truth, b.labels)
    right_a, right_b = (rows.probabilities.argmax(axis=1) == truth for rows in (rows_a, rows_b))
    measures = Measure(rows_a), Measure(rows_b)
    ones = np.ones((1, len(truth)))
    values_a, values_b = (
        {key: float(value[0]) for key, value in measure(ones).items() if np.isfinite(value[0])}
        for measure in measures
    )
    differences = _differences(measures, values_a, values_b, len(truth), draws, seed)
    pair = paired(right_a, right_b)
    return Comparison(
        a=a.name,
        b=b.name,
        set=name,
        split=split,
        rows=len(truth),
        figures_a=values_a,
        figures_b=values_b,
        pair=pair,
        differences=differences,
        slices=_slices(examples, right_a, right_b),
        draws=draws,
        verdict=verdict(a.name, b.name, pair, differences["accuracy"]),
    )


def _differences(
    measures: tuple[Measure, Measure],
    values_a: dict[str, float],
    values_b: dict[str, float],
    n: int,
    draws: int,
    seed: int,
) -> dict[str, Figure]:
    names = [key for key in DIFFERENCES if key in values_a and key in values_b]
    drawn: dict[str, list[NDArray[np.float64]]] = {key: [] for key in names}
    for weights in resamples(n, draws, seed):
        of_a, of_b = (measure(weights) for measure in measures)
        for key in names:
            drawn[key].append(of_b[key] - of_a[key])
    return {
        key: Figure(key, values_b[key] - values_a[key], interval(np.concatenate(drawn[key]))) for key in names
    }


def paired(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> Pair:
    """Counts of the four cases, and McNemar's exact test.

    >>> paired(np.array([True, True, False]), np.array([True, False, False])).p
    1.0
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Pair(
        both=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~right_a & ~right_b).sum()),
        p=mcnemar(only_a, only_b),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of McNemar's exact test: so uneven a split of fair coins, or a more uneven one.

    >>> mcnemar(1, 9)
    0.021484375
    """
    from scipy.stats import binomtest

    if not only_a + only_b:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def verdict(a: str, b: str, pair: Pair, accuracy: Figure) -> str:
    """One sentence that says who is better, by how much, and how sure that is."""
    chance = "McNemar p < 0.0001" if pair.p < 1e-4 else f"McNemar p = {pair.p:.4f}"
    texts = f"{pair.both + pair.only_a + pair.only_b + pair.neither:,} texts"
    ends = [100 * end for end in accuracy.interval]
    if pair.p >= SIGNIFICANT:
        return (
            f"{a} and {b} cannot be told apart on these {texts}: the second's accuracy less the first's is "
            f"{100 * accuracy.value:+.1f} points ({ends[0]:+.1f} to {ends[1]:+.1f}; {chance})."
        )
    better, worse, sign = (b, a, 1) if pair.only_b > pair.only_a else (a, b, -1)
    low, high = sorted(sign * end for end in ends)
    return (
        f"{better} is better than {worse} on these {texts}: its accuracy is "
        f"{100 * abs(accuracy.value):.1f} points higher ({low:.1f} to {high:.1f}; {chance})."
    )


def _slices(
    examples: Sequence[Example], right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]
) -> tuple[SliceDifference, ...]:
    made = []
    for kind, value, rows in members(examples):
        pair = paired(right_a[rows], right_b[rows])
        made.append(
            SliceDifference(
                kind=kind,
                value=value,
                rows=len(rows),
                difference=(pair.only_b - pair.only_a) / len(rows),
                only_a=pair.only_a,
                only_b=pair.only_b,
                p=pair.p,
                clear=pair.p < CHANCE,
            )
        )
    return tuple(made)
