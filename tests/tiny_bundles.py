"""Bundles of tiny random networks, for tests: alike, with their labels exchanged, or altered."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import tiny_models
import torch

from export.bundle import write_bundle
from models.checkpoint import TrainingRecord

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from stream.bundle import Metric

TEXTS = ["good", "the battery broke, awful!", "great player", "bad refund", "rare 123", "it works. " * 20, ""]


def record(name: str, metrics: tuple[Metric, ...] = (), temperature: float = 1.0) -> TrainingRecord:
    return TrainingRecord(
        name=name,
        languages=("en",),
        base_model="random",
        base_licence="none",
        max_length=48,
        temperature=temperature,
        neutral_band=0.0,
        trained_on=(),
        metrics=metrics,
        caveats=("It is random.",),
    )


def make_bundle(
    folder: Path,
    *,
    name: str = "tiny",
    nudge: float = 0.0,
    exchanged: bool = False,
    metrics: tuple[Metric, ...] = (),
    temperature: float = 1.0,
) -> Path:
    """A bundle; those of one nudge and name are the same, small nudges make nearly the same scores.

    Args:
        folder: where.
        name: of the model; its content is part of the version anyway.
        nudge: what is added to its last layer's weights.
        exchanged: whether it says negative where the others say positive.
        metrics: that its manifest states.
        temperature: likewise.
    """
    tokenizer = tiny_models.wordpiece()
    tokenizer.enable_truncation(48)
    network = tiny_models.classifier(tokenizer.get_vocab_size())
    with torch.no_grad():
        _spread(network, tokenizer)
        network.classifier.weight[0] += nudge
        if exchanged:
            network.classifier.weight.copy_(network.classifier.weight.flip(0))
            network.classifier.bias.copy_(network.classifier.bias.flip(0))
    stated = record(name, metrics, temperature)
    write_bundle(network, tokenizer, stated, folder, parity_texts=TEXTS, storage="float32")
    return folder


def _spread(network: Any, tokenizer: Tokenizer) -> None:
    """Has the labels differ: a random network says nearly the same of every text."""
    chance = random.Random(0)
    ids = [tokenizer.encode(some_text(chance)).ids for _ in range(60)]
    said = torch.cat([network(input_ids=torch.tensor([each])).logits for each in ids])
    margins = said[:, 0] - said[:, 1]
    gain = 2 / margins.std()
    network.classifier.weight *= gain
    network.classifier.bias *= gain
    network.classifier.bias[0] -= margins.mean() * gain


def some_text(chance: random.Random) -> str:
    """A few of the words that the tiny tokenizers know."""
    return " ".join(chance.choice(tiny_models.WORDS) for _ in range(chance.randrange(3, 20)))
