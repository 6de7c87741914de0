"""Whether the exported model says what the trained one says.

Rules:
- Judged on real texts, through the whole of serving: the bundle's own tokenizer, truncation, padding,
  temperature and micro-batches.
- The reference is the checkpoint in PyTorch, float32, one text at a time: no padding at all.
- Outside the tolerance there is no bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream.errors import BundleError
from stream.scorer.contract import score_encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from models.network import ReviewClassifier
    from stream.scorer.onnx import OnnxScorer

TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
"""Most a probability may differ, by how the weights are stored."""

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
    network: ReviewClassifier, tokenizer: Tokenizer, scorer: OnnxScorer, texts: Sequence[str], *, stored: str
) -> Parity:
    """Compares the checkpoint with the bundle on ``texts``.

    Args:
        network: the checkpoint.
        tokenizer: its tokenizer, cutting where the bundle does.
        scorer: the bundle.
        texts: real ones, of all lengths.
        stored: ``float32`` or ``float16``.

    Raises:
        BundleError: a difference is outside the tolerance.
    """
    reference = _reference(network, tokenizer, scorer, texts)
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
    if parity.batch_difference > BATCH_TOLERANCE:
        raise BundleError(
            f"The exported model's scores depend on batch mates by {parity.batch_difference:.2g}; the "
            f"tolerance is {BATCH_TOLERANCE:g}. No bundle was written."
        )
    return parity


def _reference(
    network: ReviewClassifier, tokenizer: Tokenizer, scorer: OnnxScorer, texts: Sequence[str]
) -> NDArray[np.float32]:
    from models.finetune import predict

    logits = predict(network, tokenizer, texts, batch_size=1)
    return scorer.probabilities(logits)
