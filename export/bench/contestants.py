"""Who runs in ``bench score``: ours and what a user could pick instead, on one network's weights.

Rules:
- Each gets texts and gives probabilities of the positive label, tokenising included.
- Each is given what suits it among what it offers: torch its fused attention and inference mode;
  CTranslate2 and OpenVINO our sorted batches, and CTranslate2 one worker a thread, which is the way it
  scales.
- Peers are optional: one that is not installed is named, never an error.
- ``arrival order`` is batches of 32 as texts come, padded to the longest of each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stream import bundle
from stream.core.batch import cut
from stream.scorer.contract import lanes_of, score_encoded
from stream.scorer.onnx import BATCH_COST, OnnxScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

ARRIVAL = 32


class Said(NamedTuple):
    """What a contestant made of the texts."""

    positive: NDArray[np.float32]
    padded_tokens: int


class Course(NamedTuple):
    """What all run on."""

    network: Any
    tokenizer: Tokenizer
    folder: Path
    """For the files that contestants make of the network."""
    threads: int
    token_budget: int
    max_length: int
    labels: int


def ours(scorer: OnnxScorer, token_budget: int) -> Callable[[Sequence[str]], Said]:
    """The scorer as a worker runs it."""

    def run(texts: Sequence[str]) -> Said:
        encoded = scorer.encode(texts)
        probabilities = score_encoded(scorer, encoded, token_budget=token_budget)
        batches = cut(encoded.lengths, token_budget, batch_cost=lanes_of(scorer).batch_cost)
        return Said(
            probabilities[:, 2], sum(len(rows) * int(encoded.lengths[rows].max()) for rows in batches)
        )

    return run


def torch_sdpa(course: Course) -> Callable[[Sequence[str]], Said]:
    """PyTorch with scaled-dot-product attention in inference mode, on our sorted batches."""
    import torch

    network = with_sdpa(course.network)

    def logits(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        # Where nothing is padded no mask is given: that is its fastest way, too.
        attention = None if mask.all() else torch.from_numpy(mask)
        with torch.inference_mode():
            out = network(input_ids=torch.from_numpy(ids), attention_mask=attention).logits
        return np.asarray(out.numpy(), np.float32)

    return _batched(course, logits, in_order=False)


def pipeline(course: Course) -> Callable[[Sequence[str]], Said]:
    """The transformers pipeline, batches of 32 in arrival order."""
    import torch
    from transformers import PreTrainedTokenizerFast, TextClassificationPipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    network = with_sdpa(course.network)
    pad = course.tokenizer.id_to_token(network.config.pad_token_id)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=course.tokenizer, pad_token=pad, model_max_length=course.max_length
    )
    pipe = TextClassificationPipeline(
        model=network,
        tokenizer=tokenizer,
        batch_size=ARRIVAL,
        top_k=None,
        truncation=True,
        device=torch.device("cpu"),
    )
    positive = network.config.id2label[len(network.config.id2label) - 1]

    def run(texts: Sequence[str]) -> Said:
        found = pipe(list(texts))
        said = [next(each["score"] for each in row if each["label"] == positive) for row in found]
        lengths = _lengths(course, texts)
        return Said(np.array(said, np.float32), _arrival_tokens(lengths))

    return run


def plain_onnx(course: Course) -> Callable[[Sequence[str]], Said]:
    """ONNX Runtime with its defaults on the plain export, batches of 32 in arrival order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = course.threads
    session = onnxruntime.InferenceSession(
        str(_plain_export(course)), options, providers=["CPUExecutionProvider"]
    )
    return _batched(
        course,
        lambda ids, mask: np.asarray(
            session.run(None, {"input_ids": ids, "attention_mask": mask})[0], np.float32
        ),
        in_order=True,
    )


def openvino(course: Course) -> Callable[[Sequence[str]], Said]:
    """OpenVINO, float32, on our sorted batches."""
    import openvino as ov

    model = ov.Core().read_model(str(_plain_export(course)))
    settings = {
        "INFERENCE_NUM_THREADS": course.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch; THROUGHPUT wants requests in flight
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def logits(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        found = request.infer({"input_ids": ids, "attention_mask": mask})
        return np.array(found[compiled.output(0)], np.float32)

    return _batched(course, logits, in_order=False)


def ctranslate2(course: Course, compute_type: str) -> Callable[[Sequence[str]], Said]:
    """CTranslate2's encoder, one worker a thread, on our sorted batches; pooled and classified with numpy."""
    import ctranslate2 as ct

    folder = course.folder / "ctranslate2"
    if not folder.exists():
        _write_ctranslate2(course, folder)
    encoder = ct.Encoder(
        str(folder), compute_type=compute_type, inter_threads=course.threads, intra_threads=1
    )
    weight = course.network.classifier.weight.detach().numpy()
    bias = course.network.classifier.bias.detach().numpy()

    def logits(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        lengths = mask.sum(axis=1)
        tokens = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
        hidden = np.asarray(encoder.forward_batch(tokens).last_hidden_state, np.float32)
        pooled = (hidden * mask[..., None]).sum(axis=1) / lengths[:, None]
        return np.asarray(pooled @ weight.T + bias, np.float32)

    return _batched(course, logits, in_order=False, lanes=course.threads)


def exported(course: Course, *, storage: str = "float32") -> OnnxScorer:
    """Our scorer on the network of the course, exported as a bundle's model is."""
    from export.cpu_graph import recast
    from export.precision import store

    folder = course.folder / "bundle"
    folder.mkdir(exist_ok=True)
    store(_plain_export(course), folder / bundle.MODEL, storage)  # type: ignore[arg-type]
    recast(folder / bundle.MODEL, folder / bundle.MODEL)
    course.tokenizer.save(str(folder / bundle.TOKENIZER))
    labels = bundle.LABEL_SETS[course.labels - 2]
    manifest = bundle.Manifest(
        format=bundle.FORMAT,
        name="bench",
        version="bench",
        created="",
        languages=(),
        labels=labels,
        label_meaning={},
        max_length=course.max_length,
        pad_id=int(course.network.config.pad_token_id or 0),
        temperature=1.0,
        neutral_band=0.0,
        precision=storage,
        opset=17,
        base_model="",
        base_licence="",
        trained_on=(),
        metrics=(),
        files={},
        libraries={},
    )
    (folder / bundle.MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return OnnxScorer(folder, manifest, provider="cpu", threads=course.threads)


def of_bundle(course: Course, path: Path) -> OnnxScorer:
    """A bundle's scorer, reading as many tokens as the others, its logits not divided.

    Raises:
        BundleError: it is not whole.
        DependencyError: it computes in int8, and this machine does not, exactly.
    """
    manifest = bundle.verify(path)
    alike = msgspec.structs.replace(manifest, temperature=1.0, max_length=course.max_length, tail_tokens=0)
    return OnnxScorer(path, alike, provider="cpu", threads=course.threads)


def with_sdpa(network: Any) -> Any:
    """The network with fused attention."""
    import copy

    same = copy.deepcopy(network)
    same.set_attn_implementation("sdpa")
    return same.eval()


def _plain_export(course: Course) -> Path:
    from export.onnx import export_onnx

    file = course.folder / "plain.onnx"
    if not file.exists():
        export_onnx(course.network, file)
    return file


def _write_ctranslate2(course: Course, folder: Path) -> None:
    import torch
    from ctranslate2.converters.transformers import BertLoader

    encoder = course.network.bert
    # Its loader wants a pooler, which it writes and we do not ask for.
    width = encoder.config.hidden_size
    encoder.pooler = torch.nn.Module()
    encoder.pooler.dense = torch.nn.Linear(width, width)
    try:
        encoder.config.position_embedding_type = "absolute"
        loader = BertLoader()
        spec = loader.get_model_spec(encoder)
        spec.config.unk_token = course.tokenizer.id_to_token(0)
        spec.config.layer_norm_epsilon = encoder.config.layer_norm_eps
        spec.register_vocabulary([f"<{number}>" for number in range(encoder.config.vocab_size)])
        folder.mkdir(parents=True)
        spec.validate()
        spec.save(str(folder))
    finally:
        encoder.pooler = None


def padded(token_ids: Sequence[Sequence[int]], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask of a batch, shape (texts, longest).

    >>> ids, mask = padded([[5], [7, 8]], 0)
    >>> ids.tolist(), mask.tolist()
    ([[5, 0], [7, 8]], [[1, 0], [1, 1]])
    """
    ids = np.full((len(token_ids), max(map(len, token_ids))), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(token_ids):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return ids, mask


def _lengths(course: Course, texts: Sequence[str]) -> NDArray[np.int32]:
    encodings = course.tokenizer.encode_batch_fast(list(texts))
    return np.fromiter((len(each.ids) for each in encodings), np.int32, len(encodings))


def _arrival(count: int) -> list[NDArray[np.intp]]:
    return [np.arange(at, min(at + ARRIVAL, count)) for at in range(0, count, ARRIVAL)]


def _arrival_tokens(lengths: NDArray[np.int32]) -> int:
    return sum(len(rows) * int(lengths[rows].max()) for rows in _arrival(len(lengths)))


def _batched(
    course: Course,
    logits: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]],
    *,
    in_order: bool,
    lanes: int = 1,
) -> Callable[[Sequence[str]], Said]:
    pad = int(course.network.config.pad_token_id or 0)

    def run(texts: Sequence[str]) -> Said:
        encoded = [each.ids for each in course.tokenizer.encode_batch_fast(list(texts))]
        lengths = np.fromiter(map(len, encoded), np.int32, len(encoded))
        batches = (
            _arrival(len(texts)) if in_order else cut(lengths, course.token_budget, batch_cost=BATCH_COST)
        )
        positive = np.empty(len(texts), np.float32)

        def one(rows: NDArray[np.intp]) -> None:
            said = logits(*padded([encoded[row] for row in rows], pad))
            raised = np.exp(said - said.max(axis=1, keepdims=True))
            positive[rows] = (raised / raised.sum(axis=1, keepdims=True))[:, -1]

        if lanes == 1:
            for rows in batches:
                one(rows)
        else:
            with ThreadPoolExecutor(lanes) as pool:
                list(pool.map(one, batches))
        return Said(positive, sum(len(rows) * int(lengths[rows].max()) for rows in batches))

    return run
