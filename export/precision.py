"""A smaller file, the same arithmetic: large weights are stored in fewer bits and widened when loaded.

    float16             two bytes a weight
    int8                one byte a weight, and a float32 scale for each output row
    float16+int8-words  int8 for the word embedding, float16 for the rest

Rules:
- A large float32 initializer becomes a narrow one and the nodes that give it back under its old name: a
  Cast, and for int8 a Mul by the scales. ONNX Runtime folds them when it loads the model, so a loaded session
  is that of a float32 model: the same speed and arithmetic, on rounded weights.
- An embedding of int8 stays so in memory: what a batch looks up in it is widened then.
- Nothing is computed in int8, and activations have no scale: a text's score does not depend on batch mates.
  DequantizeLinear would say the same, but ONNX Runtime takes it as a wish to compute in int8.
- A row of int8 is symmetric: its largest weight is 127 steps. A row is what one output is summed of, or one
  entry of an embedding: their weights are alike, those of different rows need not be.
- Small weights (biases, norms) stay: they cost nothing and are the sensitive ones.
- A weight beyond float16's range is refused, never clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from stream.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Storage = Literal["float32", "float16", "int8", "float16+int8-words"]
Compute = Literal["float32", "int8"]
"""What the linear layers are computed in; int8 is ``export/int8_graph.py``'s."""
STORAGES: tuple[Storage, ...] = get_args(Storage)

LARGE = 4096
"""Least elements of a weight that is stored in fewer bits."""

INT8, SCALE = ".int8", ".scale"
"""Endings of the names of what an int8 weight is stored as."""

WORDS = "word_embeddings"
"""In the name of the word embedding, whatever the architecture around it."""


def store(source: Path, target: Path, storage: Storage, *, large: int = LARGE) -> int:
    """Writes the model ``source`` to ``target`` with its large weights stored as ``storage`` says.

    Returns:
        How many weights were converted.

    Raises:
        BundleError: a weight does not fit float16.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    readers = _readers(graph)
    kept, widening, embeddings = [], [], set()
    converted = 0
    for tensor in graph.initializer:
        is_large = tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= large
        if storage == "float32" or not is_large:
            kept.append(tensor)
            continue
        name, weight = tensor.name, numpy_helper.to_array(tensor)
        if storage == "int8" or (storage != "float16" and WORDS in name):
            narrow, nodes = _as_int8(name, weight, readers.get(name, []))
            embeddings |= set() if nodes else {name}
        else:
            narrow, nodes = _as_float16(name, weight)
        kept += narrow
        widening += nodes
        converted += 1
    del graph.initializer[:]
    graph.initializer.extend(kept)
    # A graph's nodes stand in the order they run in.
    nodes = [*widening, *(each for node in graph.node for each in _after_lookup(node, embeddings))]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return converted


def quantise(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight in steps of its rows' scales, and the scales, which broadcast against it.

    Args:
        weight: of any shape.
        axis: along which rows are counted.

    >>> steps, scales = quantise(np.array([[0.5, -1.27], [0.0, 0.0]], np.float32), axis=0)
    >>> steps.tolist(), scales.round(4).tolist()
    ([[50, -127], [0, 0]], [[0.009999999776482582], [1.0]])
    """
    others = tuple(each for each in range(weight.ndim) if each != axis % weight.ndim)
    scales = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


def _as_float16(name: str, weight: NDArray[np.float32]) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    if np.abs(weight).max() > np.finfo(np.float16).max:
        raise BundleError(f"Weight {name} does not fit float16; store the bundle as float32.")
    stored = f"{name}.float16"
    node = helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
    return [numpy_helper.from_array(weight.astype(np.float16), stored)], [node]


def _as_int8(name: str, weight: NDArray[np.float32], readers: list[Any]) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    steps, scales = quantise(weight, _row_axis(readers))
    stored, wide, scale = f"{name}{INT8}", f"{name}.steps", f"{name}{SCALE}"
    narrow = [numpy_helper.from_array(steps, stored), numpy_helper.from_array(scales, scale)]
    if readers and all(_looks_up(node) for node in readers):
        return narrow, []
    nodes = [
        helper.make_node("Cast", [stored], [wide], name=f"{name}.cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, scale], [name], name=f"{name}.mul"),
    ]
    return narrow, nodes


def _after_lookup(node: Any, embeddings: set[str]) -> list[Any]:
    """A node; or, where it looks up rows of int8, those that look up steps and scales and multiply them."""
    from onnx import TensorProto, helper

    name = node.input[0] if node.input else ""
    if name not in embeddings:
        return [node]
    ids, [out] = node.input[1], node.output
    steps, wide, scale = f"{out}.int8", f"{out}.steps", f"{out}.scale"
    return [
        helper.make_node("Gather", [f"{name}{INT8}", ids], [steps], name=f"{out}.rows", axis=0),
        helper.make_node("Gather", [f"{name}{SCALE}", ids], [scale], name=f"{out}.scales", axis=0),
        helper.make_node("Cast", [steps], [wide], name=f"{out}.cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, scale], [out], name=f"{out}.mul"),
    ]


def _readers(graph: Any) -> dict[str, list[Any]]:
    """The nodes that read each name."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _looks_up(node: Any) -> bool:
    return node.op_type == "Gather" and not any(each.name == "axis" and each.i for each in node.attribute)


def _row_axis(readers: list[Any]) -> int:
    """The axis of a weight's outputs: the last of a MatMul's, the first of an embedding's."""
    for node in readers:
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not transposed):
            return -1
    return 0
