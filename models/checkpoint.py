"""A checkpoint: the folder that training leaves and export reads.

    model.safetensors, config.json   the network, float32
    tokenizer.json                   its tokenizer
    training.json                    the ``TrainingRecord``: what a bundle's manifest takes over

Rules:
- A folder is complete or absent: written beside its place, then renamed.
- Safetensors and JSON only: reading a checkpoint executes nothing.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
from tokenizers import Tokenizer

from stream.bundle import Metric, TrainingSource  # noqa: TC001  # msgspec reads the annotations
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from models.network import ReviewClassifier

RECORD = "training.json"
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


def save_checkpoint(
    network: ReviewClassifier, tokenizer: Tokenizer, folder: Path, record: TrainingRecord | None = None
) -> None:
    """Writes a checkpoint at ``folder``; an older one is replaced."""
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    network.save_pretrained(fresh)
    tokenizer.save(str(fresh / TOKENIZER))
    if record:
        (fresh / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def load_checkpoint(folder: Path, max_length: int) -> tuple[ReviewClassifier, Tokenizer]:
    """A checkpoint's network, in evaluation mode, and its tokenizer, cutting at ``max_length``."""
    from models.network import ReviewClassifier

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    network: ReviewClassifier = ReviewClassifier.from_pretrained(folder, attn_implementation="eager")
    network.eval()
    return network, tokenizer


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder / RECORD} cannot be read: {error}; train again.") from None
