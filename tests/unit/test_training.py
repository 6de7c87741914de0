"""The rooms models/ and export/ on a BERT of two tiny layers with random weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402

import export.bundle as room  # noqa: E402
from export.bundle import write_bundle  # noqa: E402
from models.checkpoint import (  # noqa: E402
    TrainingRecord,
    load_checkpoint,
    read_record,
    save_checkpoint,
)
from models.finetune import predict  # noqa: E402
from models.network import ReviewBertConfig, ReviewClassifier  # noqa: E402
from models.trim import kept_ids, trim_tokenizer  # noqa: E402
from stream import bundle  # noqa: E402
from stream.errors import BundleError, UsageError  # noqa: E402
from stream.scorer.onnx import OnnxScorer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz.!,0123456789")
WORDS = [
    "the",
    "good",
    "great",
    "bad",
    "awful",
    "battery",
    "works",
    "broke",
    "player",
    "rare",
    "refund",
    "love",
]
VOCABULARY = [*SPECIAL, *LETTERS, *WORDS, *(f"##{letter}" for letter in LETTERS), "##ing", "##ed"]


def wordpiece() -> Tokenizer:
    number = {word: at for at, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(number, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", number["[CLS]"]), ("[SEP]", number["[SEP]"])]
    )
    tokenizer.add_special_tokens([word for word in SPECIAL if not word.startswith("[unused")])
    return tokenizer


def tiny(seed: int = 0) -> ReviewClassifier:
    torch.manual_seed(seed)
    config = ReviewBertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
        id2label={0: "negative", 1: "positive"},
        attn_implementation="eager",
    )
    return ReviewClassifier(config).eval()


RECORD = TrainingRecord(
    name="tiny",
    languages=("en",),
    base_model="random",
    base_licence="none",
    max_length=48,
    temperature=1.5,
    neutral_band=0.1,
    trained_on=(bundle.TrainingSource(name="made up", licence="MIT", rows=1),),
    metrics=(bundle.Metric(dataset="d", name="accuracy", value=0.5, interval=(0.4, 0.6), rows=10),),
    caveats=("It is random.",),
)
TEXTS = ["good", "the battery broke. awful!", "works " * 60, "refund " * 7, "love"]


def cut_at(tokenizer: Tokenizer, length: int) -> Tokenizer:
    tokenizer.enable_truncation(length)
    return tokenizer


# --- trimming ---------------------------------------------------------------------------------------------


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[str]]:
    return [each.tokens for each in tokenizer.encode_batch(list(texts))]


def test_trimming_leaves_the_training_texts_tokenisation_as_it_was() -> None:
    texts = ["the player broke", "battery charging failed, refunded", "great!"]
    full = wordpiece()
    trimmed = trim_tokenizer(full, kept_ids(full, texts, limit=0))
    assert tokens(trimmed, texts) == tokens(full, texts)
    assert trimmed.get_vocab_size() < full.get_vocab_size()


def test_trimming_drops_unused_words_and_spells_them_in_pieces() -> None:
    full = wordpiece()
    trimmed = trim_tokenizer(full, kept_ids(full, ["the player broke"], limit=0))
    assert tokens(full, ["rare"]) == [["[CLS]", "rare", "[SEP]"]]
    assert tokens(trimmed, ["rare"]) == [["[CLS]", "r", "##a", "##r", "##e", "[SEP]"]]
    assert "[unused0]" not in trimmed.get_vocab()


def test_words_fill_the_limit_in_the_order_of_their_ids() -> None:
    full = wordpiece()
    least = len(kept_ids(full, [], limit=0))
    kept = {VOCABULARY[token] for token in kept_ids(full, [], limit=least + 2)}
    assert kept >= {"the", "good"}
    assert "great" not in kept


# --- checkpoints and bundles ------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    network = tiny()
    save_checkpoint(network, wordpiece(), tmp_path / "c", RECORD)
    again, tokenizer = load_checkpoint(tmp_path / "c", 48)
    np.testing.assert_array_equal(predict(again, tokenizer, TEXTS), predict(network, tokenizer, TEXTS))
    assert read_record(tmp_path / "c") == RECORD


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a finished checkpoint"):
        read_record(tmp_path)


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_bundle_says_what_its_checkpoint_says(tmp_path: Path, storage: str) -> None:
    network, tokenizer = tiny(), cut_at(wordpiece(), 48)
    done = write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage=storage)
    manifest = bundle.verify(tmp_path / "b")
    assert manifest == done.manifest
    assert re.fullmatch(r"tiny-[0-9a-f]{8}", manifest.version)
    scorer = OnnxScorer(tmp_path / "b", manifest, provider="cpu")
    encoded = scorer.encode(TEXTS)
    found = scorer.score(encoded, np.arange(len(TEXTS)))
    expected = scorer.probabilities(predict(network, tokenizer, TEXTS, batch_size=1))
    np.testing.assert_allclose(found, expected, atol=2e-3 if storage == "float16" else 1e-5)
    assert encoded.lengths.max() == 48
    assert list((tmp_path).iterdir()) == [tmp_path / "b"]


def test_the_model_card_has_sources_figures_and_caveats(tmp_path: Path) -> None:
    write_bundle(tiny(), cut_at(wordpiece(), 48), RECORD, tmp_path / "b", parity_texts=TEXTS)
    card = (tmp_path / "b" / bundle.CARD).read_text()
    assert "| made up | MIT | 1 |" in card
    assert "| d | accuracy | 0.500 | 0.400 to 0.600 | 10 |" in card
    assert "- It is random." in card


def test_a_new_bundle_replaces_the_old_one_and_its_version(tmp_path: Path) -> None:
    tokenizer = cut_at(wordpiece(), 48)
    old = write_bundle(tiny(0), tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS)
    new = write_bundle(tiny(1), tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS)
    assert old.manifest.version != new.manifest.version
    assert bundle.verify(tmp_path / "b") == new.manifest


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"exists and is not a bundle"):
        write_bundle(tiny(), wordpiece(), RECORD, tmp_path / "precious", parity_texts=TEXTS)
    assert (tmp_path / "precious" / "work.txt").read_text() == "mine"


def test_no_bundle_is_written_when_the_exported_model_says_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_bundle(tiny(), cut_at(wordpiece(), 48), RECORD, tmp_path / "b", parity_texts=TEXTS)
    stranger = tiny(seed=5)
    stranger.classifier.weight.data *= 30
    exported = room.export_onnx
    monkeypatch.setattr(room, "export_onnx", lambda _, path, **options: exported(stranger, path, **options))
    with pytest.raises(BundleError, match=r"differs from its checkpoint .* No bundle was written"):
        write_bundle(tiny(), cut_at(wordpiece(), 48), RECORD, tmp_path / "b", parity_texts=TEXTS)
    assert bundle.verify(tmp_path / "b") == old.manifest
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]
