"""What training makes small, and what a validation judges: both of probabilities, not of single labels.

Rules:
- A target is a row of probabilities, in the labels' order; a certain label is ones and zeros.
- A row that sums to 2 counts twice.
- A step's loss is a sum over its texts divided by their number in the whole step, so that micro-batches and
  devices do not change it.
- An evaluation is judged at the temperature that fits it best: calibration will undo how sure a model is.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from models.examples import kinds, targets
from models.temperature import cross_entropy, fit_temperature
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from models.examples import Example


Weighing = Literal["none", "balanced", "by-length"] | tuple[float, ...]
"""How labels weigh: all alike; by the inverse of their share; so within texts of like length; as given."""

LEAST = 1e-12
"""Of a probability: zero has no logarithm."""

MOST_WEIGHT = 4.0
"""Of a text: few texts of a kind are no reason to believe each of them so much more."""


def text_weights(examples: Sequence[Example]) -> NDArray[np.float64]:
    """Weights with which neither a text's language nor its length tells its label; mean 1, shape (n,).

    Where most long training texts are praise, a model takes length for praise. Lengths are alike within a
    factor of two.
    """
    alike = kinds(examples)
    said = targets(examples).argmax(axis=1).tolist()
    of_kind, of_both = Counter(alike), Counter(zip(alike, said, strict=True))
    labels = Counter(kind for kind, _ in of_both)
    weights = [
        of_kind[kind] / (labels[kind] * of_both[kind, label]) for kind, label in zip(alike, said, strict=True)
    ]
    bounded = np.minimum(weights, MOST_WEIGHT)
    return np.asarray(bounded / bounded.mean(), np.float64)


def label_weights(given: Weighing, examples: Sequence[Example]) -> tuple[float, ...] | None:
    """A weight for each label, or none; they average 1 over the examples.

    Raises:
        UsageError: there are more or fewer than labels, or one is not positive.
    """
    if given in ("none", "by-length"):
        return None
    shares = targets(examples).mean(axis=0)
    weights = 1 / shares if given == "balanced" else np.array(given, np.float64)
    if len(weights) != len(shares) or not (weights > 0).all():
        raise UsageError(
            f"class_weights has {len(weights)} values; wanted {len(shares)} positive ones, a label each."
        )
    return tuple(float(each) for each in weights / (weights * shares).sum())


def soft_loss(weights: Sequence[float] | None, smoothing: float) -> Callable[..., Tensor]:
    """Cross-entropy with probabilities: summed over the rows, divided by those of the whole step.

    A column behind the probabilities is the chance that the row's label is wrong. The loss is then of what
    a label would say that is wrong so often ("forward correction", Patrini et al. 2017): the network may be
    sure although the label is not, and a label that it has good reason to doubt teaches little.
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        columns = outputs.logits.shape[-1]
        given, noise = labels[:, :columns], labels[:, columns:]
        wanted = given * (1 - smoothing) + smoothing * given.mean(dim=-1, keepdim=True)
        logs = functional.log_softmax(outputs.logits.float(), dim=-1)
        if noise.shape[-1]:
            likely = logs.exp()
            logs = (likely * (1 - noise) + (1 - likely) * noise / (columns - 1)).clamp(min=LEAST).log()
        terms = wanted * logs
        if weights:
            terms = terms * torch.tensor(weights, device=terms.device)
        return -terms.sum() / rows_of_step(labels, num_items_in_batch)

    return loss


def r_drop(loss: Callable[..., Tensor], weight: float) -> Callable[..., Tensor]:
    """A loss of texts that the network read twice, under different dropout: R-Drop (Liang et al. 2021).

    The mean of both readings' losses, and ``weight`` times the divergence between what they say, the mean of
    both directions; what a text says shall not hang on which units were dropped.

    Args:
        loss: of outputs, labels and ``num_items_in_batch``.
        weight: 1 to 5 is usual.
    """

    def of_both(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        if len(outputs.logits) == len(labels):  # an evaluation reads once
            return loss(outputs, labels, num_items_in_batch=num_items_in_batch)
        # Read twice, a step has twice the rows; its number of items is counted before.
        items = None if num_items_in_batch is None else 2 * num_items_in_batch
        given = loss(outputs, torch.cat([labels, labels]), num_items_in_batch=items)
        first, second = functional.log_softmax(outputs.logits.float(), dim=-1).chunk(2)
        apart = ((first.exp() - second.exp()) * (first - second)).sum() / 2
        return given + weight * apart / rows_of_step(labels, num_items_in_batch)

    return of_both


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
        "fitted_loss": cross_entropy(logits, wanted, temperature),
        "accuracy": float((said_columns == true_columns).mean()),
        "macro_f1": macro_f1(said_columns, true_columns, logits.shape[1]),
    }


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
