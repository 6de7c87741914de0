"""Drops the WordPiece entries that reviews do not use: half of a small BERT is its vocabulary.

Rules:
- Kept: the special tokens, every single character and every continuation (``##``) piece, so that any word can
  still be spelled; everything the training texts use; then whole words in the order of their ids (BERT's
  vocabulary is by falling frequency) up to the limit.
- The training texts' tokenisation does not change: WordPiece takes the longest entry that fits, and no entry
  is added that could fit better.
- ``[unused]`` entries go first.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.network import ReviewClassifier


def kept_ids(tokenizer: Tokenizer, texts: Iterable[str], limit: int) -> list[int]:
    """Old ids of the entries to keep, ascending.

    Args:
        tokenizer: a WordPiece tokenizer, without truncation.
        texts: the training texts.
        limit: how many entries to keep; exceeded when the first rules alone need more.
    """
    used = {token for encoding in tokenizer.encode_batch(list(texts)) for token in encoding.ids}
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    keep = {
        token
        for word, token in words
        if token in used or token in special or len(word) == 1 or word.startswith("##")
    }
    for word, token in words:
        if len(keep) >= limit:
            break
        if not word.startswith("[unused"):
            keep.add(token)
    return sorted(keep)


def trim_tokenizer(tokenizer: Tokenizer, keep: list[int]) -> Tokenizer:
    """The same tokenizer with the entries ``keep`` alone, numbered in that order; none is cut or padded."""
    stated = json.loads(tokenizer.to_str())
    number = {old: new for new, old in enumerate(keep)}
    stated["model"]["vocab"] = {
        word: number[old] for word, old in stated["model"]["vocab"].items() if old in number
    }
    for token in stated["added_tokens"]:
        token["id"] = number[token["id"]]
    for special in stated["post_processor"]["special_tokens"].values():
        special["ids"] = [number[old] for old in special["ids"]]
    stated["padding"] = stated["truncation"] = None
    return Tokenizer.from_str(json.dumps(stated))


def trim_embedding(network: ReviewClassifier, keep: list[int]) -> None:
    """Keeps the rows ``keep`` of the word embedding, in that order; in place."""
    import torch

    old = network.bert.embeddings.word_embeddings
    new = torch.nn.Embedding(len(keep), old.embedding_dim, padding_idx=keep.index(old.padding_idx))
    new.weight.data.copy_(old.weight.data[keep])
    network.bert.embeddings.word_embeddings = new
    network.config.vocab_size = len(keep)
    network.config.pad_token_id = new.padding_idx
