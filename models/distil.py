"""Distillation: a small student learns what a large teacher says, on labelled and on unlabelled texts.

    RUN/run.json, RUN/seed-N/, RUN/seeds.json, RUN/checkpoint/   as in ``models.finetune``
    RUN/teacher/00000.safetensors                                the teacher's logits of the first texts

Rules:
- The loss of a text is ``soft`` times the divergence from the teacher's probabilities, both at a temperature
  (Hinton et al. 2015), and the rest times the cross-entropy with the hard label: the set's own where there is
  one, else the teacher's likeliest.
- The teacher is calibrated first: its logits are divided by its own temperature.
- It reads each text once; a run that goes on finds its logits in the run folder.
- An unlabelled text that the prepared set has, in any split, is left out, whatever its case, space and
  punctuation: what is held out must not be learned.
- The student's card names the teacher's training sets and the unlabelled texts, too: they made it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from models.checkpoint import RECORD, read_record
from models.classifier import open_classifier
from models.duplicates import fingerprint as fingerprint_of_text
from models.examples import Example
from models.finetune import ClassifierOptions, Trained, check_examples, rows, run_seeds, sources, task_of
from models.fitting import Count, Rate  # noqa: TC001  # msgspec reads the annotation
from models.losses import label_weights, rows_of_step, soft_loss
from models.runs import claim, fingerprint, is_main_process
from models.start import check_labels, check_length, classifier_of, open_base
from models.writing import fresh_file
from stream.bundle import MANIFEST, TrainingSource, load_manifest
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from models.classifier import Classifier
    from models.examples import PreparedSet
    from models.fitting import Watcher
    from models.start import Base
    from stream.core.events import Label

CHUNK = 5000
"""Texts between two writings of the teacher's logits."""


class DistilOptions(ClassifierOptions, frozen=True, kw_only=True):
    """Options of ``reviewpulse distil``; the table ``[distil]`` of a recipe."""

    teacher: str = ""
    """Checkpoint or bundle."""
    student: str = ""
    """A base, as ``reviewpulse train --base`` takes it."""
    layers: int = 0
    """Instead of a base: so many of the teacher's own layers."""
    texts: tuple[str, ...] = ()
    """Files of unlabelled texts: prepared sets, tables or a text a line."""
    column: str = "text"
    """Of tables."""
    temperature: Rate = 2.0
    """Both are softened by it, so that the teacher's doubts count."""
    soft: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.7
    """Share of the loss that is the teacher's probabilities; the rest is hard labels."""
    epochs: Count = 5


def distil(
    prepared: PreparedSet,
    texts: Sequence[str],
    options: DistilOptions,
    out: Path,
    watcher: Watcher,
    *,
    restart: bool = False,
) -> Trained:
    """Trains a student, calibrates it and leaves ``out/checkpoint``.

    Args:
        prepared: labelled; its validation split chooses and calibrates.
        texts: unlabelled ones, as serving would score them.
        options: how.
        out: run folder; a run of the same options is continued.
        watcher: told how far it is.
        restart: whether a run that is there is deleted.

    Raises:
        UsageError: the set, the teacher or the student cannot be used, or another run is at ``out``.
    """
    check_examples(prepared)
    if bool(options.student) == bool(options.layers):
        raise UsageError("Name the student: --student BASE, or --layers N of the teacher's own; one of both.")
    if options.class_weights == "by-length":
        raise UsageError("class_weights by-length is train's alone; train the teacher with it.")
    base, start = _student(prepared, options)
    check_length(base, max(options.max_length, options.train_length or 0))
    teacher = open_classifier(Path(options.teacher))
    if teacher.labels != prepared.labels:
        raise UsageError(
            f"The teacher tells {', '.join(teacher.labels)} apart, and the prepared set "
            f"{', '.join(prepared.labels)}; prepare the set with the teacher's labels."
        )
    plain = unlabelled(texts, prepared)
    data = fingerprint([*((each.text, each.target) for each in _known(prepared)), *plain])
    claim(out, options, data, options.teacher, base.where, restart=restart)
    reading = [each.text for each in prepared["train"]] + plain
    watcher.stage(f"the teacher reads {len(reading):,} texts")
    taught = teacher_logits(teacher, reading, out / "teacher", watcher) / teacher.temperature
    watcher.stage("read")
    base.tokenizer.enable_truncation(options.train_length or options.max_length)
    weights = label_weights(options.class_weights, prepared["train"])
    training = prepared["train"] + [
        Example(text=text, target=tuple(hard))
        for text, hard in zip(plain, one_hot(taught[len(prepared["train"]) :]), strict=True)
    ]
    loss = distillation_loss(options.soft, options.temperature, soft_loss(weights, options.label_smoothing))
    task = task_of(with_teacher(rows(training, base.tokenizer), taught), loss, prepared, base, options)
    stated = [*sources(prepared), *_of_teacher(options, plain)]
    described = {**prepared.description, "sources": msgspec.to_builtins(list(dict.fromkeys(stated)))}
    named = msgspec.structs.replace(prepared, description=described)
    return run_seeds(start, task, named, base, options, out, watcher)


def _of_teacher(options: DistilOptions, plain: Sequence[str]) -> list[TrainingSource]:
    """What a student learns of by its teacher: the sets that one was trained on, and unlabelled texts."""
    folder = Path(options.teacher)
    stated: list[TrainingSource] = []
    if (folder / MANIFEST).is_file():
        stated += load_manifest(folder).trained_on
    elif (folder / RECORD).is_file():
        stated += read_record(folder).trained_on
    if plain:
        files = ", ".join(Path(each).name for each in options.texts)
        stated.append(
            TrainingSource(name=f"Unlabelled texts: {files}", licence="not stated", rows=len(plain))
        )
    return stated


def unlabelled(texts: Sequence[str], prepared: PreparedSet) -> list[str]:
    """Different texts, in order, that are in no split of the prepared set, however they are typed there."""
    known = {fingerprint_of_text(each.text) for examples in prepared.splits.values() for each in examples}
    return [text for text in dict.fromkeys(texts) if text.strip() and fingerprint_of_text(text) not in known]


def distillation_loss(
    soft: float, temperature: float, hard_loss: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """The loss of labels that hold a target and, behind it, the teacher's logits; of a target alone, its own.

    Args:
        soft: share of the divergence.
        temperature: of both probabilities; the divergence is multiplied by its square, which keeps its
            gradients as large as the hard loss's.
        hard_loss: of outputs, targets and the size of the step.
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        columns = outputs.logits.shape[-1]
        if labels.shape[-1] == columns:
            return hard_loss(outputs, labels, num_items_in_batch)
        size = rows_of_step(labels, num_items_in_batch)
        targets, taught = labels.split(columns, dim=-1)
        divergence = functional.kl_div(
            functional.log_softmax(outputs.logits.float() / temperature, dim=-1),
            functional.log_softmax(taught / temperature, dim=-1),
            reduction="sum",
            log_target=True,
        )
        hard = hard_loss(outputs, targets, torch.as_tensor(size * columns))
        return soft * temperature**2 * divergence / size + (1 - soft) * hard

    return loss


def teacher_logits(
    teacher: Classifier, texts: Sequence[str], folder: Path, watcher: Watcher
) -> NDArray[np.float32]:
    """The teacher's logits, float32 (n, labels); what is in ``folder`` already is not computed again."""
    from accelerate import PartialState

    starts = range(0, len(texts), CHUNK)
    if is_main_process():
        folder.mkdir(exist_ok=True)
        for number, start in enumerate(starts):
            file = folder / f"{number:05}.safetensors"
            if not file.is_file():
                with fresh_file(file) as fresh:
                    save_file({"logits": teacher.logits(texts[start : start + CHUNK])}, fresh)
            watcher.step(min(start + CHUNK, len(texts)), len(texts), None)
    PartialState().wait_for_everyone()
    parts = [load_file(folder / f"{number:05}.safetensors")["logits"] for number, _ in enumerate(starts)]
    return np.concatenate(parts)


def with_teacher(examples: list[dict[str, Any]], taught: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Rows whose labels are the target and, behind it, the teacher's logits."""
    return [
        row | {"labels": (*row["labels"], *said)} for row, said in zip(examples, taught.tolist(), strict=True)
    ]


def one_hot(logits: NDArray[np.float32]) -> list[list[float]]:
    """Ones at each row's likeliest label.

    >>> one_hot(np.array([[0.5, -1.0]], np.float32))
    [[1.0, 0.0]]
    """
    hard: list[list[float]] = np.eye(logits.shape[1])[logits.argmax(axis=1)].tolist()
    return hard


# --- the student ------------------------------------------------------------------------------------------


def _student(prepared: PreparedSet, options: DistilOptions) -> tuple[Base, Callable[[int], Any]]:
    if options.student:
        base = open_base(options.student)
        return base, lambda seed: classifier_of(base, prepared.labels, pooling=options.pooling, seed=seed)
    base = open_base(options.teacher)
    check_labels(base, prepared.labels)
    layers = int(base.config.num_hidden_layers)
    if not 0 < options.layers < layers:
        raise UsageError(f"The teacher has {layers} layers; --layers must be from 1 to {layers - 1}.")
    base = base._replace(name=f"{base.name}, {options.layers} of its {layers} layers")
    return base, lambda _: some_layers(base.where, options.layers, prepared.labels)


def some_layers(checkpoint: str, number: int, labels: Sequence[Label]) -> Any:
    """A classifier with ``number`` of a checkpoint's layers, spread evenly from the first to the last."""
    whole = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32)
    kept = spread(whole.config.num_hidden_layers, number)
    changed = {"num_hidden_layers": number, "id2label": dict(enumerate(labels))}
    changed["label2id"] = {label: column for column, label in enumerate(labels)}
    config = type(whole.config)(**whole.config.to_dict() | changed)
    network = type(whole)(config)
    weights = {}
    for name, weight in whole.state_dict().items():
        layer = re.search(r"\.(?:layer|layers)\.(\d+)\.", name)
        if layer is None:
            weights[name] = weight
        elif int(layer[1]) in kept:
            at = kept.index(int(layer[1]))
            weights[f"{name[: layer.start(1)]}{at}{name[layer.end(1) :]}"] = weight
    network.load_state_dict(weights)
    return network


def spread(layers: int, number: int) -> list[int]:
    """Layers to keep.

    >>> spread(12, 6), spread(12, 1)
    ([0, 2, 4, 7, 9, 11], [0])
    """
    return [round(at * (layers - 1) / max(number - 1, 1)) for at in range(number)]


def _known(prepared: PreparedSet) -> list[Example]:
    return prepared["train"] + prepared["validation"]
