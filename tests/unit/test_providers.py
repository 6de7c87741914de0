from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fake_gpu import FakeSession, pretend

from stream.errors import DependencyError
from stream.scorer import providers
from stream.scorer.providers import (
    CPU,
    CUDA,
    RECORD_ASSIGNMENT,
    TENSORRT,
    Place,
    open_session,
    tensorrt_options,
)
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from pathlib import Path


class Node:
    def __init__(self, op_type: str) -> None:
        self.op_type = op_type


class Share:
    def __init__(self, ep_name: str, *kinds: str) -> None:
        self.ep_name, self._nodes = ep_name, [Node(kind) for kind in kinds]

    def get_nodes(self) -> list[Node]:
        return self._nodes


class TensorrtSession(FakeSession):
    """A session of which TensorRT takes what ``shares`` say."""

    shares: tuple[Share, ...] = (Share(TENSORRT, "MatMul", "Softmax"),)

    def __init__(self, path: str, options: Any, **kwargs: Any) -> None:
        super().__init__(path, **kwargs)
        assert options.get_session_config_entry(RECORD_ASSIGNMENT) == "1"

    def get_provider_graph_assignment_info(self) -> tuple[Share, ...]:
        return self.shares


def engines(tmp_path: Path) -> Place:
    return Place("tensorrt", device_id=2, engines=tmp_path / "engines", token_budget=4096)


def test_tensorrt_comes_first_and_keeps_its_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, TensorrtSession, TENSORRT, CUDA)
    session = open_session(SHIPPED_BUNDLE, engines(tmp_path), half=True)
    assert session.get_providers() == [TENSORRT, CUDA, CPU]
    folder = str(tmp_path / "engines")
    assert session.get_provider_options()[TENSORRT] == {
        "device_id": "2",
        "trt_fp16_enable": "1",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_profile_min_shapes": "input_ids:1x16,attention_mask:1x16",
        "trt_profile_opt_shapes": "input_ids:32x128,attention_mask:32x128",
        "trt_profile_max_shapes": "input_ids:64x512,attention_mask:64x512",
    }
    assert "enable_cuda_graph" not in session.get_provider_options()[CUDA]
    assert (tmp_path / "engines").stat().st_mode & 0o777 == 0o700


def test_a_float32_bundle_stays_float32_on_tensorrt() -> None:
    assert tensorrt_options(Place(), half=False)["trt_fp16_enable"] == "0"


def test_tensorrt_that_takes_less_than_all_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, TensorrtSession, TENSORRT, CUDA)
    monkeypatch.setattr(
        TensorrtSession, "shares", (Share(TENSORRT, "MatMul"), Share(CUDA, "Attention", "If"))
    )
    with pytest.raises(
        DependencyError, match=r"does not take all of .*: Attention, If\. .*--target tensorrt"
    ):
        open_session(SHIPPED_BUNDLE, engines(tmp_path))


def test_tensorrt_that_silently_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Fallen(TensorrtSession):
        def get_providers(self) -> list[str]:
            return [CUDA, CPU]

    pretend(monkeypatch, Fallen, TENSORRT, CUDA)
    with pytest.raises(
        DependencyError, match=r"TensorRT was demanded .*libnvinfer 10.*TensorRT 10\. Install"
    ):
        open_session(SHIPPED_BUNDLE, engines(tmp_path))


@pytest.mark.parametrize(
    ("driver", "available", "why"),
    [
        (False, [TENSORRT, CUDA, CPU], "no NVIDIA driver was found"),
        (True, [CUDA, CPU], "this build lacks it"),
    ],
)
def test_tensorrt_demanded_and_absent_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, driver: bool, available: list[str], why: str
) -> None:
    monkeypatch.setattr(providers, "_has_nvidia_driver", lambda: driver)
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: available)
    with pytest.raises(DependencyError, match=why):
        open_session(SHIPPED_BUNDLE, Place("tensorrt"))


def test_auto_never_takes_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, FakeSession, TENSORRT, CUDA)
    assert open_session(SHIPPED_BUNDLE, Place("auto")).get_providers() == [CUDA, CPU]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_bundle_of_int8_is_for_cpus(provider: Any) -> None:
    with pytest.raises(DependencyError, match=rf"provider {provider}\) and .* computes in int8"):
        open_session(SHIPPED_BUNDLE, Place(provider), computes_int8=True)


def test_what_is_recorded_of_a_sessions_nodes_is_read_as_onnx_runtime_tells_it() -> None:
    session = providers._opened(SHIPPED_BUNDLE, [CPU], record=True)
    shares = session.get_provider_graph_assignment_info()
    assert {each.ep_name for each in shares} == {CPU}
    assert "MatMul" in {node.op_type for each in shares for node in each.get_nodes()}
