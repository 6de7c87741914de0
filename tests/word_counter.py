"""A classifier that counts words: what it says of a text can be worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.core.events import Label


class WordCounter:
    """Logits are the numbers of bad and good words in a text; neutral's logit is 0.5."""

    def __init__(
        self,
        good: Sequence[str] = ("good",),
        bad: Sequence[str] = ("bad",),
        *,
        labels: tuple[Label, ...] = ("negative", "positive"),
        name: str = "counter",
        neutral_band: float = 0.0,
    ) -> None:
        self.name, self.labels = name, labels
        self.temperature, self.neutral_band = 1.0, neutral_band
        self._good, self._bad = good, bad

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        for text in texts:
            bad, good = (sum(map(text.count, words)) for words in (self._bad, self._good))
            rows.append([bad, good] if len(self.labels) == 2 else [bad, 0.5, good])
        return np.array(rows, np.float32)
