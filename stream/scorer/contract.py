"""The whole contract between the pipeline and a model.

Rules:
- A score depends on its text and the model version alone: not on batch mates, padding or order.
- ``encode`` and ``score`` run off the event loop, each on one thread of its own, at the same time.
- A scorer may say how it likes its work cut (``Lanes``); one that does not gets one batch at a time. With
  several lanes, ``score`` is called from as many threads at once.
- Probabilities have the columns of ``stream.core.events.LABELS``. A two-label model's neutral column is
  zero; ``label`` says neutral where the model is undecided.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from stream.core.batch import LEAST_SHARE, Rounding, budget_of_a_lane, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Lanes(NamedTuple):
    """How a scorer likes its work cut: its optional attribute ``lanes``."""

    at_once: int = 1
    """Micro-batches it scores at once."""
    batch_cost: int = 0
    """What a micro-batch costs whatever is in it, in tokens."""
    least_share: int = LEAST_SHARE
    """Tokens below which a micro-batch is not split for the sake of idle lanes."""
    rounding: Rounding | None = None
    """The shapes that it pads micro-batches to; None: their own."""


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
    lanes = lanes_of(scorer)
    budget = budget_of_a_lane(int(encoded.lengths.sum()), token_budget, lanes.at_once, lanes.least_share)
    batches = cut(encoded.lengths, budget, batch_cost=lanes.batch_cost, rounding=lanes.rounding)
    probabilities = np.empty((len(encoded.lengths), 3), np.float32)

    def score(rows: NDArray[np.intp]) -> None:
        probabilities[rows] = scorer.score(encoded, rows)

    if lanes.at_once == 1 or len(batches) < 2:
        for rows in batches:
            score(rows)
    else:
        with ThreadPoolExecutor(min(lanes.at_once, len(batches)), "score") as pool:
            try:
                for done in [pool.submit(score, rows) for rows in batches]:
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return probabilities


def unknown_tokens(scorer: Any, encoded: Any) -> NDArray[np.int64] | None:
    """How many tokens of each text ``scorer``'s vocabulary does not have, shape (n,); None: it does not tell.

    A scorer that knows has a method ``unknown_tokens(encoded)``.
    """
    tells = getattr(scorer, "unknown_tokens", None)
    found: NDArray[np.int64] | None = None if tells is None else tells(encoded)
    return found


def lanes_of(scorer: Any) -> Lanes:
    """What ``scorer`` says of its lanes; one where it says nothing."""
    lanes: Lanes = getattr(scorer, "lanes", Lanes())
    return lanes
