"""The same model as a graph for NVIDIA GPUs: attention, norms and GELU fused, float16 inside.

Rules:
- Made of the plain float32 export by ONNX Runtime's own transformer optimiser, whose fused operators its CUDA
  provider has kernels for. Inputs and logits keep their types.
- Fusion is counted: a graph whose attention did not fuse is refused, since it would be slow without a word.
- Padding is on the right, as everywhere here: the fused attention takes that for granted.
- Of BERT, ELECTRA and DistilBERT nothing is left that a session would put on the CPU: no node that computes
  with shapes, no control flow. A CUDA graph is captured of such a model alone. Their plain export computes
  token types with shapes, all 0, whose one vector is added to each position instead; DistilBERT, positions.
  RoBERTa's are counted from the ids: shapes stay there.
- Packed, the padding is taken out before the first attention and put back after the last norm: what lies
  between is computed of real tokens alone. How many there are is known on the GPU only, so ONNX Runtime waits
  for that number in each run, and no CUDA graph can be captured.
- It runs on the CUDA provider alone. What it says is compared by the parity gate where there is a GPU.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from stream.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Target = Literal["cpu", "cuda", "tensorrt"]
"""What a graph is made for."""

ON_CPU = frozenset({"Shape", "Size", "ConstantOfShape", "NonZero", "If", "Loop", "Scan"})
"""Operators that ONNX Runtime's CUDA provider leaves to the CPU, or that no CUDA graph can hold."""


def fuse(
    source: Path,
    target: Path,
    *,
    heads: int,
    width: int,
    layers: int,
    half: bool = True,
    packed: bool = False,
) -> None:
    """Writes the model ``source`` to ``target`` in the form above.

    Args:
        source: what ``export_onnx`` wrote, float32.
        target: file to write.
        heads: attention heads of a layer.
        width: of a token's vector.
        layers: how many attentions are to be found.
        half: whether float16; else float32, which the CPU provider runs, too.
        packed: whether without padding inside, see above.

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
    _drop_known_indices(model)
    if packed:
        _pack(model, layers)
    if half:
        model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(str(target))


def _pack(model: Any, layers: int) -> None:
    """Takes the padding out, by ONNX Runtime's own conversion; raises a BundleError where that does not."""
    from onnxruntime.transformers.convert_to_packing_mode import PackingMode

    PackingMode(model).convert(use_symbolic_shape_infer=False)
    found = Counter(node.op_type for node in model.model.graph.node)
    wanted = {"RemovePadding": 1, "PackedAttention": layers, "RestorePadding": 1, "Attention": 0}
    if any(found[kind] != count for kind, count in wanted.items()):
        raise BundleError(
            f"Of the model's {layers} attentions, {found['PackedAttention']} were packed; export it without"
            " --packed."
        )


def left_to_the_cpu(path: Path) -> list[str]:
    """Kinds of the nodes of the model at ``path`` that keep a CUDA graph from being captured, or may."""
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph.node
    return sorted({node.op_type for node in nodes if node.op_type in ON_CPU})


def _drop_known_indices(model: Any) -> None:
    """Leaves away what an embedding is told of token types and positions, where it is what it always is.

    Types that are 0 for every token are one vector, which is added to the positions' table; positions that
    count from 0 are what the operator takes by itself.
    """
    import numpy as np
    from onnx import numpy_helper

    embeddings = [node for node in model.model.graph.node if node.op_type == "EmbedLayerNormalization"]
    if len(embeddings) != 1:
        return
    [node] = embeddings
    if node.input[1] and _is_always(model.model, node.input[1], np.zeros_like):
        positions, types = (numpy_helper.to_array(model.get_initializer(node.input[at])) for at in (3, 4))
        summed = numpy_helper.from_array(positions + types[0], f"{node.input[3]}.typed")
        model.add_initializer(summed)
        node.input[1], node.input[3], node.input[4] = "", summed.name, ""
    if len(node.input) > 8 and _is_always(model.model, node.input[8], lambda ids: np.arange(ids.shape[1])):
        node.input[8] = ""
    model.prune_graph()


def _is_always(model: Any, name: str, wanted: Callable[[Any], Any]) -> bool:
    """Whether the integers ``name`` of a model are as ``wanted`` of its ids, as far as two inputs tell."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    part = type(model)()
    part.CopyFrom(model)
    del part.graph.output[:]
    part.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT32, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for shape in ((1, 7), (3, 16)):
        ids = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        feeds = {"input_ids": ids, "attention_mask": np.ones(shape, np.int64)}
        [found] = session.run([name], {each.name: feeds[each.name] for each in session.get_inputs()})
        if not (found == wanted(ids)).all():
            return False
    return True
