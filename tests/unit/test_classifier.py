from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_models  # noqa: E402
from transformers import BertModel  # noqa: E402

from models.checkpoint import TrainingRecord, save_checkpoint  # noqa: E402
from models.classifier import NetworkClassifier, open_classifier, probabilities  # noqa: E402
from stream import bundle  # noqa: E402
from stream.errors import UsageError  # noqa: E402
from stream.scorer.contract import score_encoded  # noqa: E402
from stream.scorer.onnx import OnnxScorer  # noqa: E402
from stream.settings import SHIPPED_BUNDLE  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["good", "the battery broke, awful!", "great " * 40, "", "works"]
RECORD = TrainingRecord(
    name="tiny",
    languages=("en",),
    base_model="random",
    base_licence="none",
    max_length=24,
    temperature=1.5,
    neutral_band=0.1,
    trained_on=(),
    metrics=(),
    caveats=(),
)


def checkpoint(
    folder: Path, labels: tuple[str, ...] = ("negative", "positive"), record: TrainingRecord | None = None
) -> Path:
    tokenizer = tiny_models.wordpiece()
    save_checkpoint(
        tiny_models.classifier(tokenizer.get_vocab_size(), labels=labels), tokenizer, folder, record
    )
    return folder


def test_a_checkpoint_says_what_its_network_says_of_each_text_alone(tmp_path: Path) -> None:
    opened = open_classifier(checkpoint(tmp_path / "c", record=RECORD))
    network, tokenizer = (
        tiny_models.classifier(tiny_models.wordpiece().get_vocab_size()),
        tiny_models.wordpiece(),
    )
    tokenizer.enable_truncation(RECORD.max_length)
    with torch.inference_mode():
        alone = [network(torch.tensor([tokenizer.encode(text).ids])).logits[0].numpy() for text in TEXTS]
    np.testing.assert_allclose(opened.logits(TEXTS), alone, atol=1e-5)
    assert (opened.name, opened.temperature, opened.neutral_band) == ("tiny", 1.5, 0.1)


def test_columns_come_in_our_order_whatever_theirs_was(tmp_path: Path) -> None:
    ours = open_classifier(checkpoint(tmp_path / "a", ("negative", "neutral", "positive")))
    theirs = open_classifier(checkpoint(tmp_path / "b", ("POSITIVE", "NEGATIVE", "NEUTRAL")))
    assert ours.labels == theirs.labels == ("negative", "neutral", "positive")
    np.testing.assert_allclose(theirs.logits(TEXTS), ours.logits(TEXTS)[:, [1, 2, 0]], atol=1e-6)


def test_columns_without_names_are_taken_in_our_order(tmp_path: Path) -> None:
    assert open_classifier(checkpoint(tmp_path / "c", ("LABEL_0", "LABEL_1"))).labels == (
        "negative",
        "positive",
    )


def test_labels_that_are_not_ours_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tells angry, happy apart; wanted one of"):
        open_classifier(checkpoint(tmp_path / "c", ("angry", "happy")))


def test_an_encoder_without_a_head_is_no_classifier(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size())
    BertModel.save_pretrained(network.bert, tmp_path / "base")
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    with pytest.raises(UsageError, match=r"base is no finished classifier, it lacks classifier.bias"):
        open_classifier(tmp_path / "base")


def test_no_texts_have_no_logits(tmp_path: Path) -> None:
    assert open_classifier(checkpoint(tmp_path / "c")).logits([]).shape == (0, 2)


def test_batches_do_not_change_what_is_said() -> None:
    tokenizer = tiny_models.wordpiece()
    tokenizer.enable_truncation(24)
    network = tiny_models.classifier(tokenizer.get_vocab_size())
    found = [
        NetworkClassifier(network, tokenizer, ("negative", "positive"), token_budget=budget).logits(TEXTS)
        for budget in (1, 30, 10_000)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


def test_a_bundle_says_what_serving_says() -> None:
    manifest = bundle.verify(SHIPPED_BUNDLE)
    opened, scorer = open_classifier(SHIPPED_BUNDLE), OnnxScorer(SHIPPED_BUNDLE, manifest, provider="cpu")
    served = score_encoded(scorer, scorer.encode(TEXTS), token_budget=1024)
    np.testing.assert_allclose(probabilities(opened, TEXTS), served[:, ::2], atol=1e-5)
    assert (opened.name, opened.labels) == (manifest.version, manifest.labels)
    assert (opened.temperature, opened.neutral_band) == (manifest.temperature, manifest.neutral_band)


def test_a_folder_that_is_neither_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a checkpoint nor a bundle: it has no config.json"):
        open_classifier(tmp_path)
    with pytest.raises(UsageError, match=r"neither a checkpoint nor a bundle: there is no such folder"):
        open_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize("lost", ["tokenizer.json", "model.safetensors"])
def test_a_checkpoint_that_lacks_a_file_is_named(tmp_path: Path, lost: str) -> None:
    (checkpoint(tmp_path / "c") / lost).unlink()
    with pytest.raises(UsageError, match=r"/c.* (is not a tokenizer|holds no network)"):
        open_classifier(tmp_path / "c")


def test_a_configuration_that_is_no_json_is_named(tmp_path: Path) -> None:
    (checkpoint(tmp_path / "c") / "config.json").write_text(json.dumps([1]))
    with pytest.raises(UsageError, match=r"config.json cannot be read"):
        open_classifier(tmp_path / "c")


def test_weights_that_are_cut_off_are_named(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "c") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(UsageError, match=r"/c holds no network that can be read"):
        open_classifier(tmp_path / "c")
