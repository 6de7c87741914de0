"""Fine-tuning: AdamW, warm-up and linear decay, batches of like lengths, early stopping on held-out loss.

Rules:
- The same seed and data give the same weights on the same machine: every epoch seeds its own order and
  dropout, so a run that was cut off continues from its last epoch as if it had not been.
- Held-out samples choose the epoch; nothing else does.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from models.calibrate import fit_temperature, negative_log_likelihood
from models.checkpoint import save_checkpoint
from models.network import ReviewClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer
    from torch import Tensor

    from models.corpora import Sample


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on, besides its data."""

    learning_rate: float = 5e-5
    head_learning_rate: float = 1e-3
    epochs: int = 2
    patience: int = 2
    """Epochs without a better held-out loss until the run ends."""
    batch_size: int = 32
    warm_up: float = 0.1
    """Share of the steps over which the rate rises."""
    weight_decay: float = 0.01
    max_length: int = 96
    """Tokens of a training text. Serving reads more; attention is to positions the base model knows."""
    freeze_words: bool = True
    """Whether the word embedding stays as the base model has it, so that words the small training sets lack
    keep their place among those they have."""
    seed: int = 7


class Epoch(NamedTuple):
    """What is told of an epoch."""

    number: int
    train_loss: float
    held_out_loss: float
    held_out_accuracy: float
    best: bool


def finetune(
    network: ReviewClassifier,
    tokenizer: Tokenizer,
    training: Sequence[Sample],
    held_out: Sequence[Sample],
    recipe: Recipe,
    out: Path,
    *,
    on_step: Callable[[int, int, float], None] = lambda *_: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> ReviewClassifier:
    """Trains ``network`` and returns the epoch that was best on ``held_out``.

    Args:
        network: trained in place.
        tokenizer: its truncation is set to the recipe's length.
        training: samples to fit.
        held_out: samples of other reviews.
        recipe: how.
        out: run folder; a run found there with the same recipe is continued.
        on_step: told step, steps in all, and loss.
        on_epoch: told each finished epoch.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(recipe.max_length)
    network.bert.embeddings.word_embeddings.weight.requires_grad_(not recipe.freeze_words)
    encoded = [each.ids for each in tokenizer.encode_batch([sample.text for sample in training])]
    targets = torch.tensor([[1 - sample.target, sample.target] for sample in training])
    pad_id = int(network.config.pad_token_id)
    steps = -(-len(training) // recipe.batch_size) * recipe.epochs
    optimizer = _optimizer(network, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, recipe.warm_up))
    first, best_loss, stale = _resume(network, optimizer, schedule, recipe, out)
    for epoch in range(first, recipe.epochs):
        if stale >= recipe.patience:
            break
        torch.manual_seed(recipe.seed * 1000 + epoch)
        network.train()
        losses = []
        for rows in length_grouped([len(ids) for ids in encoded], recipe.batch_size, recipe.seed + epoch):
            ids, mask = pad([encoded[row] for row in rows], pad_id)
            loss = functional.cross_entropy(network(ids, mask), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            on_step(schedule.last_epoch, steps, losses[-1])
        logits = predict(network, tokenizer, [sample.text for sample in held_out])
        loss_now, accuracy = _judge(logits, held_out)
        is_best = loss_now < best_loss
        best_loss, stale = (loss_now, 0) if is_best else (best_loss, stale + 1)
        if is_best:
            save_checkpoint(network, tokenizer, out / "best")
        _save_state(network, optimizer, schedule, recipe, out, (epoch + 1, best_loss, stale))
        on_epoch(Epoch(epoch, float(np.mean(losses)), loss_now, accuracy, is_best))
    best: ReviewClassifier = ReviewClassifier.from_pretrained(out / "best")
    best.eval()
    return best


def length_grouped(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Rows in batches of like lengths, in random order: shuffled, sorted within 50 batches, cut, shuffled.

    >>> sorted(len(rows) for rows in length_grouped([5, 1, 4, 2, 3], 2, seed=0))
    [1, 2, 2]
    """
    rng = random.Random(seed)
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    batches = []
    for start in range(0, len(rows), 50 * batch_size):
        near = sorted(rows[start : start + 50 * batch_size], key=lengths.__getitem__)
        batches += [near[at : at + batch_size] for at in range(0, len(near), batch_size)]
    rng.shuffle(batches)
    return batches


def pad(encoded: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids padded on the right and their mask, int64 (rows, longest)."""
    longest = max(map(len, encoded))
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in encoded])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in encoded])
    return ids, mask


def predict(
    network: ReviewClassifier, tokenizer: Tokenizer, texts: Sequence[str], *, batch_size: int = 32
) -> NDArray[np.float32]:
    """Logits of ``texts``, float32 (n, 2), in their order; truncation is the tokenizer's."""
    network.eval()
    encoded = [each.ids for each in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    pad_id = int(network.config.pad_token_id)
    logits = np.empty((len(encoded), 2), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits[rows] = network(*pad([encoded[row] for row in rows], pad_id)).numpy()
    return logits


def _optimizer(network: ReviewClassifier, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; no decay of biases and norms; the new classifier learns faster than the encoder."""

    def group(parameters: Iterator[tuple[str, Tensor]], rate: float) -> list[dict[str, object]]:
        named = list(parameters)
        decayed = [each for _, each in named if each.requires_grad and each.ndim > 1]
        plain = [each for _, each in named if each.requires_grad and each.ndim <= 1]
        return [
            {"params": decayed, "lr": rate, "weight_decay": recipe.weight_decay},
            {"params": plain, "lr": rate, "weight_decay": 0.0},
        ]

    return torch.optim.AdamW(
        group(network.bert.named_parameters(), recipe.learning_rate)
        + group(network.classifier.named_parameters(), recipe.head_learning_rate)
    )


def _rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the peak learning rate: up over the warm-up, then down to zero.

    >>> [_rate(step, 10, 0.2) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = max(int(steps * warm_up), 1)
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / (steps - rising) if steps > rising else 1.0


def _judge(logits: NDArray[np.float32], held_out: Sequence[Sample]) -> tuple[float, float]:
    """Loss at the temperature that calibration will choose, and accuracy.

    Without the temperature, an epoch would be judged by how sure it is, which calibration undoes.
    """
    positive = np.array([sample.target > 0.5 for sample in held_out])
    loss = negative_log_likelihood(logits, positive, fit_temperature(logits, positive))
    return loss, float(((logits[:, 1] > logits[:, 0]) == positive).mean())


def _save_state(
    network: ReviewClassifier,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    out: Path,
    progress: tuple[int, float, int],
) -> None:
    fresh = out / "state.new"
    torch.save(
        {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": schedule.last_epoch,
            "recipe": asdict(recipe),
            "progress": list(progress),
        },
        fresh,
    )
    fresh.replace(out / "state.pt")


def _resume(
    network: ReviewClassifier,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    out: Path,
) -> tuple[int, float, int]:
    """First epoch to run, best held-out loss, epochs since; another recipe's run is not continued."""
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "state.pt"
    if not state_file.exists():
        return 0, float("inf"), 0
    state = torch.load(
        state_file, weights_only=True
    )  # tensors and plain values only: nothing can be executed
    if state["recipe"] != asdict(recipe):
        return 0, float("inf"), 0
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.last_epoch = state["step"]
    epoch, best_loss, stale = state["progress"]
    return int(epoch), float(best_loss), int(stale)
