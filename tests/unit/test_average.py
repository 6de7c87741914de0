from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_models  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.average import AverageOptions, average  # noqa: E402
from models.checkpoint import TrainingRecord, load_network, read_record, save_checkpoint  # noqa: E402
from stream.bundle import Metric, TrainingSource  # noqa: E402
from stream.cli.main import command_line  # noqa: E402
from stream.errors import UsageError  # noqa: E402

TEXTS = TrainingSource(name="texts", licence="MIT", rows=10)
MADE = TrainingSource(name="made", licence="MIT", rows=5)
RECORD = TrainingRecord(
    name="first",
    languages=("en",),
    base_model="tiny",
    base_licence="MIT",
    max_length=32,
    temperature=1.0,
    neutral_band=0.2,
    trained_on=(TEXTS, MADE),
    metrics=(Metric(dataset="held out", name="accuracy", value=0.9, interval=(0.8, 1.0), rows=9),),
    caveats=(),
)
OTHER = replace(RECORD, name="second", temperature=1.4, max_length=16, trained_on=(TEXTS,))


def saved(folder: Path, record: TrainingRecord, *, seed: int, hidden: int = 16, texts: str = "") -> str:
    tokenizer = tiny_models.wordpiece()
    if texts:
        tokenizer.add_tokens([texts])
    entries = tokenizer.get_vocab_size()
    network = tiny_models.classifier(entries, hidden_size=hidden, intermediate_size=hidden)
    noise = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data += torch.randn(weight.shape, generator=noise)
    save_checkpoint(network, tokenizer, folder, record)
    return str(folder)


def two(tmp_path: Path) -> tuple[str, str]:
    return saved(tmp_path / "a", RECORD, seed=1), saved(tmp_path / "b", OTHER, seed=2)


def weights(folder: Path | str) -> dict[str, np.ndarray]:
    return {name: each.numpy() for name, each in load_network(Path(folder)).state_dict().items()}


def test_each_weight_is_the_mean_of_theirs(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    average(AverageOptions(checkpoints=(first, second), weights=(3.0, 1.0), out=str(tmp_path / "mean")))
    of_first, of_second, mean = weights(first), weights(second), weights(tmp_path / "mean")
    assert any(not np.array_equal(of_first[name], of_second[name]) for name in mean)
    for name, each in mean.items():
        np.testing.assert_allclose(each, 0.75 * of_first[name] + 0.25 * of_second[name], atol=1e-6)


def test_its_record_says_what_it_is_made_of_and_claims_no_figures(tmp_path: Path) -> None:
    average(AverageOptions(checkpoints=two(tmp_path), out=str(tmp_path / "mean"), name="both"))
    record = read_record(tmp_path / "mean")
    assert (record.name, record.temperature, record.max_length) == ("both", 1.2, 16)
    assert record.trained_on == (TEXTS, MADE)
    assert record.metrics == ()


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    first, _ = two(tmp_path)
    strangers = {
        "base": saved(tmp_path / "c", replace(RECORD, base_model="another"), seed=3),
        "network": saved(tmp_path / "d", RECORD, seed=4, hidden=8),
        "tokenizer and network": saved(tmp_path / "e", RECORD, seed=5, texts="zzz"),
    }
    for what, stranger in strangers.items():
        with pytest.raises(UsageError, match=f"another {what} than"):
            average(AverageOptions(checkpoints=(first, stranger), out=str(tmp_path / "mean")))
    with pytest.raises(UsageError, match="each once"):
        average(AverageOptions(checkpoints=(first, first), out=str(tmp_path / "mean")))
    with pytest.raises(UsageError, match="3 weights for 2 checkpoints"):
        average(AverageOptions(checkpoints=two(tmp_path), weights=(1, 1, 1), out=str(tmp_path / "mean")))
    assert not (tmp_path / "mean").exists()


def test_the_command_prints_the_shares_and_a_recipe_does_the_same(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    out = str(tmp_path / "mean")
    run = CliRunner().invoke
    done = run(command_line(), ["average", first, second, "--weight", "2", "--weight", "1", "--out", out])
    assert json.loads(done.stdout) == {
        "path": out,
        "checkpoints": [first, second],
        "shares": [2 / 3, 1 / 3],
        "temperature": pytest.approx(1.1333),
    }
    by_command = weights(out)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"[average]\ncheckpoints = {json.dumps([first, second])}\nweights = [2, 1]\nout = {out!r}\n"
    )
    assert run(command_line(), ["average", "--recipe", str(recipe)]).exit_code == 0
    for name, each in weights(out).items():
        np.testing.assert_array_equal(each, by_command[name])
    recipe.write_text("[average]\ncheckpoints = []\nweights = [0]\n")
    refused = run(command_line(), ["average", "--recipe", str(recipe)])
    assert "weights" in str(refused.exception)
