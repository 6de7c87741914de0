"""Would a probability be quicker evidence than a label? ``reviewpulse bench evidence``.

Rules:
- Texts and truth are real: reviews of ``stream.bench.incidents``' data sets with 1 or 2 stars against the
  others, scored by the bundle. A stream draws from both with a known share of true negatives.
- Each way to weigh a text is a CUSUM of log-likelihood ratios with the baseline known, for a rise to the same
  odds ratio, at the same run length, measured on the same streams:
  ``label``: was it called negative, P above one half? As the worker does.
  ``over 0.8`` and so on: was it called negative with more certainty?
  ``probability``: the calibrated P(negative), from a model that was trained on as many negatives as others.
  ``bound``: densities of P(negative) among these very texts, in ``BINS`` bins: about the best use of a score.
- Nothing is said of learning: a plug-in baseline would cost all three alike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.bench.incidents import read_streams
from stream.core.events import LABELS
from stream.errors import UsageError
from stream.scorer.contract import score_encoded
from stream.scorer.load import load_scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.random import Generator

    from stream.scorer.contract import Scorer
    from stream.settings import Settings

Floats: TypeAlias = NDArray[np.float64]

CERTAINTIES = (0.7, 0.8, 0.9, 0.95)
WAYS = ("label", *(f"over {each}" for each in CERTAINTIES), "probability", "bound")
BINS = 20
STREAMS, EVENTS = 1_000, 10_000
"""Of each cell, to find the threshold: ten million events, a thousand alarms at a run length of 10,000."""
TRIES, LONGEST = 2_000, 4_000
"""Rises of each cell, and how many events they are watched for."""
SHARES = (0.05, 0.12, 0.2, 0.35)
ODDS = (2.5, 4.0, 8.0)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A usual share and a rise."""

    share: float
    """Of true negatives, before."""
    raised: float
    """The same after the onset."""
    delay: dict[str, float]
    """Mean events from the onset to the alarm, by way."""
    ratio: dict[str, float]
    """To the delay by labels."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole bench."""

    model_version: str
    texts: dict[str, int]
    """Scored, by their stars' verdict."""
    accuracy: float
    run_length: float
    seed: int
    cells: list[Cell]


class Scores(NamedTuple):
    """P(negative) of texts whose stars say so, and of those whose stars say the contrary."""

    negative: Floats
    positive: Floats


class _Way(NamedTuple):
    """What a text of each kind adds to the evidence; rows as in ``Scores``."""

    negative: Floats
    positive: Floats


def run(
    data: Path,
    settings: Settings,
    *,
    texts: int,
    run_length: float,
    seed: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Scores and simulates.

    Args:
        data: folder of ``stream.bench.incidents.DATA_SETS``.
        settings: which bundle scores.
        texts: of each verdict, at most.
        run_length: events between two false alarms.
        seed: of all that is drawn.
        on_step: called with what is being done.

    Raises:
        UsageError: a data set is missing.
        BundleError: the bundle cannot be used.
    """
    chance = np.random.default_rng(seed)
    on_step("reading reviews")
    chosen = [_drawn(chance, of_verdict, texts) for of_verdict in read_texts(data)]
    on_step(f"scoring {sum(map(len, chosen)):,} reviews")
    scorer = load_scorer(settings)
    scores = Scores(*(_scored(scorer, some, settings.token_budget) for some in chosen))
    cells = []
    for share in SHARES:
        on_step(f"rises from {share:.0%}")
        cells += [_cell(chance, scores, share, odds, run_length) for odds in ODDS]
    right = np.sum(scores.negative > 0.5) + np.sum(scores.positive <= 0.5)
    return Report(
        model_version=scorer.version,
        texts={"negative": len(scores.negative), "positive": len(scores.positive)},
        accuracy=float(right / sum(map(len, scores))),
        run_length=run_length,
        seed=seed,
        cells=cells,
    )


def read_texts(data: Path) -> tuple[list[str], list[str]]:
    """Texts with 1 or 2 stars, and the others.

    Raises:
        UsageError: a data set is missing or cannot be read.
    """
    verdicts: tuple[list[str], list[str]] = ([], [])
    for streams in read_streams(data):
        for observations in streams.by_product.values():
            for each in observations:
                verdicts[not each.negative].append(each.text)
    return verdicts


def _drawn(chance: Generator, texts: list[str], most: int) -> list[str]:
    return [texts[at] for at in chance.permutation(len(texts))[:most]]


def _scored(scorer: Scorer[Any], texts: Sequence[str], token_budget: int) -> Floats:
    probabilities = score_encoded(scorer, scorer.encode(texts), token_budget=token_budget)
    return np.asarray(probabilities[:, LABELS.index("negative")], np.float64)


def raised_share(share: float, odds: float) -> float:
    """The share with so many times the odds.

    >>> raised_share(0.2, 4.0)
    0.5
    """
    return share * odds / (share * odds + 1.0 - share)


def weights_of(scores: Scores, share: float, raised: float) -> dict[str, _Way]:
    """Log-likelihood ratio of each text, "raised" to "as ever", by each way."""
    edges = np.quantile(np.concatenate(scores), np.linspace(0, 1, BINS + 1)[1:-1])
    binned = [np.digitize(each, edges) for each in scores]
    # One text more in each bin than there is: an empty one proves nothing.
    counts = [np.bincount(each, minlength=BINS).astype(np.float64) for each in binned]
    density = [(each + 1.0) / (each.sum() + BINS) for each in counts]

    def by_likelihood(odds_of_negative: Floats) -> Floats:
        ratio: Floats = np.log(
            (raised * odds_of_negative + 1 - raised) / (share * odds_of_negative + 1 - share)
        )
        return ratio

    certain = [np.clip(each, 1e-6, 1 - 1e-6) for each in scores]
    likely = by_likelihood(density[0] / density[1])
    calls = [_by_call(scores, share, raised, each) for each in (0.5, *CERTAINTIES)]
    probability = _Way(*(by_likelihood(each / (1 - each)) for each in certain))
    bound = _Way(likely[binned[0]], likely[binned[1]])
    return dict(zip(WAYS, (*calls, probability, bound), strict=True))


def _by_call(scores: Scores, share: float, raised: float, certainty: float) -> _Way:
    called = [(each > certainty).astype(np.float64) for each in scores]
    # One more of each than there is: a call that never came proves nothing.
    hits, misses = (float((each.sum() + 1.0) / (len(each) + 2.0)) for each in called)
    before, after = (misses + each * (hits - misses) for each in (share, raised))
    if_called, if_not = math.log(after / before), math.log((1 - after) / (1 - before))
    return _Way(*(if_called * each + if_not * (1.0 - each) for each in called))


def _cell(chance: Generator, scores: Scores, share: float, odds: float, run_length: float) -> Cell:
    raised = raised_share(share, odds)
    ways = weights_of(scores, share, raised)
    ordinary = _streams(chance, scores, share, STREAMS, EVENTS)
    rises = _streams(chance, scores, raised, TRIES, LONGEST)
    delay = {}
    for name, way in ways.items():
        threshold = threshold_for(_evidence(way, ordinary), run_length)
        delay[name] = mean_delay(_evidence(way, rises), threshold)
    return Cell(
        share=share,
        raised=raised,
        delay=delay,
        ratio={name: each / delay["label"] for name, each in delay.items()},
    )


class _Streams(NamedTuple):
    """Which texts were written."""

    is_negative: NDArray[np.bool_]
    of_negative: NDArray[np.int32]
    of_positive: NDArray[np.int32]


def _streams(chance: Generator, scores: Scores, share: float, streams: int, events: int) -> _Streams:
    size = (events, streams)
    return _Streams(
        chance.random(size, np.float32) < share,
        chance.integers(len(scores.negative), size=size, dtype=np.int32),
        chance.integers(len(scores.positive), size=size, dtype=np.int32),
    )


def _evidence(way: _Way, streams: _Streams) -> NDArray[np.float32]:
    """Shape (events, streams)."""
    texts = np.where(
        streams.is_negative, way.negative[streams.of_negative], way.positive[streams.of_positive]
    )
    return texts.astype(np.float32)


def threshold_for(evidence: NDArray[np.float32], run_length: float) -> float:
    """The threshold at which a CUSUM that begins anew at zero makes an alarm in ``run_length`` events.

    Of each excursion the peak decides: it makes one alarm or none.
    """
    level = np.zeros(evidence.shape[1], np.float32)
    peak = np.zeros_like(level)
    peaks = []
    for row in evidence:
        level = np.maximum(level + row, 0.0)
        over = level == 0.0
        peaks.append(peak[over & (peak > 0.0)])
        peak = np.where(over, 0.0, np.maximum(peak, level))
    every = np.sort(np.concatenate(peaks))[::-1]
    wanted = round(evidence.size / run_length)
    if not 0 < wanted < len(every):
        raise UsageError(
            f"A run length of {run_length:,.0f} is beyond what {evidence.size:,} simulated events can show."
        )
    return float((every[wanted - 1] + every[wanted]) / 2)


def mean_delay(evidence: NDArray[np.float32], threshold: float) -> float:
    """Mean events until a CUSUM from zero passes ``threshold``; all of them where it never does.

    >>> mean_delay(np.array([[1.0, -1.0], [1.0, 2.5], [1.0, 2.5]], np.float32), 2.25)
    2.5
    """
    level = np.zeros(evidence.shape[1], np.float32)
    delay = np.full(evidence.shape[1], float(len(evidence)))
    waits = np.ones(evidence.shape[1], bool)
    for number, row in enumerate(evidence, 1):
        level = np.maximum(level + row, 0.0)
        passed = waits & (level > threshold)
        delay[passed] = number
        waits &= ~passed
        if not waits.any():
            break
    return float(delay.mean())
