from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream.errors import BundleError

onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export.precision import quantise, store  # noqa: E402
from export.storage import STORAGES, Storage  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def linear_model(path: Path, weight: np.ndarray, bias: np.ndarray) -> Path:
    """y = x W + b."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_half_storage_computes_in_float32_on_the_rounded_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(96, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    source = linear_model(tmp_path / "full.onnx", weight, bias)
    assert store(source, tmp_path / "half.onnx", "float16") == 1
    x = rng.normal(size=(5, 96)).astype(np.float32)
    found = run(tmp_path / "half.onnx", x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, x @ weight.astype(np.float16).astype(np.float32) + bias, rtol=1e-5, atol=1e-4
    )


def test_only_large_weights_are_converted_and_the_file_halves(tmp_path: Path) -> None:
    weight, bias = np.ones((256, 256), np.float32), np.full(256, 1e-7, np.float32)
    source = linear_model(tmp_path / "full.onnx", weight, bias)
    store(source, tmp_path / "half.onnx", "float16")
    stored = {each.name: each for each in onnx.load(str(tmp_path / "half.onnx")).graph.initializer}
    assert {name: each.data_type for name, each in stored.items()} == {
        "w.float16": TensorProto.FLOAT16,
        "b": TensorProto.FLOAT,
    }
    np.testing.assert_array_equal(numpy_helper.to_array(stored["b"]), bias)
    assert (tmp_path / "half.onnx").stat().st_size < 0.51 * source.stat().st_size


@pytest.mark.parametrize("storage", STORAGES)
def test_a_loaded_model_is_that_of_float32(tmp_path: Path, storage: Storage) -> None:
    source = linear_model(tmp_path / "full.onnx", np.ones((96, 64), np.float32), np.ones(64, np.float32))
    store(source, tmp_path / "narrow.onnx", storage)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "narrow.onnx"), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(str(tmp_path / "optimised.onnx")).graph
    assert [node.op_type for node in graph.node if node.op_type in ("Cast", "Mul")] == []
    assert {each.data_type for each in graph.initializer} == {TensorProto.FLOAT}


def test_a_weight_beyond_half_range_is_refused(tmp_path: Path) -> None:
    weight = np.ones((96, 64), np.float32)
    weight[3, 4] = 1e5
    source = linear_model(tmp_path / "full.onnx", weight, np.ones(64, np.float32))
    with pytest.raises(BundleError, match=r"Weight w does not fit float16"):
        store(source, tmp_path / "half.onnx", "float16")
    assert not (tmp_path / "half.onnx").exists()


def test_int8_storage_computes_in_float32_on_weights_within_half_a_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(96, 64)) * np.logspace(-3, 2, 64)).astype(np.float32)
    source = linear_model(tmp_path / "full.onnx", weight, np.zeros(64, np.float32))
    assert store(source, tmp_path / "int8.onnx", "int8") == 1
    found = run(tmp_path / "int8.onnx", np.eye(96, dtype=np.float32))
    # Each output has a scale of its own: small columns are as exact as large ones.
    assert (np.abs(found - weight) <= np.abs(weight).max(axis=0) / 127 * 0.501).all()


def test_int8_storage_quarters_the_file(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    source = linear_model(tmp_path / "full.onnx", weight, np.zeros(256, np.float32))
    store(source, tmp_path / "int8.onnx", "int8")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.27 * source.stat().st_size


def test_an_embedding_has_a_scale_for_each_entry(tmp_path: Path) -> None:
    words = (np.random.default_rng(0).normal(size=(128, 64)) * np.logspace(-3, 2, 128)[:, None]).astype(
        np.float32
    )
    graph = helper.make_graph(
        [helper.make_node("Gather", ["bert.word_embeddings.weight", "ids"], ["y"])],
        "embedding",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])],
        [numpy_helper.from_array(words, "bert.word_embeddings.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "full.onnx"))
    store(tmp_path / "full.onnx", tmp_path / "words.onnx", "float16+int8-words")
    session = onnxruntime.InferenceSession(str(tmp_path / "words.onnx"), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"ids": np.arange(128)})
    assert (np.abs(found - words) <= np.abs(words).max(axis=1, keepdims=True) / 127 * 0.501).all()


def test_the_largest_weight_of_a_row_is_exact_and_zeros_stay() -> None:
    weight = np.array([[3.0, -6.35], [0.0, 0.0]], np.float32)
    steps, scales = quantise(weight, axis=0)
    np.testing.assert_allclose(steps * scales, [[3.0, -6.35], [0.0, 0.0]], atol=1e-6)
