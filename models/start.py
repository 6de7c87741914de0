"""What training starts from: a base by our name, a folder, or a hub name, as a network and its tokenizer.

Rules:
- A folder is a checkpoint's or a bundle's.
- Tokenizers are fast ones, of the ``tokenizers`` library: serving has no other.
- A classifier's own head is kept only where it tells our labels apart, in our order; an encoder gets a new
  head, drawn with the run's seed.
- No code of a checkpoint is run, and weights are read as tensors alone.
- Everything is float32; mixed precision is the training loop's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig
from transformers.utils import logging

from models.bases import BASES, base_folder
from models.network import ReviewBertConfig, ReviewClassifier
from models.provenance import Provenance, of_base, of_folder
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.bundle import TrainingSource
    from stream.core.events import Label

PoolingChoice = Literal["auto", "mean", "first", "own"]

ROBERTA_LIKE = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod")
"""Their positions begin after the padding token's id."""


class Base(NamedTuple):
    """A base checkpoint, not yet a network."""

    where: str
    """Folder or hub name."""
    name: str
    licence: str
    pooling: str
    """How it was trained to pool, if that is known: ``mean``, ``first`` or nothing."""
    config: Any
    tokenizer: Tokenizer
    """Neither cutting nor padding."""
    trained_on: tuple[TrainingSource, ...] = ()
    """Labelled sets, where it is a classifier already."""


def open_base(base: str) -> Base:
    """Finds a base and reads its configuration and tokenizer.

    Args:
        base: our name of a packaged base, a folder of a checkpoint or a bundle, or a hub name.

    Raises:
        BundleError: a bundle is not whole.
        UsageError: there is none of that name, or it cannot be used here.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    where, known = _locate(base)
    try:
        config = AutoConfig.from_pretrained(where)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(_not_found(base, error)) from None
    tokenizer = _tokenizer(where)
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise UsageError(
            f"The tokenizer of {base} has {tokenizer.get_vocab_size():,} entries and its network "
            f"{config.vocab_size:,}: they do not belong together."
        )
    pooling = getattr(config, "pooling", known.pooling) or ""
    return Base(where, known.name, known.licence, pooling, config, tokenizer, known.trained_on)


def check_length(base: Base, max_length: int) -> None:
    """Compares a length with the positions a network has.

    Raises:
        UsageError: texts of that length do not fit.
    """
    positions = getattr(base.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return
    if base.config.model_type in ROBERTA_LIKE:
        positions -= int(base.config.pad_token_id or 0) + 1
    if max_length > positions:
        raise UsageError(
            f"{base.name} has {positions} positions, and max_length is {max_length}; "
            f"use --max-length {positions} or less."
        )


def classifier_of(
    base: Base, labels: Sequence[Label], *, pooling: PoolingChoice = "auto", new_head: bool = False, seed: int
) -> Any:
    """A network that tells ``labels`` apart.

    Args:
        base: what to start from.
        labels: of the prepared set, in order.
        pooling: of a new head on a BERT encoder; ``own`` is transformers' own classifier, ``auto`` the
            pooling the base was trained with, else ``own`` where the base has a pooler, else the mean.
        new_head: whether a head that is there is dropped.
        seed: of what is drawn anew.

    Raises:
        UsageError: the base tells other labels apart.
    """
    torch.manual_seed(seed)
    kept_head = has_head(base.config) and not new_head
    if kept_head:
        check_labels(base, labels)
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
    kept = base.pooling if has_head(base.config) else _pooling(base) if pooling == "auto" else pooling
    if base.config.model_type in ("bert", ReviewBertConfig.model_type) and kept in ("mean", "first"):
        stated = {key: value for key, value in base.config.to_dict().items() if key != "model_type"}
        config = ReviewBertConfig(**{**stated, **named, "pooling": kept})
        kind: Any = ReviewClassifier
    else:
        stated = base.config.to_dict()
        config = type(base.config)(**{**stated, **named})
        kind = AutoModelForSequenceClassification
    config.problem_type = None
    try:
        network = kind.from_pretrained(
            base.where, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UsageError(f"{base.where} cannot be made a classifier: {error}") from None
    if not kept_head:
        _draw_head(network)
    return network


def has_head(config: Any) -> bool:
    """Whether a network of that configuration is a classifier already."""
    return any(
        each.endswith("ForSequenceClassification") or each == ReviewClassifier.__name__
        for each in config.architectures or ()
    )


def check_labels(base: Base, labels: Sequence[Label]) -> None:
    """Compares the labels of a classifier with those wanted; unnamed ones are taken to be ours, in our order.

    Raises:
        UsageError: they are others, or in another order.
    """
    given = [str(name) for _, name in sorted(base.config.id2label.items())]
    unnamed = [f"LABEL_{column}" for column in range(len(labels))]
    if given != unnamed and [name.lower() for name in given] != list(labels):
        raise UsageError(
            f"{base.name} tells {', '.join(given)} apart, and the prepared set {', '.join(labels)}; "
            "give it a new head with --new-head, or prepare the set with those labels."
        )


def as_bert(config: Any) -> Any:
    """A configuration of ours as plain BERT's, pooling kept; others as they are."""
    if config.model_type != ReviewBertConfig.model_type:
        return config
    stated = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    return BertConfig(**stated)


def _pooling(base: Base) -> str:
    """As the base was trained; without a pooler of its own, a drawn one would only be in the way."""
    file = Path(base.where) / "model.safetensors"
    if base.pooling or not file.is_file():
        return base.pooling
    try:
        with safe_open(file, "pt") as weights:
            return "" if any(name.endswith("pooler.dense.weight") for name in weights.keys()) else "mean"  # noqa: SIM118
    except SafetensorError as error:
        raise UsageError(f"{file} cannot be read ({error}); copy the base again.") from None


def _locate(base: str) -> tuple[str, Provenance]:
    """Where a base is, and what it was made of as far as that is known."""
    if Path(base).is_dir():
        from export.reopen import weights_of

        folder = weights_of(Path(base))
        if not (folder / "config.json").is_file():
            inside = folder / "checkpoint"
            hint = f"; did you mean {inside}?" if (inside / "config.json").is_file() else "."
            raise UsageError(f"{folder} is not a checkpoint: it has no config.json{hint}")
        return str(folder), of_folder(folder)
    if base in BASES:
        return str(base_folder(base)), of_base(base)
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise UsageError(f"There is no folder {base}; name a checkpoint's folder or a hub name with --base.")
    return base, Provenance(base)


def _not_found(base: str, error: Exception) -> str:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"The base {base!r} cannot be read: {said[0]} Name a folder that holds config.json, "
        "model.safetensors and tokenizer.json, or a hub name where a hub is at hand."
    )


def _tokenizer(where: str) -> Tokenizer:
    file = Path(where) / "tokenizer.json"
    tokenizer: Any
    try:
        if file.is_file():
            tokenizer = Tokenizer.from_file(str(file))
        else:
            tokenizer = getattr(AutoTokenizer.from_pretrained(where), "backend_tokenizer", None)
    except Exception as error:  # noqa: BLE001  # the tokenizers library raises nothing narrower
        raise UsageError(f"The tokenizer of {where} cannot be read: {error}.") from None
    if not isinstance(tokenizer, Tokenizer):
        raise UsageError(
            f"{where} has no fast tokenizer (tokenizer.json), which serving needs; convert it with "
            "`AutoTokenizer.from_pretrained(...).save_pretrained(...)` or take another base."
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _draw_head(network: Any) -> None:
    """Linear layers outside the encoder, drawn as BERT's were: by the seed, whatever the base's file has."""
    spread = float(getattr(network.config, "initializer_range", 0.02))
    for name, part in network.named_children():
        if name == network.base_model_prefix:
            continue
        for layer in part.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.normal_(layer.weight, std=spread)
                if layer.bias is not None:
                    torch.nn.init.zeros_(layer.bias)
