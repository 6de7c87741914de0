"""What evaluation, comparison, calibration and distillation ask: logits of texts, whoever gives them.

Rules:
- Columns are in the order of ``labels``, which is one of ``stream.bundle.LABEL_SETS``.
- Texts come as serving would score them; truncation and padding are the classifier's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.core.events import Label


class Classifier(Protocol):
    """A checkpoint, a bundle or a baseline."""

    name: str
    """For people and reports."""
    labels: tuple[Label, ...]
    temperature: float
    """That its logits are divided by; 1 when it was not calibrated."""
    neutral_band: float
    """Two labels nearer to each other than this mean neutral; 0 when there is no band, or three labels."""

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits before the temperature, float32 (n, labels)."""


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 (n, labels).

    >>> softmax(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def probabilities(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float64]:
    """Calibrated probabilities, float64 (n, labels)."""
    return softmax(classifier.logits(texts), classifier.temperature)
