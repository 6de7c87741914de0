"""Whether the exported model says what the trained one says.

Rules:
- Judged on real texts, through the whole of serving: the bundle's own tokenizer, truncation, padding,
  temperature and micro-batches; on each execution provider that this machine can use.
- Every length is among them: what the texts lack is cut from them, end to end.
- The reference is the checkpoint in PyTorch, float32, one text at a time: no padding at all.
- Where texts have labels, accuracy and calibration are compared before and after, too.
- A bundle that computes in int8 has tolerances of its own for logits and probabilities, whatever its storage;
  those for labels, accuracy, calibration, batch mates and padding are everyone's.
- Outside a tolerance there is no bundle, unless it is forced; then its manifest says what was wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.classifier import NetworkClassifier
from models.metrics import Measure, Rows
from stream.bundle import ParityRecord
from stream.scorer.contract import score_encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from export.storage import Compute, Storage
    from stream.core.events import Label
    from stream.scorer.onnx import OnnxScorer, Tokens

TOLERANCE: dict[Storage, float] = {
    "float32": 1e-4,
    "float16": 2e-2,
    "int8": 0.25,
    "float16+int8-words": 0.1,
}
"""Most a probability may differ, by how the weights are stored: near one half, a small step of a logit is a
large one of a probability. How often the label may differ is the sharper limit."""

LOGIT_TOLERANCE: dict[Storage, float] = {
    "float32": 1e-3,
    "float16": 0.2,
    "int8": 2.0,
    "float16+int8-words": 1.0,
}
"""Most a logit may differ. Wide: where a model is sure, its logits are large and differ without effect."""

COMPUTED_INT8 = 0.15
COMPUTED_INT8_LOGIT = 1.0
"""Instead, of a bundle that computes in int8, however the rest is stored."""

LABEL_AGREEMENT = 0.995
"""Least share of texts with the same label."""

BATCH_TOLERANCE = 1e-5
"""Most a probability may depend on batch mates and padding: float32 rounding, nothing else."""

ACCURACY_TOLERANCE = 0.005
"""Most that accuracy may fall: as much as the labels may differ."""
CALIBRATION_TOLERANCE = 0.01
"""Most that the expected calibration error may rise."""
FEWEST_LABELLED = 100
"""Below, one text is more than the accuracy may fall."""

RUNGS = 16
"""Lengths that are among the texts for certain, evenly from 3 tokens to the longest that is read."""
PADDED_TEXTS = 32
"""Of all texts, those that are scored beside the longest padding there can be: each costs as much as the
longest text."""


class Sample(NamedTuple):
    """Texts to compare on."""

    texts: list[str]
    labels: list[Label | None]
    """What a reader would say, where that is known."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Sample:
        """Texts whose labels nobody knows."""
        return cls(list(texts), [None] * len(texts))


def of_every_length(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> list[str]:
    """Texts of ``RUNGS`` lengths, cut from ``texts`` put end to end.

    Args:
        texts: real ones.
        tokenizer: cutting at ``max_length``.
        max_length: most tokens, the special ones included.
    """
    whole = ""
    for text in texts:
        whole += f"{text} "
        if len(whole) > 16 * max_length:
            break
    whole *= -(-8 * max_length // max(len(whole), 1))
    offsets = tokenizer.encode(whole).offsets
    ends = [end for _, end in offsets if end]
    wanted = np.linspace(1, max(len(ends), 1), RUNGS).astype(int)
    return [whole[: ends[min(number, len(ends)) - 1]] for number in wanted] if ends else []


def measure(
    network: Any,
    tokenizer: Tokenizer,
    scorers: Sequence[OnnxScorer],
    sample: Sample,
    *,
    columns: Sequence[int],
) -> list[ParityRecord]:
    """Compares the checkpoint with the bundle.

    Args:
        network: the checkpoint.
        tokenizer: its tokenizer, cutting where the bundle does.
        scorers: the bundle, once for each provider; at least one.
        sample: real texts.
        columns: the checkpoint's column of each of the bundle's labels.

    Returns:
        What was found, by provider.
    """
    manifest = scorers[0].manifest
    texts = [*sample.texts, *of_every_length(sample.texts, tokenizer, manifest.max_length)]
    alone_in_torch = NetworkClassifier(network, tokenizer, manifest.labels, columns=columns, token_budget=1)
    reference = alone_in_torch.logits(texts)
    return [_measured(scorer, texts, reference, sample) for scorer in scorers]


def _measured(
    scorer: OnnxScorer, texts: Sequence[str], reference: NDArray[np.float32], sample: Sample
) -> ParityRecord:
    before = scorer.probabilities(reference)
    encoded = scorer.encode(texts)
    served = score_encoded(scorer, encoded, token_budget=1024)
    rows = [np.array([row]) for row in range(len(texts))]
    alone_logits = np.concatenate([scorer.logits(encoded, row) for row in rows])
    alone = scorer.probabilities(alone_logits)
    difference = np.abs(before - served)
    accuracy, calibration = _against_labels(scorer, before, served, sample)
    return ParityRecord(
        provider=scorer.provider,
        texts=len(texts),
        lengths=(int(encoded.lengths.min()), int(np.median(encoded.lengths)), int(encoded.lengths.max())),
        max_logit_difference=float(np.abs(reference - alone_logits).max()),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        label_agreement=float((scorer.label(before) == scorer.label(served)).mean()),
        batch_difference=float(np.abs(alone - served).max()),
        padding_difference=_padding_difference(scorer, encoded, alone),
        accuracy=accuracy,
        calibration=calibration,
        labelled=sum(label is not None for label in sample.labels),
    )


def _padding_difference(scorer: OnnxScorer, encoded: Tokens, alone: NDArray[np.float32]) -> float:
    """How much a probability moves when its text is beside the longest padding there can be."""
    by_length = np.argsort(encoded.lengths, kind="stable")
    some = by_length[np.linspace(0, len(by_length) - 1, min(PADDED_TEXTS, len(by_length))).astype(int)]
    most = scorer.manifest.max_length
    padded = [
        scorer.probabilities(scorer.logits(encoded, np.array([row]), width=most)) for row in some.tolist()
    ]
    return float(np.abs(np.concatenate(padded) - alone[some]).max())


def _against_labels(
    scorer: OnnxScorer, before: NDArray[np.float32], served: NDArray[np.float32], sample: Sample
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Accuracy and expected calibration error of the checkpoint and of the bundle."""
    labels = scorer.manifest.labels
    known = [row for row, label in enumerate(sample.labels) if label in labels]
    if len(known) < FEWEST_LABELLED:
        return None, None
    truth = np.array([labels.index(sample.labels[row]) for row in known])
    columns = [0, 2] if len(labels) == 2 else [0, 1, 2]
    found = []
    for probabilities in (before, served):
        measured = Measure(Rows(probabilities[known][:, columns].astype(np.float64), truth, labels))
        found.append({name: float(value[0]) for name, value in measured(np.ones((1, len(known)))).items()})
    return (
        (found[0]["accuracy"], found[1]["accuracy"]),
        (found[0]["ece"], found[1]["ece"]),
    )


def beyond(parity: ParityRecord, stored: Storage, computed: Compute = "float32") -> list[str]:
    """What is outside a tolerance, a sentence each."""
    where = f" on {parity.provider}"
    tolerance, logit_tolerance, allows = TOLERANCE[stored], LOGIT_TOLERANCE[stored], f"{stored} storage"
    remedy = "Store it with more bits."
    if computed == "int8":
        tolerance, logit_tolerance, allows = COMPUTED_INT8, COMPUTED_INT8_LOGIT, "computing in int8"
        remedy = "Calibrate it on more texts, or on texts like these, or export it with --compute float32."
    why = []
    if parity.max_probability_difference > tolerance:
        why.append(
            f"The exported model differs from its checkpoint by {parity.max_probability_difference:.2g} "
            f"in a probability{where}; {allows} allows {tolerance:g}."
        )
    if parity.max_logit_difference > logit_tolerance:
        why.append(
            f"The exported model differs from its checkpoint by {parity.max_logit_difference:.2g} "
            f"in a logit{where}; {allows} allows {logit_tolerance:g}."
        )
    if parity.label_agreement < LABEL_AGREEMENT:
        why.append(
            f"The exported model gives {parity.label_agreement:.2%} of the texts the label that its "
            f"checkpoint does{where}; at least {LABEL_AGREEMENT:.1%} are wanted. {remedy}"
        )
    for what, moved in (("batch mates", parity.batch_difference), ("padding", parity.padding_difference)):
        if moved > BATCH_TOLERANCE:
            why.append(
                f"The exported model's scores depend on {what} by {moved:.2g}{where}; the "
                f"tolerance is {BATCH_TOLERANCE:g}."
            )
    if parity.accuracy and parity.accuracy[0] - parity.accuracy[1] > ACCURACY_TOLERANCE:
        why.append(
            f"Accuracy falls from {parity.accuracy[0]:.4f} to {parity.accuracy[1]:.4f}{where}; at most "
            f"{ACCURACY_TOLERANCE:g} is allowed. {remedy}"
        )
    if parity.calibration and parity.calibration[1] - parity.calibration[0] > CALIBRATION_TOLERANCE:
        why.append(
            f"The calibration error rises from {parity.calibration[0]:.4f} to {parity.calibration[1]:.4f}"
            f"{where}; at most {CALIBRATION_TOLERANCE:g} is allowed."
        )
    return why
