"""The commands `adapt` and `distil` by their recipes, with BERTs of tiny layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny_models
from transformers import BertModel
from typer.testing import CliRunner

from models.checkpoint import read_record, save_checkpoint
from models.examples import Example, PreparedSet, write_prepared
from stream.cli.main import command_line
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
[adapt]
texts = ["unlabelled.csv", "prepared"]
column = "review"
base = "base"
out = "adapted"
epochs = 2
batch_size = 16
max_length = 32
threads = 1

[distil]
prepared = "prepared"
teacher = "teacher"
layers = 1
texts = ["unlabelled.csv"]
column = "review"
out = "small"
epochs = 1
batch_size = 16
max_length = 32
seeds = [1]
threads = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, a teacher, a prepared set, a table and a recipe, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size())
    save_checkpoint(network, tokenizer, tmp_path / "teacher")
    BertModel.save_pretrained(network.bert, tmp_path / "base")
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))

    def split(seed: int) -> list[Example]:
        return [
            Example(text=text, target=(float(at % 2), 1.0 - at % 2))
            for at, text in enumerate(texts(20, seed))
        ]

    splits: Any = {"train": split(1), "validation": split(2), "test": split(3)}
    write_prepared(PreparedSet(labels=("negative", "positive"), splits=splits), tmp_path / "prepared")
    rows = [*texts(30, 4), splits["test"][0].text.upper()]
    (tmp_path / "unlabelled.csv").write_text("".join(f"{row}\n" for row in ("review", *rows)))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{' '.join(rng.choice(tiny_models.WORDS, 4))} {seed}{at}" for at in range(n)]


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(command_line(), [*arguments, "--recipe", "recipe.toml"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_adapt_leaves_a_base_and_what_is_said_on_the_command_line_wins(folder: Path) -> None:
    found = run("adapt", "--epochs", "1")
    assert found["checkpoint"] == "adapted/checkpoint"
    # 31 texts of the table and 20 of the training split, of which 3 are held out, in batches of 16.
    assert found["run"]["steps"] == 3
    assert (folder / "adapted" / "checkpoint" / "model.safetensors").is_file()


def test_distil_leaves_a_calibrated_student_that_saw_nothing_held_out(folder: Path) -> None:
    found = run("distil")
    assert found["checkpoint"] == "small/checkpoint"
    # 20 labelled texts and 30 of the table's 31: one is the test split's, in capitals.
    assert found["runs"][0]["steps"] == 4
    record = read_record(folder / "small" / "checkpoint")
    assert record.base_model == "teacher, 1 of its 2 layers"
    assert found["record"]["temperature"] == record.temperature


def test_the_same_command_finds_its_run_finished(folder: Path) -> None:
    assert run("adapt")["run"] == run("adapt")["run"]


def test_a_negative_seed_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="seed"):
        run("adapt", "--seed", "-1")


def test_an_option_that_is_none_is_named(folder: Path) -> None:
    (folder / "recipe.toml").write_text(RECIPE.replace("layers = 1", "layer = 1"))
    with pytest.raises(UsageError, match=r"table \[distil\]: no option 'layer'"):
        run("distil")
