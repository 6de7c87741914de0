"""From a checkpoint to an ONNX graph.

Rules:
- Exported from float32 weights in evaluation mode, with eager attention and the TorchScript exporter at
  opset 17: the one combination whose graph ONNX Runtime's optimiser fuses fully (Attention,
  EmbedLayerNorm, SkipLayerNorm, BiasGelu), wanted on GPUs. On CPUs the plain graph is the faster one, so
  the plain graph is what a bundle holds.
- Inputs ``input_ids`` and ``attention_mask``, int64 (batch, sequence), both free; output ``logits``,
  float32 (batch, labels).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPSET = 17


def export_onnx(network: Any, path: Path, *, columns: Sequence[int] | None = None) -> None:
    """Writes ``network`` (float32, loaded with eager attention) as an ONNX file.

    Args:
        network: any of ``AutoModelForSequenceClassification``, in evaluation mode.
        path: file to write.
        columns: the network's column of each of the file's; by default they are as they are.
    """
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        """The network as a function of ids and mask alone, whatever else it takes and gives."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(input_ids=ids, attention_mask=mask).logits
            return logits if columns is None else logits[:, list(columns)]

    # Two rows of unlike lengths, so that no shape or mask of the example is taken for a constant.
    ids = torch.full((2, 8), int(network.config.pad_token_id or 0) + 1, dtype=torch.int64)
    mask = torch.ones((2, 8), dtype=torch.int64)
    mask[1, 5:] = 0
    free = {0: "batch", 1: "sequence"}
    with torch.inference_mode(), warnings.catch_warnings():
        # Tracing warns of every Python branch on a shape; parity on real texts says whether one mattered.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(),
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "logits": {0: "batch"}},
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
