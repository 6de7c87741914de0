"""ONNX Runtime on a GPU, as its documents and its source say that it behaves, for tests without one.

- A session with ``enable_cuda_graph`` captures the first run of each ``gpu_graph_id`` but -1 (of 0 where a
  run names none), for the thread that made it; later runs of that id on that thread do what was captured, on
  the buffers of then, whatever is bound.
- While it captures, a copy by another thread is refused and spoils the capture.
- Logits are the sum of a text's ids and how many tokens it has.
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import numpy as np
import pytest

from stream.scorer import gpu, providers
from stream.scorer.providers import CPU, CUDA


class Named:
    def __init__(self, name: str, columns: int = 2) -> None:
        self.name, self.shape = name, ["batch", columns]


class DeviceValue:
    """A buffer on a device; remembers what was written into it."""

    made: ClassVar[list[DeviceValue]] = []
    capturing: ClassVar[set[int]] = set()

    def __init__(self, value: np.ndarray, device: str, device_id: int) -> None:
        self.value, self.device, self.device_id = value, device, device_id
        self.made.append(self)

    @classmethod
    def ortvalue_from_numpy(cls, value: np.ndarray, device: str, device_id: int) -> DeviceValue:
        assert not cls.capturing, "memory was asked for during a capture"
        return cls(value, device, device_id)

    def update_inplace(self, value: np.ndarray) -> None:
        assert not self.capturing, "a copy during a capture"
        assert value.shape == self.value.shape
        assert value.dtype == self.value.dtype
        self.value[:] = value


class Binding:
    def __init__(self, session: FakeSession) -> None:
        self.session = session
        self.inputs: dict[str, DeviceValue] = {}
        self.outputs: dict[str, DeviceValue] = {}

    def bind_ortvalue_input(self, name: str, value: DeviceValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: DeviceValue) -> None:
        self.outputs[name] = value

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        assert not DeviceValue.capturing, "a copy during a capture"
        return [value.value.copy() for value in self.outputs.values()]


class RunOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class FakeSession:
    """A session on a GPU.

    Args:
        inputs: their names.
        breaks: what is said where a graph is captured; None: it works.
        options: of ``InferenceSession``.
    """

    def __init__(
        self,
        *args: Any,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        breaks: str | None = None,
        **options: Any,
    ) -> None:
        self.inputs, self.breaks, self.options = inputs, breaks, options
        self.runs: list[tuple[int, int]] = []
        self.replays: list[str] = []
        self.captured: dict[tuple[int, str], Binding] = {}
        self.threads: set[int] = set()
        asked = options.get("providers", [(CUDA, {}), CPU])
        self.provider_options = dict(each if isinstance(each, tuple) else (each, {}) for each in asked)

    def get_providers(self) -> list[str]:
        return list(self.provider_options)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return self.provider_options

    def get_inputs(self) -> list[Named]:
        return [Named(name) for name in self.inputs]

    def get_outputs(self) -> list[Named]:
        return [Named("logits")]

    def io_binding(self) -> Binding:
        return Binding(self)

    def run(self, *args: Any) -> None:
        pytest.fail("ran without its buffers")

    def run_with_iobinding(self, binding: Binding, options: RunOptions | None = None) -> None:
        assert binding.session is self, "a binding of another session"
        self.threads.add(threading.get_ident())
        if self.provider_options.get(CUDA, {}).get("enable_cuda_graph") == "1":
            graph = "0" if options is None else options.entries["gpu_graph_id"]
            if graph != "-1":
                binding = self._captured(binding, graph)
        ids, mask = binding.inputs["input_ids"].value, binding.inputs["attention_mask"].value
        assert (mask.sum(axis=1) > 0).all()
        self.runs.append(ids.shape)
        binding.outputs["logits"].value[:] = np.stack([(ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1)

    def _captured(self, binding: Binding, graph: str) -> Binding:
        key = (threading.get_ident(), graph)
        if key in self.captured:
            self.replays.append(graph)
            return self.captured[key]
        DeviceValue.capturing.add(threading.get_ident())
        try:
            if self.breaks:
                raise RuntimeError(self.breaks)
            self.captured[key] = binding
        finally:
            DeviceValue.capturing.clear()
        return binding


def install(monkeypatch: pytest.MonkeyPatch) -> list[DeviceValue]:
    """Has ``GpuRunner`` use the classes above; returns the buffers that are made."""
    monkeypatch.setattr(gpu.onnxruntime, "OrtValue", DeviceValue)
    monkeypatch.setattr(gpu.onnxruntime, "RunOptions", RunOptions)
    monkeypatch.setattr(DeviceValue, "made", [])
    return DeviceValue.made


def pretend(monkeypatch: pytest.MonkeyPatch, opened: Any, *available: str) -> None:
    """Has there be a driver, and ``opened`` make sessions on the providers that are named."""
    monkeypatch.setattr(providers, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [*available, CPU])
    monkeypatch.setattr(providers.onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", opened)
