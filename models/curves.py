"""Curves, reliability and confusion: what a figure cannot show.

Rules:
- A curve is thinned to at most ``POINTS`` points, its ends always among them: a report is read, and its file
  stays small whatever the number of rows.
- Reliability is of the said label's confidence, in the bins that the calibration error is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.metrics import BINS, confidence_bins, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.metrics import Rows

POINTS = 200

Points = tuple[tuple[float, float], ...]


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """One label against the rest."""

    label: str
    share: float
    """Of the rows that have the label: what a precision-recall curve by chance stays at."""
    roc: Points
    """False positive rate, true positive rate."""
    precision_recall: Points
    """Recall, precision."""


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows whose said label's probability is in one bin."""

    low: float
    high: float
    rows: int
    confidence: float
    """Mean probability of the said label."""
    accuracy: float
    interval: tuple[float, float]
    """Of the accuracy, 95%."""


def curves(rows: Rows) -> tuple[Curves, ...]:
    """Curves of each label that some rows have and others have not."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    made = []
    for at, label in enumerate(rows.labels):
        is_label = rows.truth == at
        if is_label.all() or not is_label.any():
            continue
        false, true, _ = roc_curve(is_label, rows.probabilities[:, at])
        precision, recall, _ = precision_recall_curve(is_label, rows.probabilities[:, at])
        made.append(
            Curves(
                label=label,
                share=float(is_label.mean()),
                roc=_points(false, true),
                precision_recall=_points(recall[::-1], precision[::-1]),
            )
        )
    return tuple(made)


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int))
    return tuple((round(float(x[at]), 5), round(float(y[at]), 5)) for at in kept)


def reliability(rows: Rows) -> tuple[ReliabilityBin, ...]:
    """The bins that hold any rows, by rising confidence."""
    confidence = rows.probabilities.max(axis=1)
    right = rows.probabilities.argmax(axis=1) == rows.truth
    which = confidence_bins(confidence)
    made = []
    for each in np.unique(which):
        of_bin = which == each
        hits, n = int(right[of_bin].sum()), int(of_bin.sum())
        made.append(
            ReliabilityBin(
                low=float(each) / BINS,
                high=float(each + 1) / BINS,
                rows=n,
                confidence=float(confidence[of_bin].mean()),
                accuracy=hits / n,
                interval=wilson(hits, n),
            )
        )
    return tuple(made)


def confusion(rows: Rows) -> tuple[tuple[int, ...], ...]:
    """Rows are the truth, columns what was said."""
    from sklearn.metrics import confusion_matrix

    said = rows.probabilities.argmax(axis=1)
    made = confusion_matrix(rows.truth, said, labels=range(len(rows.labels)))
    return tuple(tuple(int(cell) for cell in row) for row in made)
