"""What training makes small, and what a validation judges: both of probabilities, not of single labels.

Rules:
- A target is a row of probabilities, in the labels' order; a certain label is ones and zeros.
- A step's loss is a sum over its texts divided by their number in the whole step, so that micro-batches and
  devices do not change it.
- An evaluation is judged at the temperature that fits it best: calibration will undo how sure a model is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from models.examples import targets
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from models.examples import Example


def label_weights(
    given: Literal["none", "balanced"] | tuple[float, ...], examples: Sequence[Example]
) -> tuple[float, ...] | None:
    """A weight for each label, or none; they average 1 over the examples.

    Raises:
        UsageError: there are more or fewer than labels, or one is not positive.
    """
    if given == "none":
        return None
    shares = targets(examples).mean(axis=0)
    weights = 1 / shares if given == "balanced" else np.array(given, np.float64)
    if len(weights) != len(shares) or not (weights > 0).all():
        raise UsageError(
            f"class_weights has {len(weights)} values; wanted {len(shares)} positive ones, a label each."
        )
    return tuple(float(each) for each in weights / (weights * shares).sum())


def soft_loss(weights: Sequence[float] | None, smoothing: float) -> Callable[..., Tensor]:
    """Cross-entropy with probabilities: summed over the rows, divided by those of the whole step."""

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        logits = outputs.logits.float()
        wanted = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        terms = wanted * functional.log_softmax(logits, dim=-1)
        if weights:
            terms = terms * torch.tensor(weights, device=terms.device)
        return -terms.sum() / rows_of_step(labels, num_items_in_batch)

    return loss


def rows_of_step(labels: Tensor, num_items_in_batch: Tensor | None) -> Tensor | int:
    """Texts that a step's loss is averaged over; Trainer counts the numbers in their ``labels``."""
    return len(labels) if num_items_in_batch is None else num_items_in_batch / labels.shape[-1]


def judge(said: Any) -> dict[str, float]:
    """Figures of an evaluation: its loss at the best temperature, accuracy, macro F1.

    Without the temperature, an epoch would be judged by how sure it is, which calibration undoes.

    Args:
        said: Trainer's ``EvalPrediction``: logits, float32 (n, labels), and targets of that shape.
    """
    # Some architectures give more than logits, which come first.
    given = said.predictions[0] if isinstance(said.predictions, tuple) else said.predictions
    logits = np.asarray(given, np.float64)
    wanted = np.asarray(said.label_ids, np.float64)[:, : logits.shape[1]]
    temperature = fit_temperature(logits, wanted)
    said_columns, true_columns = logits.argmax(axis=1), wanted.argmax(axis=1)
    return {
        "fitted_loss": soft_nll(logits, wanted, temperature),
        "accuracy": float((said_columns == true_columns).mean()),
        "macro_f1": macro_f1(said_columns, true_columns, logits.shape[1]),
    }


def soft_nll(logits: NDArray[np.float64], wanted: NDArray[np.float64], temperature: float) -> float:
    """Mean cross-entropy, in nats, of probabilities with logits over ``temperature``."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    logs = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return float(-(wanted * logs).sum(axis=1).mean())


def fit_temperature(logits: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """The temperature with the least cross-entropy, by golden-section search."""
    ratio = (5**0.5 - 1) / 2
    low, high = np.log(0.05), np.log(20.0)
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if soft_nll(logits, wanted, float(np.exp(left))) < soft_nll(logits, wanted, float(np.exp(right))):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def macro_f1(said: NDArray[np.int64], true: NDArray[np.int64], labels: int) -> float:
    """Mean of the labels' F1.

    >>> macro_f1(np.array([1, 1]), np.array([1, 0]), 2)
    0.3333333333333333
    """
    scores = []
    for label in range(labels):
        hits = int(((said == label) & (true == label)).sum())
        wrong = int(((said == label) != (true == label)).sum())
        scores.append(2 * hits / (2 * hits + wrong) if hits or wrong else 0.0)
    return float(np.mean(scores))
