from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import bundle
from stream.core.batch import cut
from stream.scorer import gpu, onnx
from stream.scorer.gpu import LENGTHS, Bucket, GpuRunner, bucket_of
from stream.settings import SHIPPED_BUNDLE


class Named:
    def __init__(self, name: str, columns: int = 2) -> None:
        self.name, self.shape = name, ["batch", columns]


class DeviceValue:
    """A buffer on a device; remembers what was written into it."""

    made: ClassVar[list[DeviceValue]] = []

    def __init__(self, value: np.ndarray, device: str, device_id: int) -> None:
        self.value, self.device, self.device_id = value, device, device_id
        self.made.append(self)

    @classmethod
    def ortvalue_from_numpy(cls, value: np.ndarray, device: str, device_id: int) -> DeviceValue:
        return cls(value, device, device_id)

    def update_inplace(self, value: np.ndarray) -> None:
        assert value.shape == self.value.shape
        assert value.dtype == self.value.dtype
        self.value[:] = value


class Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, DeviceValue] = {}
        self.outputs: dict[str, DeviceValue] = {}

    def bind_ortvalue_input(self, name: str, value: DeviceValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: DeviceValue) -> None:
        self.outputs[name] = value

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        return [value.value for value in self.outputs.values()]


class FakeSession:
    """A device's session whose logits are the sum of a text's ids and how many tokens it has."""

    def __init__(
        self, *args: Any, inputs: tuple[str, ...] = ("input_ids", "attention_mask"), **kwargs: Any
    ) -> None:
        self.inputs = inputs
        self.options = kwargs
        self.runs: list[tuple[int, int]] = []

    def get_providers(self) -> list[str]:
        return [onnx.CUDA, onnx.CPU]

    def get_inputs(self) -> list[Named]:
        return [Named(name) for name in self.inputs]

    def get_outputs(self) -> list[Named]:
        return [Named("logits")]

    def io_binding(self) -> Binding:
        return Binding()

    def run(self, *args: Any) -> None:
        pytest.fail("ran without its buffers")

    def run_with_iobinding(self, binding: Binding) -> None:
        ids, mask = binding.inputs["input_ids"].value, binding.inputs["attention_mask"].value
        assert (mask.sum(axis=1) > 0).all()
        self.runs.append(ids.shape)
        binding.outputs["logits"].value[:] = np.stack([(ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> list[DeviceValue]:
    monkeypatch.setattr(gpu.onnxruntime, "OrtValue", DeviceValue)
    monkeypatch.setattr(DeviceValue, "made", [])
    return DeviceValue.made


def batch(*lengths: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = row + 5
        mask[row, :length] = 1
    return ids, mask


@given(st.integers(1, 5000), st.integers(1, 600))
def test_a_bucket_holds_the_batch_and_wastes_little(rows: int, length: int) -> None:
    bucket = bucket_of(rows, length)
    assert rows <= bucket.rows < rows * 1.25 + 1
    assert length <= bucket.length < max(length * 2, 17)
    assert bucket_of(*bucket) == bucket


def test_real_streams_need_few_buckets() -> None:
    chance = np.random.default_rng(1)
    found = set()
    for _ in range(20):
        lengths = np.minimum(chance.lognormal(4, 0.9, 4096).astype(np.int32) + 3, 512)
        found |= {bucket_of(len(rows), int(lengths[rows].max())) for rows in cut(lengths, 16_384)}
    assert len(found) < 100
    assert {bucket.length for bucket in found} <= set(LENGTHS)


def test_logits_are_those_of_the_rows_that_were_asked_for() -> None:
    session = FakeSession()
    runner = GpuRunner(session, 0, 1, 2)
    said = runner.run(*batch(*[3] * 8, 20))
    assert said.tolist() == [[(row + 5) * 3, 3] for row in range(8)] + [[13 * 20, 20]]
    assert said.dtype == np.float32
    assert session.runs == [(10, 32)]


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
    session.run_with_iobinding = lambda binding: (  # type: ignore[method-assign]
        seen.append(binding.inputs["token_type_ids"].value),
        run(binding),
    )
    GpuRunner(session, 0, 1, 2).run(*batch(2))
    assert not seen[0].any()


def test_the_scorer_runs_a_gpus_batches_through_its_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[FakeSession] = []

    def opened(*args: Any, **kwargs: Any) -> FakeSession:
        sessions.append(FakeSession(*args, **kwargs))
        return sessions[-1]

    monkeypatch.setattr(onnx, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(onnx.onnxruntime, "get_available_providers", lambda: [onnx.CUDA, onnx.CPU])
    monkeypatch.setattr(onnx.onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnx.onnxruntime, "InferenceSession", opened)
    manifest = bundle.load_manifest(SHIPPED_BUNDLE)
    scorer = onnx.OnnxScorer(SHIPPED_BUNDLE, manifest, provider="cuda", device_id=1)
    assert scorer.provider == onnx.CUDA
    assert scorer.lanes.at_once == 1
    assert sessions[0].options["providers"][0] == (onnx.CUDA, {"use_tf32": "0", "device_id": "1"})
    assert sessions[0].runs == [(1, 16)]  # whether the model takes the tokenizer's highest id
    scorer.warm_up(4096)
    assert sessions[0].runs[1] == (10, 384)
    encoded = scorer.encode(["good", "it broke after a day"])
    assert scorer.logits(encoded, np.array([0, 1])).tolist() == [
        [float(encoded.ids[:3].sum()), 3.0],
        [float(encoded.ids[3:].sum()), float(encoded.lengths[1])],
    ]
