"""From settings to a scorer that is ready to score.

Rules:
- A bundle's checksums, and its signature where one is asked for, are verified before any of it is loaded.
- The constant scorer needs no bundle and imports no ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream import bundle
from stream.scorer.constant import ConstantScorer

if TYPE_CHECKING:
    from stream.bundle import Manifest
    from stream.scorer.contract import Scorer
    from stream.scorer.onnx import OnnxScorer
    from stream.settings import Settings


def load_scorer(settings: Settings) -> Scorer[Any]:
    """The scorer that ``settings`` ask for, loaded and warmed up.

    Raises:
        BundleError: the bundle is missing, incomplete, altered, or made for another version.
        DependencyError: a provider was demanded and cannot be used.
    """
    if settings.scorer == "constant":
        return ConstantScorer()
    manifest = bundle.verify(settings.bundle, settings.bundle_key)
    scorer = onnx_scorer(settings, manifest)
    scorer.warm_up(settings.token_budget)
    return scorer


def onnx_scorer(settings: Settings, manifest: Manifest) -> OnnxScorer:
    """The scorer of a verified bundle, where ``settings`` want it, not warmed up.

    Raises:
        BundleError: it cannot be loaded.
        DependencyError: a provider was demanded and cannot be used.
    """
    from stream.scorer.onnx import OnnxScorer  # noqa: PLC0415  # half a second and 60 MB

    return OnnxScorer(
        settings.bundle,
        manifest,
        provider=settings.provider,
        threads=settings.threads,
        device_id=settings.device_id,
        cuda_graphs=settings.cuda_graphs == "auto",
        engines=settings.tensorrt_cache,
        token_budget=settings.token_budget,
    )
