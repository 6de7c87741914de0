"""Reviews a second of bundles, side by side: ``reviewpulse bench scorer``.

Rules:
- Each bundle scores the same texts in the same windows, turn by turn, so that a machine that slows down slows
  all of them; ratios are of one round.
- A turn is what a worker's score stage does: tokenise a window, cut it by padded tokens, run the batches. A
  worker overlaps the tokenising with the model; here it is in the sum.
- Loading and warming up are before the first turn.
"""

from __future__ import annotations

import statistics
import time
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from stream.errors import EventError, UsageError
from stream.reading import open_file
from stream.scorer.contract import score_encoded
from stream.scorer.lines import text_of
from stream.scorer.load import load_scorer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from stream.scorer.contract import Scorer
    from stream.settings import Settings


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What one bundle did; medians over the rounds."""

    bundle: str
    version: str
    provider: str
    reviews_per_s: float
    tokens_per_s: float
    """Useful ones: padding is not counted."""
    cpu_ms_per_review: float
    times_first: float
    """Reviews a second over those of the first bundle in the same round."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every bundle on the same texts."""

    reviews: int
    rounds: int
    tokens_mean: float
    """Of a review, by the first bundle's tokenizer, after truncation."""
    bundles: tuple[Speed, ...]


class _Turn(msgspec.Struct, frozen=True):
    wall_s: float
    cpu_s: float
    tokens: int


def run(settings: Settings, bundles: Sequence[Path], texts: Sequence[str], *, rounds: int) -> Report:
    """Times every bundle on ``texts``.

    Args:
        settings: provider, threads, token budget and window.
        bundles: folders; the first one is what the others are compared with.
        texts: reviews, at least one.
        rounds: turns each bundle gets.

    Raises:
        BundleError: a bundle is missing or not whole.
        DependencyError: a provider was demanded and cannot be used.
    """
    scorers = [load_scorer(settings.model_copy(update={"bundle": bundle})) for bundle in bundles]
    turns: list[list[_Turn]] = [[] for _ in scorers]
    for _ in range(rounds):
        for scorer, its in zip(scorers, turns, strict=True):
            its.append(_turn(scorer, texts, settings))
    return Report(
        reviews=len(texts),
        rounds=rounds,
        tokens_mean=turns[0][0].tokens / len(texts),
        bundles=tuple(
            Speed(
                bundle=str(bundle),
                version=scorer.version,
                provider=scorer.provider,
                reviews_per_s=statistics.median(len(texts) / turn.wall_s for turn in its),
                tokens_per_s=statistics.median(turn.tokens / turn.wall_s for turn in its),
                cpu_ms_per_review=statistics.median(1000 * turn.cpu_s / len(texts) for turn in its),
                times_first=statistics.median(
                    first.wall_s / turn.wall_s for first, turn in zip(turns[0], its, strict=True)
                ),
            )
            for bundle, scorer, its in zip(bundles, scorers, turns, strict=True)
        ),
    )


def read_reviews(file: str, most: int) -> list[str]:
    """The first ``most`` texts of JSON lines, gzip or not, as serving scores them.

    Raises:
        UsageError: a line has no usable text, or there is none.
    """
    texts = []
    with open_file(file) as opened:
        for number, line in enumerate(islice(opened.lines, most), start=1):
            try:
                texts.append(text_of(line))
            except EventError as error:
                raise UsageError(f"{file}, line {number}: {error}.") from None
    if not texts:
        raise UsageError(f"{file} has no reviews; name JSON lines with a `text`.")
    return texts


def _turn(scorer: Scorer[Any], texts: Sequence[str], settings: Settings) -> _Turn:
    tokens = 0
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for start in range(0, len(texts), settings.window_events):
        encoded = scorer.encode(texts[start : start + settings.window_events])
        score_encoded(scorer, encoded, token_budget=settings.token_budget)
        tokens += int(encoded.lengths.sum())
    return _Turn(time.perf_counter() - wall_s, time.process_time() - cpu_s, tokens)
