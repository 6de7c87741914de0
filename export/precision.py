"""Half the file, the same arithmetic: large weights are stored as float16 and cast back at load.

Rules:
- Each large float32 initializer becomes a float16 one and a Cast to float32 of the old name. ONNX Runtime
  folds the Cast when it loads the model, so inference computes in float32 on the rounded weights.
- Small ones (biases, norms) stay: they cost nothing and are the sensitive ones.
- A weight beyond float16's range is refused, never clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 4096
"""Least elements of a weight that is stored as float16."""


def store_half(source: Path, target: Path, *, large: int = LARGE) -> int:
    """Writes the model ``source`` to ``target`` with its large weights in float16.

    Returns:
        How many weights were converted.

    Raises:
        BundleError: a weight does not fit float16.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    kept, casts = [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < large:
            kept.append(tensor)
            continue
        weight = numpy_helper.to_array(tensor)
        if np.abs(weight).max() > np.finfo(np.float16).max:
            raise BundleError(f"Weight {tensor.name} does not fit float16; store the bundle as float32.")
        stored = f"{tensor.name}.float16"
        kept.append(numpy_helper.from_array(weight.astype(np.float16), stored))
        casts.append(
            helper.make_node(
                "Cast", [stored], [tensor.name], name=f"{tensor.name}.cast", to=TensorProto.FLOAT
            )
        )
    del graph.initializer[:]
    graph.initializer.extend(kept)
    # A graph's nodes stand in the order they run in.
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return len(casts)
