"""The whole contract between the pipeline and a model.

Rules:
- A score depends on its text and the model version alone: not on batch mates, padding or order.
- ``encode`` and ``score`` run off the event loop, each on one thread of its own, at the same time.
- Probabilities have the columns of ``stream.core.events.LABELS``. A two-label model's neutral column is
  zero; ``label`` says neutral where the model is undecided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from stream.core.batch import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Encoded(Protocol):
    """Texts ready for the model."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each text after truncation, shape (n,)."""
        ...


E = TypeVar("E", bound=Encoded)


class Scorer(Protocol[E]):
    """Text to probabilities."""

    @property
    def version(self) -> str:
        """Names the model in every score and alert."""
        ...

    @property
    def provider(self) -> str:
        """The execution provider really in use, e.g. ``CPUExecutionProvider``."""
        ...

    def encode(self, texts: Sequence[str]) -> E:
        """Tokenises ``texts``."""
        ...

    def score(self, encoded: E, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Probabilities of the texts at ``rows`` as one padded batch, shape (len(rows), 3)."""
        ...

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        """Index into ``LABELS`` for each row of ``probabilities``, shape (n,)."""
        ...


def score_encoded(scorer: Scorer[E], encoded: E, *, token_budget: int) -> NDArray[np.float32]:
    """Scores everything in ``encoded`` in micro-batches, back in the order it came.

    Args:
        scorer: the model.
        encoded: what its ``encode`` returned.
        token_budget: most padded tokens (rows times longest row) in one batch.

    Returns:
        Probabilities, shape (n, 3).
    """
    probabilities = np.empty((len(encoded.lengths), 3), np.float32)
    for rows in cut(encoded.lengths, token_budget):
        probabilities[rows] = scorer.score(encoded, rows)
    return probabilities
