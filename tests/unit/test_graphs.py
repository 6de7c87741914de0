"""The graphs for CPUs and GPUs say what the plain export says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

import onnxruntime  # noqa: E402
import transformers  # noqa: E402
from tiny_models import classifier, mean_pooled  # noqa: E402

from export import gpu_graph  # noqa: E402
from export.cpu_graph import recast  # noqa: E402
from export.gpu_graph import fuse, left_to_the_cpu  # noqa: E402
from export.onnx import export_onnx  # noqa: E402
from export.precision import store  # noqa: E402
from export.storage import STORAGES, Storage  # noqa: E402
from stream.errors import BundleError  # noqa: E402
from stream.scorer.gpu import GpuRunner  # noqa: E402
from stream.scorer.providers import Place, open_session  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


def network(**changes: Any) -> Any:
    return mean_pooled(100, **changes)


def said(file: Path, *lengths: int) -> np.ndarray:
    """Logits of texts of so many tokens, padded to the longest."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    chance = np.random.default_rng(len(lengths))
    ids = chance.integers(1, 100, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return session.run(None, {"input_ids": ids * mask, "attention_mask": mask})[0]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("lengths", [(7,), (9, 9, 9), (3, 20, 11), (1, 64)], ids=str)
def test_the_graph_for_cpus_says_what_the_plain_one_says(
    tmp_path: Path, storage: Storage, lengths: tuple[int, ...]
) -> None:
    plain, cpu = tmp_path / "plain.onnx", tmp_path / "cpu.onnx"
    export_onnx(network(), plain)
    store(plain, plain, storage, large=1000)
    assert recast(plain, cpu)
    np.testing.assert_allclose(said(cpu, *lengths), said(plain, *lengths), atol=2e-5)


def test_stored_weights_stay_as_they_are(tmp_path: Path) -> None:
    plain, cpu = tmp_path / "plain.onnx", tmp_path / "cpu.onnx"
    export_onnx(network(), plain)
    store(plain, plain, "int8", large=1000)
    recast(plain, cpu)
    before = {each.name: each.raw_data for each in onnx.load(plain).graph.initializer if ".int8" in each.name}
    after = {each.name: each.raw_data for each in onnx.load(cpu).graph.initializer}
    # The positions' table is the one that is made anew.
    kept = {name: data for name, data in before.items() if "position" not in name}
    assert len(kept) >= 9
    assert {name: after[name] for name in kept} == kept


def test_of_nine_additions_a_layer_none_is_left_and_of_four_transposes_one(tmp_path: Path) -> None:
    plain, cpu = tmp_path / "plain.onnx", tmp_path / "cpu.onnx"
    export_onnx(network(), plain)
    recast(plain, cpu)
    kinds = Counter(node.op_type for node in onnx.load(cpu).graph.node)
    layers = 2
    assert kinds["Transpose"] == layers + 3  # and in, ids and mask, and out
    assert kinds["Add"] == 1  # words and places; all else a product begins with
    assert kinds["Gemm"] == layers * 4 + 1  # the query's bias, the GELU's, two residuals; the classifier
    assert kinds["Gelu"] == layers
    assert kinds["If"] == layers


def test_tensors_that_are_alike_and_kept_once_are_recognised(tmp_path: Path) -> None:
    plain, cpu = tmp_path / "plain.onnx", tmp_path / "cpu.onnx"
    alike = network()
    for layer in alike.bert.encoder.layer:
        layer.attention.self.query.bias.data.zero_()
        layer.attention.self.key.bias.data.zero_()
    export_onnx(alike, plain)
    assert any(node.op_type == "Identity" for node in onnx.load(plain).graph.node)
    assert recast(plain, cpu)
    np.testing.assert_allclose(said(cpu, 5, 9), said(plain, 5, 9), atol=2e-5)


@pytest.mark.parametrize(
    "other",
    [
        lambda: network(pooling="first"),
        lambda: network(hidden_act="relu"),
        lambda: classifier(100),
    ],
    ids=["first token", "relu", "with a pooler"],
)
def test_what_is_not_recognised_stays_as_it_is(tmp_path: Path, other: Any) -> None:
    plain, cpu = tmp_path / "plain.onnx", tmp_path / "cpu.onnx"
    export_onnx(other(), plain)
    assert not recast(plain, cpu)
    assert not cpu.exists()


def test_columns_in_another_order_keep_it(tmp_path: Path) -> None:
    plain, cpu = tmp_path / "plain.onnx", tmp_path / "cpu.onnx"
    export_onnx(network(), plain, columns=[1, 0])
    if recast(plain, cpu):
        np.testing.assert_allclose(said(cpu, 5, 9), said(plain, 5, 9), atol=2e-5)


def test_the_graph_for_gpus_is_fused_and_says_the_same(tmp_path: Path) -> None:
    plain, gpu = tmp_path / "plain.onnx", tmp_path / "gpu.onnx"
    export_onnx(network(), plain)
    fuse(plain, gpu, heads=4, width=32, layers=2, half=False)
    assert sum(node.op_type == "Attention" for node in onnx.load(gpu).graph.node) == 2
    np.testing.assert_allclose(said(gpu, 5, 20, 9), said(plain, 5, 20, 9), atol=2e-5)


def test_nothing_of_the_graph_for_gpus_is_left_to_the_cpu(tmp_path: Path) -> None:
    # A CUDA graph is captured of such a model alone; the plain one computes its token types from shapes.
    plain, gpu = tmp_path / "plain.onnx", tmp_path / "gpu.onnx"
    export_onnx(network(), plain)
    fuse(plain, gpu, heads=4, width=32, layers=2)
    assert left_to_the_cpu(plain) == ["ConstantOfShape", "Shape"]
    assert left_to_the_cpu(gpu) == []
    [embedding] = [each for each in onnx.load(gpu).graph.node if each.op_type == "EmbedLayerNormalization"]
    assert (embedding.input[1], embedding.input[4]) == ("", "")


def test_the_packed_graph_computes_between_first_attention_and_last_norm_without_padding(
    tmp_path: Path,
) -> None:
    plain, packed = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    export_onnx(network(), plain)
    fuse(plain, packed, heads=4, width=32, layers=2, packed=True)
    nodes = [each for each in onnx.load(packed).graph.node if each.op_type not in {"Constant", "Cast"}]
    kinds = [each.op_type for each in nodes]
    layer = ["PackedAttention", "MatMul", "SkipLayerNormalization"]
    layer += ["MatMul", "BiasGelu", "MatMul", "SkipLayerNormalization"]
    start = kinds.index("EmbedLayerNormalization")
    inside = ["EmbedLayerNormalization", "RemovePadding", *layer, *layer, "RestorePadding"]
    assert kinds[start : start + len(inside)] == inside
    assert nodes[start + 1].input[1] == nodes[start].output[1]  # how many tokens each text has
    assert left_to_the_cpu(packed) == []


@pytest.mark.parametrize("family", ["bert", "electra", "distilbert"])
def test_of_these_families_nothing_is_left_to_the_cpu(tmp_path: Path, family: str) -> None:
    plain, gpu = tmp_path / "plain.onnx", tmp_path / "gpu.onnx"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    config = transformers.AutoConfig.for_model(family, vocab_size=100, pad_token_id=0, **sizes)
    made = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    for parameter in made.parameters():
        parameter.data *= 3  # else all texts are alike to it
    export_onnx(made.eval(), plain)
    fuse(plain, gpu, heads=4, width=32, layers=2, half=False)
    assert left_to_the_cpu(gpu) == []
    np.testing.assert_allclose(said(gpu, 5, 20, 9), said(plain, 5, 20, 9), atol=2e-4)


def test_token_types_that_are_not_all_zero_stay(tmp_path: Path) -> None:
    plain, gpu = tmp_path / "plain.onnx", tmp_path / "gpu.onnx"
    export_onnx(network(), plain)
    fuse(plain, gpu, heads=4, width=32, layers=2)
    assert not gpu_graph._is_always(onnx.load(gpu), "input_ids_int32", np.zeros_like)


def test_float16_is_inside_alone(tmp_path: Path) -> None:
    plain, gpu = tmp_path / "plain.onnx", tmp_path / "gpu.onnx"
    export_onnx(network(), plain)
    fuse(plain, gpu, heads=4, width=32, layers=2)
    graph = onnx.load(gpu).graph
    assert [each.type.tensor_type.elem_type for each in graph.output] == [onnx.TensorProto.FLOAT]
    large = [each for each in graph.initializer if np.prod(each.dims) >= 1000]
    assert large
    assert {each.data_type for each in large} == {onnx.TensorProto.FLOAT16}


def test_a_graph_whose_attention_does_not_fuse_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    export_onnx(network(), plain)
    with pytest.raises(BundleError, match=r"Of the model's 3 attentions, 2 fused"):
        fuse(plain, tmp_path / "gpu.onnx", heads=4, width=32, layers=3)


def test_buffers_are_bound_and_updated_as_onnx_runtime_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one part of the GPU's path that needs no GPU: its calls, on the CPU's memory.
    plain, gpu = tmp_path / "plain.onnx", tmp_path / "model.onnx"
    export_onnx(network(), plain)
    fuse(plain, gpu, heads=4, width=32, layers=2, half=False)
    monkeypatch.setattr("stream.scorer.gpu.DEVICE", "cpu")
    session = open_session(tmp_path, Place("cpu"))
    runner = GpuRunner(session, 0, 1, 2)
    runner.warm_up(256, 32)
    for rows, length in ((3, 9), (3, 12), (9, 30), (3, 9)):
        ids = np.random.default_rng(rows * length).integers(5, 90, (rows, length))
        mask = (np.arange(length) < np.arange(length, length - rows, -1)[:, None]).astype(np.int64)
        [wanted] = session.run(None, {"input_ids": ids * mask, "attention_mask": mask})
        np.testing.assert_allclose(runner.run(ids * mask, mask), wanted, atol=2e-5)
    assert runner.graphs == 0
