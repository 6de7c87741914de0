from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import bundle
from stream.errors import BundleError, DependencyError
from stream.scorer import onnx, providers
from stream.scorer.constant import ConstantScorer
from stream.scorer.contract import score_encoded
from stream.scorer.load import load_scorer
from stream.scorer.providers import Place
from stream.settings import SHIPPED_BUNDLE, load

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.scorer.onnx import OnnxScorer

WORDS = [
    "the",
    "battery",
    "died",
    "after",
    "two",
    "days",
    "and",
    "support",
    "never",
    "answered",
    ",",
    "great",
    "sound",
    "broken",
    "screen",
    "love",
    "it",
    "refund",
    "waste",
    "money",
    "excellent",
    "quality",
    "not",
    "n't",
    "?",
    "!",
    "123",
    "don't",
    "é",
    "中",
    "😀",
]


@pytest.fixture(scope="module")
def scorer() -> OnnxScorer:
    return load_scorer(load(bundle=SHIPPED_BUNDLE, provider="cpu", threads=1))


def score(scorer: OnnxScorer, texts: list[str], token_budget: int = 1024) -> NDArray[np.float32]:
    return score_encoded(scorer, scorer.encode(texts), token_budget=token_budget)


def test_plain_opinions_get_their_label(scorer: OnnxScorer) -> None:
    texts = [
        "Absolutely love it, works perfectly!",
        "Terrible. It broke after one day and I want my money back.",
        "Great sound, great battery, highly recommended.",
        "Waste of money, stopped working within a week.",
    ]
    assert scorer.label(score(scorer, texts)).tolist() == [2, 0, 2, 0]


def test_probabilities_are_shares_and_a_two_label_model_has_no_neutral_share(scorer: OnnxScorer) -> None:
    found = score(scorer, ["good", "bad", "it is a box"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found[:, 1] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=12),
    seed=st.integers(0, 2**32 - 1),
    token_budget=st.sampled_from([64, 256, 1024]),
)
def test_a_score_does_not_depend_on_batch_mates_or_order(
    scorer: OnnxScorer, texts: list[str], seed: int, token_budget: int
) -> None:
    alone = np.concatenate([score(scorer, [text]) for text in texts])
    order = np.random.default_rng(seed).permutation(len(texts))
    together = score(scorer, [texts[row] for row in order], token_budget)
    assert np.abs(together - alone[order]).max() < 1e-5


@pytest.fixture(scope="module")
def lanes() -> OnnxScorer:
    return load_scorer(load(bundle=SHIPPED_BUNDLE, provider="cpu", threads=2))


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    token_budget=st.sampled_from([64, 256, 1024]),
    padding=st.integers(0, 80),
)
def test_scores_and_labels_are_the_same_in_any_batch_order_padding_and_lane(
    scorer: OnnxScorer,
    lanes: OnnxScorer,
    texts: list[str],
    order: random.Random,
    token_budget: int,
    padding: int,
) -> None:
    encoded = scorer.encode(texts)
    alone = np.concatenate([scorer.score(encoded, np.array([row])) for row in range(len(texts))])
    mixed = list(range(len(texts)))
    order.shuffle(mixed)
    rows = np.array(mixed)
    in_one_batch = scorer.score(encoded, rows)
    in_lanes = score(lanes, [texts[row] for row in mixed], token_budget)
    longest = int(encoded.lengths.max())
    ids = np.full((len(texts), longest + padding), scorer.manifest.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, (start, length) in enumerate(zip(encoded.starts, encoded.lengths, strict=True)):
        ids[row, :length] = encoded.ids[start : start + length]
        mask[row, :length] = 1
    padded = scorer.probabilities(scorer._run(ids, mask))[rows]
    for found in (in_one_batch, in_lanes, padded):
        assert np.abs(found - alone[rows]).max() < 1e-5
        clear = np.abs(np.abs(alone[rows][:, 2] - alone[rows][:, 0]) - scorer.manifest.neutral_band) > 4e-5
        assert (scorer.label(found) == scorer.label(alone[rows]))[clear].all()


def test_as_many_batches_run_at_once_as_there_are_lanes(lanes: OnnxScorer) -> None:
    assert lanes.lanes.at_once == 2
    assert load_scorer(load(provider="cpu")).lanes.at_once == onnx.usable_cores()


def test_a_failure_in_one_lane_is_the_windows_failure(
    lanes: OnnxScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        raise RuntimeError("device gone")

    monkeypatch.setattr(lanes, "_run", broken)
    with pytest.raises(RuntimeError, match="device gone"):
        score(lanes, ["a", "much longer text than the other one"] * 40, 64)


def test_rows_may_be_asked_for_in_any_order_and_more_than_once(scorer: OnnxScorer) -> None:
    encoded = scorer.encode(["good", "a very bad thing indeed", "fine"])
    rows = np.array([2, 1, 1, 0])
    found = scorer.score(encoded, rows)
    assert np.abs(found - score(scorer, ["good", "a very bad thing indeed", "fine"])[rows]).max() < 1e-5


def test_no_rows_give_no_scores(scorer: OnnxScorer) -> None:
    assert scorer.score(scorer.encode([]), np.array([], np.intp)).shape == (0, 3)
    assert score(scorer, []).shape == (0, 3)


def test_lengths_count_special_tokens_and_end_at_the_bundles_limit(scorer: OnnxScorer) -> None:
    most = scorer.manifest.max_length
    lengths = scorer.encode(["", "good", "good " * 5000]).lengths
    assert lengths.tolist() == [2, 3, most]
    assert lengths.dtype == np.int32


def test_of_a_long_text_head_and_tail_are_read(scorer: OnnxScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scorer, "_manifest", msgspec.structs.replace(scorer.manifest, max_length=8, tail_tokens=3)
    )
    whole = scorer._tokenizer.encode("a b c d e f g h i j k l").ids
    assert len(whole) > 8
    assert scorer.encode(["a b c d e f g h i j k l"]).ids.tolist() == whole[:5] + whole[-3:]
    assert scorer.encode(["a b"]).ids.tolist() == scorer._tokenizer.encode("a b").ids


def test_text_beyond_the_limit_is_not_read(scorer: OnnxScorer) -> None:
    most, tail = scorer.manifest.max_length, scorer.manifest.tail_tokens
    words, end = "good " * (most - tail - 1), "fine " * tail
    beyond = [words + "awful " * 50 + end, words + "box " * 90 + end]
    one, other = scorer.encode([beyond[0]]), scorer.encode([beyond[1]])
    assert one.lengths.tolist() == [most]
    np.testing.assert_array_equal(one.ids, other.ids)


@pytest.mark.parametrize(
    "text", ["", " ", "\u200b", "🙂" * 500, "a" * 20_000, "\u0000x", "\n\t", "سيئ " * 90, "中文很好"]
)
def test_any_text_gets_finite_probabilities(scorer: OnnxScorer, text: str) -> None:
    assert np.isfinite(score(scorer, [text])).all()


def test_neutral_is_where_both_are_nearly_as_likely(scorer: OnnxScorer) -> None:
    band = scorer.manifest.neutral_band
    inside, outside = band * 0.99, band * 1.01
    rows = [[(1 - margin) / 2, 0, (1 + margin) / 2] for margin in (inside, outside, -inside, -outside)]
    assert scorer.label(np.array(rows, np.float32)).tolist() == [1, 2, 1, 0]


def test_a_temperature_makes_probabilities_less_sure_and_keeps_their_order(scorer: OnnxScorer) -> None:
    logits = np.array([[0.0, 3.0], [2.0, 0.0]], np.float32)
    temperature = scorer.manifest.temperature
    expected = 1 / (1 + np.exp(-np.array([3.0, -2.0]) / temperature))
    np.testing.assert_allclose(scorer.probabilities(logits)[:, 2], expected, atol=1e-6)


def test_extreme_logits_do_not_overflow(scorer: OnnxScorer) -> None:
    found = scorer.probabilities(np.array([[-3e4, 3e4]], np.float32))
    assert found.tolist() == [[0.0, 0.0, 1.0]]


def test_three_labels_pass_through(scorer: OnnxScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = msgspec.structs.replace(
        scorer.manifest, labels=("negative", "neutral", "positive"), temperature=1.0
    )
    monkeypatch.setattr(scorer, "_manifest", manifest)
    found = scorer.probabilities(np.log(np.array([[0.2, 0.5, 0.3]], np.float32)))
    np.testing.assert_allclose(found, [[0.2, 0.5, 0.3]], atol=1e-6)
    assert scorer.label(found).tolist() == [1]
    assert scorer.label(np.array([[0.34, 0.33, 0.33]], np.float32)).tolist() == [0]


def test_encoding_and_scoring_may_overlap(scorer: OnnxScorer) -> None:
    windows = [[" ".join(WORDS[at : at + 9]) + f" {number}" for at in range(9)] for number in range(8)]
    one_by_one = [score(scorer, window) for window in windows]
    with ThreadPoolExecutor(1) as encoding, ThreadPoolExecutor(1) as scoring:
        encoded = [encoding.submit(scorer.encode, window) for window in windows]
        scored = [
            scoring.submit(lambda each: score_encoded(scorer, each.result(), token_budget=256), each)
            for each in encoded
        ]
    for future, expected in zip(scored, one_by_one, strict=True):
        assert np.abs(future.result() - expected).max() < 1e-5


def test_the_provider_in_use_and_the_version_are_named(scorer: OnnxScorer) -> None:
    assert scorer.provider == "CPUExecutionProvider"
    assert scorer.version == bundle.load_manifest(SHIPPED_BUNDLE).version


def test_cuda_demanded_and_absent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_has_nvidia_driver", lambda: False)
    with pytest.raises(
        DependencyError, match=r"CUDA was demanded .* CPUExecutionProvider; .*--provider auto"
    ):
        load_scorer(load(bundle=SHIPPED_BUNDLE, provider="cuda"))


class SilentFallback:
    """ONNX Runtime where CUDA is listed, asked for, and not given."""

    def __init__(self, *args: object, providers: list[object], **kwargs: object) -> None:
        self.asked_for = providers

    def get_providers(self) -> list[str]:
        return [providers.CPU]


def test_a_silent_fall_back_to_the_cpu_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(
        providers.onnxruntime, "get_available_providers", lambda: [providers.CUDA, providers.CPU]
    )
    monkeypatch.setattr(providers.onnxruntime, "preload_dlls", lambda: print("noise"), raising=False)
    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", SilentFallback)
    with pytest.raises(DependencyError, match=r"libraries could not be loaded"):
        providers.open_session(SHIPPED_BUNDLE, Place("cuda"))
    assert providers.open_session(SHIPPED_BUNDLE, Place("auto")).asked_for[0][0] == providers.CUDA


def test_auto_uses_the_cpu_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_has_nvidia_driver", lambda: False)
    assert load_scorer(load(bundle=SHIPPED_BUNDLE, provider="auto")).provider == providers.CPU


def altered(tmp_path: Path, name: str, content: bytes) -> Path:
    """A copy of the shipped bundle with another file in it, and checksums that agree."""
    folder = shutil.copytree(SHIPPED_BUNDLE, tmp_path / "bundle")
    (folder / name).write_bytes(content)
    file = folder / bundle.MANIFEST
    stated = json.loads(file.read_text())
    stated["files"][name] = bundle.sha256(folder / name)
    file.write_text(json.dumps(stated))
    return folder


@pytest.mark.parametrize(
    ("name", "said"),
    [(bundle.MODEL, "cannot be loaded by ONNX Runtime"), (bundle.TOKENIZER, "is not a tokenizer")],
)
def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path, name: str, said: str) -> None:
    folder = altered(tmp_path, name, b"not a model")
    with pytest.raises(BundleError, match=said):
        load_scorer(load(bundle=folder, provider="cpu"))


def test_labels_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED_BUNDLE, tmp_path / "bundle")
    file = folder / bundle.MANIFEST
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"labels": ["negative", "neutral", "positive"]})
    )
    with pytest.raises(BundleError, match=r"gives 2 columns and the manifest has 3 labels"):
        load_scorer(load(bundle=folder, provider="cpu"))


def test_nothing_of_a_tampered_bundle_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(SHIPPED_BUNDLE, tmp_path / "bundle")
    with (folder / bundle.MODEL).open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(onnx, "OnnxScorer", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(BundleError, match=r"checksum differs"):
        load_scorer(load(bundle=folder))


def test_the_constant_scorer_needs_neither_a_bundle_nor_onnx_runtime(tmp_path: Path) -> None:
    assert isinstance(load_scorer(load(scorer="constant", bundle=tmp_path / "nowhere")), ConstantScorer)
    program = (
        "import sys; from stream.scorer.load import load_scorer; from stream.settings import load; "
        "load_scorer(load(scorer='constant')); print('onnxruntime' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_serving_a_model_imports_no_training_library() -> None:
    program = (
        "import sys; from stream.scorer.load import load_scorer; from stream.settings import load; "
        "load_scorer(load(provider='cpu')); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
