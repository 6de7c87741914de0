"""Adaptation: an encoder reads unlabelled texts of the domain before fine-tuning (masked-language model).

    RUN/run.json, RUN/fit/   as in ``models.finetune``
    RUN/checkpoint/          the encoder and its tokenizer: a base for `reviewpulse train`

Rules:
- Of each text 15% of the tokens are hidden, and the network guesses them (Devlin et al. 2019: of those 80%
  become the mask, 10% another token, 10% stay). Which ones is drawn by seed, epoch and row.
- A base without a masked-language head gets a fresh one on its embedding: a first epoch teaches mostly that.
- Texts drawn by the seed are held out and choose the evaluation; their masks are always the same.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForMaskedLM

from models.checkpoint import save_checkpoint
from models.finetune import pad
from models.fitting import Count, FitOptions, Fitted, Length, Rate, Seed, Task, fit
from models.provenance import Provenance, write
from models.runs import claim, fingerprint, is_main_process
from models.start import as_bert, check_length, open_base
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch import Tensor

    from models.fitting import Order, Watcher
    from models.start import Base

MASK_TOKENS = ("[MASK]", "<mask>")
LEAST_TEXTS = 20


class AdaptOptions(FitOptions, frozen=True, kw_only=True):
    """Options of ``reviewpulse adapt``; the table ``[adapt]`` of a recipe."""

    texts: tuple[str, ...] = ()
    """Files of texts: prepared sets, tables or a text a line."""
    column: str = "text"
    """Of tables."""
    base: str = ""
    """Our name of a packaged base, a folder, or a hub name."""
    out: str = ""
    """Run folder."""
    head_learning_rate: Rate | None = 5e-4
    epochs: Count = 3
    freeze_words: bool = False
    """The words' vectors are what adaptation is about."""
    max_length: Length = 128
    masked: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.15
    """Share of the tokens that are hidden."""
    held_out: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05
    """Share of the texts that choose the evaluation."""
    seed: Seed = 7


def adapt(
    texts: Sequence[str], options: AdaptOptions, out: Path, watcher: Watcher, *, restart: bool = False
) -> Fitted:
    """Trains the base on ``texts`` and leaves the encoder at ``out/checkpoint``.

    Raises:
        UsageError: there are too few texts, or the base cannot be used.
    """
    unique = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(unique) < LEAST_TEXTS:
        raise UsageError(
            f"{len(unique)} different texts are too few to adapt to; some thousands are a start."
        )
    base = open_base(options.base)
    check_length(base, options.max_length)
    claim(out, options, fingerprint(unique), base.where, restart=restart)
    base.tokenizer.enable_truncation(options.max_length)
    training, held_out = _split(_rows(unique, base.tokenizer), options)
    network = masked_language_model(base, seed=options.seed)
    task = Task(
        training=training,
        validation=held_out,
        collate=Mask(base.tokenizer, base.config.pad_token_id or 0, options.masked, options.seed),
        loss=_loss,
        judge=None,
        metric="loss",
    )
    watcher.stage("adapt")
    fitted = fit(network, task, options, out / "fit", seed=options.seed, watcher=watcher)
    if is_main_process():
        save_checkpoint(encoder_of(network, base), base.tokenizer, out / "checkpoint")
        provenance = Provenance(f"{base.name}, adapted to unlabelled texts", base.licence, base.pooling)
        write(provenance, out / "checkpoint")
    return fitted


def masked_language_model(base: Base, *, seed: int) -> Any:
    """The base with a head that guesses tokens; without one, drawn by ``seed`` and tied to the embedding.

    Raises:
        UsageError: transformers knows no such head for its architecture.
    """
    torch.manual_seed(seed)
    try:
        return AutoModelForMaskedLM.from_pretrained(
            base.where, config=as_bert(base.config), dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UsageError(f"{base.name} cannot be made a masked-language model: {error}") from None


def encoder_of(network: Any, base: Base) -> Any:
    """The encoder alone. A pooler that the base had stays as it was: no masked word asked for it."""
    torch.manual_seed(0)
    config = as_bert(base.config)
    if base.pooling:
        config.pooling = base.pooling
    encoder = AutoModel.from_pretrained(base.where, config=config, dtype=torch.float32)
    learned = getattr(network, network.base_model_prefix).state_dict()
    unknown = encoder.load_state_dict(learned, strict=False).unexpected_keys
    assert not unknown, unknown
    return encoder


class Mask:
    """Rows to a batch with some tokens hidden.

    Args:
        tokenizer: names the mask and the special tokens, which are never hidden.
        pad_id: what short rows are filled with.
        share: of the tokens that are hidden.
        seed: with the epoch and the row, decides which.

    Raises:
        UsageError: the tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Tokenizer, pad_id: int, share: float, seed: int) -> None:
        found = [tokenizer.token_to_id(token) for token in MASK_TOKENS]
        self._mask_id = next((each for each in found if each is not None), None)
        if self._mask_id is None:
            raise UsageError(
                f"The base's tokenizer has none of the tokens {', '.join(MASK_TOKENS)}, and the base was "
                "not trained to guess words; fine-tune it as it is."
            )
        self._special = [
            token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special
        ]
        self._entries, self._pad_id = tokenizer.get_vocab_size(), pad_id
        self._share, self._seed = share, seed
        self.order: Order | None = None
        """Says which epoch it is; set by the training loop."""

    def __call__(self, batch: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Ids and mask, int64 (rows, longest), and labels of that shape: the hidden token, else -100."""
        hidden = [self._hide(row) for row in batch]
        ids, mask = pad([ids for ids, _ in hidden], self._pad_id)
        labels, _ = pad([labels for _, labels in hidden], -100)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def _hide(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        ids = np.array(row["input_ids"])
        # A held-out text has the same masks in every epoch, so that its losses can be compared.
        epoch = self.order.epoch + 1 if self.order and not row["held_out"] else 0
        rng = np.random.default_rng([self._seed, epoch, row["row"]])
        plain = np.flatnonzero(~np.isin(ids, self._special))
        number = max(1, round(self._share * len(plain))) if len(plain) else 0
        chosen = rng.choice(plain, number, replace=False)
        labels = np.full(len(ids), -100)
        labels[chosen] = ids[chosen]
        how = rng.random(len(chosen))
        ids[chosen[how < 0.8]] = self._mask_id
        other = chosen[(how >= 0.8) & (how < 0.9)]
        ids[other] = rng.integers(0, self._entries, len(other))
        return ids.tolist(), labels.tolist()


def _loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """Cross-entropy of the hidden tokens: summed, divided by their number in the whole step."""
    total = torch.nn.functional.cross_entropy(
        outputs.logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
    )
    return total / (labels.ne(-100).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)


def _rows(texts: Sequence[str], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    encoded = tokenizer.encode_batch_fast(list(texts))
    return [{"input_ids": each.ids, "row": at, "held_out": False} for at, each in enumerate(encoded)]


def _split(
    rows: list[dict[str, Any]], options: AdaptOptions
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    order = list(range(len(rows)))
    random.Random(options.seed).shuffle(order)
    number = max(1, round(options.held_out * len(rows)))
    held_out = [rows[at] | {"held_out": True} for at in order[:number]]
    return [rows[at] for at in sorted(order[number:])], held_out
