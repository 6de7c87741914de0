"""Which checkpoints can be exported: what is wrong with one is a sentence, before anything is written.

Rules:
- A family is listed when a network of it is exported and compared in the tests.
- The columns of the logits must be named: LABEL_0 may be anything, and a guess that is wrong turns every
  count around.
- Tokenizer and network must be each other's: an id beyond the embedding is a crash, and a tokenizer of
  another vocabulary gives numbers as plausible as any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from models.checkpoint import CONFIG, named_columns
from stream.bundle import LABEL_SETS
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from stream.core.events import Label

FAMILIES = {
    "review-bert": "BERT with a pooled vector (`reviewpulse train`)",
    "bert": "BERT",
    "roberta": "RoBERTa",
    "xlm-roberta": "XLM-RoBERTa",
    "distilbert": "DistilBERT",
    "electra": "ELECTRA",
}
"""By the configuration's ``model_type``."""

UNUSED = 0.05
"""Most of an embedding's rows that a tokenizer may leave unused: vocabularies are padded to round numbers, by
far less than a tokenizer of another vocabulary differs."""

OFFSET_POSITIONS = {"roberta", "xlm-roberta"}
"""Their positions begin behind the padding's id."""


def check_kind(folder: Path) -> None:
    """That a checkpoint is of a family that can be exported; its weights are not read.

    Raises:
        UsageError: it is of another kind, or there is none.
    """
    try:
        stated = msgspec.json.decode((folder / CONFIG).read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{folder} is not a checkpoint: it has no {CONFIG}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read: {error}.") from None
    _check_family(str(stated.get("model_type")), str(folder))
    kinds = [str(each) for each in stated.get("architectures") or ()]
    if kinds and not any("Classif" in each for each in kinds):
        raise UsageError(
            f"{folder} is a {kinds[0]}, and no classifier of texts: fine-tune it with `reviewpulse train`."
        )


def _check_family(model_type: str, where: str) -> None:
    if model_type not in FAMILIES:
        raise UsageError(
            f"{where} is of kind {model_type}, which cannot be exported; wanted one of"
            f" {', '.join(sorted(set(FAMILIES.values())))}."
        )


def columns_of(config: Any, labels: Sequence[Label] | None) -> tuple[tuple[Label, ...], list[int]]:
    """Labels in our order, and which column each has.

    Args:
        config: the network's.
        labels: of its columns, where the configuration does not name them.

    Raises:
        UsageError: they are not named, or not ours.
    """
    stated = {int(column): str(name) for column, name in dict(config.id2label or {}).items()}
    if labels:
        if len(labels) != len(stated):
            raise UsageError(
                f"The checkpoint has {len(stated)} columns and --labels names {len(labels)}:"
                f" {', '.join(labels)}."
            )
        stated = dict(enumerate(labels))
    elif all(name.lower() == f"label_{column}" for column, name in stated.items()):
        sets = " or ".join(",".join(each) for each in LABEL_SETS if len(each) == len(stated))
        remedy = f"say them in the columns' order, --labels {sets}, or" if sets else "it has no set of ours;"
        raise UsageError(
            f"The checkpoint does not say which of its {len(stated)} columns means what: {remedy} name them"
            f" in {CONFIG}, id2label."
        )
    return named_columns(stated, "The checkpoint")


def check_fit(config: Any, tokenizer: Tokenizer, max_length: int) -> None:
    """That network, tokenizer and length are each other's.

    Raises:
        UsageError: they are not.
    """
    _check_family(str(config.model_type), "The checkpoint")
    rows = int(config.vocab_size)
    ids = tokenizer.get_vocab(with_added_tokens=True)
    highest = max(ids.values(), default=-1)
    if highest >= rows:
        raise UsageError(
            f"The tokenizer does not match the network: its ids go to {highest:,} and the network's"
            f" vocabulary has {rows:,} entries; take the tokenizer that it was trained with."
        )
    if highest + 1 < (1 - UNUSED) * rows:
        raise UsageError(
            f"The tokenizer does not match the network: it knows {highest + 1:,} entries of a vocabulary of"
            f" {rows:,}; take the tokenizer that it was trained with, or `reviewpulse trim` both."
        )
    pad_id = int(config.pad_token_id or 0)
    padding = next((ids[name] for name in ("[PAD]", "<pad>") if name in ids), None)
    if padding is not None and padding != pad_id:
        raise UsageError(
            f"The tokenizer does not match the network: its padding has id {padding} and the network's is"
            f" {pad_id}; take the tokenizer that it was trained with."
        )
    positions = int(config.max_position_embeddings)
    positions -= pad_id + 1 if config.model_type in OFFSET_POSITIONS else 0
    if max_length > positions:
        raise UsageError(
            f"The checkpoint is to read {max_length} tokens of a text and its network has {positions}"
            " positions; lower max_length in its training.json."
        )
