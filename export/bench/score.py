"""Reviews a second of the scorer beside what a user could pick instead: ``reviewpulse bench score``.

Rules:
- One run, rounds of turns, the same texts and as many threads for each: a machine that slows down slows all
  of them. Ratios are of one round; what is printed is the median of the rounds.
- CPU time is beside wall time: on a machine that others use, too, it is what remains comparable.
- The floor is the time that the useful tokens' matrix products alone would take at the machine's best rate
  for them, measured in the same round: the best of PyTorch's (MKL) and ONNX Runtime's (MLAS), with each of
  the network's products alone, hot, at several numbers of rows. Attention is counted at each text's own
  length; padding, norms, GELU and tokenising are not work.
- Each runs in a process of its own: CTranslate2's OpenMP beside torch's makes torch a quarter slower, and
  ONNX Runtime's threads that wait for work take the cores from whoever is next.
- All run one network; the largest difference of a probability to PyTorch's is in the report, so none is
  quick by computing something else.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from export.bench import contestants
from export.bench.contestants import Course
from export.bench.parts import Parts, operator_seconds, parts_of, products_feeds, products_graph
from stream import bundle
from stream.core.batch import cut
from stream.errors import DependencyError
from stream.scorer.contract import score_encoded
from stream.scorer.onnx import BATCH_COST, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from export.bench.contestants import Said
    from stream.scorer.onnx import OnnxScorer

OURS = "reviewpulse"
OURS_INT8 = "reviewpulse int8"
OURS_TOO = "reviewpulse, the bundle"
TORCH = "torch sdpa, sorted"
PIPELINE = "transformers pipeline, arrival"
PLAIN = "ONNX Runtime plain, arrival"
CT2 = "CTranslate2 float32, sorted"
CT2_INT8 = "CTranslate2 int8, sorted"
OPENVINO = "OpenVINO, sorted"

PEERS: dict[str, tuple[str, Callable[[Course], Callable[[Sequence[str]], Said]]]] = {
    TORCH: ("torch", contestants.torch_sdpa),
    PIPELINE: ("transformers", contestants.pipeline),
    PLAIN: ("onnxruntime", contestants.plain_onnx),
    CT2: ("ctranslate2", lambda course: contestants.ctranslate2(course, "float32")),
    CT2_INT8: ("ctranslate2", lambda course: contestants.ctranslate2(course, "int8")),
    OPENVINO: ("openvino", contestants.openvino),
}
"""Beside ours: the package each needs, and how it is made ready."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What one contestant did; medians over the rounds."""

    name: str
    reviews_per_s: float
    cpu_ms_per_review: float
    useful_share: float
    """Of the tokens it computed, those of a text."""
    peak_share: float
    """The floor over its time."""
    ours_times: float
    """Our reviews a second over its, in the same round."""
    ours_times_cpu: float
    """Its CPU time over ours, in the same round."""
    largest_difference: float
    """Of a probability, to PyTorch's."""
    label_agreement: float
    """Share of texts with PyTorch's label."""


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How late an event loop's timer was while the scorer ran at full load beside it, in ms."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    ticks: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    model: str
    texts: int
    source: str
    tokens_mean: float
    tokens_p50: float
    tokens_max: int
    threads: int
    token_budget: int
    rounds: int
    load: tuple[float, float]
    """The machine's load average before and after: above the cores' number, others computed, too."""
    peak_gflops: float
    """float32 matrix products, median over the rounds."""
    contestants: tuple[Speed, ...]
    missing: tuple[str, ...]
    lag: Lag
    parts: Parts
    """Of ours, on one thread."""


class Turn(msgspec.Struct, frozen=True):
    """One pass over the texts."""

    wall_s: float
    cpu_s: float


def run(
    texts: Sequence[str],
    source: str,
    *,
    checkpoint: Path,
    rounds: int,
    threads: int,
    token_budget: int,
    max_length: int,
    only: Sequence[str] = (),
    beside: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Times every contestant on ``texts``.

    Args:
        texts: at least one.
        source: where they are from, for the report.
        checkpoint: whose weights all run.
        rounds: turns each gets.
        threads: of each; 0: the cores there are.
        token_budget: padded tokens in a sorted batch.
        max_length: tokens read of a text.
        only: names of peers (part of them suffices); empty: all.
        beside: a bundle of the same checkpoint that runs, too: one that computes in int8, say.
        tell: hears what is going on.
    """
    import torch

    threads = threads or usable_cores()
    torch.set_num_threads(threads)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="reviewpulse-bench-") as folder, ExitStack() as stack:
        tell("preparing the network")
        ground = Ground(checkpoint, threads, token_budget, max_length, beside)
        course = ground.course(Path(folder))
        scorer = contestants.exported(course)
        scorer.warm_up(token_budget)
        names = [OURS]
        if beside:
            names.append(OURS_INT8 if bundle.verify(beside).computes_int8 else OURS_TOO)
        missing = []
        for name, (package, _) in PEERS.items():
            if only and not any(each in name for each in only):
                continue
            if find_spec(package) is None:
                missing.append(f"{name}: {package} is not installed")
                continue
            names.append(name)
        runners: dict[str, Callable[[Sequence[str]], tuple[Said, Turn]]] = {}
        for name in names:
            tell(f"preparing {name}")
            runners[name] = stack.enter_context(apart(name, ground))
        peak = _peak_of(course)
        lengths = scorer.encode(texts).lengths
        said = {name: run(texts[:ARM_TEXTS])[0] for name, run in runners.items()}  # warm, untimed
        turns: dict[str, list[Turn]] = {name: [] for name in runners}
        peaks: list[float] = []
        for number in range(rounds):
            peaks.append(peak())
            for name, contestant in runners.items():
                tell(f"round {number + 1} of {rounds}: {name}")
                said[name], turn = contestant(texts)
                turns[name].append(turn)
        tell("event loop lag")
        lag = asyncio.run(measure_lag(scorer, texts, token_budget))
        tell("where the time goes")
        parts = _parts(course, texts)
        reference = said.get(TORCH, said[OURS]).positive
        flops = flops_of(course.network.config, lengths)
        speeds = [
            _speed(name, turns[name], turns[OURS], said[name], reference, lengths, flops, peaks)
            for name in runners
        ]
    return Report(
        model=f"Weights of {checkpoint}",
        texts=len(texts),
        source=source,
        tokens_mean=float(lengths.mean()),
        tokens_p50=float(np.median(lengths)),
        tokens_max=int(lengths.max()),
        threads=threads,
        token_budget=token_budget,
        rounds=rounds,
        load=(round(load_before, 1), round(os.getloadavg()[0], 1)),
        peak_gflops=statistics.median(peaks) / 1e9,
        contestants=tuple(speeds),
        missing=tuple(missing),
        lag=lag,
        parts=parts,
    )


ARM_TEXTS = 64
"""Texts that each contestant scores before the first round."""


class Ground(NamedTuple):
    """What a contestant's process needs to know to run on the course."""

    checkpoint: Path
    threads: int
    token_budget: int
    max_length: int
    beside: Path | None

    def course(self, folder: Path) -> Course:
        """The same in every process."""
        from models.checkpoint import load_checkpoint

        network, tokenizer = load_checkpoint(self.checkpoint, self.max_length)
        return Course(
            network=network,
            tokenizer=tokenizer,
            folder=folder,
            threads=self.threads,
            token_budget=self.token_budget,
            max_length=self.max_length,
            labels=int(network.config.num_labels),
        )

    def contestant(self, name: str, course: Course) -> Callable[[Sequence[str]], Said]:
        """Makes one ready."""
        if name in PEERS:
            return PEERS[name][1](course)
        if name == OURS:
            return contestants.ours(contestants.exported(course), self.token_budget)
        assert self.beside is not None
        return contestants.ours(contestants.of_bundle(course, self.beside), self.token_budget)


@contextmanager
def apart(name: str, ground: Ground) -> Iterator[Callable[[Sequence[str]], tuple[Said, Turn]]]:
    """A contestant in a process of its own; yields what has it score texts.

    Raises:
        DependencyError: it failed; what it said is on standard error.
    """
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=serve, args=(there, name, ground), daemon=True)
    process.start()
    there.close()

    def run(texts: Sequence[str]) -> tuple[Said, Turn]:
        here.send(list(texts))
        said, turn = answer()
        return said, turn

    def answer() -> Any:
        try:
            return here.recv()
        except EOFError:
            raise DependencyError(f"{name} failed: what it said is above.") from None

    try:
        answer()
        yield run
    finally:
        here.close()
        process.join(10)
        process.kill()


def serve(connection: Connection, name: str, ground: Ground) -> None:
    """A contestant's process: scores what comes until the other side hangs up."""
    import torch

    torch.set_num_threads(ground.threads)
    with tempfile.TemporaryDirectory(prefix="reviewpulse-bench-") as folder, suppress(EOFError):
        contestant = ground.contestant(name, ground.course(Path(folder)))
        connection.send("ready")
        while True:
            texts = connection.recv()
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            said = contestant(texts)
            connection.send((said, Turn(time.perf_counter() - wall_s, time.process_time() - cpu_s)))


def _speed(
    name: str,
    its: list[Turn],
    ours: list[Turn],
    said: Said,
    reference: NDArray[np.float32],
    lengths: NDArray[np.int32],
    flops: float,
    peaks: list[float],
) -> Speed:
    n = len(lengths)
    return Speed(
        name=name,
        reviews_per_s=statistics.median(n / turn.wall_s for turn in its),
        cpu_ms_per_review=statistics.median(1000 * turn.cpu_s / n for turn in its),
        useful_share=float(lengths.sum()) / said.padded_tokens,
        peak_share=statistics.median(
            flops / peak / turn.wall_s for peak, turn in zip(peaks, its, strict=True)
        ),
        ours_times=statistics.median(turn.wall_s / our.wall_s for our, turn in zip(ours, its, strict=True)),
        ours_times_cpu=statistics.median(turn.cpu_s / our.cpu_s for our, turn in zip(ours, its, strict=True)),
        largest_difference=float(np.abs(said.positive - reference).max()),
        label_agreement=float(((said.positive > 0.5) == (reference > 0.5)).mean()),
    )


def flops_of(config: Any, lengths: NDArray[Any]) -> float:
    """Floating-point operations of the matrix products that texts of ``lengths`` need, without padding.

    Args:
        config: a BERT's.
        lengths: tokens of each text.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    tokens = lengths.astype(np.float64)
    linear = 2 * (4 * width * width + 2 * width * inner) * tokens
    attention = 2 * 2 * width * tokens**2
    return float(layers * (linear + attention).sum())


def _parts(course: Course, texts: Sequence[str]) -> Parts:
    """Ours, profiled on one thread, between two measurements of what that thread can do."""
    import torch

    encoded = [each.ids for each in course.tokenizer.encode_batch_fast(list(texts))]
    lengths = np.array([len(each) for each in encoded], np.int32)
    pad_id = int(course.network.config.pad_token_id or 0)
    batches = []
    for rows in cut(lengths, course.token_budget, batch_cost=BATCH_COST):
        ids, mask = contestants.padded([encoded[row] for row in rows], pad_id)
        batches.append({"input_ids": ids, "attention_mask": mask})
    torch.set_num_threads(1)
    try:
        peak = _peak_of(course._replace(threads=1))
        before = peak()
        seconds = operator_seconds(course.folder / "bundle" / bundle.MODEL, course.folder, batches)
        hot_s = _hot_seconds(course, [each["input_ids"].shape for each in batches])
        best = max(before, peak())
    finally:
        torch.set_num_threads(course.threads)
    return parts_of(
        seconds, hot_s, tokens=int(lengths.sum()), flops=flops_of(course.network.config, lengths), peak=best
    )


def _hot_seconds(course: Course, shapes: Sequence[tuple[int, ...]]) -> float:
    """What the products of all layers take alone, on one thread, for batches of ``shapes``."""
    config = course.network.config
    sizes = {
        "width": config.hidden_size,
        "inner": config.intermediate_size,
        "heads": config.num_attention_heads,
    }
    model = course.folder / "products.onnx"
    products_graph(model, **sizes)
    feeds = (products_feeds(batch, length, **sizes) for batch, length in shapes)  # large: one at a time
    return float(config.num_hidden_layers * sum(operator_seconds(model, course.folder, feeds).values()))


PEAK_ROWS = (64, 128, 384, 512)
"""Tokens in the products whose best rate is the peak."""

PEAK_FLOPS = 5_000_000_000
"""Of a measurement, each thread: some tens of milliseconds."""


def _peak_of(course: Course) -> Callable[[], float]:
    """What measures the machine's best rate of float32 matrix products, operations a second."""
    import onnx
    import onnxruntime
    import torch
    from onnx import TensorProto, helper, numpy_helper

    config = course.network.config
    width, inner = config.hidden_size, config.intermediate_size
    chance = np.random.default_rng(7)
    square = torch.from_numpy(chance.random((2048, 2048), np.float32))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def product(rows: int, inputs: int, outputs: int) -> tuple[Any, NDArray[np.float32], int]:
        """One layer's, alone: a session, what it is given, its operations."""
        weight = numpy_helper.from_array(chance.random((inputs, outputs), np.float32), "weight")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["tokens", "weight"], ["out"])],
            "product",
            [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [rows, inputs])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [rows, outputs])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session, chance.random((rows, inputs), np.float32), 2 * rows * inputs * outputs

    # A processor's best number of rows depends on its caches.
    products = [
        product(rows, *sizes)
        for rows in PEAK_ROWS
        for sizes in ((width, inner), (inner, width), (width, width))
    ]

    def lane(session: Any, tokens: NDArray[np.float32], times: int) -> None:
        binding = session.io_binding()
        binding.bind_cpu_input("tokens", tokens)
        binding.bind_output("out", "cpu")
        for _ in range(times):
            session.run_with_iobinding(binding)

    def torch_rate() -> float:
        start = time.perf_counter()
        torch.mm(square, square)
        return 2 * 2048**3 / (time.perf_counter() - start)

    def lanes_rate(pool: ThreadPoolExecutor, session: Any, tokens: NDArray[np.float32], flops: int) -> float:
        times = min(-(-PEAK_FLOPS // flops), 256)
        start = time.perf_counter()
        running = [pool.submit(lane, session, tokens, times) for _ in range(course.threads)]
        for each in running:
            each.result()
        return float(course.threads * times * flops / (time.perf_counter() - start))

    def peak() -> float:
        with ThreadPoolExecutor(course.threads) as pool:
            return max(
                rate
                for _ in range(5)
                for rate in (torch_rate(), *(lanes_rate(pool, *each) for each in products))
            )

    return peak


async def measure_lag(scorer: OnnxScorer, texts: Sequence[str], token_budget: int) -> Lag:
    """How late a timer of 2 ms is while windows are tokenised and scored beside the loop, as in a worker."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    done = asyncio.Event()

    async def tick() -> None:
        while not done.is_set():
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            late.append(max(loop.time() - due, 0) * 1000)

    ticking = asyncio.create_task(tick())
    with ThreadPoolExecutor(1) as encoding, ThreadPoolExecutor(1) as scoring:

        def score(encoded: Any) -> None:
            score_encoded(scorer, encoded, token_budget=token_budget)

        window = max(len(texts) // 4, 1)
        waiting: asyncio.Future[None] | None = None
        for at in range(0, len(texts), window):
            encoded = await loop.run_in_executor(encoding, scorer.encode, list(texts[at : at + window]))
            if waiting:
                await waiting
            waiting = loop.run_in_executor(scoring, score, encoded)
        if waiting:
            await waiting
    done.set()
    await ticking
    return Lag(
        p50_ms=float(np.percentile(late, 50)),
        p99_ms=float(np.percentile(late, 99)),
        worst_ms=max(late),
        ticks=len(late),
    )
