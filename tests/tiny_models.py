"""Tokenizers of a few words and networks of two tiny layers with random weights, for tests."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification

from models.checkpoint import TrainingRecord
from models.network import ReviewBertConfig, ReviewClassifier

LETTERS = "abcdefghijklmnopqrstuvwxyz.!,0123456789"
WORDS = ("the", "good", "great", "bad", "awful", "battery", "works", "broke", "player", "rare", "refund")
CHINESE = ("质量", "很好", "不错", "电池", "太差", "退货", "满意")


def wordpiece() -> Tokenizer:
    """BERT's kind of tokenizer."""
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *LETTERS, *WORDS, *(f"##{letter}" for letter in LETTERS), "##ing", "##ed"]
    number = {word: at for at, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(number, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", number["[CLS]"]), ("[SEP]", number["[SEP]"])]
    )
    tokenizer.add_special_tokens([word for word in special if not word.startswith("[unused")])
    return tokenizer


def unigram() -> Tokenizer:
    """XLM-R's kind of tokenizer: pieces with log-probabilities, falling."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [
        *("▁", *(f"▁{word}" for word in WORDS), *CHINESE, "ing", "ed", "▁ca", "fé", "при", "вет"),
        *dict.fromkeys(LETTERS + "中质量很好不错电池太差退货满意。😀é"),
    ]
    scored = [(word, 0.0) for word in special] + [(piece, -3.0 - at / 20) for at, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([*special, "<mask>"])
    return tokenizer


SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def classifier(entries: int, *, labels: tuple[str, ...] = ("negative", "positive"), **changes: Any) -> Any:
    """A transformers BERT for sequence classification; always the same weights."""
    torch.manual_seed(0)
    stated = {
        "vocab_size": entries,
        **SHAPE,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: column for column, label in enumerate(labels)},
    }
    network = BertForSequenceClassification(BertConfig(**(stated | changes)))
    # Random logits are nearly equal; these differ enough to tell texts apart.
    network.classifier.weight.data *= 30
    return network.eval()


def mean_pooled(entries: int, **changes: Any) -> Any:
    """A mean-pooled BERT whose weights, norms and biases are all far from zero and one; always the same."""
    torch.manual_seed(3)
    stated = {
        "vocab_size": entries,
        **SHAPE,
        "id2label": {0: "negative", 1: "positive"},
        "label2id": {"negative": 0, "positive": 1},
        "attn_implementation": "eager",
    }
    made = ReviewClassifier(ReviewBertConfig(**(stated | changes)))
    for parameter in made.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return made.eval()


def record(max_length: int) -> TrainingRecord:
    """What training would say of a tiny network."""
    return TrainingRecord(
        name="tiny",
        languages=("en",),
        base_model="random",
        base_licence="none",
        max_length=max_length,
        temperature=1.0,
        neutral_band=0.1,
        trained_on=(),
        metrics=(),
        caveats=(),
    )
