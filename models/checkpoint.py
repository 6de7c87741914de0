"""A checkpoint: the folder that training leaves and export reads.

    model.safetensors, config.json   the network, float32
    tokenizer.json                   its tokenizer
    training.json                    the ``TrainingRecord``: what a bundle's manifest takes over

Rules:
- A folder is complete or absent: written beside its place, then renamed.
- Safetensors and JSON only: reading a checkpoint executes nothing.
- The columns of its logits are named by the configuration's ``id2label``; a checkpoint that names none has
  them in our order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from models.writing import fresh_file, fresh_folder, write_whole
from stream.bundle import LABEL_SETS, Metric, TrainingSource
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from models.network import ReviewClassifier
    from stream.core.events import Label

CONFIG = "config.json"
RECORD = "training.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a checkpoint besides its weights."""

    name: str
    languages: tuple[str, ...]
    base_model: str
    base_licence: str
    max_length: int
    temperature: float
    neutral_band: float
    trained_on: tuple[TrainingSource, ...]
    metrics: tuple[Metric, ...]
    caveats: tuple[str, ...]
    """Where the model fails, a sentence each."""
    training_note: str = ""
    """What a sample is, for the card."""
    metrics_note: str = ""
    """What the sets of the metrics are, for the card."""


def keep_figures(folder: Path, metrics: Sequence[Metric]) -> None:
    """Adds figures to a checkpoint's record; older ones of the same sets go.

    Raises:
        UsageError: the checkpoint has no record.
    """
    record = read_record(folder)
    measured = {each.dataset for each in metrics}
    others = [each for each in record.metrics if each.dataset not in measured]
    write_record(msgspec.structs.replace(record, metrics=(*others, *metrics)), folder / RECORD)


def save_checkpoint(
    network: ReviewClassifier, tokenizer: Tokenizer, folder: Path, record: TrainingRecord | None = None
) -> None:
    """Writes a checkpoint at ``folder``; an older one is replaced."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with fresh_folder(folder) as fresh:
        network.save_pretrained(fresh)
        tokenizer.save(str(fresh / TOKENIZER))
        if record:
            write_record(record, fresh / RECORD)


def load_checkpoint(folder: Path, max_length: int) -> tuple[Any, Tokenizer]:
    """A checkpoint's network, in evaluation mode, and its tokenizer, cutting at ``max_length``.

    Raises:
        UsageError: one of the two is not there or cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # noqa: BLE001  # the library raises nothing narrower
        raise UsageError(f"{folder / TOKENIZER} is not a tokenizer: {error}.") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return load_network(folder), tokenizer


def load_network(folder: Path) -> Any:
    """The network of any sequence-classification checkpoint, float32, eager attention, evaluation mode.

    Raises:
        UsageError: the folder holds none that can be read.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    from models.network import ReviewClassifier

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    ours = ReviewClassifier.__name__ in _stated(folder).get("architectures", [])
    kind = ReviewClassifier if ours else AutoModelForSequenceClassification
    try:
        network, loaded = kind.from_pretrained(
            folder,
            attn_implementation="eager",
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UsageError(f"{folder} holds no network that can be read: {error}") from None
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"]))
        raise UsageError(
            f"{folder} is no finished classifier, it lacks {missing}: fine-tune it with `reviewpulse train`."
        )
    network.eval()
    return network


def label_columns(folder: Path) -> tuple[tuple[Label, ...], list[int]]:
    """Labels of a checkpoint, in our order, and which column of its logits each has.

    Raises:
        UsageError: its labels are not ours.
    """
    stated = _stated(folder)
    count = int(stated.get("num_labels", 2))  # as transformers reads a file that states neither
    return named_columns(stated.get("id2label") or {n: f"LABEL_{n}" for n in range(count)}, str(folder))


def named_columns(id2label: Mapping[Any, str], where: str) -> tuple[tuple[Label, ...], list[int]]:
    """Labels in our order, and which column each has, of a configuration's ``id2label``.

    Columns without names (LABEL_0, LABEL_1, ...) are taken in our order.

    Raises:
        UsageError: they are not ours.

    >>> named_columns({0: "POSITIVE", 1: "NEGATIVE"}, "x")
    (('negative', 'positive'), [1, 0])
    """
    names = [str(id2label[column]).lower() for column in sorted(id2label, key=int)]
    unnamed = names == [f"label_{column}" for column in range(len(names))]
    for labels in LABEL_SETS:
        if unnamed and len(names) == len(labels):
            return labels, list(range(len(labels)))
        if sorted(names) == sorted(labels):
            return labels, [names.index(label) for label in labels]
    raise UsageError(
        f"{where} tells {', '.join(names)} apart; wanted one of {[*map(list, LABEL_SETS)]}. "
        f"Name its columns in {CONFIG}, id2label, or train it on a prepared set."
    )


def _stated(folder: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode((folder / CONFIG).read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{folder} is not a checkpoint: it has no {CONFIG}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read: {error}.") from None


def read_record(folder: Path) -> TrainingRecord:
    """The record beside a checkpoint's weights.

    Raises:
        UsageError: it is not there or cannot be read.
    """
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=TrainingRecord)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder} is not a finished checkpoint: it has no {RECORD}; `reviewpulse train` writes one."
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder / RECORD} cannot be read: {error}; train again.") from None


def write_record(record: TrainingRecord, file: Path) -> None:
    """Writes a record; one that is there is replaced in one step."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def move_last_bias(folder: Path, by: Sequence[float]) -> None:
    """Adds to the logits of a checkpoint, by the bias of its last layer.

    Args:
        folder: the checkpoint.
        by: what to add to each label's logit, in our order.

    Raises:
        UsageError: it has no such bias.
    """
    from safetensors.torch import load_file, save_file

    labels, columns = label_columns(folder)
    tensors = load_file(folder / WEIGHTS)
    heads = [
        name
        for name, tensor in tensors.items()
        if name.startswith(("classifier.", "score."))
        and name.endswith(".bias")
        and tensor.shape == (len(labels),)
    ]
    if len(heads) != 1:
        raise UsageError(f"{folder} has no bias of its labels that a threshold could move.")
    for label, column in enumerate(columns):
        tensors[heads[0]][column] += by[label]
    with fresh_file(folder / WEIGHTS) as fresh:
        save_file(tensors, fresh, metadata={"format": "pt"})
