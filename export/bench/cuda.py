"""The scorer on one NVIDIA GPU, float16: ``reviewpulse bench score --provider cuda``.

Rules:
- Two shapes of network, the shipped model's and BERT-base's, at lengths 32, 64, 128 and 384 and on the real
  spread of lengths; torch's fused attention in float16, and torch.compile, on the same batches of the same
  GPU.
- Sequences a second are of ids in host memory to logits in host memory: copies are in them, tokenising is
  not.
- The peak is that of float16 matrix products (8,192 cubed), measured in the same run.
- Contestants take turns; a warm-up turn of each shape is not counted.
- The provider in use is asserted: where CUDA cannot be used, there is one sentence and no figure.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from export.bench.score import random_network
from stream.core.batch import cut
from stream.errors import DependencyError
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from export.bench.texts import Texts

LENGTHS = (32, 64, 128, 384)
TOKENS = 32_768
"""Padded tokens in a batch: what a data-centre GPU wants at once."""

BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One network on batches of one kind; medians over the rounds."""

    network: str
    lengths: str
    sequences_per_s: float
    peak_share: float
    times_torch: float
    """Sequences a second over torch's, in the same round."""
    times_compiled: float | None
    """Over torch.compile's; None where it did not work."""
    largest_difference: float
    """Of a logit, to torch's."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All cases on one GPU."""

    device: str
    source: str
    peak_tflops: float
    cases: tuple[Case, ...]


class _Batch(NamedTuple):
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def run(*, checkpoint: Path | None, texts: Texts, rounds: int) -> Report:
    """Times everything.

    Args:
        checkpoint: the shipped network's weights; None: random ones.
        texts: whose lengths are the real spread.
        rounds: turns each contestant gets.

    Raises:
        DependencyError: there is no GPU that torch and ONNX Runtime can both use.
    """
    import torch

    if not torch.cuda.is_available():
        raise DependencyError(
            "There is no GPU that torch can use; this bench needs one. Without --provider cuda it measures"
            " the CPU."
        )
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(SHIPPED_BUNDLE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    lengths = np.array([len(each.ids) for each in tokenizer.encode_batch_fast(texts.texts)], np.int32)
    entries = tokenizer.get_vocab_size()
    peak = _peak(torch)
    cases = []
    for name, network in (
        ("shipped", _network(checkpoint, entries)),
        ("BERT-base", random_network(entries, **BASE)),
    ):
        with tempfile.TemporaryDirectory(prefix="reviewpulse-bench-") as folder:
            ours = _ours(network, Path(folder))
            plain, compiled = _torch(torch, network, compiled=False), _torch(torch, network, compiled=True)
            for label, batches in _courses(lengths, entries):
                cases.append(_case(network, name, label, batches, (ours, plain, compiled), peak, rounds))
    return Report(
        device=torch.cuda.get_device_name(),
        source=texts.source,
        peak_tflops=peak / 1e12,
        cases=tuple(cases),
    )


def show(report: Report) -> None:
    """Prints the report as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.device}, float16; real lengths: {report.source}")
    for heading in (
        "network",
        "length",
        "sequences/s",
        "of peak",
        "times torch",
        "times compiled",
        "difference",
    ):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for each in report.cases:
        compiled = "did not work" if each.times_compiled is None else f"{each.times_compiled:.2f}"
        table.add_row(
            each.network,
            each.lengths,
            f"{each.sequences_per_s:,.0f}",
            f"{each.peak_share:.2f}",
            f"{each.times_torch:.2f}",
            compiled,
            f"{each.largest_difference:.1e}",
        )
    console = Console()
    console.print(table)
    console.print(f"Peak: {report.peak_tflops:,.0f} TFLOP/s of float16 matrix products")


def _network(checkpoint: Path | None, entries: int) -> Any:
    if checkpoint is None:
        return random_network(entries)
    from models.checkpoint import load_network

    return load_network(checkpoint)


def _ours(network: Any, folder: Path) -> Callable[[_Batch], NDArray[np.float32]]:
    """Our path as a worker's: the fused graph, a session on CUDA or none, bound buffers, buckets."""
    from export.gpu_graph import fuse
    from export.onnx import export_onnx
    from stream.scorer.gpu import GpuRunner
    from stream.scorer.providers import Place, open_session

    config = network.config
    export_onnx(network, folder / "plain.onnx")
    fuse(
        folder / "plain.onnx",
        folder / "model.onnx",
        heads=config.num_attention_heads,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
    )
    session = open_session(folder, Place("cuda"))
    runner = GpuRunner(session, 0, int(config.pad_token_id or 0), int(config.num_labels))
    return lambda batch: runner.run(batch.ids, batch.mask)


def _torch(torch: Any, network: Any, *, compiled: bool) -> Callable[[_Batch], NDArray[np.float32]]:
    from export.bench.contestants import with_sdpa

    half = with_sdpa(network).half().to("cuda")
    call = torch.compile(half, dynamic=True) if compiled else half

    def run(batch: _Batch) -> NDArray[np.float32]:
        mask = None if batch.mask.all() else torch.from_numpy(batch.mask).to("cuda")
        with torch.inference_mode():
            logits = call(input_ids=torch.from_numpy(batch.ids).to("cuda"), attention_mask=mask).logits
        return np.asarray(logits.float().cpu().numpy(), np.float32)

    return run


def _courses(lengths: NDArray[np.int32], entries: int) -> list[tuple[str, list[_Batch]]]:
    """Batches of one length each, and those of the real spread."""
    chance = np.random.default_rng(7)

    def batch(of: NDArray[np.int32]) -> _Batch:
        mask = (np.arange(int(of.max())) < of[:, None]).astype(np.int64)
        return _Batch(chance.integers(5, entries, mask.shape) * mask, mask)

    alike = [
        (str(length), [batch(np.full(TOKENS // length, length, np.int32)) for _ in range(8)])
        for length in LENGTHS
    ]
    return [*alike, ("real", [batch(lengths[rows]) for rows in cut(lengths, TOKENS)])]


def _case(
    network: Any,
    name: str,
    label: str,
    batches: list[_Batch],
    contestants: tuple[Callable[[_Batch], NDArray[np.float32]], ...],
    peak: float,
    rounds: int,
) -> Case:
    ours, plain, compiled = contestants
    difference = max(float(np.abs(ours(batch) - plain(batch)).max()) for batch in batches)
    works = True
    try:
        for batch in batches:
            compiled(batch)
    except Exception:  # noqa: BLE001  # a compiler that is missing or gives up, in its own words
        works = False
    times: dict[str, list[float]] = {"ours": [], "torch": [], "compiled": []}
    for _ in range(rounds):
        for who, contestant in (("ours", ours), ("torch", plain), ("compiled", compiled)):
            if who == "compiled" and not works:
                continue
            start = time.perf_counter()
            for batch in batches:
                contestant(batch)
            times[who].append(time.perf_counter() - start)
    count = sum(len(batch.ids) for batch in batches)
    took = statistics.median(times["ours"])
    return Case(
        network=name,
        lengths=label,
        sequences_per_s=count / took,
        peak_share=sum(_flops(network.config, batch) for batch in batches) / took / peak,
        times_torch=_ratio(times["torch"], times["ours"]),
        times_compiled=_ratio(times["compiled"], times["ours"]) if works else None,
        largest_difference=difference,
    )


def _ratio(its: list[float], ours: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(its, ours, strict=True))


def _flops(config: Any, batch: _Batch) -> float:
    from export.bench.score import flops_of

    return flops_of(config, batch.mask.sum(axis=1))


def _peak(torch: Any) -> float:
    """Float16 matrix products, operations a second: the best of ten."""
    size = 8192
    one = torch.randn(size, size, dtype=torch.float16, device="cuda")
    best = 0.0
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(one, one)
        torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
