from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny_models  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.checkpoint import save_checkpoint  # noqa: E402
from models.classifier import open_classifier  # noqa: E402
from models.provenance import of_folder  # noqa: E402
from models.trim import kept_ids, trim_checkpoint, trim_tokenizer  # noqa: E402
from stream.cli.main import command_line  # noqa: E402
from stream.errors import UsageError  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

MAKERS = {"wordpiece": tiny_models.wordpiece, "unigram": tiny_models.unigram}
CORPUS = ["the battery broke, refund!", "good good player", "电池质量太差。", "very 不错 😀"]


def spelled(tokenizer: Tokenizer, texts: list[str]) -> list[list[str]]:
    return [each.tokens for each in tokenizer.encode_batch(texts)]


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.text(st.sampled_from("abdegotTh 电池质量太差。好!0é"), min_size=1, max_size=25),
        min_size=1,
        max_size=5,
    ),
    limit=st.integers(0, 120),
)
def test_the_corpus_is_tokenised_as_before(kind: str, texts: list[str], limit: int) -> None:
    full = MAKERS[kind]()
    trimmed = trim_tokenizer(full, kept_ids(full, texts, limit))
    assert spelled(trimmed, texts) == spelled(full, texts)


@pytest.mark.parametrize("kind", MAKERS)
def test_logits_of_the_corpus_stay_and_the_rest_is_smaller(kind: str, tmp_path: Path) -> None:
    full = MAKERS[kind]()
    save_checkpoint(tiny_models.classifier(full.get_vocab_size()), full, tmp_path / "full")
    done = trim_checkpoint(tmp_path / "full", CORPUS, tmp_path / "trimmed")
    before, after = open_classifier(tmp_path / "full"), open_classifier(tmp_path / "trimmed")
    np.testing.assert_allclose(after.logits(CORPUS), before.logits(CORPUS), atol=1e-6)
    assert done.entries[1] < done.entries[0] == full.get_vocab_size()
    assert done.weight_bytes[1] < done.weight_bytes[0]
    assert (
        Tokenizer.from_file(str(tmp_path / "trimmed" / "tokenizer.json")).get_vocab_size() == done.entries[1]
    )


def test_what_the_corpus_does_not_use_is_spelled_in_characters() -> None:
    full = tiny_models.unigram()
    trimmed = trim_tokenizer(full, kept_ids(full, ["good 太差"], limit=0))
    assert spelled(full, ["refund 退货"]) == [["<s>", "▁refund", "▁", "退货", "</s>"]]
    assert spelled(trimmed, ["refund 退货"]) == [["<s>", "▁", *"refund", "▁", "退", "货", "</s>"]]


def test_scripts_that_the_corpus_is_not_written_in_go() -> None:
    full = tiny_models.unigram()
    kept = trim_tokenizer(full, kept_ids(full, CORPUS, limit=500)).get_vocab()
    assert "при" not in kept
    assert "▁works" in kept


def test_the_limit_is_filled_with_the_likeliest_entries_that_look_like_the_corpus() -> None:
    full = tiny_models.unigram()
    least = len(kept_ids(full, ["the player"], limit=0))
    piece = {token: word for word, token in full.get_vocab().items()}
    kept = {piece[token] for token in kept_ids(full, ["the player"], limit=least + 1)}
    assert len(kept) == least + 1
    assert kept & {f"▁{word}" for word in tiny_models.WORDS} > {"▁the", "▁player"}


def test_words_of_another_tokenizer_come_first() -> None:
    full, words = tiny_models.unigram(), tiny_models.wordpiece()
    least = len(kept_ids(full, ["the"], limit=0))
    piece = {token: word for word, token in full.get_vocab().items()}
    known = {f"▁{word}" for word in tiny_models.WORDS} | {"ing", "ed"}
    kept = {piece[token] for token in kept_ids(full, ["the"], limit=least + len(known) - 1, words=words)}
    assert known <= kept


def test_special_tokens_keep_their_meaning() -> None:
    full = tiny_models.unigram()
    trimmed = trim_tokenizer(full, kept_ids(full, CORPUS, limit=0))
    assert trimmed.encode("q").tokens == ["<s>", "▁", "q", "</s>"]
    assert [trimmed.token_to_id(each) for each in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert trimmed.token_to_id("<mask>") is not None
    assert trimmed.encode("ξ").tokens[-2] == "ξ"
    assert trimmed.encode("ξ").ids[-2] == 3


def test_an_encoder_without_a_head_is_trimmed_as_well(tmp_path: Path) -> None:
    full = tiny_models.unigram()
    config = transformers.BertConfig(
        vocab_size=full.get_vocab_size() + 5,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        pad_token_id=1,
    )
    encoder = transformers.BertModel(config, add_pooling_layer=False)
    save_checkpoint(encoder, full, tmp_path / "base")
    done = trim_checkpoint(tmp_path / "base", CORPUS, tmp_path / "small")
    small = transformers.BertModel.from_pretrained(tmp_path / "small", add_pooling_layer=False)
    keep = kept_ids(full, CORPUS, 0)
    rows = small.embeddings.word_embeddings.weight.detach().numpy()
    np.testing.assert_array_equal(rows, encoder.embeddings.word_embeddings.weight.detach().numpy()[keep])
    assert small.config.vocab_size == done.entries[1]
    assert small.config.pad_token_id == 1
    assert of_folder(tmp_path / "small").name == f"base, its vocabulary trimmed to {len(keep):,} entries"


def test_a_folder_that_is_no_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")  # many programs have one
    with pytest.raises(UsageError, match=r"exists and is not a checkpoint"):
        trim_checkpoint(tmp_path, CORPUS, tmp_path)


def test_weights_that_are_cut_off_are_named(tmp_path: Path) -> None:
    full = tiny_models.wordpiece()
    save_checkpoint(tiny_models.classifier(full.get_vocab_size()), full, tmp_path / "full")
    weights = tmp_path / "full" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(UsageError, match=r"full is not a checkpoint that can be trimmed"):
        trim_checkpoint(tmp_path / "full", CORPUS, tmp_path / "small")
    assert [each.name for each in tmp_path.iterdir()] == ["full"]


def test_the_command_reads_a_column_of_a_table_as_serving_would(tmp_path: Path) -> None:
    full = tiny_models.unigram()
    save_checkpoint(tiny_models.classifier(full.get_vocab_size()), full, tmp_path / "full")
    (tmp_path / "reviews.csv").write_text(
        'stars,review\n1,"broke,\nrefund"\n5,good<br/>player\n5,good player\n'
    )
    (tmp_path / "recipe.toml").write_text(
        f"""
        [trim]
        checkpoint = "{tmp_path / "full"}"
        texts = ["{tmp_path / "reviews.csv"}"]
        column = "review"
        out = "{tmp_path / "small"}"
        """
    )
    said = CliRunner().invoke(command_line(), ["trim", "--recipe", str(tmp_path / "recipe.toml")])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["texts"] == 2


def test_the_command_prints_sizes_before_and_after(tmp_path: Path) -> None:
    full = tiny_models.unigram()
    save_checkpoint(tiny_models.classifier(full.get_vocab_size()), full, tmp_path / "full")
    (tmp_path / "texts.txt").write_text("\n".join(CORPUS))
    given = [
        "trim",
        str(tmp_path / "full"),
        "--texts",
        str(tmp_path / "texts.txt"),
        "--out",
        str(tmp_path / "small"),
    ]
    said = CliRunner().invoke(command_line(), given)
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["texts"] == len(CORPUS)
    assert found["entries"][1] < found["entries"][0]
