"""``python -m stream.drill.worker``: a worker as it ships, but its model is slow, or a text kills it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream import logs, worker
from stream.scorer.constant import ConstantScorer
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEADLY = "drill: this text kills"


class Texts(NamedTuple):
    """Texts, and one token for each."""

    lengths: NDArray[np.int32]
    texts: Sequence[str]


class DrillScorer(ConstantScorer):
    """The constant scorer with a fault.

    Args:
        text_s: seconds that a text takes.
        is_mortal: whether ``DEADLY`` kills the process, as a fault in native code or the lack of memory does.
    """

    version = "drill"

    def __init__(self, text_s: float, *, is_mortal: bool) -> None:
        super().__init__()
        self._text_s = text_s
        self._is_mortal = is_mortal

    def encode(self, texts: Sequence[str]) -> Texts:  # type: ignore[override]
        """The texts as they are."""
        return Texts(np.ones(len(texts), np.int32), texts)

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:  # type: ignore[override]
        """The constant, after a while, or never."""
        if self._is_mortal and any(encoded.texts[row] == DEADLY for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._text_s * len(rows))
        return super().score(encoded, rows)  # type: ignore[arg-type]


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(prog="python -m stream.drill.worker", description=__doc__)
    parser.add_argument("--text-s", type=float, default=0.0, help="seconds that a text takes")
    parser.add_argument("--mortal", action="store_true", help="dies of a certain text")
    options = parser.parse_args()
    scorer = DrillScorer(options.text_s, is_mortal=options.mortal)
    # There is no setting for a faulty model, and there shall be none.
    worker.load_scorer = lambda _: scorer  # type: ignore[assignment, attr-defined]
    settings = load(scorer="constant")
    logs.configure(settings)
    asyncio.run(worker.serve(settings))


if __name__ == "__main__":
    main()
