"""The temperature that makes a network as sure as it is right (Guo et al. 2017).

Rules:
- It has the least cross-entropy on held-out rows. The likelihood has one minimum in the inverse temperature,
  hence in the temperature.
- A row's truth is a label, or a probability for each; a label may be wrong with a known chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LEAST, MOST = 0.05, 20.0
"""Temperatures searched between; a model outside them is broken rather than miscalibrated."""


def cross_entropy(
    logits: NDArray[Any],
    truth: NDArray[Any],
    temperature: float,
    weights: NDArray[np.float64] | None = None,
    noise: NDArray[Any] | None = None,
) -> float:
    """Mean over rows, in nats, of what the truth has to learn from logits over the temperature.

    Args:
        logits: shape (n, labels).
        truth: columns or whether positive, shape (n,), or probabilities, shape (n, labels).
        temperature: that logits are divided by.
        weights: of the rows; all alike by default.
        noise: chance that a row's label is wrong, shape (n,); none by default.

    >>> round(cross_entropy(np.zeros((2, 3), np.float32), np.array([0, 2]), 1.0), 4)
    1.0986
    """
    scaled = logits.astype(np.float64) / temperature
    logs = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
    columns = logs.shape[1]
    if noise is not None and noise.any():
        likely, wrong = np.exp(logs), noise[:, None]
        logs = np.log(np.maximum(likely * (1 - wrong) + (1 - likely) * wrong / (columns - 1), 1e-300))
    wanted = np.eye(columns)[truth.astype(np.int64)] if truth.ndim == 1 else truth
    return float(np.average(-(wanted * logs).sum(axis=1), weights=weights))


def fit_temperature(
    logits: NDArray[Any],
    truth: NDArray[Any],
    weights: NDArray[np.float64] | None = None,
    noise: NDArray[Any] | None = None,
) -> float:
    """The temperature with the least ``cross_entropy``; the other arguments are its."""
    return float(
        np.exp(
            least(
                lambda each: cross_entropy(logits, truth, float(np.exp(each)), weights, noise),
                np.log(LEAST),
                np.log(MOST),
            )
        )
    )


def least(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a loss with one minimum has it, by golden-section search."""
    ratio = (5**0.5 - 1) / 2
    while high - low > 1e-6:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2
