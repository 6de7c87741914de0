"""A model beside the server, for whoever wants to know what it says of a text.

Rules:
- It is loaded when it is first asked for, and off the event loop: most servers never need it, and it takes a
  second and some hundred megabytes.
- One request is scored at a time: the model uses all cores anyway. A few wait; more are told to come again.
- A bundle that does not load is told as it is, and tried again with the next request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.events import LABELS, Label
from stream.errors import ReviewpulseError
from stream.web.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.scorer.contract import Scorer
    from stream.settings import Settings

MOST_WAITING = 8


class ScoreView(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of a text."""

    label: Label
    negative: float
    """Probabilities; the three add up to 1."""
    neutral: float
    positive: float
    sentiment: float
    """P(positive) - P(negative), in [-1, 1]."""
    model_version: str


class Scoring:
    """Scores texts.

    Args:
        settings: which bundle, on what.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scorer: Scorer[Any] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def score(self, texts: Sequence[str]) -> list[ScoreView]:
        """Scores, in the order of the texts.

        Raises:
            Unavailable: the model does not load (503), or too many ask (429).
        """
        if self._waiting >= MOST_WAITING:
            raise Unavailable("Too many texts wait to be scored: ask again soon.", 429)
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(self._score, texts)
        except ReviewpulseError as error:
            raise Unavailable(f"The model does not load: {error}") from error
        finally:
            self._waiting -= 1

    def _score(self, texts: Sequence[str]) -> list[ScoreView]:
        from stream.scorer.contract import score_encoded  # noqa: PLC0415  # numpy: only those who score pay
        from stream.scorer.load import load_scorer  # noqa: PLC0415

        if self._scorer is None:
            self._scorer = load_scorer(self._settings)
        scorer = self._scorer
        probabilities = score_encoded(scorer, scorer.encode(texts), token_budget=self._settings.token_budget)
        labels = scorer.label(probabilities)
        return [
            _view(LABELS[label], [round(float(p), 6) for p in row], scorer.version)
            for label, row in zip(labels, probabilities, strict=True)
        ]


def _view(label: Label, row: Sequence[float], version: str) -> ScoreView:
    negative, neutral, positive = row
    return ScoreView(
        label=label,
        negative=negative,
        neutral=neutral,
        positive=positive,
        sentiment=round(positive - negative, 6),
        model_version=version,
    )
