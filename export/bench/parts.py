"""Where the time of ours goes, by operator: why the floor is as near as it is.

Rules:
- ONNX Runtime's own profile of the exported graph, on one thread, over the batches of the whole bench.
- An ``If`` is left out: what it chose is among the operators itself.
- Products are what the floor is made of, all else is not. What the share of the floor would be were products
  at the machine's peak and all else as it is, no order of batches or threads can pass.
- What it would be were each product as quick as it is alone, hot, in its own shape (``products_graph``), says
  how much the graph itself loses. It is an estimate, to some percent: alone, each allocates what it writes.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

PRODUCTS = {
    "MatMul": "products of linear layers",
    "Gemm": "products of linear layers",
    "FusedMatMul": "products of attention",
}
OTHERS = {
    "Gelu": "GELU",
    "BiasGelu": "GELU",
    "LayerNormalization": "norms",
    "Softmax": "softmax",
    "Add": "additions",
    "Transpose": "transposes",
}
"""By ONNX's operator; what is in neither is ``the rest``."""
REST = "the rest"


class Part(msgspec.Struct, frozen=True):
    """Operators of one kind."""

    name: str
    share: float
    """Of all operators' time."""
    us_per_token: float


class Parts(msgspec.Struct, frozen=True):
    """All of them, the largest first."""

    parts: tuple[Part, ...]
    products_share: float
    products_gflops: float
    """Useful operations a second while products run."""
    others_alone_share: float
    """What the share of the floor would be with products at the peak, all else as it is."""
    hot_gflops: float
    """Useful operations a second of the same products alone, in their own shapes, their operands in cache."""
    hot_share: float
    """What the share of the floor would be with products so, all else as it is."""


class _Event(msgspec.Struct):
    cat: str
    name: str = ""
    ts: int = 0
    """Microseconds; so ``dur``."""
    dur: int = 0
    args: dict[str, Any] = {}


_decode = msgspec.json.Decoder(list[_Event]).decode


def operator_seconds(
    model: Path, folder: Path, batches: Iterable[dict[str, NDArray[Any]]]
) -> dict[str, float]:
    """What each kind of operator takes over all batches, on one thread, in seconds.

    Args:
        model: an ONNX file.
        folder: where the profile is written.
        batches: inputs by name; the first runs once more before, and that is left out.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    batches = iter(batches)
    first = next(batches)
    for feeds in chain((first, first), batches):
        session.run(None, feeds)
    events = _decode(Path(session.end_profiling()).read_bytes())
    warm_at = min(each.ts + each.dur for each in events if each.name == "model_run")
    found: dict[str, float] = defaultdict(float)
    for each in events:
        if each.cat == "Node" and each.name.endswith("_kernel_time") and each.ts >= warm_at:
            found[each.args["op_name"]] += each.dur / 1e6
    found.pop("If", None)
    return dict(found)


def products_graph(path: Path, *, width: int, inner: int, heads: int) -> None:
    """Writes a model of one layer's products alone, as the recast graph has them; see ``products_feeds``.

    Args:
        path: file to write.
        width: of a token.
        inner: of a feed-forward block.
        heads: of attention.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(7)
    free = {
        "tokens": [None, width],
        "inner": [None, inner],
        "split": [None, None, heads, width // heads],
        "shares": [None, heads, None, None],
    }
    linear = [("tokens", width, width)] * 4 + [("tokens", width, inner), ("inner", inner, width)]
    weights, nodes = [], []
    for number, (given, inputs, outputs) in enumerate(linear):
        weight = chance.standard_normal((inputs, outputs), np.float32)
        weights.append(numpy_helper.from_array(weight, f"weight{number}"))
        nodes.append(helper.make_node("MatMul", [given, f"weight{number}"], [f"out{number}"]))
    ours = {"domain": "com.microsoft", "transBatchB": 1}
    nodes.append(
        helper.make_node("FusedMatMul", ["split", "split"], ["scores"], transBatchA=1, transB=1, **ours)
    )
    nodes.append(helper.make_node("FusedMatMul", ["shares", "split"], ["seen"], **ours))
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in free.items()],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def products_feeds(
    batch: int, length: int, *, width: int, inner: int, heads: int
) -> dict[str, NDArray[np.float32]]:
    """Operands of the products of one batch."""
    rows = batch * length
    shapes = {
        "tokens": (rows, width),
        "inner": (rows, inner),
        "split": (length, batch, heads, width // heads),
        "shares": (batch, heads, length, length),
    }
    return {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}


def parts_of(seconds: dict[str, float], hot_s: float, *, tokens: int, flops: float, peak: float) -> Parts:
    """Operators by kind.

    Args:
        seconds: by operator.
        hot_s: what the products take alone.
        tokens: useful ones.
        flops: of the useful tokens' products.
        peak: operations a second of one thread, measured beside.

    >>> took = {"MatMul": 3.0, "FusedMatMul": 1.0, "Erf": 1.0}
    >>> found = parts_of(took, 3.0, tokens=1000, flops=2e9, peak=1e9)
    >>> [(part.name, part.share) for part in found.parts]
    [('products of linear layers', 0.6), ('products of attention', 0.2), ('the rest', 0.2)]
    >>> found.products_share, found.products_gflops, round(found.others_alone_share, 3)
    (0.8, 0.5, 0.667)
    >>> found.hot_share
    0.5
    """
    by_name: dict[str, float] = defaultdict(float)
    for kind, took_s in seconds.items():
        by_name[PRODUCTS.get(kind) or OTHERS.get(kind, REST)] += took_s
    total_s = sum(by_name.values())
    products_s = sum(seconds.get(kind, 0.0) for kind in PRODUCTS)
    floor_s = flops / peak
    return Parts(
        parts=tuple(
            Part(name, took_s / total_s, took_s / tokens * 1e6)
            for name, took_s in sorted(by_name.items(), key=lambda each: -each[1])
        ),
        products_share=products_s / total_s,
        products_gflops=flops / products_s / 1e9,
        others_alone_share=floor_s / (floor_s + total_s - products_s),
        hot_gflops=flops / hot_s / 1e9,
        hot_share=floor_s / (hot_s + total_s - products_s),
    )
