"""Counts by bucket: what a histogram shows, added to a whole array at a time.

prometheus_client's own takes a value a call, some 2 µs each; here a window of thousands takes one search and
one count in numpy, a few ns a value.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Read(NamedTuple):
    """A distribution at a moment."""

    cumulative: tuple[int, ...]
    """How many values are at most each bound; the last is all of them."""
    sum: float


class Distribution:
    """Counts values by bucket; any thread may add, any thread may read.

    Args:
        bounds: upper bounds of the buckets, rising; a value that equals one is below it.

    >>> seconds = Distribution((0.1, 1.0))
    >>> seconds.add_all(np.array([0.05, 0.1, 7.0]))
    >>> seconds.read()
    Read(cumulative=(2, 2, 3), sum=7.15)
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._bounds = np.array(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Counts one value."""
        place = bisect_left(self.bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def add_all(self, values: NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32]) -> None:
        """Counts every value of an array, shape (n,)."""
        counts = binned(self._bounds, values)
        total = float(values.sum(dtype=np.float64))
        with self._lock:
            self._counts += counts
            self._sum += total

    def add_integers(self, values: NDArray[np.int32]) -> None:
        """Counts small numbers, none of them negative, each value once: quicker than a search for each."""
        of_value = np.bincount(values)
        places = np.searchsorted(self._bounds, np.arange(len(of_value)), side="left")
        counts = np.bincount(places, of_value, len(self._counts)).astype(np.int64)
        total = float(of_value @ np.arange(len(of_value)))
        with self._lock:
            self._counts += counts
            self._sum += total

    def add_sample(self, values: NDArray[np.float64], weights: NDArray[np.int64]) -> None:
        """Counts every value of an array for as many as it stands for, shapes (n,)."""
        places = np.searchsorted(self._bounds, values, side="left")
        counts = np.bincount(places, weights, len(self._counts)).astype(np.int64)
        total = float(values @ weights)
        with self._lock:
            self._counts += counts
            self._sum += total

    def read(self) -> Read:
        """The counts so far."""
        with self._lock:
            return Read(tuple(np.cumsum(self._counts).tolist()), self._sum)


class Every(NamedTuple):
    """Which of n things are looked at, evenly spread, and how many each stands for."""

    stride: int
    weights: NDArray[np.int64]
    """They sum to n."""


def every(n: int, most: int) -> Every:
    """Looks at ``most`` of n things or fewer, at all where there are no more; n is at least 1.

    >>> every(3, most=4)
    Every(stride=1, weights=array([1, 1, 1]))
    >>> list(range(10))[:: every(10, most=4).stride], every(10, most=4).weights.tolist()
    ([0, 3, 6, 9], [3, 3, 3, 1])
    """
    stride = -(-n // most)
    looked_at = -(-n // stride)
    weights = np.full(looked_at, stride, np.int64)
    weights[-1] = n - stride * (looked_at - 1)
    return Every(stride, weights)


def binned(
    bounds: NDArray[np.float64], values: NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32]
) -> NDArray[np.int64]:
    """How many values lie in each bucket, shape (len(bounds) + 1,).

    >>> binned(np.array([8.0, 16.0]), np.array([3, 8, 9, 40, 41], np.int32)).tolist()
    [2, 1, 2]
    """
    places = np.searchsorted(bounds, values, side="left")
    return np.bincount(places, minlength=len(bounds) + 1).astype(np.int64, copy=False)
