"""Writes a bundle: model, tokenizer, manifest with checksums, model card.

Rules:
- A bundle folder is whole or absent: everything is written into a folder beside it, verified by serving's own
  code, checked for parity, then renamed into place.
- The version names the content: the first hex digits of the model's checksum are in it.
- Figures in the card are the manifest's, and the manifest's are measured, never typed.
"""

from __future__ import annotations

import json
import platform
import shutil
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from export.onnx import OPSET, export_onnx
from export.parity import Parity, check_parity
from export.precision import store_half
from stream import bundle
from stream.errors import BundleError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from models.checkpoint import TrainingRecord
    from models.network import ReviewClassifier
    from stream.scorer.onnx import OnnxScorer


class Exported(NamedTuple):
    """A finished bundle."""

    path: Path
    manifest: bundle.Manifest
    parity: Parity
    size_bytes: int


def write_bundle(
    network: ReviewClassifier,
    tokenizer: Tokenizer,
    record: TrainingRecord,
    out: Path,
    *,
    parity_texts: Sequence[str],
    half: bool = True,
) -> Exported:
    """Exports, checks and writes a bundle at ``out``; one that is there is replaced.

    Args:
        network: in evaluation mode, loaded with eager attention.
        tokenizer: its tokenizer, cutting at the record's ``max_length``.
        record: what training says of it.
        out: the bundle's folder.
        parity_texts: real texts to compare the checkpoint and the bundle on.
        half: whether large weights are stored as float16.

    Raises:
        BundleError: the exported model does not say what the checkpoint says.
        UsageError: something that is no bundle stands at ``out``.
    """
    if out.exists() and not (out / bundle.MANIFEST).is_file():
        raise UsageError(f"{out} exists and is not a bundle; name another folder with --out.")
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        stored = _write_model(network, fresh / bundle.MODEL, half=half)
        _write_tokenizer(tokenizer, fresh / bundle.TOKENIZER)
        manifest = _manifest(record, stored, pad_id=int(network.config.pad_token_id), folder=fresh)
        parity = check_parity(network, tokenizer, _scorer(fresh, manifest), parity_texts, stored=stored)
        (fresh / bundle.CARD).write_text(model_card(manifest, record, parity), encoding="utf-8")
        files = {name: bundle.sha256(fresh / name) for name in bundle.REQUIRED}
        manifest = msgspec.structs.replace(manifest, files=files)
        (fresh / bundle.MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        bundle.verify(fresh)
        size = sum(file.stat().st_size for file in fresh.iterdir())
        _put_in_place(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Exported(out, manifest, parity, size)


def _write_model(network: ReviewClassifier, path: Path, *, half: bool) -> str:
    """Writes the model; returns how its weights are stored."""
    if not half:
        export_onnx(network, path)
        return "float32"
    full = path.with_suffix(".float32")
    export_onnx(network, full)
    store_half(full, path)
    full.unlink()
    return "float16"


def _write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Truncation and padding are the scorer's, by the manifest."""
    stated = json.loads(tokenizer.to_str())
    stated["truncation"] = stated["padding"] = None
    path.write_text(json.dumps(stated, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def _manifest(record: TrainingRecord, stored: str, *, pad_id: int, folder: Path) -> bundle.Manifest:
    content = bundle.sha256(folder / bundle.MODEL)[:8]
    return bundle.Manifest(
        format=bundle.FORMAT,
        name=record.name,
        version=f"{record.name}-{content}",
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        languages=record.languages,
        labels=("negative", "positive"),
        label_meaning={
            "negative": "the customer is dissatisfied",
            "positive": "the customer is satisfied",
            "neutral": "undecided: the two are within the neutral band of each other",
        },
        max_length=record.max_length,
        pad_id=pad_id,
        temperature=record.temperature,
        neutral_band=record.neutral_band,
        precision=f"stored {stored}, computed float32",
        opset=OPSET,
        base_model=record.base_model,
        base_licence=record.base_licence,
        trained_on=record.trained_on,
        metrics=record.metrics,
        files={},
        libraries={"python": platform.python_version(), **_versions()},
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "tokenizers", "onnx", "onnxruntime-gpu", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _scorer(folder: Path, manifest: bundle.Manifest) -> OnnxScorer:
    from stream.scorer.onnx import OnnxScorer

    return OnnxScorer(folder, manifest, provider="cpu")


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


def model_card(manifest: bundle.Manifest, record: TrainingRecord, parity: Parity) -> str:
    """The bundle's README.md."""
    sources = "\n".join(f"| {each.name} | {each.licence} | {each.rows:,} |" for each in manifest.trained_on)
    metrics = "\n".join(
        f"| {each.dataset} | {each.name} | {each.value:.3f} | "
        f"{each.interval[0]:.3f} to {each.interval[1]:.3f} | {each.rows:,} |"
        for each in manifest.metrics
    )
    caveats = "\n".join(f"- {each}" for each in record.caveats)
    return f"""# {manifest.version}

Sentiment of product reviews and customer chat lines; languages: {", ".join(manifest.languages)}.

## Intended use

Counting and watching customer opinion per product: shares over many texts, and alerts when they move.
Not for judging a single person, and not for texts other than customers' words on products and service.

## Model

{manifest.base_model} ({manifest.base_licence}), its vocabulary trimmed to what reviews use; the mean of
its token vectors; one linear layer with the columns {" and ".join(manifest.labels)}. It reads the first
{manifest.max_length} tokens of a text, a review's title first. Logits are divided by the temperature
{manifest.temperature:.3f}; a text is neutral where the two probabilities are within
{manifest.neutral_band:.2f} of each other.
Weights: {manifest.precision}; ONNX opset {manifest.opset}.

## Training data

| set | licence | samples |
|---|---|---|
{sources}

Samples are sentences, and runs of neighbouring sentences of one review, with soft targets.

## Figures

Whole reviews with star ratings (1-2 negative, 4-5 positive, 3 left out), title and text; 95% bootstrap
intervals. None of these sets was trained or calibrated on. `held_out` is of the training sets' own reviews,
kept aside to choose the epoch and the temperature, so its figures flatter.

| set | figure | value | 95% interval | texts |
|---|---|---|---|---|
{metrics}

Against the PyTorch checkpoint, on {parity.texts:,} real texts: the largest difference in a probability is
{parity.max_probability_difference:.1e}, the same label for {parity.label_agreement:.2%}; batch mates move a
probability by {parity.batch_difference:.1e} at most.

## Where it fails

{caveats}
"""
