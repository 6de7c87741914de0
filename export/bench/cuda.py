"""The scorer on one NVIDIA GPU, float16: ``reviewpulse bench score --provider cuda``.

Rules:
- Two shapes of network, the shipped model's and BERT-base's, at lengths 32, 64, 128 and 384 and on the real
  spread of lengths.
- Ours is as a worker runs it: bound buffers, two batches under way, the real spread cut for the buckets. It
  runs with CUDA graphs, without them, packed (no padding inside), and on TensorRT. Beside it torch's fused
  attention in float16, and torch.compile, on the same batches of the same GPU.
- Sequences a second are of ids in host memory to logits in host memory: copies are in them, tokenising is
  not.
- The peak is that of float16 matrix products (8,192 cubed) on ONNX Runtime, measured in the same run; a share
  of it counts useful tokens' products alone.
- Differences are to the plain float32 graph on the CPU, on a few rows of each kind of batch.
- Contestants take turns; their first turns, in which shapes are captured and compiled, are not counted.
- The provider in use is asserted: where CUDA cannot be used, there is one sentence and no figure. Who else
  does not work, torch without CUDA say, is named with the reason.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from export.bench.score import flops_of
from export.gpu_graph import fuse, left_to_the_cpu
from export.onnx import export_onnx
from stream.bundle import MODEL
from stream.core.batch import cut
from stream.errors import DependencyError
from stream.scorer.buckets import most_rows, rounding
from stream.scorer.gpu import AT_ONCE, SEEN, GpuRunner
from stream.scorer.onnx import GPU_BATCH_COST
from stream.scorer.providers import CPU, Place, open_session
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from export.bench.texts import Texts

LENGTHS = (32, 64, 128, 384)
LONGEST = 512
TOKENS = 32_768
"""Padded tokens in a batch: what a data-centre GPU wants at once."""

COMPARED = 8
"""Rows of each kind of batch that are compared with float32."""

PEAK_SIZE, PEAK_PRODUCTS = 8192, 4

OURS, PLAIN, PACKED, TENSORRT = "ours", "ours without graphs", "ours packed", "ours on TensorRT"
TORCH, COMPILED = "torch sdpa", "torch.compile"

BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant on batches of one kind; medians over the rounds."""

    network: str
    lengths: str
    contestant: str
    sequences_per_s: float
    peak_share: float
    times_torch: float | None
    """Sequences a second over torch's, in the same round; None without it."""
    largest_difference: float
    """Of a logit, to float32."""
    graphs: int
    """CUDA graphs captured by the end."""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A contestant that did not work."""

    network: str
    contestant: str
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All cases on one GPU."""

    device: str
    source: str
    peak_tflops: float
    left_to_the_cpu: tuple[str, ...]
    """Kinds of nodes of our graph that may keep CUDA graphs from being captured."""
    cases: tuple[Case, ...]
    missing: tuple[Missing, ...]


class Batch(NamedTuple):
    """Padded texts, shape (rows, longest) each."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


class Contestant(NamedTuple):
    """Something that computes logits."""

    run: Callable[[Batch], NDArray[np.float32]]
    at_once: int = 1
    """Batches that it wants under way."""
    graphs: Callable[[], int] = lambda: 0


class Course(NamedTuple):
    """Batches of one kind."""

    name: str
    batches: list[Batch]


def run(
    *, checkpoint: Path, texts: Texts, rounds: int, device_id: int = 0, only: Sequence[str] = ()
) -> Report:
    """Times everything.

    Args:
        checkpoint: the shipped network's weights.
        texts: whose lengths are the real spread.
        rounds: turns each contestant gets.
        device_id: the GPU, where there are several.
        only: contestants with one of these in their names, beside ours; none: all.

    Raises:
        DependencyError: ONNX Runtime can use no GPU.
    """
    from tokenizers import Tokenizer

    from models.checkpoint import load_network

    place = Place("cuda", device_id, token_budget=TOKENS)
    peak = _peak(place)
    tokenizer = Tokenizer.from_file(str(SHIPPED_BUNDLE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    lengths = np.array([len(each.ids) for each in tokenizer.encode_batch_fast(texts.texts)], np.int32)
    entries = tokenizer.get_vocab_size()
    cases: list[Case] = []
    missing: list[Missing] = []
    left: set[str] = set()
    for name, network in (
        ("shipped", load_network(checkpoint)),
        ("BERT-base", random_network(entries, **BASE)),
    ):
        with tempfile.TemporaryDirectory(prefix="reviewpulse-bench-") as folder:
            export_onnx(network, Path(folder) / MODEL)
            courses = courses_of(lengths, entries)
            makers = {
                who: make
                for who, make in _makers(network, Path(folder), place).items()
                if who == OURS or not only or any(each in who for each in only)
            }
            working, reasons = who_works(makers, courses)
            if OURS not in working:
                raise DependencyError(f"{name} did not run on CUDA: {reasons[OURS]}")
            missing += [Missing(network=name, contestant=who, reason=why) for who, why in reasons.items()]
            left |= set(left_to_the_cpu(Path(folder) / OURS / MODEL))
            exact = open_session(Path(folder), Place("cpu"))
            flops = partial(flops_of, network.config)
            cases += measure(name, courses, working, partial(_exact, exact), flops, peak, rounds)
    return Report(
        device=_device(device_id),
        source=texts.source,
        peak_tflops=peak / 1e12,
        left_to_the_cpu=tuple(sorted(left)),
        cases=tuple(cases),
        missing=tuple(missing),
    )


def show(report: Report) -> None:
    """Prints the report as a table."""
    from rich.table import Table

    from stream.cli.terminal import output

    table = Table(title=f"{report.device}, float16; real lengths: {report.source}")
    for heading in ("network", "length", "", "sequences/s", "of peak", "times torch", "difference", "graphs"):
        table.add_column(heading, justify="left" if heading in {"network", ""} else "right")
    for each in report.cases:
        table.add_row(
            each.network,
            each.lengths,
            each.contestant,
            f"{each.sequences_per_s:,.0f}",
            f"{each.peak_share:.2f}",
            "" if each.times_torch is None else f"{each.times_torch:.2f}",
            f"{each.largest_difference:.1e}",
            str(each.graphs or ""),
        )
    console = output()
    console.print(table)
    console.print(f"Peak: {report.peak_tflops:,.0f} TFLOP/s of float16 matrix products")
    if report.left_to_the_cpu:
        console.print(f"Nodes that may keep CUDA graphs away: {', '.join(report.left_to_the_cpu)}")
    for absent in report.missing:
        console.print(f"Did not work: {absent.network}, {absent.contestant}: {absent.reason}")


def who_works(
    makers: Mapping[str, Callable[[], Contestant]], courses: list[Course]
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Those that can be made and run every batch, so often that it is captured, and why others cannot."""
    working, reasons = {}, {}
    for who, make in makers.items():
        try:
            contestant = make()
            for course in courses:
                for _ in range(SEEN):
                    _turn(contestant, course.batches)
        except Exception as error:  # noqa: BLE001  # a compiler that gives up, a library that is missing
            reasons[who] = " ".join(str(error).split())[:400] or type(error).__name__
        else:
            working[who] = contestant
    return working, reasons


def measure(
    network: str,
    courses: list[Course],
    contestants: Mapping[str, Contestant],
    exact: Callable[[Batch], NDArray[np.float32]],
    flops: Callable[[NDArray[np.int64]], float],
    peak: float,
    rounds: int,
) -> list[Case]:
    """Has the contestants take turns.

    Args:
        network: its name.
        courses: the batches.
        contestants: that all work, and are warm.
        exact: logits in float32.
        flops: operations of texts of such lengths.
        peak: operations a second that there could be.
        rounds: turns each gets on each course.
    """
    cases = []
    for course in courses:
        times: dict[str, list[float]] = {who: [] for who in contestants}
        for _ in range(rounds):
            for who, contestant in contestants.items():
                times[who].append(_turn(contestant, course.batches))
        few = Batch(*(each[:COMPARED] for each in course.batches[0]))
        wanted = exact(few)
        sequences = sum(len(batch.ids) for batch in course.batches)
        operations = sum(flops(batch.mask.sum(axis=1)) for batch in course.batches)
        for who, contestant in contestants.items():
            took = statistics.median(times[who])
            ratios = [one / other for one, other in zip(times.get(TORCH, ()), times[who], strict=False)]
            cases.append(
                Case(
                    network=network,
                    lengths=course.name,
                    contestant=who,
                    sequences_per_s=sequences / took,
                    peak_share=operations / took / peak,
                    times_torch=statistics.median(ratios) if ratios else None,
                    largest_difference=float(np.abs(contestant.run(few) - wanted).max()),
                    graphs=contestant.graphs(),
                )
            )
    return cases


def courses_of(lengths: NDArray[np.int32], entries: int) -> list[Course]:
    """Batches of one length each, and those of the real spread."""
    chance = np.random.default_rng(7)

    def batch(of: NDArray[np.int32]) -> Batch:
        mask = (np.arange(int(of.max())) < of[:, None]).astype(np.int64)
        return Batch(chance.integers(5, entries, mask.shape) * mask, mask)

    alike = [
        Course(str(length), [batch(np.full(TOKENS // length, length, np.int32)) for _ in range(8)])
        for length in LENGTHS
    ]
    batches = cut(lengths, TOKENS, batch_cost=GPU_BATCH_COST, rounding=rounding(LONGEST))
    return [*alike, Course("real", [batch(lengths[rows]) for rows in batches])]


def _turn(contestant: Contestant, batches: list[Batch]) -> float:
    """Seconds that all batches take."""
    start = time.perf_counter()
    if contestant.at_once == 1:
        for batch in batches:
            contestant.run(batch)
    else:
        with ThreadPoolExecutor(contestant.at_once) as pool:
            list(pool.map(contestant.run, batches))
    return time.perf_counter() - start


def random_network(entries: int, **shape: int) -> Any:
    """A classifier of random weights; always the same.

    Args:
        entries: of its vocabulary.
        shape: what BERT's configuration is given.
    """
    import torch

    from models.network import ReviewBertConfig, ReviewClassifier

    torch.manual_seed(7)
    config = ReviewBertConfig(
        **shape,
        vocab_size=entries,
        max_position_embeddings=512,
        pad_token_id=1,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        attn_implementation="eager",
    )
    network = ReviewClassifier(config)
    network.classifier.weight.data *= 30  # random logits are nearly equal; these tell texts apart
    return network.eval()


def _makers(network: Any, folder: Path, place: Place) -> dict[str, Callable[[], Contestant]]:
    """What makes each contestant, of the plain export in ``folder``."""
    config = network.config

    def fused(name: str, where: Place, *, packed: bool = False) -> Contestant:
        (folder / name).mkdir()
        fuse(
            folder / MODEL,
            folder / name / MODEL,
            heads=config.num_attention_heads,
            width=config.hidden_size,
            layers=config.num_hidden_layers,
            packed=packed,
        )
        return _ours(config, folder / name, where)

    without = place._replace(cuda_graphs=False)
    on_tensorrt = place._replace(provider="tensorrt", engines=folder / "engines")
    return {
        OURS: partial(fused, OURS, place),
        PLAIN: partial(fused, PLAIN, without),
        PACKED: partial(fused, PACKED, without, packed=True),
        TENSORRT: partial(_ours, config, folder, on_tensorrt),
        TORCH: partial(_torch, network, compiled=False),
        COMPILED: partial(_torch, network, compiled=True),
    }


def _ours(config: Any, folder: Path, place: Place) -> Contestant:
    """Our path as a worker's: a session on the provider or none, bound buffers, buckets."""
    session = open_session(folder, place, half=True)
    runner = GpuRunner(
        session,
        place.device_id,
        int(config.pad_token_id or 0),
        int(config.num_labels),
        plain=lambda: open_session(folder, place._replace(cuda_graphs=False)),
        most_rows=most_rows(place.token_budget) if place.provider == "tensorrt" else None,
    )
    runner.warm_up(place.token_budget, LONGEST)
    return Contestant(lambda batch: runner.run(batch.ids, batch.mask), AT_ONCE, lambda: runner.graphs)


def _torch(network: Any, *, compiled: bool) -> Contestant:
    import torch

    from export.bench.contestants import with_sdpa

    if not torch.cuda.is_available():
        raise DependencyError(f"torch {torch.__version__} here can use no GPU.")
    half = with_sdpa(network).half().to("cuda")
    call = torch.compile(half, dynamic=True) if compiled else half

    def run(batch: Batch) -> NDArray[np.float32]:
        mask = None if batch.mask.all() else torch.from_numpy(batch.mask).to("cuda")
        with torch.inference_mode():
            logits = call(input_ids=torch.from_numpy(batch.ids).to("cuda"), attention_mask=mask).logits
        return np.asarray(logits.float().cpu().numpy(), np.float32)

    return Contestant(run)


def _exact(session: Any, batch: Batch) -> NDArray[np.float32]:
    [logits] = session.run(None, {"input_ids": batch.ids, "attention_mask": batch.mask})
    return np.asarray(logits, np.float32)


def peak_model() -> bytes:
    """A graph of nothing but float16 matrix products."""
    from onnx import TensorProto, helper

    shape = [PEAK_SIZE, PEAK_SIZE]
    names = ["one", *(f"product{n}" for n in range(PEAK_PRODUCTS))]
    nodes = [helper.make_node("MatMul", [name, "other"], [out]) for name, out in pairwise(names)]
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name in ("one", "other")],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT16, shape)],
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return model


def _peak(place: Place) -> float:
    """Float16 matrix products, operations a second: the best of ten."""
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="reviewpulse-bench-") as folder:
        (Path(folder) / MODEL).write_bytes(peak_model())
        session = open_session(Path(folder), place._replace(cuda_graphs=False))
    if session.get_providers()[0] == CPU:
        raise DependencyError("There is no GPU that ONNX Runtime can use; this bench needs one.")
    normal = np.random.default_rng(1).standard_normal((PEAK_SIZE, PEAK_SIZE))
    value = (normal / PEAK_SIZE**0.5).astype(np.float16)  # so that products of products are as large
    on_device = partial(onnxruntime.OrtValue.ortvalue_from_numpy, value, "cuda", place.device_id)
    binding = session.io_binding()
    for name in ("one", "other"):
        binding.bind_ortvalue_input(name, on_device())
    binding.bind_ortvalue_output(session.get_outputs()[0].name, on_device())
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        best = max(best, 2 * PEAK_PRODUCTS * PEAK_SIZE**3 / (time.perf_counter() - start))
    return best


def _device(device_id: int) -> str:
    """What the driver calls the GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return f"GPU {device_id}"
    asked = [program, "--query-gpu=name", "--format=csv,noheader", f"--id={device_id}"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return said or f"GPU {device_id}"
