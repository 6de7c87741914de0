"""``reviewpulse rebuild`` with scores of its own choice, and at its own pace: to be killed, or told apart."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from stream.cli.main import main
from stream.scorer import load
from stream.scorer.constant import ConstantScorer, Counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.scorer.contract import Scorer
    from stream.settings import Settings

PAUSE_S = float(os.environ.get("PAUSE_S", "0"))
NEGATIVE = os.environ.get("NEGATIVE", "")


class Scores(ConstantScorer):
    """Says positive, but of complaints, when asked to see them; takes its time."""

    def __init__(self) -> None:
        super().__init__((0.1, 0.0, 0.9))
        self.version = "negative" if NEGATIVE else "constant"

    def encode(self, texts: Sequence[str]) -> Counted:
        if PAUSE_S:
            print(len(texts), flush=True)
            time.sleep(PAUSE_S)
        return Counted(np.array([2 if NEGATIVE and "awful" in text else 1 for text in texts], np.int32))

    def score(self, encoded: Counted, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        complaints = (encoded.lengths[rows] == 2)[:, None]
        return np.where(complaints, (0.9, 0.0, 0.1), (0.1, 0.0, 0.9)).astype(np.float32)

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        return probabilities.argmax(axis=1).astype(np.int8)


def scores(_settings: Settings) -> Scorer[Counted]:
    return Scores()


if __name__ == "__main__":
    load.load_scorer = scores  # type: ignore[assignment]
    sys.argv = ["reviewpulse", "rebuild", *sys.argv[1:]]
    main()
