"""A scorer that always says the same: the working fake behind every test and bench of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Counted(NamedTuple):
    """Texts, reduced to how many there are."""

    lengths: NDArray[np.int32]


class ConstantScorer:
    """Gives every text the same probabilities.

    Args:
        probabilities: negative, neutral, positive.
    """

    version = "constant"
    provider = "none"

    def __init__(self, probabilities: tuple[float, float, float] = (0.1, 0.0, 0.9)) -> None:
        self._row = np.array(probabilities, np.float32)
        self._label = np.int8(self._row.argmax())

    def encode(self, texts: Sequence[str]) -> Counted:
        """Counts the texts, shape (n,), one token each."""
        return Counted(np.ones(len(texts), np.int32))

    def score(self, encoded: Counted, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The constant for each row, shape (len(rows), 3)."""
        del encoded
        return np.broadcast_to(self._row, (len(rows), 3))

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        """The constant's label for each row, shape (n,)."""
        return np.full(len(probabilities), self._label, np.int8)
