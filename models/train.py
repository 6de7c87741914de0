"""The whole recipe: sets to samples, trim, fine-tune, calibrate, evaluate, checkpoint.

Rules:
- Each step is a file of this room; this one only puts them in order.
- The run folder holds ``run/`` (to continue an interrupted run) and ``checkpoint/`` (the result).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

import numpy as np
from tokenizers import Tokenizer

from models import corpora
from models.calibrate import fit_neutral_band, fit_temperature, probability
from models.checkpoint import TrainingRecord, save_checkpoint
from models.evaluate import evaluation_sets, figures
from models.finetune import Epoch, Recipe, finetune, predict
from models.network import BASE_LICENCE, BASE_MODEL, base_folder, load_base
from models.trim import kept_ids, trim_embedding, trim_tokenizer
from stream.bundle import Metric, TrainingSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.corpora import Sample
    from models.network import ReviewClassifier

VOCABULARY = 16_000
"""Entries kept of the base model's 30,522: the embedding is half the model, and a bundle ships with the
package. More would help rare words only, which are spelled in pieces instead."""

MAX_LENGTH = 256
"""Tokens that serving reads; most reviews are shorter, and a longer one's title and opening tell."""

CAVEATS = (
    (
        "Trained on sentences about electronics and household goods: sentiment about a story's plot (a sad "
        "but good book) is mistaken for the reviewer's own."
    ),
    (
        "Products whose purpose is to kill or remove something: 'killed all of the aphids' reads as a "
        "complaint; see amazon_pesticide above."
    ),
    "Sarcasm, and praise of another product, are taken at their word.",
    "Mixed reviews go to the side with more words; only the first tokens of a long one are read.",
    "Languages other than English are spelled in single characters; their scores mean nothing.",
    (
        "Probabilities are calibrated on sentences of the training sets' kind; on whole reviews they are off "
        "by the calibration error (ece) above, and the neutral band takes more of them."
    ),
)


class Watcher(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str) -> None:
        """A step of the recipe begins."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """A training step is done."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done."""


def train_english(
    sets: Path, out: Path, watcher: Watcher, *, recipe: Recipe | None = None, evaluation_rows: int = 5000
) -> TrainingRecord:
    """Trains the English model and leaves its checkpoint at ``out/checkpoint``.

    Args:
        sets: folder of the training sets (and of evaluation sets, where it has them).
        out: run folder; an interrupted run there is continued.
        watcher: told how far it is.
        recipe: how to fine-tune.
        evaluation_rows: most texts of each evaluation set, drawn with a fixed seed.

    Raises:
        UsageError: a set or the base model is missing.
    """
    watcher.stage("read")
    sentences = corpora.read_sentences(sets)
    training, held_out = corpora.split(corpora.samples(sentences))
    watcher.stage("trim the vocabulary")
    network, tokenizer = _trimmed_base([sentence.text for sentence in sentences])
    watcher.stage("fine-tune")
    network = finetune(
        network,
        tokenizer,
        training,
        held_out,
        recipe or Recipe(),
        out / "run",
        on_step=watcher.step,
        on_epoch=watcher.epoch,
    )
    tokenizer.enable_truncation(MAX_LENGTH)
    watcher.stage("calibrate")
    logits = predict(network, tokenizer, [sample.text for sample in held_out])
    positive = np.array([sample.target > 0.5 for sample in held_out])
    temperature = fit_temperature(logits, positive)
    band = fit_neutral_band(probability(logits, temperature))
    watcher.stage("evaluate")
    metrics = [*_metrics("held_out", probability(logits, temperature), positive)]
    metrics += _evaluate(network, tokenizer, temperature, sets, evaluation_rows)
    record = TrainingRecord(
        name="en",
        languages=("en",),
        base_model=BASE_MODEL,
        base_licence=BASE_LICENCE,
        max_length=MAX_LENGTH,
        temperature=round(temperature, 4),
        neutral_band=band,
        trained_on=_sources(training),
        metrics=tuple(metrics),
        caveats=CAVEATS,
    )
    save_checkpoint(network, tokenizer, out / "checkpoint", record)
    return record


def _trimmed_base(texts: Sequence[str]) -> tuple[ReviewClassifier, Tokenizer]:
    folder = base_folder()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    keep = kept_ids(tokenizer, texts, VOCABULARY)
    network = load_base(folder)
    trim_embedding(network, keep)
    return network, trim_tokenizer(tokenizer, keep)


def _evaluate(
    network: ReviewClassifier, tokenizer: Tokenizer, temperature: float, sets: Path, most: int
) -> Iterator[Metric]:
    for labelled in evaluation_sets(sets):
        rows = np.random.default_rng(0).permutation(len(labelled.texts))[:most]
        logits = predict(network, tokenizer, [labelled.texts[row] for row in rows])
        yield from _metrics(labelled.name, probability(logits, temperature), labelled.positive[rows])


def _metrics(name: str, p_positive: NDArray[np.float64], positive: NDArray[np.bool_]) -> Iterator[Metric]:
    for figure in figures(p_positive, positive):
        yield Metric(
            dataset=name,
            name=figure.name,
            value=round(figure.value, 4),
            interval=(round(figure.interval[0], 4), round(figure.interval[1], 4)),
            rows=len(positive),
        )


def _sources(training: Sequence[Sample]) -> tuple[TrainingSource, ...]:
    rows = Counter(sample.source for sample in training)
    return tuple(
        TrainingSource(name=name, licence=licence, rows=rows[source])
        for source, (name, licence) in corpora.SOURCES.items()
        if rows[source]
    )
