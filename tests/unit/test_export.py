from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

import tiny_models
from typer.testing import CliRunner

from export.bundle import write_bundle
from models.checkpoint import TrainingRecord, load_checkpoint, save_checkpoint
from models.classifier import open_classifier
from stream import bundle
from stream.cli.main import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from export.storage import Storage

THREE = ("negative", "neutral", "positive")
TEXTS = ["good", "电池质量太差。", "the battery broke, awful!", "不错 😀", "refund " * 30, ""]
RECORD = TrainingRecord(
    name="tiny",
    languages=("en", "zh"),
    base_model="random",
    base_licence="none",
    max_length=24,
    temperature=1.5,
    neutral_band=0.1,
    trained_on=(bundle.TrainingSource(name="made up", licence="MIT", rows=1),),
    metrics=(),
    caveats=("It is random.",),
    training_note="Samples are invented.",
    metrics_note="There are no sets.",
)


def checkpoint(folder: Path, labels: tuple[str, ...] = ("negative", "positive")) -> Path:
    tokenizer = tiny_models.unigram()
    # Wide enough for weights that are stored in fewer bits.
    network = tiny_models.classifier(
        tokenizer.get_vocab_size(), labels=labels, hidden_size=96, intermediate_size=128, pad_token_id=1
    )
    save_checkpoint(network, tokenizer, folder, RECORD)
    return folder


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "float16+int8-words"])
def test_a_bundle_of_any_storage_says_what_its_checkpoint_says(tmp_path: Path, storage: Storage) -> None:
    folder = checkpoint(tmp_path / "c")
    network, tokenizer = load_checkpoint(folder, RECORD.max_length)
    done = write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage=storage)
    # The bundle's tokenizer is of Unigram kind: serving reads it as any other.
    served, trained = open_classifier(tmp_path / "b"), open_classifier(folder)
    difference = np.abs(served.logits(TEXTS) - trained.logits(TEXTS)).max()
    assert difference < {"float32": 1e-5, "float16": 2e-2}.get(storage, 0.2)
    assert done.parity.batch_difference < 1e-5
    assert done.manifest.precision == f"stored {storage}, computed float32"
    assert (served.temperature, served.neutral_band) == (1.5, 0.1)


def test_three_labels_come_in_our_order_and_have_no_band(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", ("POSITIVE", "NEGATIVE", "NEUTRAL"))
    network, tokenizer = load_checkpoint(folder, RECORD.max_length)
    write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage="float32")
    served, trained = open_classifier(tmp_path / "b"), open_classifier(folder)
    assert served.labels == trained.labels == THREE
    assert served.neutral_band == 0
    np.testing.assert_allclose(served.logits(TEXTS), trained.logits(TEXTS), atol=1e-5)


def test_the_card_says_what_the_network_and_the_record_say(tmp_path: Path) -> None:
    network, tokenizer = load_checkpoint(checkpoint(tmp_path / "c", THREE), RECORD.max_length)
    write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS)
    card = (tmp_path / "b" / bundle.CARD).read_text()
    assert "2 layers of 96" in card
    assert "its architecture's own pooling" in card
    assert "logits of negative, neutral, positive." in card
    assert "Samples are invented." in card
    assert "There are no sets." in card
    assert "of each other" not in card


def test_the_command_exports_with_the_storage_asked_for(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    given = ["export", str(folder), "--out", str(tmp_path / "b"), "--texts", str(tmp_path / "texts.txt")]
    said = CliRunner().invoke(command_line(), [*given, "--storage", "int8"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["size_bytes"] == sum(file.stat().st_size for file in (tmp_path / "b").iterdir())
    assert bundle.verify(tmp_path / "b").precision == "stored int8, computed float32"


def test_the_command_reads_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "recipe.toml").write_text(
        f"""
        [export]
        checkpoint = "{checkpoint(tmp_path / "c")}"
        out = "{tmp_path / "b"}"
        texts = ["{tmp_path / "texts.txt"}"]
        storage = "float32"
        """
    )
    said = CliRunner().invoke(command_line(), ["export", "--recipe", str(tmp_path / "recipe.toml")])
    assert said.exit_code == 0, said.output
    assert bundle.verify(tmp_path / "b").precision == "stored float32, computed float32"


def test_what_the_command_was_not_told_is_named() -> None:
    said = CliRunner().invoke(command_line(), ["export", "c"])
    assert "Name the checkpoint and the bundle's folder --out" in str(said.exception)
    said = CliRunner().invoke(command_line(), ["export", "c", "--out", "b"])
    assert "--data FOLDER or --texts FILE" in str(said.exception)
