"""Thresholds of equal false-alarm rate.

Rules:
- The rate is measured: the share of stationary streams that alarm within the judged events. A stream whose
  statistic is beyond the threshold when judging begins is firing already, and counts for nothing.
- A statistic that takes few values (16 of 50, 17 of 50) cannot meet a rate. It is tuned to meet it on
  average, by tossing between two neighbouring thresholds: none is slower for want of a finer scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


class Threshold(msgspec.Struct, frozen=True):
    """Alarms at ``low`` or above with probability ``toss``, else at ``high`` or above."""

    low: float
    high: float
    toss: float


def first_passage(statistic: npt.NDArray[np.float64], threshold: float) -> npt.NDArray[np.float64]:
    """Events until each stream's statistic reaches the threshold.

    Args:
        statistic: shape (streams, judged + 1), its first column from before the first judged event.
        threshold: to be reached.

    Returns:
        Events, counted from one; infinite where it is never reached, NaN where it was before.

    >>> first_passage(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [3.0, 0.0, 3.0]]), 2.0).tolist()
    [2.0, inf, nan]
    """
    beyond = statistic[:, 1:] >= threshold
    events = np.where(beyond.any(axis=1), beyond.argmax(axis=1) + 1.0, np.inf)
    return np.where(statistic[:, 0] >= threshold, np.nan, events)


class Extremes(NamedTuple):
    """What of the statistics of stationary streams a threshold is tuned to; each has shape (streams,)."""

    start: npt.NDArray[np.float64]
    """When judging begins."""
    highest: npt.NDArray[np.float64]
    """Of the judged events."""


def extremes(statistic: npt.NDArray[np.float64]) -> Extremes:
    """Of statistics of shape (streams, judged + 1)."""
    return Extremes(statistic[:, 0].copy(), statistic[:, 1:].max(axis=1))


def alarmed(stationary: Extremes, threshold: Threshold) -> float:
    """Share of the stationary streams that alarm, of those that are not beyond the threshold at first.

    >>> alarmed(Extremes(np.array([0.0, 0.0, 9.0]), np.array([1.0, 2.0, 9.0])), Threshold(1.0, 2.0, 0.5))
    0.75
    """

    def at(level: float) -> float:
        judged = stationary.start < level
        return float((stationary.highest[judged] >= level).mean()) if judged.any() else 1.0

    return threshold.toss * at(threshold.low) + (1 - threshold.toss) * at(threshold.high)


def tuned(stationary: Sequence[Extremes], rate: float) -> Threshold:
    """The threshold that a share ``rate`` of all these streams reaches.

    >>> tuned([Extremes(np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0]))], 0.5)
    Threshold(low=2.0, high=3.0, toss=0.0)
    >>> tuned([Extremes(np.zeros(4), np.array([1.0, 1.0, 3.0, 3.0]))], 0.75)
    Threshold(low=1.0, high=3.0, toss=0.5)
    """
    together = Extremes(
        np.concatenate([each.start for each in stationary]),
        np.concatenate([each.highest for each in stationary]),
    )
    levels = np.append(np.unique(together.highest), np.inf)

    def at(level: float) -> float:
        return alarmed(together, Threshold(level, level, 0.0))

    low, high = 0, len(levels) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if at(levels[middle]) > rate:
            low = middle
        else:
            high = middle
    above, below = at(levels[low]), at(levels[high])
    toss = (rate - below) / (above - below) if above > below else 1.0
    return Threshold(float(levels[low]), float(levels[high]), min(1.0, max(0.0, toss)))


def delays(
    statistic: npt.NDArray[np.float64], threshold: Threshold, volumes: Sequence[int]
) -> list[npt.NDArray[np.float64]]:
    """Each stream's mean delay over the toss, for each volume: a miss counts as that many events.

    NaN where the stream was firing before.
    """
    low, high = first_passage(statistic, threshold.low), first_passage(statistic, threshold.high)
    return [
        threshold.toss * np.minimum(low, most) + (1 - threshold.toss) * np.minimum(high, most)
        for most in volumes
    ]
