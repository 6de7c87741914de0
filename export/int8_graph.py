"""Linear layers in products of integers, for ``recast``: ``Int8``.

A product is ``uint8 (rows, inputs) x int8 (inputs, outputs)``, exact in int32; ONNX Runtime multiplies it by
the columns' scales, the graph by the rows'.

Rules:
- A row's scale is found of the row alone, as the batch runs: batch mates and their order change nothing, not
  even a bit. Padding changes the order of additions in a softmax, by the last bit of a float32; rarely that
  bit decides a step. The parity gate says how much it comes to.
- Activations come as steps around 128, and where a GELU made them from their least number up
  (``export/rounding.py``); the product takes 128, or nothing, off again.
- Queries, keys and values read the same steps.
- A ``fine`` product is two: of the steps, and of what they left over in steps 254 times as small. It costs
  twice as much and has activations of sixteen bits.
- The GELU is its tanh form: 5e-4 off at most, a twentieth of a usual step of what it gives, and quicker.
- Nothing else is rounded: attention, norms, GELU, residuals and biases are float32.

MatMulIntegerToFloat is ONNX Runtime's own. On x86 without VNNI its sums of uint8 by int8 saturate:
``stream/scorer/integers.py`` refuses such machines when the bundle is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from export.cpu_graph import ORT
from export.rounding import SHIFTED_STEPS, STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from export.cpu_graph import Plain, Recast
    from export.rounding import Rounded

MIDDLE = 128
"""The step that is zero, of activations of either sign."""

FINER = 254
"""Times a step is finer that says what another left over: half a step, either way, in 127."""

LEAST_SCALE = 1e-12
"""Of a row: one of zeros alone has no largest."""


class Product(NamedTuple):
    """One linear layer's weight, and how what it reads is rounded."""

    rounded: Rounded
    smoothing: NDArray[np.float32] | None = None
    """The weight is of inputs that were divided by this, (inputs,)."""
    offset: float | None = None
    """Minus the least number there is, where a GELU made the inputs."""
    fine: bool = False
    """Whether what the steps leave over is multiplied, too."""


class Int8:
    """The arithmetic of ``products``.

    Args:
        products: by module, e.g. ``bert.encoder.layer.0.output.dense``, all of them.
    """

    def __init__(self, products: Mapping[str, Product]) -> None:
        self._products = products
        self._after: dict[str, NDArray[np.float32]] = {}
        self._steps: dict[tuple[str, bytes | None], _Steps] = {}

    def biases(self, plain: Plain, layers: int) -> dict[str, NDArray[np.float32]]:
        """All stay where they are, but the values', which come through the softmax and join the output's."""
        made = {"bert.embeddings.LayerNorm": plain.parameter("bert.embeddings.LayerNorm.bias")}
        for layer in range(layers):
            at = f"bert.encoder.layer.{layer}"
            for name in (
                "attention.self.query",
                "intermediate.dense",
                "attention.output.LayerNorm",
                "output.LayerNorm",
            ):
                made[f"{at}.{name}"] = plain.parameter(f"{at}.{name}.bias")
            value, out, last = (
                f"{at}.{name}" for name in ("attention.self.value", "attention.output.dense", "output.dense")
            )
            through = plain.parameter(f"{value}.bias") @ plain.value(plain.linear(out))
            self._after[out] = plain.parameter(f"{out}.bias") + through
            self._after[last] = plain.parameter(f"{last}.bias")
            self._after[last] = self._after[last] - of_offset(self._products[last])
        return made

    def linear(self, graph: Recast, tokens: str, module: str, plus: str = "") -> str:
        """See ``Arithmetic``."""
        made = self._rounded(graph, tokens, self._products[module])
        if module in self._after:
            made = graph.node("Add", [made, graph.constant(self._after[module])])
        return graph.node("Add", [made, plus]) if plus else made

    def activated(self, graph: Recast, tokens: str, module: str, bias: str) -> str:
        """By the tanh form, which adds the bias."""
        return graph.node("FastGelu", [self.linear(graph, tokens, module), bias], ORT)

    def _rounded(self, graph: Recast, tokens: str, product: Product) -> str:
        """(rows, outputs)."""
        key = (tokens, product.smoothing.tobytes() if product.smoothing is not None else None)
        if key not in self._steps:
            self._steps[key] = _to_steps(graph, tokens, product)
        steps = self._steps[key]
        weight, columns = product.rounded
        factor = graph.constant(weight)
        made = _product(graph, steps.steps, factor, columns, steps.zero)
        if product.fine:
            left = _left_over(graph, steps)
            made = graph.node(
                "Add", [made, _product(graph, left, factor, columns / np.float32(FINER), MIDDLE)]
            )
        return graph.node("Mul", [made, steps.column])


class _Steps(NamedTuple):
    """Activations in steps."""

    rows: str
    """What was rounded, (rows, inputs)."""
    steps: str
    scales: str
    """(rows,)."""
    zeros: str
    """(rows,): the step that stands for zero."""
    zero: int
    """The step that the product takes for it."""
    column: str
    """The scales, (rows, 1)."""


def _product(graph: Recast, steps: str, weight: str, columns: NDArray[np.float32], zero: int) -> str:
    one, nought = graph.constant(np.array(1, np.float32)), graph.constant(np.array(0, np.int8))
    scales = graph.constant(columns.astype(np.float32))
    return graph.node(
        "MatMulIntegerToFloat",
        [steps, weight, one, scales, graph.constant(np.array(zero, np.uint8)), nought],
        ORT,
    )


def _left_over(graph: Recast, steps: _Steps) -> str:
    """What rounding left over, in finer steps around MIDDLE."""
    said = graph.node("DequantizeLinear", [steps.steps, steps.scales, steps.zeros], axis=0)
    left = graph.node("Sub", [steps.rows, said])
    finer = graph.node("Div", [steps.scales, graph.constant(np.array(FINER, np.float32))])
    return graph.node("QuantizeLinear", [left, finer, _middles(graph, steps.scales)], axis=0)


def _middles(graph: Recast, scales: str) -> str:
    """MIDDLE for each row."""
    from onnx import TensorProto, helper

    middle = helper.make_tensor("middle", TensorProto.UINT8, [1], [MIDDLE])
    return graph.node("ConstantOfShape", [graph.node("Shape", [scales])], value=middle)


def of_offset(product: Product) -> NDArray[np.float32]:
    """What a layer says of rows of ``offset`` alone."""
    sums: NDArray[np.float32] = product.rounded.weight.sum(axis=0)
    return np.float32(product.offset or 0) * sums


def _to_steps(graph: Recast, tokens: str, product: Product) -> _Steps:
    from onnx import TensorProto

    rows = tokens
    if product.smoothing is not None:
        rows = graph.node("Mul", [tokens, graph.constant(1 / product.smoothing)])
    if product.offset is None:
        largest = graph.node("ReduceMax", [graph.node("Abs", [rows])], axes=[1], keepdims=0)
        scales = graph.node("Div", [largest, graph.constant(np.array(STEPS, np.float32))])
        scales = graph.node("Max", [scales, graph.constant(np.array(LEAST_SCALE, np.float32))])
        zeros = _middles(graph, scales)
    else:  # as rounding.shift_of
        offset = graph.constant(np.array(product.offset, np.float32))
        wide = graph.constant(np.array(product.offset * SHIFTED_STEPS, np.float32))
        largest = graph.node("ReduceMax", [rows], axes=[1], keepdims=0)
        zeros = graph.node("Floor", [graph.node("Div", [wide, graph.node("Add", [largest, offset])])])
        zeros = graph.node("Max", [zeros, graph.constant(np.array(1, np.float32))])
        scales = graph.node("Div", [offset, zeros])
        zeros = graph.node("Cast", [zeros], to=TensorProto.UINT8)
    steps = graph.node("QuantizeLinear", [rows, scales, zeros], axis=0)
    column = graph.node("Unsqueeze", [scales, graph.constant(np.array([1], np.int64))])
    return _Steps(rows, steps, scales, zeros, MIDDLE if product.offset is None else 0, column)


def write_probe(path: Path) -> None:
    """Writes the model by which serving finds out whether products of integers are exact on its machine."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from stream.scorer.integers import INPUTS, OUTPUTS, ZERO, probe_weight

    given = {
        "weight": probe_weight(),
        "one": np.array(1, np.float32),
        "ones": np.ones(OUTPUTS, np.float32),
        "zero": np.array(ZERO, np.uint8),
        "nought": np.array(0, np.int8),
    }
    node = helper.make_node("MatMulIntegerToFloat", ["steps", *given], ["sums"], domain=ORT)
    graph = helper.make_graph(
        [node],
        "integers",
        [helper.make_tensor_value_info("steps", TensorProto.UINT8, ["rows", INPUTS])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["rows", OUTPUTS])],
        [numpy_helper.from_array(value, name) for name, value in given.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ORT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
