"""Which events of a history are negative: says the model, the stars, or the file itself.

Rules:
- A verdict of the model is the one a worker reaches: same scorer, same isolation of texts that break it.
- Scores are kept in a file if one is named, since scoring is nearly all the time a backtest takes. They are
  used again for the same model version and the same texts in the same order, and refused for any other:
  a score depends on its text and the model version alone.
- Stars of 1 and 2 are negative. They are what the customer said, so a backtest by stars leaves out what the
  model gets wrong.
- An event nobody has a verdict on is named and not judged.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from stream import bundle
from stream.core.events import LABELS
from stream.core.spike import Observation
from stream.errors import UsageError
from stream.reading import Flaws
from stream.scorer import isolate
from stream.scorer.constant import ConstantScorer
from stream.scorer.load import load_scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from stream.backtest.read import Countable, Told
    from stream.settings import Settings

Source = Literal["model", "stars", "file"]

NEGATIVE_STARS = 2.0
SCORED_TOGETHER = 512
"""Enough for batches of like lengths, few enough for a progress bar that moves on a CPU."""


class Verdict(NamedTuple):
    """What is said of one event."""

    negative: bool
    p_negative: float


class Verdicts(NamedTuple):
    """What is said of every event."""

    by: str
    """The model's version, or who else said it: an alert names it as its model."""
    of_event: list[Verdict | None]
    flaws: Flaws
    """Events nobody has a verdict on."""


class StoredScores(msgspec.Struct, frozen=True, kw_only=True):
    """A file of scores."""

    format: Literal[1] = 1
    model_version: str
    texts_sha256: str
    negative: list[bool]
    p_negative: list[float | None]
    """None for a text that the model cannot take."""


def by_stars(countable: Countable) -> Verdicts:
    """Verdicts from ratings.

    Raises:
        UsageError: no event has one.
    """
    return _by_row(countable, "stars", _stars, "no rating", "Name its column: --column rating=COLUMN.")


def by_file(countable: Countable) -> Verdicts:
    """Verdicts from the file's own ``label`` or ``p_negative``.

    Raises:
        UsageError: no event has either.
    """
    remedy = 'Each row needs "label" (negative, neutral, positive) or "p_negative" (0 to 1).'
    return _by_row(countable, "file", _own_label, "no label and no p_negative that can be used", remedy)


def _by_row(
    countable: Countable, by: str, verdict_on: Callable[[Told], Verdict | None], lacking: str, remedy: str
) -> Verdicts:
    of_event = [verdict_on(told) for told in countable.told]
    flaws = Flaws()
    for told, verdict in zip(countable.told, of_event, strict=True):
        if verdict is None:
            flaws.add(told.number, lacking)
    if flaws.count == len(of_event):
        raise UsageError(f"All {len(of_event):,} events have {lacking}. {remedy}")
    return Verdicts(by, of_event, flaws)


def _stars(told: Told) -> Verdict | None:
    if told.rating is None:
        return None
    negative = told.rating <= NEGATIVE_STARS
    return Verdict(negative, float(negative))


def _own_label(told: Told) -> Verdict | None:
    """By ``label`` where there is one; else negative is what is likelier negative than not."""
    label, p_negative = told.beside.get("label"), _number(told.beside.get("p_negative"))
    if label in LABELS:
        negative = label == "negative"
        return Verdict(negative, float(negative) if p_negative is None else p_negative)
    return None if p_negative is None or label else Verdict(p_negative >= 0.5, p_negative)


def _number(value: Any) -> float | None:
    """A probability, as JSON or a CSV cell has it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0.0 <= number <= 1.0 else None


def by_model(
    countable: Countable, settings: Settings, scores: Path | None, on_scored: Callable[[int], None]
) -> Verdicts:
    """Verdicts of the model that ``settings`` name, from ``scores`` where that file is there.

    Args:
        countable: what is to be scored.
        settings: the scorer's.
        scores: where scores are kept; None keeps none.
        on_scored: called with the number of texts scored so far.

    Raises:
        UsageError: the file of scores is of another model or other texts, or none at all.
        BundleError: the bundle is missing or not whole.
    """
    texts = [event.text for event in countable.events]
    if scores is not None and scores.exists():
        stored = read_scores(scores, _version(settings), digest_of(texts))
    else:
        stored = _score(texts, settings, on_scored)
        if scores is not None:
            write_scores(scores, stored)
    flaws = Flaws()
    of_event: list[Verdict | None] = []
    for told, negative, p_negative in zip(countable.told, stored.negative, stored.p_negative, strict=True):
        of_event.append(None if p_negative is None else Verdict(negative, p_negative))
        if p_negative is None:
            flaws.add(told.number, "the model cannot take the text")
    if flaws.count == len(texts):
        raise UsageError(
            "The model can take none of the texts: see that --column text=COLUMN names the texts."
        )
    return Verdicts(stored.model_version, of_event, flaws)


def _version(settings: Settings) -> str:
    """Of the model, without loading it."""
    if settings.scorer == "constant":
        return ConstantScorer.version
    return bundle.load_manifest(settings.bundle).version


def _score(texts: Sequence[str], settings: Settings, on_scored: Callable[[int], None]) -> StoredScores:
    scorer = load_scorer(settings)
    negative: list[bool] = []
    p_negative: list[float | None] = []
    for first in range(0, len(texts), SCORED_TOGETHER):
        some = texts[first : first + SCORED_TOGETHER]
        scored = isolate.score(scorer, some, isolate.encode(scorer, some), token_budget=settings.token_budget)
        negative += (scored.labels == LABELS.index("negative")).tolist()
        for row, p in enumerate(scored.probabilities[:, 0].tolist()):
            p_negative.append(None if row in scored.failed else p)
        on_scored(first + len(some))
    return StoredScores(
        model_version=scorer.version,
        texts_sha256=digest_of(texts),
        negative=negative,
        p_negative=p_negative,
    )


def digest_of(texts: Iterable[str]) -> str:
    """SHA-256 of texts in their order, in hex.

    >>> digest_of(["ab", "c"]) == digest_of(["a", "bc"])
    False
    """
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def read_scores(file: Path, model_version: str, texts_sha256: str) -> StoredScores:
    """Scores that were kept.

    Raises:
        UsageError: they are of another model or other texts, or the file is none of scores.
    """
    another = "delete it to score anew, or name another file with --scores"
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=StoredScores)
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror or error}.") from error
    except ValueError as error:  # msgspec's and that of bad UTF-8 are such
        raise UsageError(f"{file} is no file of scores ({error}); name another with --scores.") from error
    if stored.model_version != model_version:
        raise UsageError(
            f"{file} holds scores of model {stored.model_version}, and the bundle is {model_version}:"
            f" {another}."
        )
    if stored.texts_sha256 != texts_sha256 or len(stored.negative) != len(stored.p_negative):
        raise UsageError(
            f"{file} holds scores of other texts (another file, or other --format, --column or --topic):"
            f" {another}."
        )
    return stored


def write_scores(file: Path, stored: StoredScores) -> None:
    """Keeps scores; an interrupted write leaves no half file under that name."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(msgspec.json.encode(stored))
    part.replace(file)


def observed(countable: Countable, verdicts: Verdicts) -> dict[str, list[Observation]]:
    """What the detector sees of each product, in order."""
    by_product: dict[str, list[Observation]] = {}
    for event, verdict in zip(countable.events, verdicts.of_event, strict=True):
        if verdict is None:
            continue
        by_product.setdefault(event.product_id, []).append(
            Observation(
                event.event_id,
                event.arrival_ms,
                event.event_ms,
                verdict.negative,
                verdict.p_negative,
                event.author_id,
                event.text,
                event.category,
            )
        )
    return by_product
