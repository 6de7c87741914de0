"""How good probabilities are: figures with bootstrap intervals.

Rules:
- Probabilities have a column for each label, shape (n, labels); the truth is a column's number, shape (n,).
- The said label is the likeliest one; a neutral band enters only the figures named ``decided``.
- An interval is the 2.5% and 97.5% quantiles over draws of n rows with replacement (Efron 1979). All figures
  are of the same draws.
- One implementation gives a figure and its draws, so that an interval is of its figure and of nothing else.
  It takes weights (how often each row was drawn), and the tests hold it against scikit-learn, whose metrics
  take one draw at a time: a thousand draws of 5,000 rows would cost minutes.
- A figure that the rows do not define (a ROC curve of one class) is left out, not made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Columns = NDArray[np.int64]

DRAWS = 1000

BINS = 15
"""Of the confidence in [0, 1], equally wide (Guo et al. 2017)."""

CHUNK = 1_000_000
"""Weights held at once: 8 MB an array, whatever the number of rows."""

LEAST = 1e-15
"""A probability of zero has no logarithm; scikit-learn clips likewise."""


class Figure(msgspec.Struct, frozen=True):
    """A figure with its 95% interval."""

    name: str
    value: float
    interval: tuple[float, float]


class Rows(NamedTuple):
    """What is measured."""

    probabilities: Floats
    truth: Columns
    labels: tuple[str, ...]
    neutral_band: float = 0.0


def figures(rows: Rows, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Figure]:
    """Every figure by its name; those of one label are named ``f1.positive``.

    ``accuracy``, ``macro_f1``, ``mcc``, ``roc_auc`` and ``average_precision`` (means over the labels that
    occur, each against the rest), ``ece`` (expected calibration error of the said label), ``log_loss`` in
    nats; with a neutral band also ``decided`` (share of rows outside it) and ``decided_accuracy`` (accuracy
    among those); for each label ``precision``, ``recall``, ``f1``, ``roc_auc``, ``average_precision``.

    Args:
        rows: at least one.
        draws: bootstrap resamples.
        seed: of the resampling.
    """
    measure = Measure(rows)
    values = measure(np.ones((1, len(rows.truth))))
    drawn = [measure(weights) for weights in resamples(len(rows.truth), draws, seed)]
    return {
        name: Figure(name, float(value[0]), interval(np.concatenate([each[name] for each in drawn])))
        for name, value in values.items()
        if np.isfinite(value[0])
    }


def interval(drawn: Floats) -> tuple[float, float]:
    """The 95% percentile interval of a figure's draws; draws that do not define it are left out."""
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def resamples(n: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each of n rows was drawn, in chunks of shape (some of the draws, n)."""
    rng = np.random.default_rng(seed)
    while draws > 0:
        some = min(draws, max(CHUNK // n, 1))
        drawn = rng.integers(0, n, (some, n)) + np.arange(some)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n).astype(np.float64)
        draws -= some


class Measure:
    """Figures of rows by weights; what no draw changes is worked out once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        width = len(rows.labels)
        said = rows.probabilities.argmax(axis=1)
        confidence = rows.probabilities.max(axis=1)
        right = said == rows.truth
        self._cells = _one_hot(rows.truth * width + said, width * width)
        self._gaps = _one_hot(confidence_bins(confidence), BINS) * (confidence - right)[:, None]
        at_truth = rows.probabilities[np.arange(len(said)), rows.truth]
        self._losses = -np.log(np.maximum(at_truth, LEAST))
        outside = decided(rows.probabilities, rows.neutral_band)
        self._decided = np.stack([outside, outside & right], axis=1).astype(np.float64)
        self._ranked = [Ranked(rows.probabilities[:, at], rows.truth == at) for at in range(width)]

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Every figure, each of shape (draws,), of weights of shape (draws, n)."""
        labels, totals = self._rows.labels, weights.sum(axis=1)
        found = counted((weights @ self._cells).reshape(-1, len(labels), len(labels)), labels)
        found["ece"] = np.abs(weights @ self._gaps).sum(axis=1) / totals
        found["log_loss"] = weights @ self._losses / totals
        if self._rows.neutral_band:
            outside, right = (weights @ self._decided).T
            found["decided"], found["decided_accuracy"] = outside / totals, _ratio(right, outside, np.nan)
        for label, ranked in zip(labels, self._ranked, strict=True):
            found[f"roc_auc.{label}"], found[f"average_precision.{label}"] = ranked(weights)
        for name in ("roc_auc", "average_precision"):
            of_labels = np.stack([found[f"{name}.{label}"] for label in labels])
            defined = np.isfinite(of_labels)
            found[name] = _ratio(np.where(defined, of_labels, 0).sum(axis=0), defined.sum(axis=0), np.nan)
        return found


def decided(probabilities: Floats, neutral_band: float) -> NDArray[np.bool_]:
    """Rows whose two likeliest labels are at least the neutral band apart, shape (n,).

    >>> decided(np.array([[0.45, 0.55], [0.2, 0.8]]), 0.2).tolist()
    [False, True]
    """
    top = np.sort(probabilities, axis=1)
    outside: NDArray[np.bool_] = top[:, -1] - top[:, -2] >= neutral_band
    return outside


def confidence_bins(confidence: Floats) -> Columns:
    """The bin of each confidence, int64 (n,).

    >>> confidence_bins(np.array([0.5, 0.99, 1.0])).tolist()
    [7, 14, 14]
    """
    bins: Columns = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return bins


def counted(confusion: Floats, labels: Sequence[str]) -> dict[str, Floats]:
    """What follows from confusion matrices, each of shape (draws,).

    Args:
        confusion: rows are the truth, columns what was said; shape (draws, labels, labels).
        labels: their names.

    >>> counted(np.array([[[3.0, 1.0], [0.0, 4.0]]]), ("no", "yes"))["recall.no"].tolist()
    [0.75]
    """
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    true, said = confusion.sum(axis=2), confusion.sum(axis=1)
    n, correct = confusion.sum(axis=(1, 2)), hits.sum(axis=1)
    f1 = _ratio(2 * hits, true + said, 0.0)
    occurs = true + said > 0
    # Gorodkin 2004: the correlation of truth and said over k labels; 0 where either is constant.
    covariance = correct * n - (true * said).sum(axis=1)
    spread = np.sqrt((n**2 - (said**2).sum(axis=1)) * (n**2 - (true**2).sum(axis=1)))
    found = {
        "accuracy": correct / n,
        "macro_f1": (f1 * occurs).sum(axis=1) / occurs.sum(axis=1),
        "mcc": _ratio(covariance, spread, 0.0),
    }
    for at, label in enumerate(labels):
        found[f"precision.{label}"] = _ratio(hits[:, at], said[:, at], 0.0)
        found[f"recall.{label}"] = _ratio(hits[:, at], true[:, at], 0.0)
        found[f"f1.{label}"] = f1[:, at]
    return found


class Ranked:
    """Rows by falling score, against which the areas under two curves are taken.

    Args:
        score: higher where the label is likelier, shape (n,).
        is_label: whether a row has it, shape (n,).
    """

    def __init__(self, score: Floats, is_label: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._is_label = is_label[self._order].astype(np.float64)
        sorted_score = score[self._order]
        # Rows of one score pass the threshold together: only the last of each tie is a point of the curve.
        self._ends = np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """ROC AUC and average precision, each of shape (draws,); NaN where a draw has one class."""
        sorted_weights = weights[:, self._order]
        above = np.cumsum(sorted_weights, axis=1)[:, self._ends]
        true = np.cumsum(sorted_weights * self._is_label, axis=1)[:, self._ends]
        positives, negatives = true[:, -1], above[:, -1] - true[:, -1]
        steps = np.diff(true, axis=1, prepend=0)
        false = above - true
        widths = np.diff(false, axis=1, prepend=0)
        area = (widths * (true - steps / 2)).sum(axis=1)
        precision = (steps * _ratio(true, above, 0.0)).sum(axis=1)
        return _ratio(area, positives * negatives, np.nan), _ratio(precision, positives, np.nan)


def _one_hot(columns: Columns, width: int) -> Floats:
    made = np.zeros((len(columns), width))
    made[np.arange(len(columns)), columns] = 1
    return made


def _ratio(above: Floats, below: Floats | NDArray[np.int64], otherwise: float) -> Floats:
    """``above / below``, and ``otherwise`` where ``below`` is zero."""
    made = np.full(np.broadcast(above, below).shape, otherwise)
    np.divide(above, below, out=made, where=below > 0)
    return made


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927), which stays sensible for few rows and shares near 0 and 1.

    >>> [round(end, 3) for end in wilson(10, 10)]
    [0.722, 1.0]
    """
    z = 1.959964
    share, scale = right / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z / scale * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
