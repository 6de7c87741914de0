"""A classifier on a split of a prepared set: everything a report or a machine wants to know of it.

Rules:
- Nothing is fitted here: a model's temperature and neutral band are what it came with.
- The truth is a target's likeliest label; how sure the target was is kept with the worst mistakes.
- The worst mistakes are the most confident ones.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models import metrics
from models.classifier import probabilities
from models.curves import Curves, ReliabilityBin, confusion, curves, reliability
from models.examples import classes
from models.metrics import DRAWS, Figure, Rows
from models.slices import Slice, slices
from stream import bundle
from stream.core.events import Label  # noqa: TC001  # msgspec reads the annotation
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.classifier import Classifier
    from models.examples import Example

FORMAT = 1
MISTAKES = 50
MISTAKE_CHARS = 2000
"""Of a mistake's text; a longer one is cut, and says so."""

WEIGHTS = ("model.safetensors", bundle.MODEL)
"""The file of a checkpoint or a bundle that its checksum is of."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Which model it was."""

    name: str
    labels: tuple[Label, ...]
    temperature: float
    neutral_band: float
    sha256: str = ""
    """Of its weights; empty for a baseline."""


class MeasuredSet(msgspec.Struct, frozen=True, kw_only=True):
    """What it was measured on."""

    name: str
    split: str
    rows: int
    rows_by_label: dict[str, int]
    description: dict[str, Any] = msgspec.field(default_factory=dict)


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """A text whose said label was not the true one."""

    row: int
    """In the split, from 0."""
    text: str
    said: Label
    confidence: float
    truth: Label
    truth_probability: float
    """How sure the target is of the true label."""
    language: str = ""
    category: str = ""
    source: str = ""
    stars: float | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured; intervals are 95%."""

    format: int = FORMAT
    model: Model
    set: MeasuredSet
    draws: int
    """Bootstrap resamples behind each figure's interval."""
    figures: dict[str, Figure]
    """As ``models.metrics.figures`` names them."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows are the truth, columns what was said, in the labels' order."""
    reliability: tuple[ReliabilityBin, ...]
    curves: tuple[Curves, ...]
    slices: tuple[Slice, ...]
    mistakes: tuple[Mistake, ...]
    baseline: Evaluation | None = None
    """Of TF-IDF and logistic regression on the same rows."""


def evaluate(
    classifier: Classifier,
    examples: Sequence[Example],
    *,
    name: str = "",
    split: str = "test",
    sha256: str = "",
    description: dict[str, Any] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Evaluation:
    """Measures a classifier on examples whose targets are over its labels.

    Args:
        classifier: the model.
        examples: at least one.
        name: of the set.
        split: of the set.
        sha256: of the model's weights.
        description: of the set.
        draws: bootstrap resamples.
        seed: of the resampling.

    Raises:
        UsageError: there is nothing to measure on, or the labels do not match.
    """
    check_labels(classifier, examples, name or "the set", split)
    texts, truth = [example.text for example in examples], classes(examples)
    rows = Rows(probabilities(classifier, texts), truth, classifier.labels, classifier.neutral_band)
    right = rows.probabilities.argmax(axis=1) == truth
    counts = Counter(truth.tolist())
    return Evaluation(
        model=Model(
            name=classifier.name,
            labels=classifier.labels,
            temperature=classifier.temperature,
            neutral_band=classifier.neutral_band,
            sha256=sha256,
        ),
        set=MeasuredSet(
            name=name,
            split=split,
            rows=len(examples),
            rows_by_label={label: counts[at] for at, label in enumerate(classifier.labels)},
            description=description or {},
        ),
        draws=draws,
        figures=metrics.figures(rows, draws=draws, seed=seed),
        confusion=confusion(rows),
        reliability=reliability(rows),
        curves=curves(rows),
        slices=slices(examples, right),
        mistakes=tuple(_mistakes(rows, examples)),
    )


def check_labels(classifier: Classifier, examples: Sequence[Example], name: str, split: str) -> None:
    """Checks that there is something to measure, with targets over the classifier's labels.

    Raises:
        UsageError: it is not so.
    """
    if not examples:
        raise UsageError(f"The split {split!r} of {name} is empty; name another with --split.")
    wanted = len(examples[0].target)
    if wanted != len(classifier.labels):
        [labels] = [each for each in bundle.LABEL_SETS if len(each) == wanted]
        raise UsageError(
            f"The model {classifier.name} tells {', '.join(classifier.labels)} apart, and {name} has the "
            f"labels {', '.join(labels)}: prepare the set with the model's labels."
        )


ON_CARD = ("accuracy", "macro_f1", "ece")


def for_card(evaluation: Evaluation) -> tuple[bundle.Metric, ...]:
    """What a model card says of a set: the overall figures, and accuracy in every slice that is worse."""

    def metric(name: str, value: float, interval: tuple[float, float], rows: int) -> bundle.Metric:
        low, high = interval
        return bundle.Metric(
            dataset=evaluation.set.name,
            name=name,
            value=round(value, 4),
            interval=(round(low, 4), round(high, 4)),
            rows=rows,
        )

    overall = [
        metric(name, evaluation.figures[name].value, evaluation.figures[name].interval, evaluation.set.rows)
        for name in ON_CARD
        if name in evaluation.figures
    ]
    worse = [
        metric(f"accuracy, {each.kind} {each.value}", each.accuracy, each.interval, each.rows)
        for each in evaluation.slices
        if each.worse
    ]
    return (*overall, *worse)


def weights_checksum(model: Path) -> str:
    """SHA-256 of the weights in a checkpoint or bundle folder; empty where it has none of the known files."""
    found = [model / name for name in WEIGHTS if (model / name).is_file()]
    return bundle.sha256(found[0]) if found else ""


def _mistakes(rows: Rows, examples: Sequence[Example]) -> list[Mistake]:
    said, confidence = rows.probabilities.argmax(axis=1), rows.probabilities.max(axis=1)
    wrong = np.flatnonzero(said != rows.truth)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    labels: Any = rows.labels
    return [
        Mistake(
            row=int(row),
            text=_shortened(examples[row].text),
            said=labels[said[row]],
            confidence=float(confidence[row]),
            truth=labels[rows.truth[row]],
            truth_probability=max(examples[row].target),
            language=examples[row].language,
            category=examples[row].category,
            source=examples[row].source,
            stars=examples[row].stars,
        )
        for row in worst
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= MISTAKE_CHARS else text[:MISTAKE_CHARS] + " […]"
