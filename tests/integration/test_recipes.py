"""The article's recipe as it is written, but for its base: from reviews.csv to a bundle that scores."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_models
from transformers import BertModel

from stream.cli.main import command_line

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SENTENCES = ROOT.parent / "shared" / "data" / "uci_amazon_cells_labelled.txt.gz"

pytestmark = pytest.mark.skipif(not SENTENCES.is_file(), reason="the shared data are not here")


@pytest.fixture
def reviewpulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command in a folder with reviews.csv, article.toml and a tiny base; gives what it printed."""
    monkeypatch.chdir(tmp_path)
    with gzip.open(SENTENCES, "rt", encoding="utf-8") as lines, Path("reviews.csv").open("w") as file:
        rows = (line.rstrip("\n").rsplit("\t", 1) for line in lines)
        written = csv.writer(file)
        written.writerow(("text", "label"))
        written.writerows((text, "positive" if label == "1" else "negative") for text, label in rows)
    recipe = (ROOT / "recipes" / "article.toml").read_text()
    assert recipe.count('base = "bert-base-uncased"') == 1
    Path("article.toml").write_text(recipe.replace('"bert-base-uncased"', '"base"'))
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size(), max_position_embeddings=256)
    BertModel.save_pretrained(network.bert, "base")
    tokenizer.save("base/tokenizer.json")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(command_line(), arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_the_articles_recipe_makes_a_bundle_that_scores(reviewpulse: Callable[..., str]) -> None:
    reviewpulse("prepare", "--recipe", "article.toml")
    trained = json.loads(reviewpulse("train", "--recipe", "article.toml", "--threads", "1"))
    assert trained["checkpoint"] == "run/checkpoint"
    assert trained["runs"][0]["steps"] == 3 * -(-_rows("train") // 32)

    calibrated = json.loads(reviewpulse("calibrate", "run/checkpoint", "prepared", "--json"))
    assert calibrated["slices"]["all"]["rows"] == _rows("validation")
    measured = json.loads(
        reviewpulse("evaluate", "run/checkpoint", "prepared", "--html", "report.html", "--json")
    )["evaluation"]
    assert measured["set"]["rows"] == _rows("test")
    # Two random layers learn next to nothing at a rate of 1e-5; the baseline shows that it can be learned.
    assert measured["baseline"]["figures"]["accuracy"]["value"] > 0.7
    assert "report.html" in {each.name for each in Path().iterdir()}

    exported = json.loads(reviewpulse("export", "run/checkpoint", "--out", "bundle", "--texts", "prepared"))
    assert exported["parity"]["texts"] > 100
    said: dict[str, Any] = json.loads(reviewpulse("score", "--bundle", "bundle", "--json", "Works great!"))
    assert said["model_version"] == exported["version"]
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def _rows(split: str) -> int:
    return int(json.loads(Path("prepared/prepared.json").read_text())["splits"][split]["examples"])
