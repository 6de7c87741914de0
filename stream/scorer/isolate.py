"""A text that makes the model fail costs one event: the batch is bisected until the culprit is alone.

Rules:
- Each failing batch is halved; the halves that work are scored, a single text that fails is the culprit.
- A device that is gone fails on everything, and a quiet stream's windows hold one text. So before a text is
  blamed the model must score one that is known to be good; if it cannot, it is a ``DependencyError`` and no
  event is thrown away. Then the text is tried once more: a device that was away for a moment blames nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream.errors import DependencyError
from stream.scorer.contract import score_encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.scorer.contract import E, Scorer

KNOWN_GOOD = "It works as described."


class Scored(NamedTuple):
    """Results of a window."""

    probabilities: NDArray[np.float32]
    """Shape (n, 3); rows of failed texts are undefined."""
    labels: NDArray[np.int8]
    """Shape (n,)."""
    failed: dict[int, str]
    """Why, by row, for texts the model cannot take."""


def encode(scorer: Scorer[E], texts: Sequence[str]) -> E | Exception:
    """Tokenises; an error is kept for ``score``, which knows how to isolate it."""
    try:
        return scorer.encode(texts)
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer throws at hostile text
        return error


def score(scorer: Scorer[E], texts: Sequence[str], encoded: E | Exception, *, token_budget: int) -> Scored:
    """Scores a window, apart from the texts that cannot be.

    Args:
        scorer: the model.
        texts: in the order of ``encoded``.
        encoded: what ``encode`` made of them.
        token_budget: most padded tokens in one batch.

    Raises:
        DependencyError: the model fails on a text that is known to be good.
    """
    failed: dict[int, str] = {}
    try:
        if isinstance(encoded, Exception):
            raise encoded  # noqa: TRY301 - both stages' failures are isolated in one place
        probabilities = score_encoded(scorer, encoded, token_budget=token_budget)
    except Exception:  # noqa: BLE001 - whatever a runtime throws at hostile text
        probabilities = np.zeros((len(texts), 3), np.float32)
        _bisect(scorer, texts, range(len(texts)), probabilities, failed, token_budget)
        if failed:
            _score_known_good(scorer, token_budget)
            for row in list(failed):
                del failed[row]
                _bisect(scorer, texts, range(row, row + 1), probabilities, failed, token_budget)
    return Scored(probabilities, scorer.label(probabilities), failed)


def _score_known_good(scorer: Scorer[E], token_budget: int) -> None:
    try:
        score_encoded(scorer, scorer.encode([KNOWN_GOOD]), token_budget=token_budget)
    except Exception as error:
        raise DependencyError(f"The model fails on every text: {error}") from error


def _bisect(
    scorer: Scorer[E],
    texts: Sequence[str],
    rows: range,
    probabilities: NDArray[np.float32],
    failed: dict[int, str],
    token_budget: int,
) -> None:
    """Scores ``rows``, in halves where that fails; a text that fails alone is in ``failed``."""
    try:
        encoded = scorer.encode([texts[row] for row in rows])
        probabilities[rows.start : rows.stop] = score_encoded(scorer, encoded, token_budget=token_budget)
    except Exception as error:  # noqa: BLE001 - whatever a runtime throws at hostile text
        if len(rows) > 1:
            middle = len(rows) // 2
            for half in (rows[:middle], rows[middle:]):
                _bisect(scorer, texts, half, probabilities, failed, token_budget)
        else:  # one, or none: a window of dead letters alone
            failed.update({row: f"{type(error).__name__}: {error}" for row in rows})
