"""What texts look like to a model: the reference that a bundle's manifest keeps for the metrics of drift.

Rules:
- The same features as the worker's, of the same encoding and the same calibrated probabilities.
- It says of a model's texts what they are; the version stays, for no score depends on it.
- Written into a finished bundle, it replaces the manifest in one step; its checksum, by which promotions name
  a bundle, is another one then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stream import bundle
from stream.core.drift import LEAST_TEXTS, reference
from stream.core.language import languages
from stream.errors import UsageError
from stream.scorer.contract import score_encoded, unknown_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream.core.reference import Reference
    from stream.scorer.contract import Scorer

TOKEN_BUDGET = 1024


def reference_of(scorer: Scorer[Any], texts: Sequence[str], name: str) -> Reference:
    """The reference that these texts are.

    Args:
        scorer: the bundle's.
        texts: at least one.
        name: what they are, for people.
    """
    encoded = scorer.encode(texts)
    lengths = encoded.lengths.astype(np.float64)
    unknown = unknown_tokens(scorer, encoded)
    found = {
        "length": lengths,
        "unknown": np.zeros(len(texts)) if unknown is None else unknown / np.maximum(lengths, 1),
        "language": languages(texts).astype(np.float64),
        "score": score_encoded(scorer, encoded, token_budget=TOKEN_BUDGET)[:, 0].astype(np.float64),
    }
    return reference(name, found)


def write_reference(folder: Path, scorer: Scorer[Any], texts: Sequence[str], name: str) -> Reference:
    """Puts a reference into a bundle's manifest, in place of the one there.

    Raises:
        UsageError: there are too few texts.
        BundleError: there is no usable bundle.
        OSError: its folder cannot be written to.
    """
    if len(texts) < LEAST_TEXTS:
        raise UsageError(f"{len(texts):,} texts are too few to compare with: give {LEAST_TEXTS:,} at least.")
    made = reference_of(scorer, texts, name)
    manifest = msgspec.structs.replace(bundle.load_manifest(folder), reference=made)
    bundle.write_manifest(folder, manifest)
    return made
