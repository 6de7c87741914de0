"""A worker whose model fails on a batch with a text that says "poison", as runtimes do on hostile input."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream import logs, worker
from stream.scorer.constant import ConstantScorer
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Texts(NamedTuple):
    lengths: NDArray[np.int32]
    texts: Sequence[str]


class PoisonedScorer(ConstantScorer):
    def encode(self, texts: Sequence[str]) -> Texts:  # type: ignore[override]
        return Texts(np.ones(len(texts), np.int32), texts)

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:  # type: ignore[override]
        if any("poison" in encoded.texts[row] for row in rows):
            raise RuntimeError("Non-zero status code returned while running Attention node")
        return super().score(encoded, rows)  # type: ignore[arg-type]


if __name__ == "__main__":
    worker.load_scorer = lambda _: PoisonedScorer()  # type: ignore[assignment]
    settings = load()
    logs.configure(settings)
    asyncio.run(worker.serve(settings))
