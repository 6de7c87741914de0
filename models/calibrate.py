"""Probabilities that mean what they say: a temperature, a threshold, and a band of indecision.

Rules:
- All are found on held-out samples, never on an evaluation set.
- Temperature scaling (Guo et al. 2017) changes no label, so accuracy is what it was.
- A model has one temperature, for serving does not know a text's language. Each language of the held-out
  samples weighs the same in it, and each length within a language, however many samples it has; what each
  language would have alone is reported.
- A held-out label that may be wrong (``Example.noise``) is judged as such: else the model would be made less
  sure for the labels' mistakes.
- A threshold moves labels, so it is asked for. It becomes a shift of the network's last bias, which puts it
  at one half: serving, and whoever reads probabilities, needs to know nothing of it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from models.classifier import softmax
from models.examples import Split, classes, kinds, noises, targets
from models.metrics import Figure, Rows, figures
from models.temperature import LEAST, MOST, fit_temperature
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.classifier import Classifier
    from models.examples import Example

FEW = 20
"""Samples of a language below which it is no slice of its own."""


Truth = Literal["labels", "targets"]
"""What a probability shall mean: how often the likeliest label is the right one, which is what a calibration
error measures; or the targets, where these are shares of readers."""


class CalibrateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `reviewpulse calibrate`."""

    checkpoint: str = ""
    prepared: str = ""
    split: Split = "validation"
    share: float = 0.05
    """Of the held-out texts, most that the neutral band may take."""
    truth: Truth = "labels"
    threshold: Literal["half", "macro_f1"] = "half"
    """Where P(positive) becomes positive: at one half, or where macro F1 is best."""


# --- fitting ----------------------------------------------------------------------------------------------


def temperature_of(logits: NDArray[np.float32], examples: Sequence[Example], truth: Truth) -> float:
    """The temperature of held-out examples' logits; languages and lengths weigh alike."""
    said = classes(examples) if truth == "labels" else targets(examples)
    return fit_temperature(logits, said, _alike(examples), noises(examples))


def warning(temperature: float) -> str:
    """What is wrong with a temperature that was fitted; nothing, mostly.

    >>> warning(1.7), warning(MOST)[:31]
    ('', 'The temperature 20 is the bound')
    """
    if LEAST * 1.001 < temperature < MOST / 1.001:
        return ""
    why = "always right" if temperature < 1 else "no better than chance"
    return (
        f"The temperature {temperature:g} is the bound of the search, no optimum: on the held-out samples "
        f"the model is {why}, or they are too few. Do not trust its probabilities."
    )


def probability(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """P(positive), shape (n,), of a two-column model's logits."""
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) / temperature
    return 1 / (1 + np.exp(-margin))


def fit_neutral_band(p_positive: NDArray[np.float64], share: float = 0.05) -> float:
    """The widest band |P(positive) - P(negative)| that takes at most ``share`` of the polar held-out texts.

    Args:
        p_positive: calibrated, of texts that are not neutral, shape (n,).
        share: how many of them may be called undecided.

    >>> fit_neutral_band(np.array([0.55, 0.4, 0.1, 0.9]), share=0.25)
    0.1
    """
    margins = np.sort(np.abs(2 * p_positive - 1))
    # Strictly below the band is neutral: the first margin that must stay outside is the band.
    return round(float(margins[int(share * len(margins))]), 4)


def fit_threshold(p_positive: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The P(positive) above which to say positive for the best macro F1: half-way between two texts.

    >>> fit_threshold(np.array([0.6, 0.7, 0.8, 0.9]), np.array([False, False, True, True])).__round__(2)
    0.75
    """
    order = np.argsort(p_positive)
    ranked, truth = p_positive[order], positive[order]
    # Cut k says negative of the k least: k from 0 to n.
    negatives = np.concatenate([[0], np.cumsum(~truth)])
    cuts = np.arange(len(truth) + 1)
    true_negative, said_negative, all_negative = negatives, cuts, int((~truth).sum())
    true_positive = (len(truth) - cuts) - (all_negative - negatives)
    f1_negative = 2 * true_negative / np.maximum(said_negative + all_negative, 1)
    f1_positive = 2 * true_positive / np.maximum(2 * len(truth) - cuts - all_negative, 1)
    cut = int(np.argmax(f1_negative + f1_positive))
    ends = np.concatenate([[0.0], ranked, [1.0]])
    return float(np.clip((ends[cut] + ends[cut + 1]) / 2, 1e-6, 1 - 1e-6))


# --- a checkpoint -----------------------------------------------------------------------------------------


class Change(NamedTuple):
    """A figure before and after."""

    before: Figure
    after: Figure


class Slice(NamedTuple):
    """Held-out samples of one language, or all."""

    rows: int
    temperature: float
    """That these alone would have."""
    figures: dict[str, Change]


class Calibration(NamedTuple):
    """What was found."""

    temperature: float
    neutral_band: float
    shift: float
    """To add to the last column's logit, so that the threshold comes to lie at one half; 0 without one."""
    slices: dict[str, Slice]
    """``all``, and each language with enough samples, where there are others."""


def calibrate(classifier: Classifier, examples: Sequence[Example], options: CalibrateOptions) -> Calibration:
    """Fits temperature, band and threshold.

    Args:
        classifier: as it is now.
        examples: held out, with the classifier's labels.
        options: which.

    Raises:
        UsageError: there are no samples, or none of one of the labels, or a threshold of three labels is
            asked for.
    """
    if not examples:
        raise UsageError(
            f"The split {options.split} has no samples; take another with --split, or prepare the set again."
        )
    truth = classes(examples)
    missing = [label for column, label in enumerate(classifier.labels) if column not in truth]
    if missing:
        raise UsageError(
            f"Calibration needs samples of every label; the split {options.split} has none of "
            f"{', '.join(missing)}. Take another split with --split, or prepare the set again."
        )
    if options.threshold != "half" and len(classifier.labels) != 2:
        raise UsageError(
            "A threshold is of two labels, and this checkpoint has three; leave out --threshold."
        )
    languages = np.array([example.language for example in examples])
    before = classifier.logits([example.text for example in examples])
    logits, shift = before, 0.0
    if options.threshold == "macro_f1":
        threshold = fit_threshold(probability(before, 1.0), truth == 1)
        shift = float(np.log((1 - threshold) / threshold))
        logits = before + np.array([0, shift], np.float32)
    temperature = round(temperature_of(logits, examples, options.truth), 4)
    band = 0.0
    if len(classifier.labels) == 2:
        band = fit_neutral_band(probability(logits, temperature), options.share)
    slices = {}
    for name, rows in _slices(languages):
        then = softmax(before[rows], classifier.temperature)
        now = softmax(logits[rows], temperature)
        slices[name] = Slice(
            rows=len(rows),
            temperature=round(
                temperature_of(logits[rows], [examples[row] for row in rows], options.truth), 4
            ),
            figures=_changes(then, now, truth[rows], classifier.labels),
        )
    return Calibration(temperature, band, shift, slices)


def _alike(examples: Sequence[Example]) -> NDArray[np.float64]:
    """Weights with which every language has the same sum, and every length within it.

    Languages with few samples count as one. Lengths with few have rows of the mean weight: a handful of very
    long texts says too little to weigh as much as all the others.
    """
    spoken = Counter(example.language for example in examples)
    named = [
        (example.language if spoken[example.language] >= FEW else "", length)
        for example, (_, length) in zip(examples, kinds(examples), strict=True)
    ]
    counts = Counter(named)
    common = {kind: rows for kind, rows in counts.items() if rows >= FEW}
    lengths = Counter(language for language, _ in common)
    rows_of = Counter[str]()
    for (language, _), rows in common.items():
        rows_of[language] += rows
    weights = np.array(
        [
            1 / counts[kind] if kind in common else lengths[kind[0]] / max(rows_of[kind[0]], 1) or 1.0
            for kind in named
        ]
    )
    sums = Counter[str]()
    for (language, _), weight in zip(named, weights.tolist(), strict=True):
        sums[language] += weight
    return np.asarray(weights / [sums[language] for language, _ in named], np.float64)


def _slices(languages: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    yield "all", np.arange(len(languages))
    counts = Counter(languages.tolist())
    for language in sorted(counts):
        if language and FEW <= counts[language] < len(languages):
            yield language, np.flatnonzero(languages == language)


def _changes(
    then: NDArray[np.float64], now: NDArray[np.float64], truth: NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, Change]:
    before, after = (figures(Rows(each, truth, labels)) for each in (then, now))
    return {name: Change(before[name], after[name]) for name in ("accuracy", "macro_f1", "ece", "log_loss")}
