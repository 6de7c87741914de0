"""Fine-tuning: a base and a prepared set in, a calibrated checkpoint out, with one seed or several.

    RUN/run.json           options and fingerprints; a run goes on only with the same
    RUN/seed-7/            one seed's run; see ``models.fitting``
    RUN/seeds.json         each seed's figures, their mean and spread
    RUN/checkpoint/        the best seed's network, tokenizer and record

Rules:
- Validation examples choose the evaluation, the seed and the temperature; nothing else does, and no test
  example is read except to see that none of them is also trained on.
- Targets are probabilities: the loss is the cross-entropy with them.
- All that can be known beforehand to be wrong is said before the first step.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from torch.nn import functional

from models.checkpoint import TrainingRecord, save_checkpoint
from models.examples import check_no_leak, classes, targets
from models.fitting import FitOptions, Fitted, Task, fit, write_whole
from models.start import PoolingChoice, check_length, classifier_of, open_base
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

BOOTSTRAPS = 1000


class TrainOptions(FitOptions, frozen=True, kw_only=True):
    """Options of ``reviewpulse train``; the table ``[train]`` of a recipe."""

    prepared: str = ""
    """Folder that ``reviewpulse prepare`` left."""
    base: str = ""
    """Our name of a packaged base, a folder, or a hub name."""
    out: str = ""
    """Run folder."""
    seeds: tuple[int, ...] = (7,)
    max_length: int = 256
    """Tokens that serving will read; a longer text's opening tells."""
    train_length: int | None = None
    """Tokens of a training text, where fewer will do; none is ``max_length``."""
    pooling: PoolingChoice = "auto"
    new_head: bool = False
    """Whether a classifier's head is dropped, for instance because it has other labels."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """Weight of each label's error; ``balanced`` is the inverse of its share."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all labels."""
    metric: Literal["loss", "macro_f1"] = "loss"
    """What chooses: the validation loss at the temperature that fits best, or macro F1."""
    neutral_share: float = 0.05
    """Share of the validation texts that a two-label model may call undecided."""
    name: str = ""
    """Of the model; the run folder's by default."""
    licence: str = ""
    """Of the base, where it is not one of ours."""
    caveats: tuple[str, ...] = ()
    """Where the model fails, a sentence each; for the model card."""


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
    check_no_leak(prepared.splits)
    base = open_base(options.base)
    check_length(base, max(options.max_length, options.train_length or 0))
    claim(out, _said(options), fingerprint(prepared["train"] + prepared["validation"]), restart=restart)
    tokenizer = base.tokenizer
    tokenizer.enable_truncation(options.train_length or options.max_length)
    task = Task(
        training=rows(prepared["train"], tokenizer),
        validation=rows(prepared["validation"], tokenizer),
        collate=Collate(base.config.pad_token_id or 0),
        loss=soft_loss(label_weights(options.class_weights, prepared["train"]), options.label_smoothing),
        judge=judge,
        metric="macro_f1" if options.metric == "macro_f1" else "fitted_loss",
        higher=options.metric == "macro_f1",
    )
    runs = []
    for seed in options.seeds:
        watcher.stage(f"fine-tune, seed {seed}" if len(options.seeds) > 1 else "fine-tune")
        network = classifier_of(
            base, prepared.labels, pooling=options.pooling, new_head=options.new_head, seed=seed
        )
        runs.append(fit(network, task, options, out / f"seed-{seed}", seed=seed, watcher=watcher))
    best = (max if task.higher else min)(runs, key=lambda run: run.figures[task.metric])
    if best is not runs[-1]:
        network = classifier_of(
            base, prepared.labels, pooling=options.pooling, new_head=options.new_head, seed=best.seed
        )
        fit(network, task, options, out / f"seed-{best.seed}", seed=best.seed, watcher=watcher)
    watcher.stage("calibrate")
    tokenizer.enable_truncation(options.max_length)
    record = _record(network, base, prepared, options, out)
    summary = summarise(runs)
    if _main_process():
        _write_seeds(runs, summary, best, out / "seeds.json")
        save_checkpoint(network, tokenizer, out / "checkpoint", record)
    return Trained(record, tuple(runs), summary)


# --- what can be said beforehand --------------------------------------------------------------------------


def check_examples(prepared: PreparedSet) -> None:
    """Looks for what cannot be learned from.

    Raises:
        UsageError: a split is empty, a text is, or a label has no example.
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


def claim(out: Path, options: Mapping[str, Any], data: str, *, restart: bool) -> None:
    """Takes a run folder for a run, or finds that it is this run's already.

    Raises:
        UsageError: another run is there, or something else.
    """
    stated = {"options": msgspec.json.decode(msgspec.json.encode(options)), "data": data}
    file = out / "run.json"
    if restart and file.is_file() and _main_process():
        shutil.rmtree(out)
    if file.is_file():
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        before = known.get("options", {})
        other = [
            f"{key} {before.get(key)!r}, not {value!r}"
            for key, value in stated["options"].items()
            if before.get(key) != value
        ]
        if known.get("data") != data:
            other.append("other examples")
        if other:
            raise UsageError(
                f"{out} holds a run with {'; '.join(other)}. Name another --out, or start this one anew "
                "with --restart, which deletes the other."
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} exists and is not a run; name another folder with --out.")
    if _main_process():
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, msgspec.json.format(msgspec.json.encode(stated)) + b"\n")


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of texts and targets, in order."""
    digest = hashlib.sha256()
    for each in examples:
        digest.update(msgspec.json.encode((each.text, each.target)))
    return digest.hexdigest()


def _said(options: TrainOptions) -> dict[str, Any]:
    """What a run's weights depend on; how often it is saved, and where, is not of it."""
    aside = {"prepared", "out", "save_minutes", "save_steps", "threads", "device", "seeds", "name"}
    aside |= {"licence", "caveats", "neutral_share"}
    return {key: value for key, value in msgspec.structs.asdict(options).items() if key not in aside}


# --- texts, loss and judgement ----------------------------------------------------------------------------


def rows(examples: Sequence[Example], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """What the training loop reads: token ids, cut by the tokenizer, and targets."""
    encoded = tokenizer.encode_batch_fast([example.text for example in examples])
    return [
        {"input_ids": each.ids, "labels": example.target}
        for each, example in zip(encoded, examples, strict=True)
    ]


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


def label_weights(
    given: Literal["none", "balanced"] | tuple[float, ...], examples: Sequence[Example]
) -> tuple[float, ...] | None:
    """A weight for each label, or none; they average 1 over the examples.

    Raises:
        UsageError: there are more or fewer than labels, or one is not positive.
    """
    if given == "none":
        return None
    shares = targets(examples).mean(axis=0)
    weights = 1 / shares if given == "balanced" else np.array(given, np.float64)
    if len(weights) != len(shares) or not (weights > 0).all():
        raise UsageError(
            f"class_weights has {len(weights)} values; wanted {len(shares)} positive ones, a label each."
        )
    return tuple(float(each) for each in weights / (weights * shares).sum())


def soft_loss(weights: Sequence[float] | None, smoothing: float) -> Callable[..., Tensor]:
    """Cross-entropy with probabilities: summed over the rows, divided by those of the whole step."""

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        logits = outputs.logits.float()
        wanted = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        terms = wanted * functional.log_softmax(logits, dim=-1)
        if weights:
            terms = terms * torch.tensor(weights, device=terms.device)
        return -terms.sum() / rows_of_step(labels, num_items_in_batch)

    return loss


def rows_of_step(labels: Tensor, num_items_in_batch: Tensor | None) -> Tensor | int:
    """Texts that a step's loss is averaged over; Trainer counts the numbers in their ``labels``."""
    return len(labels) if num_items_in_batch is None else num_items_in_batch / labels.shape[-1]


def judge(said: Any) -> dict[str, float]:
    """Figures of an evaluation: its loss at the best temperature, accuracy, macro F1.

    Without the temperature, an epoch would be judged by how sure it is, which calibration undoes.

    Args:
        said: Trainer's ``EvalPrediction``: logits, float32 (n, labels), and targets of that shape.
    """
    logits = np.asarray(said.predictions, np.float64)
    wanted = np.asarray(said.label_ids, np.float64)[:, : logits.shape[1]]
    temperature = fit_temperature(logits, wanted)
    said_columns, true_columns = logits.argmax(axis=1), wanted.argmax(axis=1)
    return {
        "fitted_loss": soft_nll(logits, wanted, temperature),
        "accuracy": float((said_columns == true_columns).mean()),
        "macro_f1": macro_f1(said_columns, true_columns, logits.shape[1]),
    }


def soft_nll(logits: NDArray[np.float64], wanted: NDArray[np.float64], temperature: float) -> float:
    """Mean cross-entropy, in nats, of probabilities with logits over ``temperature``."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    logs = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return float(-(wanted * logs).sum(axis=1).mean())


def fit_temperature(logits: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """The temperature with the least cross-entropy, by golden-section search."""
    ratio = (5**0.5 - 1) / 2
    low, high = np.log(0.05), np.log(20.0)
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if soft_nll(logits, wanted, float(np.exp(left))) < soft_nll(logits, wanted, float(np.exp(right))):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def macro_f1(said: NDArray[np.int64], true: NDArray[np.int64], labels: int) -> float:
    """Mean of the labels' F1.

    >>> macro_f1(np.array([1, 1]), np.array([1, 0]), 2)
    0.3333333333333333
    """
    scores = []
    for label in range(labels):
        hits = int(((said == label) & (true == label)).sum())
        wrong = int(((said == label) != (true == label)).sum())
        scores.append(2 * hits / (2 * hits + wrong) if hits or wrong else 0.0)
    return float(np.mean(scores))


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


def summarise(runs: Sequence[Fitted]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of a sample; 0 for one) of each figure over the seeds."""
    names = [name for name in runs[0].figures if name != "epoch"]
    values = {name: np.array([run.figures[name] for run in runs]) for name in names}
    return {
        name: {"mean": float(each.mean()), "spread": float(each.std(ddof=1)) if len(each) > 1 else 0.0}
        for name, each in values.items()
    }


def _write_seeds(
    runs: Sequence[Fitted], summary: dict[str, dict[str, float]], best: Fitted, file: Path
) -> None:
    stated = {"best": best.seed, "figures": summary, "runs": runs}
    write_whole(file, msgspec.json.format(msgspec.json.encode(stated)) + b"\n")


def _record(
    network: Any, base: Base, prepared: PreparedSet, options: TrainOptions, out: Path
) -> TrainingRecord:
    from models.calibrate import fit_neutral_band, probability

    validation = prepared["validation"]
    logits = predict(network, base.tokenizer, [each.text for each in validation])
    temperature = fit_temperature(logits.astype(np.float64), targets(validation).astype(np.float64))
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
        trained_on=sources(prepared),
        metrics=tuple(_metrics(logits, classes(validation))),
        caveats=options.caveats,
    )


def sources(prepared: PreparedSet) -> tuple[TrainingSource, ...]:
    """The sets that were trained on, with the licences that the prepared set's description gives."""
    licences = prepared.description.get("licences", {})
    counted = Counter(each.source or "unnamed" for each in prepared["train"])
    return tuple(
        TrainingSource(name=name, licence=str(licences.get(name, "not stated")), rows=number)
        for name, number in sorted(counted.items())
    )


def _metrics(logits: NDArray[np.float32], true: NDArray[np.int64]) -> list[Metric]:
    said, labels = logits.argmax(axis=1), logits.shape[1]
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(true), len(true)) for _ in range(BOOTSTRAPS)]
    figures: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64]], float]] = {
        "accuracy": lambda said, true: float((said == true).mean()),
        "macro_f1": lambda said, true: macro_f1(said, true, labels),
    }
    metrics = []
    for name, figure in figures.items():
        low, high = np.quantile([figure(said[rows], true[rows]) for rows in draws], (0.025, 0.975))
        metrics.append(
            Metric(
                dataset="validation",
                name=name,
                value=round(figure(said, true), 4),
                interval=(round(float(low), 4), round(float(high), 4)),
                rows=len(true),
            )
        )
    return metrics


def _main_process() -> bool:
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
