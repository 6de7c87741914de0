from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog
from fake_gpu import DeviceValue, FakeSession, install, pretend
from hypothesis import given
from hypothesis import strategies as st

from stream import bundle
from stream.core.batch import cut
from stream.scorer import onnx
from stream.scorer.buckets import LENGTHS, Bucket, bucket_of, full_buckets, most_rows, rounding
from stream.scorer.contract import score_encoded
from stream.scorer.gpu import AT_ONCE, MOST_GRAPHS, SEEN, GpuRunner
from stream.scorer.onnx import GPU_BATCH_COST
from stream.scorer.providers import CPU, CUDA, LOADING, Place, cuda_options, open_session
from stream.settings import SHIPPED_BUNDLE

GRAPHS = [(CUDA, cuda_options(Place(), graphs=True)), CPU]


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> list[DeviceValue]:
    return install(monkeypatch)


def batch(*lengths: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = row + 5
        mask[row, :length] = 1
    return ids, mask


@given(st.integers(16, 20_000), st.integers(1, 512))
def test_a_full_bucket_is_within_the_budget_and_no_larger_one_is(budget: int, longest: int) -> None:
    for bucket in full_buckets(budget, longest):
        assert bucket_of(*bucket) == bucket
        assert bucket.rows == 1 or bucket.rows * bucket.length <= budget
        assert bucket_of(bucket.rows + 1, 1).rows * bucket.length > budget


def logits(*lengths: int) -> list[list[float]]:
    """What ``FakeSession`` says of ``batch``."""
    return [[(row + 5) * length, length] for row, length in enumerate(lengths)]


def plain() -> FakeSession:
    pytest.fail("the model was opened anew")


def graphs(session: FakeSession, **options: Any) -> GpuRunner:
    return GpuRunner(session, 0, 1, 2, plain=options.pop("plain", plain), **options)


@given(st.integers(1, 5000), st.integers(1, 600))
def test_a_bucket_holds_the_batch_and_wastes_little(rows: int, length: int) -> None:
    bucket = bucket_of(rows, length)
    assert rows <= bucket.rows < rows * 1.25 + 1
    assert length <= bucket.length < max(length * 2, 17)
    assert bucket_of(*bucket) == bucket


def test_real_streams_need_few_buckets_and_fill_them() -> None:
    chance = np.random.default_rng(1)
    found, useful, computed = set(), 0, 0
    for _ in range(8):
        lengths = np.minimum(chance.lognormal(4, 0.9, 4096).astype(np.int32) + 3, 512)
        useful += int(lengths.sum())
        for rows in cut(lengths, 16_384, batch_cost=GPU_BATCH_COST, rounding=rounding(512)):
            bucket = bucket_of(len(rows), int(lengths[rows].max()))
            assert bucket.rows * bucket.length <= 16_384
            computed += bucket.rows * bucket.length
            found.add(bucket)
    assert len(found) < 100
    assert {bucket.length for bucket in found} <= set(LENGTHS)
    assert useful / computed > 0.9


def test_logits_are_those_of_the_rows_that_were_asked_for() -> None:
    session = FakeSession()
    runner = GpuRunner(session, 0, 1, 2)
    said = runner.run(*batch(*[3] * 8, 20))
    assert said.tolist() == [[(row + 5) * 3, 3] for row in range(8)] + [[13 * 20, 20]]
    assert said.dtype == np.float32
    assert session.runs == [(10, 24)]


def test_buffers_are_made_once_for_a_bucket_and_on_the_device_asked_for(device: list[DeviceValue]) -> None:
    runner = GpuRunner(FakeSession(), 3, 1, 2)
    runner.run(*batch(5, 16))
    made = len(device)
    runner.run(*batch(9, 12))
    assert len(device) == made == 3
    assert {(each.device, each.device_id) for each in device} == {("cuda", 3)}
    assert runner.buckets == {Bucket(2, 16)}


def test_nothing_of_the_batch_before_is_left_in_a_buffer() -> None:
    runner = GpuRunner(FakeSession(), 0, 1, 2)
    runner.run(*batch(16, 16))
    assert runner.run(*batch(2, 4)).tolist() == [[10, 2], [24, 4]]


def test_a_model_that_takes_token_types_gets_zeros() -> None:
    session = FakeSession(inputs=("input_ids", "attention_mask", "token_type_ids"))
    seen: list[np.ndarray] = []
    run = session.run_with_iobinding
    session.run_with_iobinding = lambda binding, options: (  # type: ignore[method-assign]
        seen.append(binding.inputs["token_type_ids"].value),
        run(binding, options),
    )
    GpuRunner(session, 0, 1, 2).run(*batch(2))
    assert not seen[0].any()


def test_a_batch_with_more_rows_than_the_engine_was_planned_for_is_run_in_parts() -> None:
    session = FakeSession()
    lengths = [3] * 8 + [5] * 8 + [7]
    assert GpuRunner(session, 0, 1, 2, most_rows=8).run(*batch(*lengths)).tolist() == logits(*lengths)
    assert session.runs == [(8, 16), (8, 16), (1, 16)]


def test_a_bucket_is_captured_when_it_was_seen_often_and_replayed_from_then_on() -> None:
    session = FakeSession(providers=GRAPHS)
    runner = graphs(session)
    for n in range(SEEN + 2):
        assert runner.run(*batch(n + 1, 16)).tolist() == logits(n + 1, 16)
        assert runner.graphs == (n + 1 >= SEEN)
    assert session.replays == ["1", "1"]
    runner.run(*batch(40))
    assert runner.graphs == 1


def test_each_bucket_has_a_graph_of_its_own() -> None:
    session = FakeSession(providers=GRAPHS)
    runner = graphs(session)
    for _ in range(SEEN):
        runner.run(*batch(9))
        runner.run(*batch(30))
    assert [graph for _, graph in session.captured] == ["1", "2"]
    assert runner.run(*batch(30)).tolist() == logits(30)
    assert runner.run(*batch(9)).tolist() == logits(9)
    assert session.replays == ["2", "1"]


def test_warming_up_captures_a_full_batch_of_each_length_the_longest_first() -> None:
    session = FakeSession(providers=GRAPHS)
    runner = graphs(session)
    runner.warm_up(1024, 64)
    shapes = [tuple(bucket) for bucket in full_buckets(1024, 64) for _ in range(AT_ONCE)]
    assert session.runs == shapes
    assert shapes[0] == (16, 64)
    assert runner.graphs == len(shapes) == 12
    assert runner.run(*batch(*[60] * 16)).tolist() == logits(*[60] * 16)
    assert len(session.replays) == 1


def test_no_more_graphs_are_captured_than_are_allowed() -> None:
    session = FakeSession(providers=GRAPHS)
    runner = graphs(session)
    for rows in range(8):
        for length in LENGTHS:
            for _ in range(SEEN):
                for lengths in ([length] * (rows + 1), [length] * (rows * 4 + 12)):
                    runner.run(*batch(*lengths))
    assert runner.graphs == MOST_GRAPHS
    assert runner.run(*batch(*[500] * 40)).tolist() == logits(*[500] * 40)


def test_whoever_asks_runs_are_made_by_one_thread() -> None:
    # A graph lies with the thread that captured it: another would capture it anew, or run without.
    session, other = FakeSession(providers=GRAPHS), FakeSession(providers=GRAPHS)
    first, second = graphs(session), graphs(other)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit((first, second)[n % 2].run, *batch(n % 16 + 1)) for n in range(40)]
        said = [each.result().tolist() for each in asked]
    assert said == [logits(n % 16 + 1) for n in range(40)]
    assert len(session.threads | other.threads) == 1
    assert threading.get_ident() not in session.threads


def test_while_one_batch_is_computed_the_next_is_padded_and_copied() -> None:
    session = FakeSession()
    runner = GpuRunner(session, 0, 1, 2)
    computing, copied = threading.Event(), threading.Event()
    run = session.run_with_iobinding

    def slow(binding: Any, options: Any) -> None:
        if not computing.is_set():
            computing.set()
            assert copied.wait(30), "the second batch waits for the first"
        run(binding, options)

    session.run_with_iobinding = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(runner.run, *batch(3))
        assert computing.wait(30)
        update = DeviceValue.update_inplace

        def told(value: DeviceValue, source: np.ndarray) -> None:
            update(value, source)
            if source.sum() == 9:  # the mask: all of the second batch is there
                copied.set()

        DeviceValue.update_inplace = told  # type: ignore[method-assign]
        try:
            two = pool.submit(runner.run, *batch(9))
            assert (one.result(30).tolist(), two.result(30).tolist()) == (logits(3), logits(9))
        finally:
            DeviceValue.update_inplace = update  # type: ignore[method-assign]


def test_a_capture_that_fails_goes_on_without_graphs_and_says_so_once() -> None:
    session, without = FakeSession(providers=GRAPHS, breaks="operation not permitted"), FakeSession()
    runner = graphs(session, plain=lambda: without)
    with structlog.testing.capture_logs() as logged:
        runner.warm_up(64, 16)
        for n in range(SEEN + 1):
            assert runner.run(*batch(n + 1)).tolist() == logits(n + 1)
    assert [each["event"] for each in logged] == ["without_cuda_graphs"]
    assert logged[0]["reason"] == "capturing 4 x 16 failed: operation not permitted"
    assert (runner.graphs, session.runs, len(without.runs)) == (0, [], 2 + SEEN + 1)


def test_a_capture_is_put_off_while_a_model_is_loaded() -> None:
    session = FakeSession(providers=GRAPHS)
    runner = graphs(session)
    with LOADING:
        runner.warm_up(64, 16)
        assert runner.graphs == 0
    runner.run(*batch(*[3] * 4))
    assert runner.graphs == 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """The sessions that are opened, on a machine with a GPU."""
    sessions: list[FakeSession] = []

    def session(*args: Any, **kwargs: Any) -> FakeSession:
        sessions.append(FakeSession(*args, **kwargs))
        return sessions[-1]

    pretend(monkeypatch, session, CUDA)
    return sessions


def test_the_scorer_runs_a_gpus_batches_through_its_buffers(opened: list[FakeSession]) -> None:
    manifest = bundle.load_manifest(SHIPPED_BUNDLE)
    scorer = onnx.OnnxScorer(SHIPPED_BUNDLE, manifest, provider="cuda", device_id=1)
    assert scorer.provider == CUDA
    assert scorer.lanes.at_once == AT_ONCE
    assert opened[0].options["providers"][0] == (
        CUDA,
        {"use_tf32": "0", "device_id": "1", "enable_cuda_graph": "1"},
    )
    assert opened[0].runs == [(1, 16)]  # whether the model takes the tokenizer's highest id
    scorer.warm_up(4096)
    assert opened[0].runs[1] == (10, 384)
    assert scorer.graphs == AT_ONCE * 16
    encoded = scorer.encode(["good", "it broke after a day"])
    assert scorer.logits(encoded, np.array([0, 1])).tolist() == [
        [float(encoded.ids[:3].sum()), 3.0],
        [float(encoded.ids[3:].sum()), float(encoded.lengths[1])],
    ]


def test_batches_in_two_lanes_say_what_they_say_alone(opened: list[FakeSession]) -> None:
    scorer = onnx.OnnxScorer(SHIPPED_BUNDLE, bundle.load_manifest(SHIPPED_BUNDLE), provider="cuda")
    scorer.warm_up(512)
    encoded = scorer.encode([f"it broke after {'very ' * (n % 40)}few days" for n in range(200)])
    together = score_encoded(scorer, encoded, token_budget=512)
    assert len(opened[0].threads) == 1
    alone = [scorer.score(encoded, np.array([row]))[0].tolist() for row in range(200)]
    assert together.tolist() == alone


def test_graphs_can_be_switched_off(opened: list[FakeSession]) -> None:
    manifest = bundle.load_manifest(SHIPPED_BUNDLE)
    scorer = onnx.OnnxScorer(SHIPPED_BUNDLE, manifest, provider="cuda", cuda_graphs=False)
    scorer.warm_up(512)
    assert opened[0].options["providers"][0] == (CUDA, {"use_tf32": "0", "device_id": "0"})
    assert (len(opened), scorer.graphs) == (1, 0)


def test_a_model_that_can_have_no_graphs_is_opened_without_and_the_reason_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    why = "This session cannot use the graph capture feature as the model has control flow nodes"

    def session(*args: Any, providers: list[Any], **kwargs: Any) -> FakeSession:
        if "enable_cuda_graph" in providers[0][1]:
            raise RuntimeError(why)
        return FakeSession(*args, providers=providers, **kwargs)

    pretend(monkeypatch, session, CUDA)
    with structlog.testing.capture_logs() as logged:
        found = open_session(SHIPPED_BUNDLE, Place("cuda"))
    assert found.get_provider_options()[CUDA] == {"use_tf32": "0", "device_id": "0"}
    assert [(each["event"], why in each["reason"]) for each in logged] == [("without_cuda_graphs", True)]


def test_an_engine_is_planned_for_as_many_rows_as_a_batch_has() -> None:
    assert (most_rows(16_384), most_rows(1024), most_rows(64)) == (256, 16, 8)


def test_a_packed_bundle_has_no_graphs_and_is_not_tried_with_them(opened: list[FakeSession]) -> None:
    # How many tokens there are is read back from the GPU in each run: a capture would fail.
    manifest = msgspec.structs.replace(
        bundle.load_manifest(SHIPPED_BUNDLE), precision="stored and computed float16, packed, for CUDA"
    )
    scorer = onnx.OnnxScorer(SHIPPED_BUNDLE, manifest, provider="cuda")
    scorer.warm_up(512)
    assert "enable_cuda_graph" not in opened[0].options["providers"][0][1]
    assert (manifest.is_packed, manifest.computes_half, manifest.computes_int8) == (True, True, False)
    assert (len(opened), scorer.graphs) == (1, 0)
