"""``reviewpulse rebuild`` with scores of its own choice, and at its own pace: to be killed, or told apart."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from stream.cli.main import main
from stream.scorer import load
from stream.scorer.constant import ConstantScorer, Counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.scorer.contract import Scorer
    from stream.settings import Settings

PAUSE_S = float(os.environ.get("PAUSE_S", "0"))
NEGATIVE = os.environ.get("NEGATIVE", "")


class Scores(ConstantScorer):
    """Says positive, or negative when asked for; takes its time."""

    def __init__(self) -> None:
        super().__init__((0.9, 0.0, 0.1) if NEGATIVE else (0.1, 0.0, 0.9))
        self.version = "negative" if NEGATIVE else "constant"

    def encode(self, texts: Sequence[str]) -> Counted:
        if PAUSE_S:
            print(len(texts), flush=True)
            time.sleep(PAUSE_S)
        return super().encode(texts)


def scores(_settings: Settings) -> Scorer[Counted]:
    return Scores()


if __name__ == "__main__":
    load.load_scorer = scores  # type: ignore[assignment]
    sys.argv = ["reviewpulse", "rebuild", *sys.argv[1:]]
    main()
