"""Numbers to eight bits, as products of integers want them: ``gptq``, ``smoothing``, ``shift_of``.

A linear layer is computed as ``scale(row) * scale(column) * (steps of activations @ steps of weights)``. What
is rounded here, and how:

- **Weights**, one scale for each output. Rounding to the nearest step is best for a weight alone; what counts
  is the layer's output on the activations that it really sees. GPTQ (Frantar et al. 2022, arXiv:2210.17323)
  rounds one input's weights after another and lets those not rounded yet make up for the error.
- **Activations**, one scale for each row, a token. A few channels are many times as large as the others and
  would take all steps. SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) divides each channel by a constant
  and multiplies its weights with it: algebra, before anything is rounded.
- **What a GELU gives** is never below -0.17, so symmetric steps would waste nearly half of themselves. With a
  zero point of z steps and a scale of offset/z, steps 0 to 255 are the numbers from -offset up: the offset
  is the same for every row, and so a constant of the layer, which joins its bias.

Pure functions of arrays; no network, no graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 127
"""Of the largest weight of a column, and of the largest activation of a row."""

ALPHA = 0.5
"""How much of a channel's size moves into its weights: SmoothQuant's own default."""

DAMPING = 0.01
"""Of the Hessian's mean diagonal, added to it: GPTQ's own default."""

BLOCK = 64
"""Inputs whose errors are handed to the inputs behind them in one product."""

SMALLEST = 1e-5
"""Channels are not divided by less."""

GELU_LEAST = 0.17
"""A GELU is never below minus this (its minimum is -0.16997)."""

SHIFTED_STEPS = 255


class Rounded(NamedTuple):
    """A weight in steps of its columns' scales."""

    steps: NDArray[np.int8]
    """(inputs, outputs)."""
    scales: NDArray[np.float32]
    """(outputs,)."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """What the steps stand for."""
        return self.steps * self.scales


def nearest(weight: NDArray[np.float32]) -> Rounded:
    """A weight (inputs, outputs), each to its nearest step.

    >>> nearest(np.array([[1.27, 0], [-0.634, 0]], np.float32)).steps.tolist()
    [[127, 0], [-63, 0]]
    """
    scales = _scales(weight)
    return Rounded(np.rint(weight / scales).astype(np.int8), scales)


def gptq(weight: NDArray[np.float32], hessian: NDArray[np.float64]) -> Rounded:
    """A weight rounded so that the layer's outputs move least, not its weights.

    The error is ``sum((x @ weight - x @ rounded)^2)`` over the calibration's rows x. Inputs are rounded in
    the order of falling size (GPTQ's act-order).

    Args:
        weight: (inputs, outputs).
        hessian: (inputs, inputs), the sum of x^T x over the calibration's rows.
    """
    scales = _scales(weight)
    matrix = hessian.astype(np.float64, copy=True)
    diagonal = np.einsum("ii->i", matrix)
    diagonal[diagonal == 0] = 1  # a channel that is always zero: however it is rounded
    diagonal += DAMPING * diagonal.mean()
    order = np.argsort(-diagonal, kind="stable")
    matrix = matrix[np.ix_(order, order)]
    left = weight[order].astype(np.float64)
    # Row i of the upper Cholesky factor of the inverse says how the inputs behind i make up for i's error.
    factor = np.linalg.cholesky(np.linalg.inv(matrix)).T
    steps = np.empty(weight.shape, np.int8)
    for begin in range(0, len(left), BLOCK):
        end = min(begin + BLOCK, len(left))
        errors = np.empty((end - begin, weight.shape[1]))
        for at in range(begin, end):
            rounded = np.clip(np.rint(left[at] / scales), -STEPS, STEPS)
            steps[order[at]] = rounded.astype(np.int8)
            errors[at - begin] = (left[at] - rounded * scales) / factor[at, at]
            left[at:end] -= np.outer(factor[at, at:end], errors[at - begin])
        left[end:] -= factor[begin:end, end:].T @ errors
    return Rounded(steps, scales)


def output_error(
    weight: NDArray[np.float32], rounded: NDArray[np.float32], hessian: NDArray[np.float64]
) -> float:
    """The sum of squares by which a layer's outputs move on the calibration's rows.

    Args:
        weight: (inputs, outputs).
        rounded: likewise.
        hessian: as ``gptq`` takes it.
    """
    moved = weight.astype(np.float64) - rounded
    return float(np.einsum("io,ij,jo->", moved, hessian, moved, optimize=True))


def smoothing(
    largest: NDArray[np.float32], *weights: NDArray[np.float32], alpha: float = ALPHA
) -> NDArray[np.float32]:
    """What each channel is divided by before rounding, and its weights multiplied with: (inputs,).

    Args:
        largest: absolute values of each channel on the calibration texts.
        weights: (inputs, outputs), of all layers that read the channels.
        alpha: 0 leaves the activations as they are, 1 makes all channels alike.

    >>> smoothing(np.array([16, 1], np.float32), np.array([[1], [1]], np.float32)).tolist()
    [4.0, 1.0]
    """
    reading = np.abs(np.concatenate(weights, axis=1)).max(axis=1)
    made: NDArray[np.float32] = (
        np.maximum(largest, SMALLEST) ** alpha / np.maximum(reading, SMALLEST) ** (1 - alpha)
    ).astype(np.float32)
    return made


def offset_of(largest: float) -> float:
    """Minus the least number that shifted steps say, such that they say 1.25 times the largest seen.

    >>> offset_of(10.0), round(offset_of(50.8), 4)
    (0.17, 0.25)
    """
    return max(GELU_LEAST, 1.25 * largest / (SHIFTED_STEPS - 1))


def shift_of(largest: NDArray[np.float32], offset: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Zero points, whole numbers from 1 to 255, and scales of rows whose numbers are all above ``-offset``.

    Args:
        largest: of each row; above zero or zero.
        offset: zero point times scale, of every row.

    >>> zeros, scales = shift_of(np.array([0.0, 0.17, 1.53, 99.0], np.float32), 0.17)
    >>> zeros.tolist(), np.allclose(zeros * scales, 0.17)
    ([254.0, 127.0, 25.0, 1.0], True)
    """
    wide = np.float32(offset * SHIFTED_STEPS)
    zeros = np.maximum(np.floor(wide / (largest + np.float32(offset))), np.float32(1))
    return zeros, np.float32(offset) / zeros


def _scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    scales: NDArray[np.float32] = (np.abs(weight).max(axis=0) / STEPS).astype(np.float32)
    scales[scales == 0] = 1
    return scales
