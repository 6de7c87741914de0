"""A scorer that counts its micro-batches: the watchdog's sign that a slow model works on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

from stream.scorer.contract import E, Lanes, lanes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stream.scorer.contract import Scorer


class CountedScorer(Generic[E]):
    """The scorer given, and how many micro-batches it has scored so far.

    Args:
        scorer: does the work.
    """

    def __init__(self, scorer: Scorer[E]) -> None:
        self._scorer = scorer
        self.batches = 0
        self._lock = threading.Lock()  # of several lanes

    @property
    def version(self) -> str:
        """See ``Scorer``."""
        return self._scorer.version

    @property
    def provider(self) -> str:
        """See ``Scorer``."""
        return self._scorer.provider

    @property
    def lanes(self) -> Lanes:
        """See ``contract.Lanes``."""
        return lanes_of(self._scorer)

    def encode(self, texts: Sequence[str]) -> E:
        """See ``Scorer``."""
        return self._scorer.encode(texts)

    def score(self, encoded: E, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """See ``Scorer``; counts what came back."""
        probabilities = self._scorer.score(encoded, rows)
        with self._lock:
            self.batches += 1
        return probabilities

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        """See ``Scorer``."""
        return self._scorer.label(probabilities)
