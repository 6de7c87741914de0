"""Masked-language-model training on a BERT of two tiny layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny_models  # noqa: E402
from transformers import BertModel  # noqa: E402

from models.adapt import AdaptOptions, Mask, adapt, masked_language_model  # noqa: E402
from models.checkpoint import save_checkpoint  # noqa: E402
from models.fitting import Order, Silent  # noqa: E402
from models.network import ReviewClassifier  # noqa: E402
from models.start import classifier_of, open_base  # noqa: E402
from stream.errors import UsageError  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

QUICK = AdaptOptions(
    learning_rate=3e-3, head_learning_rate=1e-2, epochs=2, batch_size=16, max_length=32, save_minutes=60
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def base(folder: Path) -> str:
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size())
    BertModel.save_pretrained(network.bert, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def sayings(n: int) -> list[str]:
    """Each word is always followed by the same other, so that a hidden one can be guessed."""
    pairs = ("the battery", "good player", "bad refund", "great works", "awful broke")
    rng = np.random.default_rng(0)
    return [f"{' '.join(rng.choice(pairs, 4))} {at}" for at in range(n)]


def rows(tokenizer: Any, texts: list[str]) -> list[dict[str, Any]]:
    return [
        {"input_ids": tokenizer.encode(text).ids, "row": at, "held_out": False}
        for at, text in enumerate(texts)
    ]


def test_some_tokens_are_hidden_and_special_ones_never() -> None:
    tokenizer = tiny_models.wordpiece()
    mask = Mask(tokenizer, 0, 0.5, seed=1)
    batch = rows(tokenizer, ["the battery works great", "good"] * 50)
    made = mask(batch)
    ids, labels = made["input_ids"], made["labels"]
    hidden = labels != -100
    for at, row in enumerate(batch):
        true = torch.tensor(row["input_ids"])
        chosen = hidden[at, : len(true)]
        assert torch.equal(labels[at, : len(true)][chosen], true[chosen])
        assert torch.equal(ids[at, : len(true)][~chosen], true[~chosen])
        assert chosen.sum() == max(1, round(0.5 * (len(true) - 2)))
        assert not chosen[0]
        assert not chosen[len(true) - 1]
    assert not hidden[made["attention_mask"] == 0].any()
    share = (ids[hidden] == tokenizer.token_to_id("[MASK]")).float().mean()
    assert 0.7 < share < 0.9


def test_masks_depend_on_seed_epoch_and_row_alone() -> None:
    tokenizer = tiny_models.wordpiece()
    mask = Mask(tokenizer, 0, 0.3, seed=1)
    mask.order = Order([1], 1, seed=1)
    batch = rows(tokenizer, ["the battery works great and the player broke"])
    first = mask(batch)["labels"]
    assert torch.equal(mask(batch)["labels"], first)
    mask.order.epoch = 1
    assert not torch.equal(mask(batch)["labels"], first)
    held = [row | {"held_out": True} for row in batch]
    same = mask(held)["labels"]
    mask.order.epoch = 2
    assert torch.equal(mask(held)["labels"], same)


def test_a_base_without_a_head_gets_one_on_its_embedding(tmp_path: Path) -> None:
    network = masked_language_model(open_base(base(tmp_path / "base")), seed=1)
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


def test_adaptation_learns_the_domains_words_and_leaves_a_base(tmp_path: Path) -> None:
    options = msgspec.structs.replace(QUICK, base=base(tmp_path / "base"), epochs=4)
    before: list[float] = []

    class Watched(Silent):
        def evaluated(self, step: int, epoch: float, figures: Any, *, best: bool) -> None:
            before.append(figures["loss"])

    fitted = adapt(sayings(300), options, tmp_path / "run", Watched())
    assert fitted.figures["loss"] == min(before) < before[0] - 0.2
    opened = open_base(str(tmp_path / "run" / "checkpoint"))
    assert opened.config.architectures == ["BertModel"]
    network = classifier_of(opened, ("negative", "positive"), pooling="mean", seed=1)
    learned = network.bert.embeddings.word_embeddings.weight
    assert not torch.equal(
        learned, BertModel.from_pretrained(tmp_path / "base").embeddings.word_embeddings.weight
    )


def test_a_classifiers_encoder_can_be_adapted_and_keeps_its_pooling(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    start = open_base(base(tmp_path / "base"))
    save_checkpoint(
        classifier_of(start, ("negative", "positive"), pooling="mean", seed=1), tokenizer, tmp_path / "ours"
    )
    options = msgspec.structs.replace(QUICK, base=str(tmp_path / "ours"), epochs=1)
    adapt(sayings(40), options, tmp_path / "run", Silent())
    opened = open_base(str(tmp_path / "run" / "checkpoint"))
    assert opened.pooling == "mean"
    assert isinstance(classifier_of(opened, ("negative", "positive"), seed=1), ReviewClassifier)


def test_an_adaptation_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    options = msgspec.structs.replace(QUICK, base=base(tmp_path / "base"), save_steps=3)

    class PowerCut(Exception):  # noqa: N818
        pass

    class Cutter(Silent):
        def step(self, step: int, steps: int, loss: float | None) -> None:
            if step == 11:
                raise PowerCut

    with pytest.raises(PowerCut):
        adapt(sayings(120), options, tmp_path / "cut", Cutter())
    adapt(sayings(120), options, tmp_path / "cut", Silent())
    adapt(sayings(120), options, tmp_path / "whole", Silent())
    one = BertModel.from_pretrained(tmp_path / "cut" / "checkpoint").state_dict()
    for name, weight in BertModel.from_pretrained(tmp_path / "whole" / "checkpoint").state_dict().items():
        torch.testing.assert_close(one[name], weight, rtol=1e-5, atol=1e-6)


def test_too_few_texts_and_a_tokenizer_without_a_mask_get_a_sentence(tmp_path: Path) -> None:
    options = msgspec.structs.replace(QUICK, base=base(tmp_path / "base"))
    with pytest.raises(UsageError, match="3 different texts are too few"):
        adapt(["a", "b", "c", "a", " "], options, tmp_path / "run", Silent())
    tokenizer = tiny_models.unigram()
    tokenizer = type(tokenizer).from_str(tokenizer.to_str().replace("<mask>", "<musk>"))
    with pytest.raises(UsageError, match=r"none of the tokens \[MASK\], <mask>"):
        Mask(tokenizer, 0, 0.15, seed=1)
