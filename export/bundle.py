"""Writes a bundle: model, tokenizer, manifest with checksums, model card.

Rules:
- A bundle folder is whole or absent: everything is written into a folder beside it, verified by serving's own
  code, checked for parity, then renamed into place.
- The version names the content: in it are the first hex digits of a checksum of all that a score depends on,
  the model, the tokenizer and the manifest's figures.
- Outside a tolerance nothing is written, unless it is forced; then manifest and card say so.
- Figures in the card are the manifest's, and the manifest's are measured, never typed.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from export.calibrate import FINE_SHARE, round_network
from export.cpu_graph import recast
from export.gpu_graph import fuse
from export.int8_graph import Int8
from export.kinds import check_fit, columns_of
from export.onnx import OPSET, export_onnx
from export.parity import Sample, beyond, measure
from export.precision import store
from models.trim import compact
from stream import bundle
from stream.errors import BundleError, DependencyError, UsageError
from stream.scorer.reference import reference_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from export.gpu_graph import Target
    from export.int8_graph import Product
    from export.storage import Compute, Storage
    from models.checkpoint import TrainingRecord
    from stream.core.events import Label
    from stream.core.reference import Reference
    from stream.scorer.onnx import OnnxScorer


NEUTRAL = {
    2: "undecided: the two are within the neutral band of each other",
    3: "neither, or as much of the one as of the other",
}
"""What neutral means, by the model's labels."""


class Exported(NamedTuple):
    """A finished bundle."""

    path: Path
    manifest: bundle.Manifest
    parity: bundle.ParityRecord
    """On the CPU; the manifest has every provider's."""
    size_bytes: int


def write_bundle(
    network: Any,
    tokenizer: Tokenizer,
    record: TrainingRecord,
    out: Path,
    *,
    parity_texts: Sequence[str] | Sample,
    storage: Storage = "float16",
    labels: Sequence[Label] | None = None,
    force: bool = False,
    target: Target = "cpu",
    packed: bool = False,
    tail_tokens: int = 0,
    calibrate: Sequence[str] | None = None,
    fine_share: float = FINE_SHARE,
) -> Exported:
    """Exports, checks and writes a bundle at ``out``; one that is there is replaced.

    Args:
        network: in evaluation mode, loaded with eager attention.
        tokenizer: its tokenizer, cutting at the record's ``max_length``.
        record: what training says of it.
        out: the bundle's folder.
        parity_texts: real texts to compare the checkpoint and the bundle on.
        storage: how large weights are stored.
        labels: of the checkpoint's columns, where it does not name them.
        force: whether a bundle is written that does not say what the checkpoint says.
        target: what the graph is made for: ``cpu`` runs anywhere and is quick on CPUs, ``cuda`` is fused and
            computed in float16, runs on NVIDIA GPUs alone, and is compared on one; ``tensorrt`` is plain, for
            TensorRT to fuse and compute in float16, and compared there.
        packed: whether its graph, for CUDA, takes the padding out.
        tail_tokens: of a text longer than the record's ``max_length``, how many of its last are read.
        calibrate: real texts, none of those compared on: the linear layers are computed in int8 then.
        fine_share: of their work, how much is done twice, finely: where rounding moves scores most.

    Raises:
        DependencyError: the target is ``cuda`` or ``tensorrt``, and cannot be used here to compare it.
        BundleError: the exported model does not say what the checkpoint says.
        UsageError: something that is no bundle stands at ``out``, or the checkpoint is of another kind, its
            labels are not ours, or its tokenizer is another network's.
    """
    sample = parity_texts if isinstance(parity_texts, Sample) else Sample.of(parity_texts)
    labels, columns = columns_of(network.config, labels)
    check_fit(network.config, tokenizer, record.max_length)
    if out.exists() and not (out / bundle.MANIFEST).is_file():
        raise UsageError(f"{out} exists and is not a bundle; name another folder with --out.")
    products: dict[str, Product] = {}
    if calibrate is not None:
        products = round_network(network, tokenizer, calibrate, fine_share=fine_share)
    computed: Compute = "float32" if calibrate is None else "int8"
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        arithmetic = Int8(products) if calibrate is not None else None
        _write_model(network, fresh / bundle.MODEL, storage, columns, target, arithmetic, packed=packed)
        (fresh / bundle.TOKENIZER).write_text(compact(tokenizer), encoding="utf-8")
        pad_id = int(network.config.pad_token_id or 0)
        manifest = _manifest(
            record,
            _precision(storage, computed, target, packed=packed),
            labels,
            pad_id=pad_id,
            tail_tokens=tail_tokens,
            folder=fresh,
            fine_products=tuple(name for name, each in products.items() if each.fine),
        )
        # The same tokens before checkpoint and bundle: what is read of a long text is no matter of parity.
        heads = msgspec.structs.replace(manifest, tail_tokens=0)
        found = measure(network, tokenizer, _scorers(fresh, heads, target), sample, columns=columns)
        forced = [why for each in found for why in beyond(each, storage, computed)]
        if forced and not force:
            raise BundleError(f"{' '.join(forced)} No bundle was written.")
        parity = found[0]
        manifest = msgspec.structs.replace(
            manifest,
            parity=tuple(found),
            forced=tuple(forced),
            reference=_reference(fresh, manifest, target, sample),
        )
        card = model_card(manifest, record, parity, architecture(network.config))
        (fresh / bundle.CARD).write_text(card, encoding="utf-8")
        files = {name: bundle.sha256(fresh / name) for name in bundle.REQUIRED}
        manifest = msgspec.structs.replace(manifest, files=files)
        bundle.write_manifest(fresh, manifest)
        bundle.verify(fresh)
        size = sum(file.stat().st_size for file in fresh.iterdir())
        _put_in_place(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Exported(out, manifest, parity, size)


def _write_model(
    network: Any,
    path: Path,
    storage: Storage,
    columns: Sequence[int],
    target: Target,
    arithmetic: Int8 | None,
    *,
    packed: bool,
) -> None:
    full = path.with_suffix(".float32")
    in_order = list(columns) == sorted(columns)
    export_onnx(network, full, columns=None if in_order else columns)
    if target == "tensorrt":
        full.rename(path)  # it fuses and rounds by itself, and knows none of ONNX Runtime's own operators
        return
    if target == "cuda":
        config = network.config
        fuse(
            full,
            path,
            heads=config.num_attention_heads,
            width=config.hidden_size,
            layers=config.num_hidden_layers,
            packed=packed,
        )
    else:
        store(full, path, storage)
        if not recast(path, path, arithmetic) and arithmetic:
            raise UsageError(
                "The checkpoint cannot be computed in int8: its graph is not that of a mean-pooled BERT whose"
                " columns are in our order; export it with --compute float32."
            )
    full.unlink()


def _precision(storage: Storage, computed: Compute, target: Target, *, packed: bool = False) -> str:
    """How weights are stored and computed with.

    >>> _precision("float16+int8-words", "int8", "cpu")
    'stored int8 and float16, computed int8, a scale for each row'
    """
    if target == "cuda":
        return f"stored and computed float16, {'packed, ' if packed else ''}for CUDA"
    if target == "tensorrt":
        return "stored float32, computed float16, for TensorRT"
    if computed == "float32":
        return f"stored {storage}, computed float32"
    others = "" if storage == "int8" else f" and {storage.removesuffix('+int8-words')}"
    return f"stored int8{others}, computed int8, a scale for each row"


def _manifest(
    record: TrainingRecord,
    precision: str,
    labels: tuple[Label, ...],
    *,
    pad_id: int,
    tail_tokens: int,
    folder: Path,
    fine_products: tuple[str, ...] = (),
) -> bundle.Manifest:
    made = bundle.Manifest(
        format=bundle.FORMAT,
        name=record.name,
        version="?",
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        languages=record.languages,
        labels=labels,
        label_meaning={
            "negative": "the customer is dissatisfied",
            "positive": "the customer is satisfied",
            "neutral": NEUTRAL[len(labels)],
        },
        max_length=record.max_length,
        tail_tokens=tail_tokens,
        pad_id=pad_id,
        temperature=record.temperature,
        neutral_band=record.neutral_band if len(labels) == 2 else 0.0,
        precision=precision,
        fine_products=fine_products,
        opset=OPSET,
        base_model=record.base_model,
        base_licence=record.base_licence,
        trained_on=record.trained_on,
        metrics=record.metrics,
        files={},
        libraries={"python": platform.python_version(), **_versions()},
    )
    return msgspec.structs.replace(made, version=f"{record.name}-{_content(made, folder)}")


def _content(manifest: bundle.Manifest, folder: Path) -> str:
    """Hex digits that change with whatever a score depends on."""
    files = [bundle.sha256(folder / name) for name in (bundle.MODEL, bundle.TOKENIZER)]
    figures = (
        manifest.labels,
        manifest.max_length,
        manifest.pad_id,
        manifest.temperature,
        manifest.neutral_band,
        *((manifest.tail_tokens,) if manifest.tail_tokens else ()),
    )
    return hashlib.sha256(msgspec.json.encode((files, figures))).hexdigest()[:8]


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "tokenizers", "onnx", "onnxruntime-gpu", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _scorers(folder: Path, manifest: bundle.Manifest, target: Target) -> list[OnnxScorer]:
    """The bundle on each execution provider that it is for and that can be used here, the CPU first."""
    from stream.scorer.onnx import OnnxScorer

    if target != "cpu":
        return [OnnxScorer(folder, manifest, provider=target)]
    scorers = [OnnxScorer(folder, manifest, provider="cpu")]
    with suppress(DependencyError):  # there is no GPU here; the manifest says where it was compared
        scorers.append(OnnxScorer(folder, manifest, provider="cuda"))
    return scorers


def _reference(folder: Path, manifest: bundle.Manifest, target: Target, sample: Sample) -> Reference:
    """What the texts of the parity look like as serving reads them, tails and all."""
    scorer = _scorers(folder, manifest, target)[0]
    return reference_of(scorer, sample.texts, f"the {len(sample.texts):,} texts of its export's parity")


def _put_in_place(fresh: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError as error:
        if old.exists():
            old.rename(out)
        raise BundleError(f"{out} cannot be written: {error}; the bundle that was there is kept.") from None
    shutil.rmtree(old, ignore_errors=True)


def architecture(config: Any) -> str:
    """What a network is, of its configuration: for the card.

    >>> from types import SimpleNamespace
    >>> architecture(SimpleNamespace(num_hidden_layers=6, hidden_size=384, vocab_size=16000, pooling="mean"))
    '6 layers of 384, 16,000 vocabulary entries, the mean of its token vectors'
    """
    pooled = {"mean": "the mean of its token vectors", "first": "its first token's vector"}
    parts = (
        f"{config.num_hidden_layers} layers of {config.hidden_size}",
        f"{config.vocab_size:,} vocabulary entries",
        pooled.get(getattr(config, "pooling", ""), "its architecture's own pooling"),
    )
    return ", ".join(parts)


def model_card(
    manifest: bundle.Manifest, record: TrainingRecord, parity: bundle.ParityRecord, network: str
) -> str:
    """The bundle's README.md.

    Args:
        manifest: the bundle's.
        record: what training says of it.
        parity: what comparing it with its checkpoint found.
        network: what it is, as ``architecture`` says it.
    """
    band = f"{manifest.neutral_band:.2f}"
    undecided = f"; a text is neutral where the two probabilities are\nwithin {band} of each other"
    sources = "\n".join(f"| {each.name} | {each.licence} | {each.rows:,} |" for each in manifest.trained_on)
    metrics = "\n".join(
        f"| {each.dataset} | {each.name} | {each.value:.3f} | "
        f"{each.interval[0]:.3f} to {each.interval[1]:.3f} | {each.rows:,} |"
        for each in manifest.metrics
    )
    caveats = "\n".join(f"- {each}" for each in record.caveats)

    compared = (
        f"{parity.texts:,} real texts of {parity.lengths[0]} to {parity.lengths[2]} tokens: the largest\n"
        f"difference in a probability is {parity.max_probability_difference:.1e}, the same label for"
        f" {parity.label_agreement:.2%}; batch mates\nmove a probability by {parity.batch_difference:.1e} at"
        f" most, padding by {parity.padding_difference:.1e}."
    )
    forced = ""
    if parity.accuracy and parity.calibration:
        (was, now), (error_was, error_now) = parity.accuracy, parity.calibration
        compared += (
            f" On the {parity.labelled:,} with a label, accuracy goes from {was:.4f} to {now:.4f}\nand the"
            f" calibration error from {error_was:.4f} to {error_now:.4f}."
        )
    if manifest.forced:
        forced = "\n**Its export was forced.** " + " ".join(manifest.forced) + "\n"

    def paragraph(text: str) -> str:
        return f"{text}\n\n" if text else ""

    return f"""# {manifest.version}

Sentiment of product reviews and customer chat lines; languages: {", ".join(manifest.languages)}.

## Intended use

Counting and watching customer opinion per product: shares over many texts, and alerts when they move.
Not for judging a single person, and not for texts other than customers' words on products and service.

## Model

Of {manifest.base_model} ({manifest.base_licence}): {network};
logits of {", ".join(manifest.labels)}.
It reads {_read(manifest)} of a text, a review's title first. Logits are divided by the
temperature {manifest.temperature:.3f}{undecided if len(manifest.labels) == 2 else ""}.
Weights: {manifest.precision}; ONNX opset {manifest.opset}.{_integers(manifest)}

## Training data

| set | licence | samples |
|---|---|---|
{sources}

{paragraph(record.training_note)}## Figures

{paragraph(record.metrics_note)}Intervals are 95%, by bootstrap over texts.

| set | figure | value | 95% interval | texts |
|---|---|---|---|---|
{metrics}

Against the PyTorch checkpoint, on {compared}
{forced}
## Where it fails

{caveats}
"""


def _integers(manifest: bundle.Manifest) -> str:
    if not manifest.computes_int8:
        return ""
    said = " It is for CPUs; on x86 it needs VNNI."
    if manifest.fine_products:
        said += f"\nWith activations of 16 bits: {', '.join(manifest.fine_products)}."
    return said


def _read(manifest: bundle.Manifest) -> str:
    if not manifest.tail_tokens:
        return f"the first {manifest.max_length} tokens"
    first = manifest.max_length - manifest.tail_tokens
    return f"{manifest.max_length} tokens, the first {first} and the last {manifest.tail_tokens},"
