"""The same model as a graph for NVIDIA GPUs: attention, norms and GELU fused, float16 inside.

Rules:
- Made of the plain float32 export by ONNX Runtime's own transformer optimiser, whose fused operators its CUDA
  provider has kernels for. Inputs and logits keep their types.
- Fusion is counted: a graph whose attention did not fuse is refused, since it would be slow without a word.
- Padding is on the right, as everywhere here: the fused attention takes that for granted.
- It runs on the CUDA provider alone. What it says is compared by the parity gate where there is a GPU.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from stream.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

Target = Literal["cpu", "cuda"]
"""What a graph is made for."""


def fuse(source: Path, target: Path, *, heads: int, width: int, layers: int, half: bool = True) -> None:
    """Writes the model ``source`` to ``target`` in the form above.

    Args:
        source: what ``export_onnx`` wrote, float32.
        target: file to write.
        heads: attention heads of a layer.
        width: of a token's vector.
        layers: how many attentions are to be found.
        half: whether float16; else float32, which the CPU provider runs, too.

    Raises:
        BundleError: not all attentions fused.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    for name in ("onnxruntime.transformers", "fusion_base", "onnx_model", "onnx_model_bert"):
        logging.getLogger(name).setLevel(logging.ERROR)
    model: Any = optimize_model(
        str(source),
        model_type="bert",
        num_heads=heads,
        hidden_size=width,
        opt_level=0,  # this optimiser's fusions alone: the runtime's own are the session's
        optimization_options=FusionOptions("bert"),
        use_gpu=True,
    )
    fused = sum(node.op_type == "Attention" for node in model.model.graph.node)
    if fused != layers:
        raise BundleError(
            f"Of the model's {layers} attentions, {fused} fused; it would be slow on a GPU. Export it for "
            "target cpu, which any provider runs."
        )
    if half:
        model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(str(target))
