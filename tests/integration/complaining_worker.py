"""A worker whose model takes a text for a complaint when it begins with "Bad"."""

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

SURE = np.float32(0.9)


class Complaints(NamedTuple):
    lengths: NDArray[np.int32]
    negative: NDArray[np.bool_]


class ComplainingScorer(ConstantScorer):
    def encode(self, texts: Sequence[str]) -> Complaints:  # type: ignore[override]
        negative = np.array([text.startswith("Bad") for text in texts], np.bool_)
        return Complaints(np.ones(len(texts), np.int32), negative)

    def score(self, encoded: Complaints, rows: NDArray[np.intp]) -> NDArray[np.float32]:  # type: ignore[override]
        p_negative = np.where(encoded.negative[rows], SURE, 1 - SURE).astype(np.float32)
        return np.stack([p_negative, np.zeros_like(p_negative), 1 - p_negative], axis=1)

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        return probabilities.argmax(axis=1).astype(np.int8)


if __name__ == "__main__":
    worker.load_scorer = lambda _: ComplainingScorer()  # type: ignore[assignment]
    settings = load()
    logs.configure(settings)
    asyncio.run(worker.serve(settings))
