"""Whether the exported model says what the trained one says.

Rules:
- Judged on real texts, through the whole of serving: the bundle's own tokenizer, truncation, padding,
  temperature and micro-batches.
- The reference is the checkpoint in PyTorch, float32, one text at a time: no padding at all.
- Outside the tolerance there is no bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.classifier import NetworkClassifier
from stream.errors import BundleError
from stream.scorer.contract import score_encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from export.precision import Storage
    from stream.scorer.onnx import OnnxScorer

TOLERANCE: dict[Storage, float] = {
    "float32": 1e-4,
    "float16": 2e-2,
    "int8": 0.25,
    "float16+int8-words": 0.1,
}
"""Most a probability may differ, by how the weights are stored: near one half, a small step of a logit is a
large one of a probability. How often the label may differ is the sharper limit."""

LABEL_AGREEMENT = 0.995
"""Least share of texts with the same label."""

BATCH_TOLERANCE = 1e-5
"""Most a probability may depend on batch mates and padding: float32 rounding, nothing else."""


class Parity(NamedTuple):
    """What was found."""

    texts: int
    max_probability_difference: float
    mean_probability_difference: float
    label_agreement: float
    batch_difference: float


def check_parity(
    network: Any,
    tokenizer: Tokenizer,
    scorer: OnnxScorer,
    texts: Sequence[str],
    *,
    stored: Storage,
    columns: Sequence[int],
) -> Parity:
    """Compares the checkpoint with the bundle on ``texts``.

    Args:
        network: the checkpoint.
        tokenizer: its tokenizer, cutting where the bundle does.
        scorer: the bundle.
        texts: real ones, of all lengths.
        stored: how the weights are stored.
        columns: the checkpoint's column of each of the bundle's labels.

    Raises:
        BundleError: a difference is outside the tolerance.
    """
    alone_in_torch = NetworkClassifier(
        network, tokenizer, scorer.manifest.labels, columns=columns, token_budget=1
    )
    reference = scorer.probabilities(alone_in_torch.logits(texts))
    encoded = scorer.encode(texts)
    served = score_encoded(scorer, encoded, token_budget=1024)
    alone = np.concatenate([scorer.score(encoded, np.array([row])) for row in range(len(texts))])
    difference = np.abs(reference - served)
    parity = Parity(
        texts=len(texts),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        label_agreement=float((scorer.label(reference) == scorer.label(served)).mean()),
        batch_difference=float(np.abs(alone - served).max()),
    )
    if parity.max_probability_difference > TOLERANCE[stored]:
        raise BundleError(
            f"The exported model differs from its checkpoint by {parity.max_probability_difference:.2g} "
            f"in a probability; {stored} storage allows {TOLERANCE[stored]:g}. No bundle was written."
        )
    if parity.label_agreement < LABEL_AGREEMENT:
        raise BundleError(
            f"The exported model gives {parity.label_agreement:.2%} of the texts the label that its "
            f"checkpoint does; at least {LABEL_AGREEMENT:.1%} are wanted. "
            "Store it with more bits. No bundle was written."
        )
    if parity.batch_difference > BATCH_TOLERANCE:
        raise BundleError(
            f"The exported model's scores depend on batch mates by {parity.batch_difference:.2g}; the "
            f"tolerance is {BATCH_TOLERANCE:g}. No bundle was written."
        )
    return parity
