"""Probabilities that mean what they say: a temperature, and a band in which the model is undecided.

Rules:
- Both are found on held-out samples, never on an evaluation set.
- Temperature scaling (Guo et al. 2017) changes no label, so accuracy is what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST, MOST = 0.05, 20.0
"""Temperatures searched between; a model outside them is broken rather than miscalibrated."""


def negative_log_likelihood(
    logits: NDArray[np.float32], positive: NDArray[np.bool_], temperature: float
) -> float:
    """Mean over rows, in nats, of a two-column model's logits (n, 2) over ``temperature``.

    >>> round(negative_log_likelihood(np.zeros((3, 2), np.float32), np.array([True, False, True]), 1.0), 4)
    0.6931
    """
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) / temperature
    return float(np.logaddexp(0, np.where(positive, -margin, margin)).mean())


def fit_temperature(logits: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """The temperature with the least negative log-likelihood, by golden-section search.

    The likelihood has one minimum in the inverse temperature, hence in the temperature.

    Args:
        logits: of a two-column model, shape (n, 2).
        positive: the truth, shape (n,).
    """
    ratio = (5**0.5 - 1) / 2
    low, high = np.log(LEAST), np.log(MOST)
    while high - low > 1e-6:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if negative_log_likelihood(logits, positive, float(np.exp(left))) < negative_log_likelihood(
            logits, positive, float(np.exp(right))
        ):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def probability(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """P(positive), shape (n,), of a two-column model's logits."""
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) / temperature
    return 1 / (1 + np.exp(-margin))


def fit_neutral_band(p_positive: NDArray[np.float64], share: float = 0.05) -> float:
    """The widest band |P(positive) - P(negative)| that takes at most ``share`` of the polar held-out texts.

    Args:
        p_positive: calibrated, of texts that are not neutral, shape (n,).
        share: how many of them may be called undecided.

    >>> fit_neutral_band(np.array([0.55, 0.4, 0.1, 0.9]), share=0.25)
    0.1
    """
    margins = np.sort(np.abs(2 * p_positive - 1))
    # Strictly below the band is neutral: the first margin that must stay outside is the band.
    return round(float(margins[int(share * len(margins))]), 4)
