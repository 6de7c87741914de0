"""The loop that fine-tuning, adaptation and distillation share: transformers' Trainer, made resumable.

    FOLDER/checkpoint-N/   network, optimizer, schedule and progress after step N; the last one only
    FOLDER/best/           the network of the best evaluation
    FOLDER/history.csv     what was logged; history.svg shows it
    FOLDER/result.json     the ``Fitted``: the run is finished

Rules:
- Every random choice is a function of the seed and the step: the order of an epoch is drawn from seed and
  epoch, dropout from seed and step, masks from seed, epoch and row. So a run that was killed goes on from its
  last checkpoint as if it had not been, and no random state has to be stored.
- A checkpoint folder is whole or absent: written beside its place, then renamed. An evaluation is in the same
  checkpoint as the step it judges.
- What is read back is tensors and plain values: safetensors, JSON, and the optimizer's and schedule's files,
  which PyTorch wrote with pickle and reads with ``weights_only=True``, which executes nothing.
- The loss of a step is a sum over its texts divided by their number, over all its micro-batches and devices:
  four batches of 8 are one of 32.
"""

from __future__ import annotations

import csv
import io
import math
import random
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import msgspec
import torch
from safetensors.torch import load_file
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from models.writing import disk_errors, fresh_folder, write_whole
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NEVER = 10**9
"""Steps between checkpoints by Trainer's own count; ours are by time and at evaluations."""


Count = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Length = Annotated[int, msgspec.Meta(ge=8)]


Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
"""What NumPy and PyTorch both take."""


class FitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What every training loop depends on besides its data; defaults are for small sets."""

    learning_rate: Rate = 5e-5
    head_learning_rate: Rate | None = 1e-3
    """Of what is outside the encoder; none is the encoder's. A new head starts from nothing."""
    layer_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Each layer below the top learns at this share of the rate of the one above it."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.01
    warm_up: Share = 0.1
    """Share of the steps over which the rate rises; it then falls to zero."""
    epochs: Count = 4
    batch_size: Count = 32
    """Texts of a micro-batch, on each device."""
    accumulate: Count = 1
    """Micro-batches of a step."""
    gradient_norm: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Longer gradients are cut to this; 0 cuts none."""
    freeze_words: bool = True
    """Whether the word embedding stays as the base has it, so that words the training texts lack keep their
    place among those they have."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """``auto`` is bf16 on a GPU that has it, else float32."""
    evaluations: Count = 1
    """Of each epoch."""
    patience: Count = 2
    """Evaluations without a better figure until the run ends."""
    save_minutes: float = 5.0
    """Between checkpoints; every evaluation leaves one too."""
    save_steps: int = 0
    """Between checkpoints; 0 leaves it to the minutes."""
    threads: int = 0
    """PyTorch's, on a CPU; 0 leaves the choice to it."""
    device: Literal["auto", "cpu"] = "auto"


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run."""

    seed: int
    step: int
    """Of the best evaluation."""
    steps: int
    """Done in all."""
    figures: dict[str, float]
    """Of the best evaluation."""
    seconds: float
    """Over all the sessions that the run took, as far as their checkpoints tell."""


class Watcher(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str) -> None:
        """Something begins."""

    def step(self, step: int, steps: int, loss: float | None) -> None:
        """A training step is done; ``loss`` is the latest logged."""

    def evaluated(self, step: int, epoch: float, figures: Mapping[str, float], *, best: bool) -> None:
        """The validation texts were judged."""


class Silent:
    """A watcher that tells nobody."""

    def stage(self, name: str) -> None:
        """Says nothing."""

    def step(self, step: int, steps: int, loss: float | None) -> None:
        """Says nothing."""

    def evaluated(self, step: int, epoch: float, figures: Mapping[str, float], *, best: bool) -> None:
        """Says nothing."""


class Task(NamedTuple):
    """What is fitted to what, and how it is judged."""

    training: Sequence[dict[str, Any]]
    """Of each text its ``input_ids`` and whatever ``collate`` needs."""
    validation: Sequence[dict[str, Any]]
    collate: Callable[[Sequence[dict[str, Any]]], dict[str, torch.Tensor]]
    loss: Callable[..., torch.Tensor] | None
    """Of outputs, labels and ``num_items_in_batch``; none is the network's own."""
    judge: Callable[[Any], dict[str, float]] | None
    """Figures of Trainer's ``EvalPrediction``; none is the loss alone."""
    metric: str
    """The figure that chooses."""
    higher: bool = False
    """Whether more of it is better."""
    twice: bool = False
    """Whether the network reads each training batch twice at once, and the loss gets both readings' outputs,
    one behind the other."""


def fit(
    network: Any, task: Task, options: FitOptions, folder: Path, *, seed: int, watcher: Watcher
) -> Fitted:
    """Trains ``network`` in place to the best evaluation's weights; goes on with a run begun in ``folder``.

    Args:
        network: a transformers model.
        task: its texts, loss and judge.
        options: how.
        folder: of this run alone.
        seed: of order and dropout.
        watcher: told how far it is.

    Raises:
        UsageError: the loss is no longer a number, or the device lacks the precision.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    if not result.is_file():
        trainer = _trainer(network, task, options, folder, seed=seed, watcher=watcher)
        _train(trainer, folder, options)
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            fitted = _conclude(trainer, folder, seed)
            write_whole(result, msgspec.json.format(msgspec.json.encode(fitted)) + b"\n")
            for stale in folder.glob("checkpoint-*"):
                shutil.rmtree(stale)
        trainer.accelerator.wait_for_everyone()
    missing = network.load_state_dict(load_file(folder / "best" / "model.safetensors"), strict=False)
    tied = set(getattr(network, "all_tied_weights_keys", None) or ())
    assert not missing.unexpected_keys, missing.unexpected_keys
    assert set(missing.missing_keys) <= tied, missing.missing_keys
    network.eval()
    return msgspec.json.decode(result.read_bytes(), type=Fitted)


class Order(Sampler[int]):
    """Rows of an epoch, batches of like lengths, by seed and epoch.

    Trainer's own length-grouped sampler draws from the global generator, whose state at the beginning of an
    epoch is gone when a run resumes in its middle.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.epoch = 0
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        for rows in length_grouped(self._lengths, self._batch_size, f"{self._seed} {self.epoch}"):
            yield from rows


def length_grouped(lengths: Sequence[int], batch_size: int, seed: int | str) -> list[list[int]]:
    """Rows in batches of like lengths, in random order: shuffled, sorted within 50 batches, cut, shuffled.

    The short batch is the last, so that the rows can be cut again every ``batch_size``.

    >>> [len(rows) for rows in length_grouped([5, 1, 4, 2, 3], 2, seed=0)]
    [2, 2, 1]
    """
    rng = random.Random(seed)
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    batches = []
    for start in range(0, len(rows), 50 * batch_size):
        near = sorted(rows[start : start + 50 * batch_size], key=lengths.__getitem__)
        batches += [near[at : at + batch_size] for at in range(0, len(near), batch_size)]
    rng.shuffle(batches)
    return sorted(batches, key=len, reverse=True)


# --- the pieces of the loop -------------------------------------------------------------------------------


class _Trainer(Trainer):
    """Trainer with our order, optimizer and checkpoints."""

    def __init__(
        self,
        *,
        options: FitOptions,
        order: Order,
        folder: Path,
        watcher: Watcher,
        twice: bool,
        **rest: Any,
    ) -> None:
        self.optimizer: Any = None
        super().__init__(**rest)
        self._options, self._order, self._folder, self._watcher = options, order, folder, watcher
        self._twice = twice
        self._begun = time.monotonic()
        self._before = 0.0
        self._writing = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        del train_dataset
        return self._order

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None:
            groups = parameter_groups(model or self.model, self._options)
            self.optimizer = torch.optim.AdamW(groups, fused=True)
        return self.optimizer

    def compute_loss(self, model: Any, inputs: dict[str, Any], *known: Any, **named: Any) -> Any:
        if self._twice and model.training:
            inputs = {
                name: given if name == "labels" else torch.cat([given, given])
                for name, given in inputs.items()
            }
        return super().compute_loss(model, inputs, *known, **named)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # The options Trainer would pickle beside the weights are in the run's own JSON.
        self.model.save_pretrained(output_dir, state_dict=state_dict)

    def _save_rng_state(self, output_dir: str) -> None:
        """Nothing: every step seeds its own."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: every step seeds its own."""

    def _get_output_dir(self, trial: Any) -> str:
        del trial
        return str(self._folder / "unfinished" if self._writing else self._folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        unfinished = self._folder / "unfinished"
        if self.args.should_save:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._writing = True
        try:
            with disk_errors(self._folder):
                super()._save_checkpoint(model, trial)
        finally:
            self._writing = False
        self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            return
        name = f"checkpoint-{self.state.global_step}"
        shutil.rmtree(self._folder / name, ignore_errors=True)
        (unfinished / name).rename(self._folder / name)
        unfinished.rmdir()
        for older in self._folder.glob("checkpoint-*"):
            if older.name != name:
                shutil.rmtree(older)
        write_history(self.state.log_history, self._folder)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best: bool = super()._determine_best_metric(metrics, trial)
        if best and self.args.should_save:
            with fresh_folder(self._folder / "best") as fresh:
                self.accelerator.unwrap_model(self.model).save_pretrained(fresh)
        if stale_evaluations(self.state) >= self._options.patience:
            self.control.should_training_stop = True
        figures = _own_figures(metrics)
        self._watcher.evaluated(self.state.global_step, self.state.epoch or 0.0, figures, best=best)
        return best

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            raise UsageError(
                f"The training loss is {loss} at step {self.state.global_step}: the run diverged. Lower "
                "--learning-rate, or train with --precision float32; then start it anew with --restart."
            )
        logs["seconds"] = round(self._before + time.monotonic() - self._begun, 1)
        super().log(logs, start_time)

    def went_on(self, seconds: float) -> None:
        """Earlier sessions took that long."""
        self._before = seconds


class _Pace(TrainerCallback):
    """Seeds each step, and says when to evaluate and to save."""

    def __init__(self, options: FitOptions, order: Order, seed: int, watcher: Watcher) -> None:
        self._options, self._order, self._seed, self._watcher = options, order, seed, watcher
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        del control
        self._order.epoch = state.global_step // _steps_per_epoch(args, known["train_dataloader"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        del control, known
        # Unlike on each process: two devices with the same dropout would be one.
        words = (self._seed, state.global_step, args.process_index)
        torch.manual_seed(random.Random(" ".join(map(str, words))).getrandbits(63))

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        steps = _steps_per_epoch(args, known["train_dataloader"])
        within = (state.global_step - 1) % steps + 1
        parts = min(self._options.evaluations, steps)
        if within in {math.ceil(steps * part / parts) for part in range(1, parts + 1)}:
            control.should_evaluate = True
        late = time.monotonic() - self._saved_at >= 60 * self._options.save_minutes
        due = self._options.save_steps and state.global_step % self._options.save_steps == 0
        if control.should_evaluate or late or due:
            control.should_save = True
        loss = next((each["loss"] for each in reversed(state.log_history) if "loss" in each), None)
        self._watcher.step(state.global_step, state.max_steps, loss)

    def on_save(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        del args, state, control, known
        self._saved_at = time.monotonic()


def _steps_per_epoch(args: Any, loader: Any) -> int:
    return max(math.ceil(len(loader) / int(args.gradient_accumulation_steps)), 1)


def parameter_groups(network: Any, options: FitOptions) -> list[dict[str, Any]]:
    """AdamW's groups: a rate by depth, the head's own, and no decay of biases and norms.

    The embedding is depth 0, the encoder's layers follow; a pooler belongs to the last of them.
    """
    words = network.get_input_embeddings()
    words.weight.requires_grad_(not options.freeze_words)
    top = int(getattr(network.config, "num_hidden_layers", 0))
    groups: dict[tuple[float, bool], list[torch.Tensor]] = {}
    for name, weight in network.named_parameters():
        if not weight.requires_grad:
            continue
        encoder = name.startswith(f"{network.base_model_prefix}.")
        layer = re.search(r"\.(?:layer|layers|h|block)\.(\d+)\.", name)
        depth = int(layer[1]) + 1 if layer else 0 if "embed" in name else top
        rate = options.learning_rate * options.layer_decay ** (top - depth)
        if not encoder:
            rate = options.learning_rate if options.head_learning_rate is None else options.head_learning_rate
        groups.setdefault((rate, weight.ndim > 1), []).append(weight)
    return [
        {"params": weights, "lr": rate, "weight_decay": options.weight_decay if decayed else 0.0}
        for (rate, decayed), weights in groups.items()
    ]


def stale_evaluations(state: Any) -> int:
    """Evaluations since the best one."""
    best = state.best_global_step or 0
    return sum(1 for each in state.log_history if "eval_loss" in each and each["step"] > best)


def _trainer(
    network: Any, task: Task, options: FitOptions, folder: Path, *, seed: int, watcher: Watcher
) -> _Trainer:
    order = Order([len(row["input_ids"]) for row in task.training], options.batch_size, seed)
    if hasattr(task.collate, "order"):
        task.collate.order = order  # masks are drawn anew each epoch
    arguments = _arguments(task, options, folder, seed)
    steps = math.ceil(len(task.training) / (options.batch_size * options.accumulate)) * options.epochs
    arguments.logging_steps = max(1, min(50, steps // 40))
    trainer = _Trainer(
        options=options,
        order=order,
        folder=folder,
        watcher=watcher,
        twice=task.twice,
        model=network,
        args=arguments,
        data_collator=task.collate,
        train_dataset=task.training,
        # Judged by length, longest first: less padding, and what does not fit into memory shows at once.
        eval_dataset=sorted(task.validation, key=lambda row: -len(row["input_ids"])),
        compute_loss_func=task.loss,
        compute_metrics=task.judge,
        callbacks=[_Pace(options, order, seed, watcher)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(task: Task, options: FitOptions, folder: Path, seed: int) -> TrainingArguments:
    gpu = torch.cuda.is_available() and options.device != "cpu"
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if gpu and torch.cuda.is_bf16_supported() else "float32"
    if precision == "fp16" and not gpu:
        raise UsageError("fp16 needs a GPU; train with --precision float32, or bf16 where the CPU has it.")
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=max(options.batch_size, 64),
        gradient_accumulation_steps=options.accumulate,
        max_grad_norm=options.gradient_norm,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warm_up,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=seed,
        use_cpu=not gpu,
        save_strategy="steps",
        save_steps=NEVER,
        metric_for_best_model=task.metric,
        greater_is_better=task.higher,
        prediction_loss_only=task.judge is None,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=gpu,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    if arguments.parallel_mode.value == "not_distributed":
        arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001  # more than one is accelerate's to launch
    return arguments


def _train(trainer: _Trainer, folder: Path, options: FitOptions) -> None:
    last = get_last_checkpoint(str(folder))
    if last is None:
        trainer.train()
        return
    state = type(trainer.state).load_from_json(str(Path(last) / "trainer_state.json"))
    trainer.went_on(max((each.get("seconds", 0.0) for each in state.log_history), default=0.0))
    if stale_evaluations(state) >= options.patience or state.global_step >= state.max_steps:
        trainer.state = state  # killed between the last evaluation and the end
        return
    trainer.train(resume_from_checkpoint=last)


def _conclude(trainer: _Trainer, folder: Path, seed: int) -> Fitted:
    state = trainer.state
    write_history(state.log_history, folder)
    plot_history(state.log_history, folder / "history.svg", trainer.args.metric_for_best_model)
    if not (folder / "best").is_dir():
        raise UsageError(
            f"No evaluation in {folder} gave a number: the run diverged. Lower --learning-rate and start it "
            "anew with --restart."
        )
    judged = next(
        each for each in state.log_history if "eval_loss" in each and each["step"] == state.best_global_step
    )
    return Fitted(
        seed=seed,
        step=judged["step"],
        steps=state.global_step,
        figures=_own_figures(judged),
        seconds=max(each.get("seconds", 0.0) for each in state.log_history),
    )


def _own_figures(logged: Mapping[str, float]) -> dict[str, float]:
    """An evaluation's figures without Trainer's own timings."""
    timings = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    plain = {key.removeprefix("eval_"): value for key, value in logged.items() if key.startswith("eval_")}
    return {key: value for key, value in plain.items() if key not in timings}


# --- history ----------------------------------------------------------------------------------------------


def write_history(log: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Writes ``history.csv``: a line for each step that was logged or evaluated."""
    lines: dict[int, dict[str, float]] = {}
    columns = ["step", "epoch", "seconds", "loss", "learning_rate", "grad_norm"]
    for each in log:
        if "train_runtime" in each:
            continue
        judged = {f"validation_{name}": value for name, value in _own_figures(each).items()}
        columns += [name for name in judged if name not in columns]
        plain = {key: value for key, value in each.items() if key in columns}
        lines.setdefault(int(each["step"]), {}).update(plain | judged)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines[step] for step in sorted(lines))
    write_whole(folder / "history.csv", text.getvalue().encode())


def plot_history(log: Sequence[Mapping[str, float]], file: Path, metric: str) -> None:
    """Draws the training loss and the figure that chose, over the steps, as SVG."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    losses = [(each["step"], each["loss"]) for each in log if "loss" in each]
    key = f"eval_{metric}"
    judged = [(each["step"], each[key]) for each in log if key in each]
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(*zip(*losses, strict=True), color="0.6", label="training loss") if losses else None
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    right = axes.twinx() if "loss" not in metric else axes
    right.plot(*zip(*judged, strict=True), "o-", color="tab:blue", label=f"validation {metric}")
    right.set_ylabel("loss" if right is axes else f"validation {metric}")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
