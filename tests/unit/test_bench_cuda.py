"""The bench for GPUs on fake contestants: what it counts, and what it says of those that do not work."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="wants pip install 'reviewpulse[train]'")

from export.bench import cuda
from export.bench.cuda import OURS, TORCH, Batch, Contestant, Course
from stream.cli.main import command_line
from stream.scorer.buckets import bucket_of


def batch(*lengths: int) -> Batch:
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return Batch(mask * 7, mask)


def summed(batch: Batch) -> np.ndarray:
    return np.stack([batch.ids.sum(axis=1), batch.mask.sum(axis=1)], axis=1).astype(np.float32)


COURSES = [Course("3", [batch(3, 3), batch(3)]), Course("real", [batch(5, 2)])]


def test_every_contestant_is_on_every_course_with_its_difference_and_graphs() -> None:
    off = Contestant(lambda batch: summed(batch) + 0.5, at_once=2, graphs=lambda: 4)
    found = cuda.measure(
        "tiny", COURSES, {OURS: off, TORCH: Contestant(summed)}, summed, lambda lengths: 1e6, 1e12, rounds=3
    )
    assert [(each.lengths, each.contestant) for each in found] == [
        ("3", OURS),
        ("3", TORCH),
        ("real", OURS),
        ("real", TORCH),
    ]
    assert [each.largest_difference for each in found] == [0.5, 0.0, 0.5, 0.0]
    assert [each.graphs for each in found] == [4, 0, 4, 0]
    assert [each.times_torch for each in found][1::2] == [1.0, 1.0]
    # Two batches of a million operations each, of three texts.
    assert found[0].peak_share == pytest.approx(found[0].sequences_per_s / 3 * 2e6 / 1e12)


def test_without_torch_on_the_gpu_nothing_is_compared_with_it() -> None:
    found = cuda.measure("tiny", COURSES, {OURS: Contestant(summed)}, summed, len, 1e12, rounds=1)
    assert [each.times_torch for each in found] == [None, None]


def test_who_does_not_work_is_named_with_the_reason_and_the_others_go_on() -> None:
    def absent() -> Contestant:
        raise ImportError("no libnvinfer")

    def gives_up(batch: Batch) -> np.ndarray:
        raise RuntimeError("out of\nmemory")

    makers = {OURS: lambda: Contestant(summed), "absent": absent, "gives up": lambda: Contestant(gives_up)}
    working, reasons = cuda.who_works(makers, COURSES)
    assert list(working) == [OURS]
    assert reasons == {"absent": "no libnvinfer", "gives up": "out of memory"}


def test_ours_has_two_batches_under_way() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def meets(batch: Batch) -> np.ndarray:
        meeting.wait()
        return summed(batch)

    cuda._turn(Contestant(meets, at_once=2), [batch(2), batch(3), batch(2), batch(3)])


def test_courses_are_of_one_length_each_and_of_the_real_ones_cut_for_the_buckets() -> None:
    lengths = np.random.default_rng(1).integers(4, 400, 3000).astype(np.int32)
    courses = cuda.courses_of(lengths, 1000)
    assert [each.name for each in courses] == ["32", "64", "128", "384", "real"]
    assert {each.ids.shape for each in courses[2].batches} == {(256, 128)}
    real = courses[-1].batches
    assert sum(len(each.ids) for each in real) == 3000
    assert all(np.prod(bucket_of(*each.ids.shape)) <= cuda.TOKENS for each in real)


def test_the_peak_is_that_of_the_products_that_are_counted() -> None:
    model = onnx.load_from_string(cuda.peak_model())
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul"] * cuda.PEAK_PRODUCTS


def test_without_a_gpu_there_is_one_sentence_and_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.scorer.providers._has_nvidia_driver", lambda: False)
    found = CliRunner().invoke(
        command_line(), ["bench", "score", "--provider", "cuda", "--texts", "8", "--data", "none"]
    )
    assert "CUDA was demanded" in str(found.exception)
    assert found.stdout == ""
