"""The contestants that a shop would reach for first, as arrays: a statistic for each event of many streams.

Rules:
- Each contestant has one threshold, tuned elsewhere (``tuning``), and a setting: the length of a window, the
  weight of a new event, the tolerated drift. Several settings run; none knows the rise that comes.
- All know of the usual share what ours knows: the prior and the events so far, or the share itself. What is
  still in the window, or weighs in the average, is not yet in the baseline it is held against.
- A young product's window is at most half of its past, and what it lacks counts as events as usual: a
  half-empty window is no excuse to be late.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Labels = npt.NDArray[np.bool_]
    Statistic = npt.NDArray[np.float64]

PRIOR = (1.5, 8.5)
"""What ours begins with, as negatives and others."""
WINDOWS = (10, 20, 50, 100, 200)
WEIGHTS = (0.02, 0.05, 0.1, 0.2)
DRIFTS = (0.005, 0.02, 0.05, 0.1, 0.2)
"""River's default first. A drift of half the rise makes Page-Hinkley a CUSUM made for it."""
FADING = 1 - 0.0001
MIN_INSTANCES = 30
"""River's defaults."""


class Streams:
    """Labels of many streams, which are judged after some events.

    Statistics have shape (streams, judged + 1): the first column is that of when judging begins.
    """

    def __init__(self, labels: Labels, learned: int, known: float | None) -> None:
        """Takes labels of shape (streams, events), and the usual share where it is told."""
        self.labels = labels
        self.learned = learned
        self.known = known
        self.seen = np.arange(learned, labels.shape[1] + 1)
        """Events seen at each column of a statistic."""

    @cached_property
    def negatives(self) -> npt.NDArray[np.int32]:
        """Negatives among the first 0, 1, 2... events."""
        counts = np.zeros((self.labels.shape[0], self.labels.shape[1] + 1), dtype=np.int32)
        np.cumsum(self.labels, axis=1, out=counts[:, 1:])
        return counts

    def window_start(self, window: int) -> npt.NDArray[np.int64]:
        """Events before the last ``window``, or before the second half where that is more."""
        return np.asarray(self.seen - np.minimum(window, self.seen // 2))

    def baseline(self, window: int) -> Statistic:
        """The usual share by the events before the window."""
        if self.known is not None:
            return np.full((1, 1), self.known)
        before = self.window_start(window)
        return np.asarray((PRIOR[0] + self.negatives[:, before]) / (sum(PRIOR) + before))


def excess(streams: Streams, window: int, usual: Statistic) -> Statistic:
    """Negatives of the window above what is usual."""
    start = streams.window_start(window)
    negatives = streams.negatives[:, streams.seen] - streams.negatives[:, start]
    return np.asarray(negatives - (streams.seen - start) * usual)


def ewma(streams: Streams, weight: float) -> Statistic:
    """The exponentially weighted share above what is usual, in its standard deviations (Roberts 1959)."""
    usual = streams.baseline(round(2 / weight) - 1)
    first = streams.known if streams.known is not None else PRIOR[0] / sum(PRIOR)
    average = np.full(streams.labels.shape[0], first)
    told = np.empty((len(streams.seen), streams.labels.shape[0]))
    labels = streams.labels.T.astype(np.float64)
    if streams.learned == 0:
        told[0] = average
    for number, each in enumerate(labels, 1):
        average += weight * (each - average)
        if number >= streams.learned:
            told[number - streams.learned] = average
    return np.asarray((told.T - usual) / np.sqrt(usual * (1 - usual) * weight / (2 - weight)))


def page_hinkley(streams: Streams, drift: float) -> Statistic:
    """River's ``PageHinkley(mode="up", delta=drift)``, step for step, until it first detects."""
    count = streams.labels.shape[0]
    mean, total, least = np.zeros(count), np.zeros(count), np.full(count, np.inf)
    told = np.zeros((len(streams.seen), count))
    for number, each in enumerate(streams.labels.T.astype(np.float64), 1):
        mean += (each - mean) / number
        total = FADING * total + (each - mean) - drift
        least = np.minimum(least, total)
        if number >= max(streams.learned, MIN_INSTANCES):
            told[number - streams.learned] = total - least
    return told.T


def cusum(streams: Streams, usual: float, risen: float) -> Statistic:
    """Page's CUSUM of two shares that are told, its evidence in logarithms: no contestant, but a bound."""
    up, down = np.log(risen / usual), np.log((1 - risen) / (1 - usual))
    evidence = np.zeros(streams.labels.shape[0])
    told = np.zeros((len(streams.seen), evidence.size))
    for number, each in enumerate(streams.labels.T, 1):
        evidence = np.maximum(0.0, evidence + np.where(each, up, down))
        if number >= streams.learned:
            told[number - streams.learned] = evidence
    return told.T


def charts(streams: Streams) -> Iterator[tuple[tuple[str, str], Statistic]]:
    """Family and setting, and the statistic, of every contestant."""
    for window in WINDOWS:
        usual = streams.baseline(window)
        above = excess(streams, window, usual)
        yield ("window", f"n={window}"), above / window
        yield ("Shewhart", f"n={window}"), above / np.sqrt(window * usual * (1 - usual))
    for weight in WEIGHTS:
        yield ("EWMA", f"weight={weight:g}"), ewma(streams, weight)
    for drift in DRIFTS:
        yield ("PageHinkley", f"delta={drift:g}"), page_hinkley(streams, drift)
