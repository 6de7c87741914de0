from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_models
from typer.testing import CliRunner

from models.checkpoint import TrainingRecord, read_record, save_checkpoint
from models.classifier import open_classifier
from models.examples import Example, PreparedSet, write_prepared
from stream.bundle import Metric
from stream.cli.main import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from stream.core.events import Label

RECORD = TrainingRecord(
    name="tiny",
    languages=("en",),
    base_model="random",
    base_licence="none",
    max_length=24,
    temperature=1.0,
    neutral_band=0.0,
    trained_on=(),
    metrics=(Metric(dataset="validation", name="accuracy", value=0.1, interval=(0.0, 0.2), rows=1),),
    caveats=("It is random.",),
)
TEXTS = [f"{first} {second} {last}" for first in "abcdefgh" for second in "good bad" for last in "xyz"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tokenizer = tiny_models.wordpiece()
    save_checkpoint(tiny_models.classifier(tokenizer.get_vocab_size()), tokenizer, tmp_path / "c", RECORD)
    return tmp_path / "c"


def prepared(folder: Path, labels: tuple[Label, ...] = ("negative", "positive")) -> Path:
    columns = np.eye(len(labels))
    samples = [
        Example(text=text, target=tuple(columns[at % len(labels)].tolist()), language="en")
        for at, text in enumerate(TEXTS)
    ]
    write_prepared(PreparedSet(labels=labels, splits={"validation": samples}), folder)
    return folder


def run(*given: object) -> tuple[int, str]:
    said = CliRunner().invoke(command_line(), ["calibrate", *map(str, given)])
    return said.exit_code, said.stdout or str(said.exception)


def test_the_record_is_rewritten_and_the_rest_of_it_kept(checkpoint: Path, tmp_path: Path) -> None:
    before = open_classifier(checkpoint).logits(TEXTS)
    code, said = run(checkpoint, prepared(tmp_path / "p"), "--json")
    assert code == 0, said
    found, record = json.loads(said), read_record(checkpoint)
    assert (record.temperature, record.neutral_band) == (found["temperature"], found["neutral_band"])
    assert record.temperature != 1.0
    assert record.caveats == RECORD.caveats
    assert found["slices"]["all"]["figures"]["ece"]["after"]["interval"]
    np.testing.assert_array_equal(open_classifier(checkpoint).logits(TEXTS), before)


def test_a_threshold_is_moved_into_the_networks_bias(checkpoint: Path, tmp_path: Path) -> None:
    before = open_classifier(checkpoint).logits(TEXTS)
    code, said = run(checkpoint, prepared(tmp_path / "p"), "--threshold", "macro_f1", "--json")
    assert code == 0, said
    after = open_classifier(checkpoint).logits(TEXTS)
    np.testing.assert_allclose(after - before, [[0, json.loads(said)["shift"]]] * len(TEXTS), atol=1e-4)
    [accuracy] = read_record(checkpoint).metrics
    said_columns = after.argmax(axis=1)
    assert accuracy.value == pytest.approx((said_columns == np.arange(len(TEXTS)) % 2).mean(), abs=1e-4)


def test_the_report_has_a_line_for_all_samples(checkpoint: Path, tmp_path: Path) -> None:
    _, said = run(checkpoint, prepared(tmp_path / "p"))
    assert "calibration error, all, 192 samples: " in said
    assert "temperature   1.000 -> " in said


def test_a_set_of_other_labels_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    _, said = run(checkpoint, prepared(tmp_path / "p", ("negative", "neutral", "positive")))
    assert "tells negative, positive apart" in said
    assert read_record(checkpoint) == RECORD


def test_a_set_without_samples_to_calibrate_on_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    _, said = run(checkpoint, prepared(tmp_path / "p"), "--split", "train")
    assert "The split train has no samples" in said
