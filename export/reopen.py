"""A bundle as a checkpoint again, to go on from what serves: ``checkpoint_of``.

Rules:
- Takes a bundle whose graph ``recast`` wrote and whose linear layers are float32: its weights are the
  checkpoint's as they were stored. The biases that ``recast`` folded into others stay there; those it emptied
  are zero. That is another network of the same function, and trains like any other.
- Nothing is believed: the network has to say what the bundle says, or the bundle is refused.
- Unpacked once, into the cache beside the packaged bases, under the checksum of the bundle's manifest.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

from export.cpu_graph import NotRecognised, Plain
from models.bases import cache_folder
from models.checkpoint import TrainingRecord, load_checkpoint, save_checkpoint
from models.classifier import NetworkClassifier
from models.network import ReviewBertConfig, ReviewClassifier
from stream import bundle
from stream.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.bundle import Manifest

TOLERANCE = 1e-4
"""Of a logit: float32 rounding, of sums in another order."""

TEXTS = ("good", "The battery died after two days.", "质量很差, 不会再买。", "works " * 90)

LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""The products of a layer, in the order they run in."""


def checkpoint_of(path: Path) -> Path:
    """Folder of a checkpoint that says what the bundle at ``path`` says.

    Raises:
        BundleError: the bundle is not whole.
        UsageError: its graph is none that can be read back.
    """
    manifest = bundle.verify(path)
    folder = cache_folder() / f"bundle-{bundle.sha256(path / bundle.MANIFEST)[:16]}"
    if not folder.is_dir():
        _unpack(path, manifest, folder)
    return folder


def weights_of(path: Path) -> Path:
    """Folder of a checkpoint: ``path``, or where that is a bundle, what ``checkpoint_of`` makes of it.

    Raises:
        BundleError: the bundle is not whole.
        UsageError: there is no such folder, or a bundle's graph is none that can be read back.
    """
    if not path.is_dir():
        raise UsageError(f"There is no folder {path}; name a checkpoint's or a bundle's.")
    return checkpoint_of(path) if (path / bundle.MANIFEST).is_file() else path


def _unpack(path: Path, manifest: Manifest, folder: Path) -> None:
    """Leaves a checkpoint at ``folder``, compared or not at all."""
    try:
        network = _network(path, manifest)
    except NotRecognised:
        raise _refusal(path, manifest) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
        fresh = Path(parent) / "checkpoint"
        save_checkpoint(network, Tokenizer.from_file(str(path / bundle.TOKENIZER)), fresh, _record(manifest))
        if not _difference(path, manifest, fresh) <= TOLERANCE:
            raise _refusal(path, manifest)
        if not folder.is_dir():  # another run may have been quicker
            fresh.rename(folder)


def _refusal(path: Path, manifest: Manifest) -> UsageError:
    return UsageError(
        f"{path} cannot be made a checkpoint again: its graph ({manifest.precision}) is not that of a "
        "mean-pooled BERT, exported for CPUs, computed in float32. Name the checkpoint it was exported from."
    )


def _network(path: Path, manifest: Manifest) -> ReviewClassifier:
    import onnx

    sizes, weights = _Graph(onnx.load(str(path / bundle.MODEL)).graph).network()
    names = dict(enumerate(manifest.labels))
    config = ReviewBertConfig(
        **sizes,
        pad_token_id=manifest.pad_id,
        id2label=names,
        label2id={label: column for column, label in names.items()},
    )
    network = ReviewClassifier(config)
    network.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in weights.items()})
    return network


def _record(manifest: Manifest) -> TrainingRecord:
    return TrainingRecord(
        name=manifest.name,
        languages=manifest.languages,
        base_model=manifest.base_model,
        base_licence=manifest.base_licence,
        max_length=manifest.max_length,
        temperature=manifest.temperature,
        neutral_band=manifest.neutral_band,
        trained_on=manifest.trained_on,
        metrics=manifest.metrics,
        caveats=(f"Read back from the bundle {manifest.version}, whose card says where it fails.",),
    )


def _difference(path: Path, manifest: Manifest, folder: Path) -> float:
    """The largest, of a logit."""
    from stream.scorer.onnx import OnnxScorer

    scorer = OnnxScorer(path, manifest, provider="cpu", threads=1)
    texts = [text[: manifest.max_length // 2] for text in TEXTS]  # none is cut: a tail is serving's
    encoded = scorer.encode(texts)
    theirs = np.concatenate([scorer.logits(encoded, np.array([row])) for row in range(len(texts))])
    ours = NetworkClassifier(*load_checkpoint(folder, manifest.max_length), manifest.labels).logits(texts)
    return float(np.abs(ours - theirs).max())


class _Graph:
    """A graph that ``recast`` wrote: its weights by their order in it."""

    def __init__(self, graph: Any) -> None:
        self._weights = Plain(graph)
        self._nodes = list(graph.node)

    def network(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """A BERT's sizes, and its tensors by their names in a checkpoint.

        Raises:
            NotRecognised: the graph has another form.
        """
        norms = self._of_kind("LayerNormalization")
        products = [node for node in self._of_kind("MatMul", "Gemm") if self._is_stored(node.input[1])]
        layers = len(norms) // 2
        words = "bert.embeddings.word_embeddings"
        gathered = [each for each in self._of_kind("Gather") if each.input[0] in self._weights.tensors]
        if not layers or len(norms) != 2 * layers + 1 or len(products) != len(LAYER) * layers + 1:
            raise NotRecognised
        scores = self._of_kind("FusedMatMul")
        if len(self._of_kind("Gelu")) != layers or len(scores) != 2 * layers or not gathered:
            raise NotRecognised
        tensors = {
            f"{words}.weight": self._weights.table(words),
            **self._norm(norms[0], "bert.embeddings.LayerNorm"),
        }
        entries, width = tensors[f"{words}.weight"].shape
        places = self._weights.value(gathered[-1].input[0])
        tensors["bert.embeddings.position_embeddings.weight"] = places
        tensors["bert.embeddings.token_type_embeddings.weight"] = np.zeros((1, width), np.float32)
        for layer in range(layers):
            at = f"bert.encoder.layer.{layer}"
            for part, node in zip(LAYER, products[len(LAYER) * layer :], strict=False):
                tensors |= self._linear(node, f"{at}.{part}")
            tensors |= self._norm(norms[2 * layer + 1], f"{at}.attention.output.LayerNorm")
            tensors |= self._norm(norms[2 * layer + 2], f"{at}.output.LayerNorm")
        tensors |= self._linear(products[-1], "classifier")
        scale = self._attribute(scores[0], "alpha")
        inner = len(tensors["bert.encoder.layer.0.intermediate.dense.bias"])
        return {
            "vocab_size": entries,
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // round(scale**-2),
            "intermediate_size": inner,
            "max_position_embeddings": len(places),
            "type_vocab_size": 1,
            "layer_norm_eps": round(self._attribute(norms[0], "epsilon"), 15),  # a float32's
        }, tensors

    def _linear(self, node: Any, module: str) -> dict[str, NDArray[np.float32]]:
        """A layer's weight (outputs, inputs) and bias; a residual that the product begins with is none."""
        weight = self._weights.value(node.input[1]).T
        has_bias = len(node.input) > 2 and self._is_stored(node.input[2])
        bias = self._weights.value(node.input[2]) if has_bias else np.zeros(len(weight), np.float32)
        return {f"{module}.weight": np.ascontiguousarray(weight), f"{module}.bias": bias}

    def _norm(self, node: Any, module: str) -> dict[str, NDArray[np.float32]]:
        weight, bias = (self._weights.value(each) for each in node.input[1:3])
        return {f"{module}.weight": weight, f"{module}.bias": bias}

    def _is_stored(self, name: str) -> bool:
        if name in self._weights.tensors:
            return True
        node = self._weights.makers.get(name)
        return node is not None and node.op_type in ("Cast", "Mul") and all(map(self._is_stored, node.input))

    def _of_kind(self, *kinds: str) -> list[Any]:
        return [node for node in self._nodes if node.op_type in kinds]

    def _attribute(self, node: Any, name: str) -> float:
        return next(float(each.f) for each in node.attribute if each.name == name)
