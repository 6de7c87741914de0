"""Fine-tuning: a base and a prepared set in, a calibrated checkpoint out, with one seed or several.

    RUN/run.json           options and fingerprints; a run goes on only with the same
    RUN/seed-7/            one seed's run; see ``models.fitting``
    RUN/seeds.json         each seed's figures, their mean and spread
    RUN/checkpoint/        the best seed's network, tokenizer and record

Rules:
- Validation examples choose the evaluation, the seed and the temperature; nothing else does, and no test
  example is read except to see that none of them is also trained on.
- All that can be known beforehand to be wrong is said before the first step.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch

from models.calibrate import Truth, fit_neutral_band, probability, temperature_of
from models.checkpoint import TrainingRecord, save_checkpoint
from models.classifier import softmax
from models.examples import check_no_leak, classes, noises, targets
from models.fitting import FitOptions, Fitted, Length, Seed, Share, Task, fit
from models.losses import Weighing, judge, label_weights, r_drop, soft_loss, text_weights
from models.metrics import Rows, figures
from models.runs import claim, fingerprint, is_main_process, summarise, write_seeds
from models.start import PoolingChoice, check_labels, check_length, classifier_of, has_head, open_base
from stream.bundle import Metric, TrainingSource
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer
    from torch import Tensor

    from models.examples import Example, PreparedSet
    from models.fitting import Watcher
    from models.start import Base


class ClassifierOptions(FitOptions, frozen=True, kw_only=True):
    """What fine-tuning and distillation have in common."""

    prepared: str = ""
    """Folder that ``reviewpulse prepare`` left."""
    out: str = ""
    """Run folder."""
    seeds: tuple[Seed, ...] = (7,)
    max_length: Length = 256
    """Tokens that serving will read; a longer text's opening tells."""
    train_length: Length | None = None
    """Tokens of a training text, where fewer will do; none is ``max_length``."""
    pooling: PoolingChoice = "auto"
    class_weights: Weighing = "none"
    """Weight of each label's error: ``balanced`` is the inverse of its share, ``by-length`` that of its share
    among texts of the same language and of like length."""
    label_smoothing: Share = 0.0
    """Share of each target that is spread over all labels."""
    r_drop: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Weight of the divergence between two readings of each text under different dropout; 0 reads once."""
    metric: Literal["loss", "macro_f1"] = "loss"
    """What chooses: the validation loss at the temperature that fits best, or macro F1."""
    truth: Truth = "labels"
    """What probabilities shall mean; see ``models.calibrate``."""
    neutral_share: Share = 0.05
    """Share of the validation texts that a two-label model may call undecided."""
    name: str = ""
    """Of the model; the run folder's by default."""
    licence: str = ""
    """Of the base, where it is not known."""
    caveats: tuple[str, ...] = ()
    """Where the model fails, a sentence each; for the model card."""
    training_note: str = ""
    """What a sample is, for the card."""
    metrics_note: str = ""
    """What the sets of the figures are, for the card."""


class TrainOptions(ClassifierOptions, frozen=True, kw_only=True):
    """Options of ``reviewpulse train``; the table ``[train]`` of a recipe."""

    base: str = ""
    """Our name of a packaged base, a folder, or a hub name."""
    new_head: bool = False
    """Whether a classifier's head is dropped, for instance because it has other labels."""


class Trained(NamedTuple):
    """What a run gave."""

    record: TrainingRecord
    runs: tuple[Fitted, ...]
    summary: dict[str, dict[str, float]]
    """Of each figure its mean and standard deviation over the seeds."""


def train(
    prepared: PreparedSet, options: TrainOptions, out: Path, watcher: Watcher, *, restart: bool = False
) -> Trained:
    """Trains, calibrates and leaves ``out/checkpoint``; goes on with a run of the same options.

    Raises:
        UsageError: the set, the base or the options cannot be used, or another run is at ``out``.
    """
    check_examples(prepared)
    base = open_base(options.base)
    check_length(base, max(options.max_length, options.train_length or 0))
    if has_head(base.config) and not options.new_head:
        check_labels(base, prepared.labels)
    claim(out, options, fingerprint_of(prepared), base.where, restart=restart)
    base.tokenizer.enable_truncation(options.train_length or options.max_length)
    training = rows(prepared["train"], base.tokenizer, lessons(options.class_weights, prepared["train"]))
    loss = soft_loss(label_weights(options.class_weights, prepared["train"]), options.label_smoothing)
    task = task_of(training, loss, prepared, base, options)

    def start(seed: int) -> Any:
        return classifier_of(
            base, prepared.labels, pooling=options.pooling, new_head=options.new_head, seed=seed
        )

    return run_seeds(start, task, prepared, base, options, out, watcher)


def task_of(
    training: Sequence[dict[str, Any]],
    loss: Callable[..., Tensor],
    prepared: PreparedSet,
    base: Base,
    options: ClassifierOptions,
) -> Task:
    """What a classifier is fitted to.

    Args:
        training: rows of it.
        loss: of outputs, labels and ``num_items_in_batch``.
        prepared: whose validation split judges.
        base: has the tokenizer, cutting already.
        options: the figure that chooses, and whether texts are read twice.
    """
    return Task(
        training=training,
        validation=rows(prepared["validation"], base.tokenizer),
        collate=Collate(base.config.pad_token_id or 0),
        loss=r_drop(loss, options.r_drop) if options.r_drop else loss,
        judge=judge,
        metric="macro_f1" if options.metric == "macro_f1" else "fitted_loss",
        higher=options.metric == "macro_f1",
        twice=options.r_drop > 0,
    )


def run_seeds(
    start: Callable[[int], Any],
    task: Task,
    prepared: PreparedSet,
    base: Base,
    options: ClassifierOptions,
    out: Path,
    watcher: Watcher,
) -> Trained:
    """Fits a network of each seed, and leaves the best one's calibrated checkpoint at ``out/checkpoint``.

    Args:
        start: the network that a seed starts from.
        task: what it is fitted to.
        prepared: whose validation split calibrates.
        base: names the base and its licence, and has the tokenizer.
        options: how.
        out: run folder, claimed already.
        watcher: told how far it is.

    Raises:
        UsageError: a run diverged, or there is no seed.
    """
    if not options.seeds:
        raise UsageError("There are no seeds to train with; name at least one with --seeds.")
    runs = []
    for seed in options.seeds:
        watcher.stage(f"train, seed {seed}" if len(options.seeds) > 1 else "train")
        network = start(seed)
        runs.append(fit(network, task, options, out / f"seed-{seed}", seed=seed, watcher=watcher))
    best = (max if task.higher else min)(runs, key=lambda run: run.figures[task.metric])
    if best is not runs[-1]:
        network = start(best.seed)
        fit(network, task, options, out / f"seed-{best.seed}", seed=best.seed, watcher=watcher)
    watcher.stage("calibrate")
    base.tokenizer.enable_truncation(options.max_length)
    record = _record(network, base, prepared, options, out)
    summary = summarise(runs)
    if is_main_process():
        write_seeds(runs, summary, best, out)
        save_checkpoint(network, base.tokenizer, out / "checkpoint", record)
    return Trained(record, tuple(runs), summary)


def fingerprint_of(prepared: PreparedSet) -> str:
    """Of what is trained and validated on."""
    return fingerprint((each.text, each.target) for each in prepared["train"] + prepared["validation"])


# --- what can be said beforehand --------------------------------------------------------------------------


def check_examples(prepared: PreparedSet) -> None:
    """Looks for what cannot be learned from, or would flatter.

    Raises:
        UsageError: a split is empty, a text is, a label has no example, or a text is in two splits.
    """
    for split in ("train", "validation"):
        examples = prepared.splits.get(split, [])
        if not examples:
            raise UsageError(
                f"The prepared set has no {split} examples; prepare it again with a share for them."
            )
        empty = sum(1 for each in examples if not each.text.strip())
        if empty:
            raise UsageError(f"{empty} {split} texts are empty; prepare the set again, which drops them.")
        found = Counter(prepared.labels[column] for column in classes(examples))
        missing = [label for label in prepared.labels if not found[label]]
        if missing:
            raise UsageError(
                f"No {split} example is {' or '.join(missing)}: all {len(examples):,} are "
                f"{' or '.join(found)}. A model cannot learn, or be judged on, what it never sees; look at "
                "the label mapping of the set."
            )
    check_no_leak(prepared.splits)


# --- texts ------------------------------------------------------------------------------------------------


def rows(
    examples: Sequence[Example], tokenizer: Tokenizer, wanted: NDArray[np.float32] | None = None
) -> list[dict[str, Any]]:
    """What the training loop reads: ids, cut by the tokenizer, and targets: the examples' or ``wanted``."""
    encoded = tokenizer.encode_batch_fast([example.text for example in examples])
    rows_of = (targets(examples) if wanted is None else wanted).tolist()
    return [{"input_ids": each.ids, "labels": target} for each, target in zip(encoded, rows_of, strict=True)]


def lessons(how: Weighing, examples: Sequence[Example]) -> NDArray[np.float32]:
    """What the loss reads: targets, each times its text's weight, and its noise where there is any.

    Returns:
        float32 (n, labels), or (n, labels + 1) with noise.
    """
    weights = text_weights(examples) if how == "by-length" else np.ones(len(examples))
    weighed = (targets(examples) * weights[:, None]).astype(np.float32)
    noise = noises(examples)[:, None]
    return np.hstack([weighed, noise]) if noise.any() else weighed


class Collate:
    """Rows to a batch, padded on the right to its longest."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, batch: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Token ids and mask, int64 (rows, longest), and targets, float32 (rows, labels)."""
        ids, mask = pad([row["input_ids"] for row in batch], self._pad_id)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.tensor([row["labels"] for row in batch], dtype=torch.float32),
        }


def pad(encoded: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids padded on the right and their mask, int64 (rows, longest)."""
    longest = max(1, *map(len, encoded)) if encoded else 1
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in encoded])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in encoded])
    return ids, mask


def predict(
    network: Any, tokenizer: Tokenizer, texts: Sequence[str], *, batch_size: int = 32
) -> NDArray[np.float32]:
    """Logits of ``texts``, float32 (n, labels), in their order; truncation is the tokenizer's."""
    network.eval()
    encoded = [each.ids for each in tokenizer.encode_batch_fast(list(texts))]
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    pad_id = int(network.config.pad_token_id or 0)
    device = next(network.parameters()).device
    logits = np.empty((len(encoded), network.config.num_labels), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids, mask = pad([encoded[row] for row in chosen], pad_id)
            said = network(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            logits[chosen] = said.float().cpu().numpy()
    return logits


# --- what is left -----------------------------------------------------------------------------------------


def _record(
    network: Any, base: Base, prepared: PreparedSet, options: ClassifierOptions, out: Path
) -> TrainingRecord:
    validation = prepared["validation"]
    logits = predict(network, base.tokenizer, [each.text for each in validation])
    temperature = temperature_of(logits, validation, options.truth)
    band = 0.0
    if len(prepared.labels) == 2:
        band = fit_neutral_band(probability(logits, temperature), options.neutral_share)
    return TrainingRecord(
        name=options.name or out.resolve().name,
        languages=tuple(sorted({each.language for each in prepared["train"] if each.language})),
        base_model=base.name,
        base_licence=base.licence or options.licence or "not stated",
        max_length=options.max_length,
        temperature=round(temperature, 4),
        neutral_band=band,
        trained_on=tuple(dict.fromkeys([*sources(prepared), *base.trained_on])),
        metrics=_metrics(softmax(logits, temperature), classes(validation), prepared.labels),
        caveats=options.caveats,
        training_note=options.training_note,
        metrics_note=options.metrics_note,
    )


def sources(prepared: PreparedSet) -> tuple[TrainingSource, ...]:
    """The sets that were trained on, as the prepared set describes them, else by the examples' own word."""
    stated = prepared.description.get("sources")
    if stated:
        return msgspec.convert(stated, tuple[TrainingSource, ...])
    counted = Counter(each.source or "unnamed" for each in prepared["train"])
    return tuple(
        TrainingSource(name=name, licence="not stated", rows=number)
        for name, number in sorted(counted.items())
    )


def _metrics(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], labels: Sequence[str]
) -> tuple[Metric, ...]:
    found = figures(Rows(probabilities, truth, tuple(labels)))
    return tuple(
        Metric(
            dataset="validation",
            name=name,
            value=round(found[name].value, 4),
            interval=(round(found[name].interval[0], 4), round(found[name].interval[1], 4)),
            rows=len(truth),
        )
        for name in ("accuracy", "macro_f1")
    )
