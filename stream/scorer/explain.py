"""A score's words and what each adds to it, by scoring the text without each of them, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stream.core import explain
from stream.scorer.contract import score_encoded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stream.core.explain import Contribution
    from stream.scorer.contract import E, Scorer


class Explained(NamedTuple):
    """A text's score and its words'."""

    probabilities: NDArray[np.float32]
    """Shape (3,)."""
    contributions: list[Contribution]


def explained(scorer: Scorer[E], text: str, *, token_budget: int) -> Explained:
    """Scores ``text`` and what is left of it without each of its words.

    Args:
        scorer: the model.
        text: not empty.
        token_budget: most padded tokens in one batch.
    """
    left_out = explain.spans(text)
    encoded = scorer.encode([text, *explain.occluded(text, left_out)])
    probabilities = score_encoded(scorer, encoded, token_budget=token_budget)
    whole, without = probabilities[0], probabilities[1:]
    return Explained(whole, explain.contributions(left_out, whole, without))
