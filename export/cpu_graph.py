"""The same model as a graph that a CPU runs in less time: ``recast``.

What the plain export loses beside its matrix products, on the CPU provider, and what is done about it:

- **Additions.** Nine a layer, each a pass over all tokens. A key's bias adds the same to all scores of a
  query, and a softmax does not see it. A value's bias passes through the softmax's weights, which sum to one,
  and joins the output's. The biases added beside a residual move into the norm before it, whose readers' own
  biases take them off again. What is left, the query's bias, the one before the GELU and two residuals, a
  product begins with instead of nought (Gemm).
- **GELU.** ONNX Runtime's own operator without a bias takes three quarters of the time of the one with.
- **Transposes.** With the sequence as the first axis, ONNX Runtime's FusedMatMul reads queries, keys and
  values of all heads where they stand; of four transposes a layer one is left.
- **The mask.** It is added to a (heads x length x length) table in each layer. Texts of one length need
  none: the graph looks once, and then leaves it out. Where there is padding, it must cost nothing in the
  softmax (``MASKED``).

All of it is algebra: results differ from the plain graph's by float32 rounding. Fusing Attention or
SkipLayerNormalization, which pays on GPUs, made it slower here (docs/decisions/0016-scorer.md).

Rules:
- Takes what ``export_onnx`` and ``store`` wrote of a mean-pooled BERT (``review-bert``); anything else is not
  recognised and stays as it is.
- Stored weights stay byte for byte what they were; only biases are computed anew, from the weights as stored.
- The result needs ONNX Runtime: FusedMatMul and Gelu are its own.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ORT = "com.microsoft"
MASKED = 40.0
"""Taken off the scores of padding. Padding repeats its text's first token, so its scores are then 40 below
that token's, and its share of a query is below 1e-17 of that token's: no float32 sum changes by it. A number
that made the exponentials zero would make them denormal in ONNX Runtime's softmax, and those take a processor
a hundred times as long: a tenth of the time of a batch whose padding is a fifth."""


class NotRecognised(Exception):  # noqa: N818 - it is no error: the graph stays as it is
    """The graph is not that of a mean-pooled BERT."""


class Arithmetic(Protocol):
    """What the linear layers between tokens are computed in, and where their biases go."""

    def biases(self, plain: Plain, layers: int) -> dict[str, NDArray[np.float32]]:
        """Of each norm, each query and each GELU, by module; whatever it moved into them included."""
        ...

    def linear(self, graph: Recast, tokens: str, module: str, plus: str = "") -> str:
        """The product of ``tokens`` (rows, inputs) with a module's weight, and biases that were not moved.

        Args:
            graph: gets the nodes.
            tokens: to be multiplied.
            module: whose weight.
            plus: is added: (outputs,) or (rows, outputs).
        """
        ...

    def activated(self, graph: Recast, tokens: str, module: str, bias: str) -> str:
        """The GELU of the same, with ``bias`` (outputs,)."""
        ...


def recast(source: Path, target: Path, arithmetic: Arithmetic | None = None) -> bool:
    """Writes the model ``source`` to ``target`` in the form above.

    Args:
        source: what ``export_onnx`` wrote, stored in any way; may be ``target``.
        target: file to write.
        arithmetic: of the linear layers; ``Float32`` by default.

    Returns:
        Whether it was recognised; else nothing is written.
    """
    import onnx

    model = onnx.load(str(source))
    try:
        graph = Recast(model.graph, arithmetic or Float32()).graph()
    except NotRecognised:
        return False
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(ORT, 1)]
    new = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    onnx.checker.check_model(new)
    onnx.save(new, str(target))
    return True


class Plain:
    """A graph's weights, widened; those of the plain one by the module they belong to."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.tensors = {each.name: each for each in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        for node in graph.node:  # the exporter keeps tensors that are alike once: a new network's biases
            if node.op_type == "Identity" and node.input[0] in self.tensors:
                alike = copy(self.tensors[node.input[0]])
                alike.name = node.output[0]
                self.tensors[alike.name] = alike
        self._read = numpy_helper.to_array
        self._operands = {
            node.name.removeprefix("/network/").rsplit("/", 1)[0].replace("/", "."): node
            for node in graph.node
            if node.op_type in ("MatMul", "Gemm", "Gather", "LayerNormalization")
        }

    def value(self, name: str) -> NDArray[np.float32]:
        """A stored tensor, widened."""
        if name in self.tensors:
            return np.asarray(self._read(self.tensors[name]), np.float32)
        node = self.makers.get(name)
        if node is None:
            raise NotRecognised
        if node.op_type == "Cast":
            return self.value(node.input[0])
        if node.op_type == "Mul":
            return self.value(node.input[0]) * self.value(node.input[1])
        raise NotRecognised

    def parameter(self, name: str) -> NDArray[np.float32]:
        """A bias or a norm's weight, by its name in the checkpoint."""
        return self.value(f"network.{name}")

    def linear(self, module: str) -> str:
        """The name of the weight, (inputs, outputs), that a linear layer multiplies with."""
        node = self._operands.get(module)
        if node is None:
            raise NotRecognised
        return str(node.input[1])

    def epsilon(self, module: str) -> float:
        """A norm's."""
        node = self._operands.get(module)
        if node is None:
            raise NotRecognised
        return float(next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5))

    def table(self, module: str) -> NDArray[np.float32]:
        """An embedding, widened."""
        name = f"network.{module}.weight"
        if f"{name}.int8" in self.tensors:
            return self.value(f"{name}.int8") * self.value(f"{name}.scale")
        return self.value(name)

    def widening(self, name: str) -> tuple[list[Any], list[Any]]:
        """The nodes and tensors that a weight is made of."""
        if name in self.tensors:
            return [], [self.tensors[name]]
        node = self.makers[name]
        nodes, tensors = [], []
        for each in node.input:
            its_nodes, its_tensors = self.widening(each)
            nodes += its_nodes
            tensors += its_tensors
        return [*nodes, node], tensors


class Recast:
    """Builds the new graph, node by node; names of intermediate results are numbers."""

    def __init__(self, plain: Any, arithmetic: Arithmetic) -> None:
        self.plain = Plain(plain)
        self._arithmetic = arithmetic
        self._source = plain
        self._nodes: list[Any] = []
        self._tensors: dict[str, Any] = {}
        self._count = 0
        self._lead = ""
        """Length and batch of what is scored, (2,)."""
        names = {each.name for each in plain.input}
        if names != {"input_ids", "attention_mask"} or [each.name for each in plain.output] != ["logits"]:
            raise NotRecognised
        if "network.classifier.bias" not in self.plain.tensors or self.layers() == 0:
            raise NotRecognised
        if any("pooler" in node.name for node in plain.node):
            raise NotRecognised
        if not any(node.op_type == "ReduceSum" for node in plain.node):
            raise NotRecognised  # pooled by the first token
        if sum(node.op_type == "Erf" for node in plain.node) != self.layers():
            raise NotRecognised  # another activation than GELU

    def graph(self) -> Any:
        """The new graph."""
        from onnx import helper

        biases = self._arithmetic.biases(self.plain, self.layers())
        sizes = self.node("Shape", ["input_ids"])
        self._lead = self.node("Gather", [sizes, self.constant(np.array([1, 0], np.int64))])
        mask = self.node("Cast", ["attention_mask"], to=1)
        penalty, is_padded = self._penalty(mask)
        tokens = self._embedding(biases)
        for layer in range(self.layers()):
            tokens = self._layer(layer, tokens, biases, penalty, is_padded)
        # The mean of each text's tokens as a product with its mask: (batch, 1, length) x (batch, length,
        # width).
        tokens = self.node("Reshape", [tokens, self._shape(self._width())])
        tokens = self.node("Transpose", [tokens], perm=[1, 0, 2])
        axis = self.constant(np.array([1], np.int64))
        total = self.node("MatMul", [self.node("Unsqueeze", [mask, axis]), tokens])
        total = self.node("Squeeze", [total, axis])
        mean = self.node("Div", [total, self.node("ReduceSum", [mask, axis], keepdims=1)])
        columns = self._classifier_columns()
        weight = self.constant(columns[0])
        self._nodes.append(
            helper.make_node("Gemm", [mean, weight, self.constant(columns[1])], ["logits"], name="logits")
        )
        return helper.make_graph(
            self._nodes, "recast", self._source.input, self._source.output, list(self._tensors.values())
        )

    def layers(self) -> int:
        """Of the encoder."""
        name = "network.bert.encoder.layer.{}.attention.self.query.bias"
        layers = 0
        while name.format(layers) in self.plain.tensors:
            layers += 1
        return layers

    def _classifier_columns(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The classifier's weight (width, labels) and bias."""
        last = [node for node in self._source.node if node.op_type == "Gemm"]
        if len(last) != 1 or last[0].output[0] != "logits":
            raise NotRecognised  # its columns were put into another order
        weight = self.plain.value(last[0].input[1])
        transposed = any(each.name == "transB" and each.i for each in last[0].attribute)
        return (weight.T if transposed else weight), self.plain.value(last[0].input[2])

    def _penalty(self, mask: str) -> tuple[str, str]:
        """What is added to the scores of each text's padding (batch, 1, 1, length); whether there is any."""
        one, masked = (self.constant(np.array(each, np.float32)) for each in (1, MASKED))
        off = self.node("Mul", [self.node("Sub", [mask, one]), masked])
        penalty = self.node("Unsqueeze", [off, self.constant(np.array([1, 2], np.int64))])
        least = self.node("ReduceMin", [mask], keepdims=0)
        return penalty, self.node("Less", [least, one])

    def _embedding(self, biases: dict[str, NDArray[np.float32]]) -> str:
        """Tokens (rows, width), the first ones of all texts before the second ones."""
        place = "bert.embeddings"
        plain = self.plain
        ids, is_token = (
            self.node("Transpose", [each], perm=[1, 0])
            for each in ("input_ids", self.node("Cast", ["attention_mask"], to=9))
        )
        zero, one = (self.constant(np.array([each], np.int64)) for each in (0, 1))
        # Padding is the first token again, place included, and stays so through all layers (MASKED).
        ids = self.node("Where", [is_token, ids, self.node("Slice", [ids, zero, one, zero])])
        length = self.node("Squeeze", [self.node("Slice", [self._lead, zero, one, zero])])
        nought, step = (self.constant(np.array(each, np.int64)) for each in (0, 1))
        order = self.node("Unsqueeze", [self.node("Range", [nought, length, step]), one])
        at = self.node("Where", [is_token, order, nought])
        words = f"network.{place}.word_embeddings.weight"
        if f"{words}.int8" in plain.tensors:
            steps, scales = (self.stored(f"{words}.{part}") for part in ("int8", "scale"))
            rows = self.node("Cast", [self.node("Gather", [steps, ids], axis=0)], to=1)
            tokens = self.node("Mul", [rows, self.node("Gather", [scales, ids], axis=0)])
        else:
            tokens = self.node("Gather", [self.stored(words), ids], axis=0)
        places = (
            plain.table(f"{place}.position_embeddings") + plain.table(f"{place}.token_type_embeddings")[0]
        )
        tokens = self.node("Add", [tokens, self.node("Gather", [self.constant(places), at], axis=0)])
        tokens = self.node("Reshape", [tokens, self.constant(np.array([-1, places.shape[1]], np.int64))])
        return self._norm(tokens, f"{place}.LayerNorm", biases)

    def _layer(
        self, layer: int, tokens: str, biases: dict[str, NDArray[np.float32]], penalty: str, is_padded: str
    ) -> str:
        at = f"bert.encoder.layer.{layer}"
        width, linear = self._width(), self._arithmetic.linear
        heads = self._heads(layer)
        split = self._shape(heads, width // heads)
        module = f"{at}.attention.self"
        query, key, value = (
            self.node("Reshape", [each, split])
            for each in (
                linear(self, tokens, f"{module}.query", self.constant(biases[f"{module}.query"])),
                linear(self, tokens, f"{module}.key"),
                linear(self, tokens, f"{module}.value"),
            )
        )
        # transBatch: the operand's first axis is the last but one of the product's, (batch, heads) lead it.
        scores = self.node(
            "FusedMatMul",
            [query, key],
            ORT,
            transBatchA=1,
            transBatchB=1,
            transB=1,
            alpha=float((width // heads) ** -0.5),
        )
        shares = self._softmax(scores, penalty, is_padded)
        seen = self.node("FusedMatMul", [shares, value], ORT, transBatchB=1, alpha=1.0)
        seen = self.node("Transpose", [seen], perm=[2, 0, 1, 3])
        seen = self.node("Reshape", [seen, self.constant(np.array([-1, width], np.int64))])
        tokens = linear(self, seen, f"{at}.attention.output.dense", tokens)
        tokens = self._norm(tokens, f"{at}.attention.output.LayerNorm", biases)
        module = f"{at}.intermediate.dense"
        inner = self._arithmetic.activated(self, tokens, module, self.constant(biases[module]))
        tokens = linear(self, inner, f"{at}.output.dense", tokens)
        return self._norm(tokens, f"{at}.output.LayerNorm", biases)

    def _width(self) -> int:
        """Of a token."""
        return len(self.plain.parameter("bert.embeddings.LayerNorm.weight"))

    def _shape(self, *rest: int) -> str:
        """(length, batch, ``rest``)."""
        return self.node("Concat", [self._lead, self.constant(np.array(rest, np.int64))], axis=0)

    def _heads(self, layer: int) -> int:
        """Of the constant that the plain graph splits queries by: (batch, length, heads, width of a head)."""
        place = f"/network/bert/encoder/layer.{layer}/attention/self/"
        for node in self._source.node:
            if node.op_type == "Softmax" and node.name.startswith(place):
                break
        else:
            raise NotRecognised
        wanted = f"{place}query/Add_output_0"
        reshape = next(
            (each for each in self._source.node if each.op_type == "Reshape" and each.input[0] == wanted),
            None,
        )
        concat = self.plain.makers.get(reshape.input[1]) if reshape else None
        if concat is None or concat.op_type != "Concat":
            raise NotRecognised
        size = self._integer(concat.input[3])
        width = len(self.plain.parameter(f"bert.encoder.layer.{layer}.attention.self.query.bias"))
        if size < 1 or width % size:
            raise NotRecognised
        return width // size

    def _integer(self, name: str) -> int:
        from onnx import numpy_helper

        if name in self.plain.tensors:
            return int(numpy_helper.to_array(self.plain.tensors[name]).item())
        node = self.plain.makers.get(name)
        if node is None or node.op_type != "Constant":
            raise NotRecognised
        return int(numpy_helper.to_array(node.attribute[0].t).item())

    def _softmax(self, scores: str, penalty: str, is_padded: str) -> str:
        from onnx import TensorProto, helper

        def branch(name: str, nodes: list[Any]) -> Any:
            out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
            return helper.make_graph(nodes, name, [], [out])

        out = f"{scores}.shares"
        masked = [
            helper.make_node("Add", [scores, penalty], [f"{out}.masked"]),
            helper.make_node("Softmax", [f"{out}.masked"], [f"{out}.padded"], axis=-1),
        ]
        bare = [helper.make_node("Softmax", [scores], [f"{out}.bare"], axis=-1)]
        return self.node(
            "If", [is_padded], then_branch=branch("padded", masked), else_branch=branch("bare", bare)
        )

    def _norm(self, tokens: str, module: str, biases: dict[str, NDArray[np.float32]]) -> str:
        weight = self.constant(self.plain.parameter(f"{module}.weight"))
        return self.node(
            "LayerNormalization",
            [tokens, weight, self.constant(biases[module])],
            axis=-1,
            epsilon=self.plain.epsilon(module),
        )

    def stored(self, name: str) -> str:
        """A weight of the plain graph, with what widens it."""
        nodes, tensors = self.plain.widening(name)
        for tensor in tensors:
            self._tensors[tensor.name] = tensor
        self._nodes += nodes
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """A new tensor's name."""
        from onnx import numpy_helper

        name = f"constant.{len(self._tensors)}"
        self._tensors[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(self, kind: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """The name of a new node's output."""
        from onnx import helper

        out = f"{kind}.{self._count}"
        self._count += 1
        self._nodes.append(helper.make_node(kind, inputs, [out], name=out, domain=domain, **attributes))
        return out


class Float32:
    """The stored weights, widened; biases folded into one another."""

    def biases(self, plain: Plain, layers: int) -> dict[str, NDArray[np.float32]]:
        """Such that all others are zero."""
        biases: dict[str, NDArray[np.float64]] = {}

        def bias(module: str) -> NDArray[np.float64]:
            if module not in biases:
                biases[module] = plain.parameter(f"{module}.bias").astype(np.float64)
            return biases[module]

        def weight(module: str) -> NDArray[np.float64]:
            return plain.value(plain.linear(module)).astype(np.float64)

        norm = "bert.embeddings.LayerNorm"
        for layer in range(layers):
            at = f"bert.encoder.layer.{layer}"
            value, out = weight(f"{at}.attention.self.value"), weight(f"{at}.attention.output.dense")
            wanted = bias(f"{at}.attention.output.dense") + bias(f"{at}.attention.self.value") @ out
            # Moved into the tokens that the layer reads, it comes through the values, too: c + c V O =
            # wanted.
            moved = np.linalg.solve((np.eye(len(wanted)) + value @ out).T, wanted)
            biases[norm] = bias(norm) + moved
            query = f"{at}.attention.self.query"
            biases[query] = bias(query) - moved @ weight(query)
            inner, norm = f"{at}.intermediate.dense", f"{at}.attention.output.LayerNorm"
            moved = bias(f"{at}.output.dense")
            biases[norm] = bias(norm) + moved
            biases[inner] = bias(inner) - moved @ weight(inner)
            norm = f"{at}.output.LayerNorm"
            bias(norm)
        return {name: each.astype(np.float32) for name, each in biases.items()}

    def linear(self, graph: Recast, tokens: str, module: str, plus: str = "") -> str:
        """One product, which begins with ``plus``: there is no bias left to add."""
        weight = graph.stored(graph.plain.linear(module))
        return graph.node("Gemm", [tokens, weight, plus]) if plus else graph.node("MatMul", [tokens, weight])

    def activated(self, graph: Recast, tokens: str, module: str, bias: str) -> str:
        """By the error function."""
        return graph.node("Gelu", [self.linear(graph, tokens, module, bias)], ORT)


def recast_bundle(path: Path, out: Path) -> float:
    """Writes the bundle at ``path`` to ``out`` with its graph in the form above; both say the same.

    Args:
        path: a whole bundle.
        out: a folder that is not there yet.

    Returns:
        The largest difference of a logit, on texts of all lengths.

    Raises:
        BundleError: the bundle is not whole, or its model is not recognised, or says something else then.
    """
    import shutil

    import msgspec

    from stream import bundle
    from stream.errors import BundleError

    manifest = bundle.verify(path)
    shutil.copytree(path, out)
    try:
        if not recast(path / bundle.MODEL, out / bundle.MODEL):
            raise BundleError(f"{path / bundle.MODEL} is not a mean-pooled BERT of the plain form.")  # noqa: TRY301
        difference = _difference(path, out, manifest)
        if difference > TOLERANCE:
            raise BundleError(f"The graphs differ by {difference:.1e} in a logit; {path} stays as it is.")  # noqa: TRY301
        version = f"{manifest.name}-{bundle.sha256(out / bundle.MODEL)[:8]}"
        card = (out / bundle.CARD).read_text("utf-8").replace(manifest.version, version)
        (out / bundle.CARD).write_text(card, "utf-8")
        files = {name: bundle.sha256(out / name) for name in manifest.files}
        new = msgspec.structs.replace(manifest, version=version, files=files)
        (out / bundle.MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(new)) + b"\n")
        bundle.verify(out)
    except BaseException:
        shutil.rmtree(out)
        raise
    return difference


TOLERANCE = 2e-5
"""Of a logit: float32 rounding of other orders of addition."""


def _difference(path: Path, out: Path, manifest: Any) -> float:
    from stream.scorer.onnx import OnnxScorer

    plain, cpu = (OnnxScorer(each, manifest, provider="cpu", threads=1) for each in (path, out))
    words = ["the", "battery", "died", "after", "two", "days", "质量很差", "great", "sound"]
    texts = [" ".join(words[: 1 + n % len(words)] * (1 + n // 7)) for n in range(64)]
    encoded = plain.encode(texts)
    rows = [np.arange(at, at + 8) for at in range(0, 64, 8)]
    return max(float(np.abs(plain.logits(encoded, some) - cpu.logits(encoded, some)).max()) for some in rows)
