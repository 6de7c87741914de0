"""A scorer that counts its micro-batches: the watchdog's sign that a slow model works on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic

from stream.metrics.meter import NO_METER
from stream.scorer.contract import E, Lanes, lanes_of, unknown_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stream.core.reference import Reference
    from stream.metrics.meter import Meter
    from stream.scorer.contract import Scorer


class Batches:
    """How many micro-batches a process has scored, whichever model did.

    Args:
        meter: is told of each.
    """

    def __init__(self, meter: Meter = NO_METER) -> None:
        self.count = 0
        self._meter = meter
        self._lock = threading.Lock()  # of several lanes

    def add(self, lengths: NDArray[np.int32], cpu_s: float) -> None:
        """Counts one more.

        Args:
            lengths: tokens of each of its texts.
            cpu_s: CPU time it took.
        """
        with self._lock:
            self.count += 1
        self._meter.batch(lengths, cpu_s)


class CountedScorer(Generic[E]):
    """The scorer given, and how many micro-batches were scored so far.

    Args:
        scorer: does the work.
        counter: counts; by default one of its own.
    """

    def __init__(self, scorer: Scorer[E], counter: Batches | None = None) -> None:
        self._scorer = scorer
        self._counter = counter or Batches()

    @property
    def batches(self) -> int:
        """Micro-batches that were counted so far."""
        return self._counter.count

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
        started_s = time.thread_time()
        probabilities = self._scorer.score(encoded, rows)
        self._counter.add(encoded.lengths[rows], time.thread_time() - started_s)
        return probabilities

    def unknown_tokens(self, encoded: E) -> NDArray[np.int64] | None:
        """See ``contract.unknown_tokens``."""
        return unknown_tokens(self._scorer, encoded)

    @property
    def reference(self) -> Reference | None:
        """What its bundle's texts looked like, if that is known."""
        reference: Reference | None = getattr(self._scorer, "reference", None)
        return reference

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        """See ``Scorer``."""
        return self._scorer.label(probabilities)
