"""What only a GPU can show: that the real provider does what the fakes of ``fake_gpu.py`` say it does.

Skipped where there is none, but for REVIEWPULSE_TEST_GPU, which ``make gpu`` sets: then they fail.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="wants pip install 'reviewpulse[train]'")

from tiny_models import mean_pooled

from export.gpu_graph import fuse
from export.onnx import export_onnx
from stream.errors import DependencyError
from stream.scorer.gpu import AT_ONCE, SEEN, GpuRunner
from stream.scorer.providers import CUDA, Place, captures, open_session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gpu

HALF = 0.05
"""What float16 may move a logit of these networks, whose weights are large."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network plain, fused, and packed; ``open`` fails where CUDA cannot be used."""
    made = tmp_path_factory.mktemp("gpu")
    network = mean_pooled(100, hidden_size=64, num_attention_heads=2, max_position_embeddings=512)
    for name in ("plain", "fused", "packed"):
        (made / name).mkdir()
    export_onnx(network, made / "plain" / "model.onnx")
    for name in ("fused", "packed"):
        fuse(
            made / "plain" / "model.onnx",
            made / name / "model.onnx",
            heads=2,
            width=64,
            layers=2,
            packed=name == "packed",
        )
    try:
        open_session(made / "fused", Place("cuda", cuda_graphs=False))
    except DependencyError as error:
        if os.environ.get("REVIEWPULSE_TEST_GPU"):
            raise
        pytest.skip(str(error))
    return made


def runner(folder: Path, name: str = "fused", *, graphs: bool = True) -> GpuRunner:
    place = Place("cuda", cuda_graphs=graphs)
    session = open_session(folder / name, place)
    assert session.get_providers()[0] == CUDA
    assert captures(session) == graphs
    plain = lambda: pytest.fail("the capture failed")  # noqa: E731
    return GpuRunner(session, 0, 0, 2, plain=plain)


def batch(seed: int, rows: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, longest + 1, rows)
    lengths[0] = longest
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return chance.integers(1, 100, mask.shape) * mask, mask


BATCHES = [
    batch(seed, rows, longest) for seed, (rows, longest) in enumerate([(1, 7), (9, 40), (33, 100), (4, 384)])
]


def exact(folder: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session: Any = open_session(folder / "plain", Place("cpu"))
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def test_captured_graphs_say_what_float32_says_and_go_on_saying_it(folder: Path) -> None:
    captured = runner(folder)
    wanted = [exact(folder, *each) for each in BATCHES]
    for _ in range(SEEN + 2):
        for each, logits in zip(BATCHES, wanted, strict=True):
            assert np.abs(captured.run(*each) - logits).max() < HALF
    assert captured.graphs == len(BATCHES)


def test_a_replay_reads_what_was_written_into_its_buffers_since(folder: Path) -> None:
    captured, plain = runner(folder), runner(folder, graphs=False)
    captured.warm_up(1024, 64)
    for seed in range(8):
        ids, mask = batch(seed, 16, 64)
        np.testing.assert_allclose(captured.run(ids, mask), plain.run(ids, mask), atol=1e-3)


def test_two_lanes_say_what_one_says(folder: Path) -> None:
    captured = runner(folder)
    alone = [captured.run(*each) for each in BATCHES * 8]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        together = list(pool.map(lambda each: captured.run(*each), BATCHES * 8))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_model_is_loaded_while_another_captures_and_scores(folder: Path) -> None:
    serving = runner(folder)
    wanted = [exact(folder, *each) for each in BATCHES]
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(lambda: [runner(folder).warm_up(1024, 128) for _ in range(3)])
        while not loading.done():
            for each, logits in zip(BATCHES, wanted, strict=True):
                assert np.abs(serving.run(*each) - logits).max() < HALF
        loading.result()


def test_packed_says_what_float32_says(folder: Path) -> None:
    packed = runner(folder, "packed", graphs=False)
    for each in BATCHES:
        assert np.abs(packed.run(*each) - exact(folder, *each)).max() < HALF
