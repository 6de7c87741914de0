from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnxruntime
import torch
from tokenizers import Tokenizer

from export.bench import score, texts
from export.bench.parts import operator_seconds, products_feeds, products_graph
from export.bench.score import OURS, PLAIN, TORCH, flops_of
from models.checkpoint import save_checkpoint
from models.network import ReviewBertConfig, ReviewClassifier
from stream import bundle
from stream.errors import DependencyError
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterator


def tiny(entries: int) -> Any:
    torch.manual_seed(5)
    config = ReviewBertConfig(
        vocab_size=entries,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
        pad_token_id=1,
        id2label={0: "negative", 1: "positive"},
        attn_implementation="eager",
    )
    network = ReviewClassifier(config)
    network.classifier.weight.data *= 100
    return network.eval()


@contextmanager
def within(name: str, ground: score.Ground) -> Iterator[Any]:
    """A contestant in this process, where the network is a tiny one."""
    with TemporaryDirectory() as folder:
        contestant = ground.contestant(name, ground.course(Path(folder)))
        yield lambda texts: (contestant(texts), score.Turn(1.0, 1.0))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one with the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    tokenizer = Tokenizer.from_file(str(SHIPPED_BUNDLE / bundle.TOKENIZER))
    save_checkpoint(tiny(tokenizer.get_vocab_size()), tokenizer, folder)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "apart", within)
    monkeypatch.setattr(score, "_peak_of", lambda course: lambda: 1e9)


def run(some: list[str], checkpoint: Path, **options: Any) -> score.Report:
    stated = {"rounds": 1, "threads": 2, "token_budget": 128, "max_length": 64}
    return score.run(some, "made", checkpoint=checkpoint, **(stated | options))


@pytest.mark.usefixtures("small")
def test_all_compute_the_same_network_and_ours_wastes_least(checkpoint: Path) -> None:
    report = run(texts.synthetic(40), checkpoint, only=("torch", "plain"))
    by_name = {each.name: each for each in report.contestants}
    assert list(by_name) == [OURS, TORCH, PLAIN]
    assert all(each.largest_difference < 1e-5 for each in report.contestants)
    assert all(each.label_agreement == 1 for each in report.contestants)
    assert by_name[OURS].useful_share > 0.9 > by_name[PLAIN].useful_share
    assert by_name[OURS].ours_times == 1
    assert (report.texts, report.tokens_max, report.threads) == (40, 64, 2)
    assert report.lag.ticks > 0
    assert {"products of linear layers", "products of attention", "GELU", "norms", "softmax"} < {
        each.name for each in report.parts.parts
    }
    assert sum(each.share for each in report.parts.parts) == pytest.approx(1)
    assert report.parts.hot_gflops > 0


def test_the_products_alone_are_those_of_the_graph(tmp_path: Path) -> None:
    sizes = {"width": 16, "inner": 32, "heads": 2}
    products_graph(tmp_path / "products.onnx", **sizes)
    alone = operator_seconds(tmp_path / "products.onnx", tmp_path, [products_feeds(3, 5, **sizes)])
    assert set(alone) == {"MatMul", "FusedMatMul"}
    session = onnxruntime.InferenceSession(str(tmp_path / "products.onnx"))
    shapes = [out.shape for out in session.run(None, products_feeds(3, 5, **sizes))]
    # Query, key, value, output, the feed-forward block; scores and what is seen, of 3 texts and 2 heads.
    assert shapes[:6] == [(15, 16)] * 4 + [(15, 32), (15, 16)]
    assert [sorted(shape) for shape in shapes[6:]] == [[2, 3, 5, 5], [2, 3, 5, 8]]


def test_contestants_run_in_processes_of_their_own_and_one_that_fails_is_named(
    tmp_path: Path, checkpoint: Path
) -> None:
    report = run(texts.synthetic(20), checkpoint, only=("torch",))
    ours, torchs = report.contestants
    assert (ours.name, torchs.name) == (OURS, TORCH)
    assert ours.largest_difference < 1e-5
    assert torchs.ours_times > 0
    nowhere = score.Ground(tmp_path / "nowhere", 1, 128, 64, None)
    with (
        pytest.raises(DependencyError, match=r"^torch sdpa, sorted failed: what it said is above"),
        score.apart(TORCH, nowhere),
    ):
        pass


@pytest.mark.usefixtures("small")
def test_a_peer_that_is_not_installed_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "find_spec", lambda name: None)
    report = run(["good", "bad"], checkpoint, only=("OpenVINO", "CTranslate2"))
    assert [each.name for each in report.contestants] == [OURS]
    assert [line.split(": ")[1] for line in report.missing] == [
        "ctranslate2 is not installed",
        "ctranslate2 is not installed",
        "openvino is not installed",
    ]


def test_the_work_is_the_matrix_products_of_useful_tokens() -> None:
    config = ReviewBertConfig(hidden_size=2, intermediate_size=3, num_hidden_layers=5)
    # A token: four products of 2 x 2, two of 2 x 3; a text of n: two of n x n x 2; two operations each.
    assert flops_of(config, np.array([1, 4])) == 5 * (2 * (16 + 12) * (1 + 4) + 2 * 2 * 2 * (1 + 16))


def test_without_data_texts_are_made_and_the_source_says_so(tmp_path: Path) -> None:
    made = texts.gather(tmp_path, 300)
    assert made.source.startswith("SYNTHETIC")
    lengths = sorted(len(text.split()) for text in made.texts)
    assert len(lengths) == 300
    assert lengths[75] < 15
    assert lengths[-1] > 300
    assert texts.gather(tmp_path, 300) == made


@pytest.mark.usefixtures("small")
def test_a_bundle_runs_beside_by_what_it_computes_in(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(["good", "bad"], checkpoint, only=("torch",), beside=SHIPPED_BUNDLE)
    assert [each.name for each in report.contestants] == [OURS, score.OURS_TOO, TORCH]
    monkeypatch.setattr(bundle.Manifest, "computes_int8", property(lambda _: True))
    report = run(["good", "bad"], checkpoint, only=("torch",), beside=SHIPPED_BUNDLE)
    assert [each.name for each in report.contestants] == [OURS, score.OURS_INT8, TORCH]
