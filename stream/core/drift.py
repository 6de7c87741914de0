"""Whether what comes in is still what the model was measured on: population stability index by feature.

Rules:
- A feature is compared by bins. The reference has the bounds with it, so a bundle is judged by the bins that
  its export used.
- The index is the sum over bins of (p - q) ln(p / q), the symmetric Kullback-Leibler divergence (Jeffreys).
  By credit scoring's custom, below 0.1 nothing has changed and above 0.25 the population is another one
  (Siddiqi, Credit Risk Scorecards).
- Each bin gets half a text more on both sides, so that an empty one does not make it infinite.
- By chance alone it is about (bins - 1) / texts: below ``LEAST_TEXTS`` nothing is said.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from stream.core.reference import BOUNDS, FEATURES, Binned, Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_TEXTS = 5_000
"""The latest texts that are compared: some minutes of a busy stream, a day of a quiet one."""
LEAST_TEXTS = 500


def reference(texts: str, values: dict[str, NDArray[np.float64]]) -> Reference:
    """The reference that these values are.

    Args:
        texts: which they are of, for people.
        values: of each feature, one a text, shape (n,), n at least 1.
    """
    binned = {
        feature: Binned(
            bounds=BOUNDS[feature], counts=tuple(counted(BOUNDS[feature], values[feature]).tolist())
        )
        for feature in FEATURES
    }
    return Reference(texts=texts, **binned)


def counted(bounds: Sequence[float], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many values lie in each bin, shape (len(bounds) + 1,)."""
    places = np.searchsorted(np.array(bounds, np.float64), values, side="left")
    return np.bincount(places, minlength=len(bounds) + 1).astype(np.int64, copy=False)


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """Population stability index of two distributions over the same bins, 0 for the same shares.

    >>> stability_index((50, 50), (50, 50)), round(stability_index((500, 500), (800, 200)), 2)
    (0.0, 0.41)
    """
    p = np.array(before, np.float64) + 0.5
    q = np.array(now, np.float64) + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


class Recent:
    """A feature of the latest texts, binned.

    Args:
        bounds: of the bins.
        most: texts kept; one window more at most.
    """

    def __init__(self, bounds: Sequence[float], most: int = MOST_TEXTS) -> None:
        self._bounds = tuple(bounds)
        self._most = most
        self._windows: deque[tuple[int, NDArray[np.int64]]] = deque()
        self._counts = np.zeros(len(self._bounds) + 1, np.int64)
        self.texts = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Takes a window's values in; what is older than ``most`` texts goes."""
        counts = counted(self._bounds, values)
        self._windows.append((len(values), counts))
        self._counts = self._counts + counts  # anew: another thread may read the one before
        self.texts += len(values)
        while self.texts - self._windows[0][0] >= self._most:
            texts, oldest = self._windows.popleft()
            self._counts = self._counts - oldest
            self.texts -= texts

    @property
    def counts(self) -> tuple[int, ...]:
        """Texts by bin."""
        return tuple(self._counts.tolist())
