"""A bundle as a checkpoint again: it says the same, goes on being trained, and others are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

import tiny_bundles  # noqa: E402
import tiny_models  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from export.bundle import write_bundle  # noqa: E402
from export.reopen import checkpoint_of, weights_of  # noqa: E402
from export.storage import STORAGES, Storage  # noqa: E402
from models.checkpoint import load_checkpoint, read_record  # noqa: E402
from models.classifier import NetworkClassifier, open_classifier  # noqa: E402
from models.start import classifier_of, open_base  # noqa: E402
from stream import bundle  # noqa: E402
from stream.bundle import TrainingSource  # noqa: E402
from stream.cli.main import command_line  # noqa: E402
from stream.errors import BundleError, UsageError  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("negative", "positive")
SOURCE = TrainingSource(name="made up", licence="none", rows=3)
WIDE = {"hidden_size": 64, "intermediate_size": 128}
"""Enough for weights that are stored in fewer bits."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reviewpulse" / "bases"


def made(folder: Path, storage: Storage = "int8", **more: Any) -> Path:
    tokenizer = tiny_models.wordpiece()
    tokenizer.enable_truncation(48)
    network = tiny_models.mean_pooled(tokenizer.get_vocab_size(), **WIDE)
    record = msgspec.structs.replace(tiny_models.record(48), trained_on=(SOURCE,), base_licence="MIT")
    # Random weights say much about little: rounding them is not what is tested here.
    write_bundle(
        network,
        tokenizer,
        record,
        folder,
        parity_texts=tiny_bundles.TEXTS,
        storage=storage,
        force=True,
        **more,
    )
    return folder


@pytest.mark.parametrize("storage", STORAGES)
def test_the_checkpoint_of_a_bundle_says_what_the_bundle_says(tmp_path: Path, storage: Storage) -> None:
    path = made(tmp_path / "bundle", storage)
    folder = checkpoint_of(path)
    texts = [*tiny_bundles.TEXTS, "great battery " * 30]
    theirs = open_classifier(path).logits(texts)
    ours = NetworkClassifier(*load_checkpoint(folder, 48), LABELS).logits(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    record = read_record(folder)
    assert (record.name, record.base_model, record.max_length) == ("tiny", "random", 48)


def test_it_is_unpacked_once(tmp_path: Path, cache: Path) -> None:
    path = made(tmp_path / "bundle")
    folder = checkpoint_of(path)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert checkpoint_of(path) == folder == weights_of(path)
    assert weights_of(folder) == folder
    with pytest.raises(UsageError, match=r"^There is no folder .*nowhere; name a checkpoint's or a bundle's"):
        weights_of(tmp_path / "nowhere")
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [each.name for each in cache.iterdir()] == [folder.name]


def test_training_goes_on_from_a_bundle_and_names_what_it_learned_of(tmp_path: Path) -> None:
    base = open_base(str(made(tmp_path / "bundle")))
    assert (base.name, base.licence, base.pooling) == ("random", "MIT", "mean")
    assert base.trained_on == (SOURCE,)
    network = classifier_of(base, LABELS, seed=1)
    kept = load_checkpoint(checkpoint_of(tmp_path / "bundle"), 48)[0].classifier.weight
    assert torch.equal(network.classifier.weight, kept)
    network(input_ids=torch.tensor([[3, 9, 4]])).logits.sum().backward()
    key = network.bert.encoder.layer[0].attention.self.query.bias
    assert torch.isfinite(key.grad).all()


def test_a_graph_of_another_kind_is_refused_and_nothing_is_left(tmp_path: Path, cache: Path) -> None:
    pooled = tiny_bundles.make_bundle(tmp_path / "pooled")
    int8 = made(tmp_path / "int8", calibrate=tiny_bundles.TEXTS * 8)
    for path in (pooled, int8):
        with pytest.raises(
            UsageError, match=r"cannot be made a checkpoint again.*mean-pooled.*Name the check"
        ):
            open_base(str(path))
    assert not cache.exists() or not list(cache.iterdir())


def test_a_graph_that_says_something_else_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.reopen.LAYER", (*LAYER_EXCHANGED,))
    with pytest.raises(UsageError, match="cannot be made a checkpoint again"):
        checkpoint_of(made(tmp_path / "bundle"))
    assert not list(cache.iterdir())


LAYER_EXCHANGED = (
    "attention.self.query",
    "attention.self.value",
    "attention.self.key",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def test_a_bundle_that_was_altered_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "bundle")
    with (path / bundle.MODEL).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        checkpoint_of(path)


def test_a_bundle_is_exported_again_and_reads_of_a_long_text_what_it_read(tmp_path: Path) -> None:
    made(tmp_path / "bundle", tail_tokens=16)
    (tmp_path / "texts.txt").write_text("\n".join(each for each in tiny_bundles.TEXTS if each))
    command = ["export", str(tmp_path / "bundle"), "--texts", str(tmp_path / "texts.txt")]
    for more, tail in ((), 16), (("--tail-tokens", "0"), 0):
        out = tmp_path / f"again-{tail}"
        said = CliRunner().invoke(
            command_line(), [*command, "--storage", "float32", "--out", str(out), *more]
        )
        assert said.exit_code == 0, said.output
        again = bundle.verify(out)
        assert again.tail_tokens == tail
        assert again.precision == "stored float32, computed float32"
        assert "Read back from the bundle tiny-" in (out / bundle.CARD).read_text()
