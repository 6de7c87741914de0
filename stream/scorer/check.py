"""Whether a bundle can be scored with, and what two bundles make of the same texts: what `bundle` prints.

Rules:
- It is loaded as a worker loads it; what is wrong is one sentence, and the checks after it are not tried.
- A score depends on its text alone: each text of ``TEXTS`` is scored alone, among others, and beside padding.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream import bundle
from stream.core.shadow import Comparison
from stream.errors import BundleError, DependencyError
from stream.scorer.contract import score_encoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.scorer.contract import Scorer
    from stream.settings import Settings

TEXTS = (
    "Great sound, easy to set up, and it arrived early. I would buy it again.",
    "It broke after two days and nobody answers.",
    "质量很好。物流很快。下次还会再买。",
    "太差了。用了一次就坏了。客服也不理人。",
    "ok",
    "The battery lasts long enough, but the lid does not close well. " * 40,
    "😀 5/5!!",
)
INVARIANCE = 1e-5
"""Most a probability may depend on batch mates and padding: float32 rounding, nothing else."""


class Check(NamedTuple):
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Check]:
    """Checks the bundle of ``settings``, on the provider that they ask for."""
    checks = []
    try:
        manifest = bundle.verify(settings.bundle, settings.bundle_key)
        checks.append(Check("files", True, f"{len(manifest.files)} files have the checksums of the manifest"))
        if settings.bundle_key is not None:
            checks.append(Check("signature", True, f"the manifest is signed for {settings.bundle_key}"))
        from stream.scorer.load import onnx_scorer  # noqa: PLC0415  # half a second and 60 MB

        scorer = onnx_scorer(settings, manifest)
    except (BundleError, DependencyError) as error:
        return [*checks, Check("loads" if checks else "files", False, str(error))]
    labels = ", ".join(manifest.labels)
    checks.append(Check("loads", True, f"opset {manifest.opset} on {scorer.provider}; labels {labels}"))
    encoded = scorer.encode(TEXTS)
    found = scorer.score(encoded, np.arange(len(TEXTS)))  # the longest pads all others
    if not np.isfinite(found).all():
        return [*checks, Check("scores", False, "its probabilities are not finite")]
    alone = np.concatenate([scored(scorer, [text]) for text in TEXTS])
    difference = float(np.abs(found - alone).max())
    said = f"batch mates and padding move a probability by {difference:.1e} at most"
    return [*checks, Check("scores", difference <= INVARIANCE, f"{said}; {INVARIANCE:g} is allowed")]


def scored(scorer: Scorer[Any], texts: Sequence[str]) -> NDArray[np.float32]:
    """Probabilities of ``texts``, in batches of the usual size, shape (n, 3)."""
    return score_encoded(scorer, scorer.encode(texts), token_budget=1024)


def compare(a: Path, b: Path, texts: Sequence[str]) -> Comparison:
    """What two bundles make of the same texts, at least one.

    Raises:
        BundleError: one of them cannot be used.
    """
    from stream.scorer.load import load_scorer  # noqa: PLC0415  # half a second and 60 MB
    from stream.settings import load  # noqa: PLC0415  # only here

    seconds, found, labels = [], [], []
    for folder in (a, b):
        scorer = load_scorer(load(bundle=folder))
        started = time.perf_counter()
        found.append(scored(scorer, texts))
        seconds.append(time.perf_counter() - started)
        labels.append(scorer.label(found[-1]))
    return Comparison(
        texts=len(texts),
        agreed=int((labels[0] == labels[1]).sum()),
        negative=float(found[0][:, 0].sum()),
        candidate_negative=float(found[1][:, 0].sum()),
        confidence=float(found[0].max(axis=1).sum()),
        candidate_confidence=float(found[1].max(axis=1).sum()),
        timed=len(texts),
        seconds=seconds[0],
        candidate_seconds=seconds[1],
    )
