"""An inference session on the execution provider that was asked for, or one sentence why not.

Rules:
- The provider that was asked for is the one in use, or loading fails. ONNX Runtime itself only logs a line
  and falls back, and lists CUDA and TensorRT as available where their libraries cannot be loaded. Of
  TensorRT, that it is in the session says nothing: it must have taken nodes.
- ``auto`` is CUDA where it works, else the CPU. TensorRT is for those who ask for it: it builds its engine
  for minutes when a bundle is first loaded.
- CUDA graphs are an option of the session. A model that cannot have them (control flow, nodes on the CPU) is
  opened without, and the reason is logged.
- While a session is made, memory is taken from the GPU, which would break a capture going on in another
  thread: both hold ``LOADING`` (``gpu.py``).

Why these session options:
- One thread a run: ``onnx.py`` runs as many at once as there are cores.
- Memory patterns are cached per input shape, and batches come in hundreds of shapes: off. CUDA graphs want it
  so, too. The arena stays on.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import re
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple

import onnxruntime
import structlog

from stream.bundle import MODEL
from stream.errors import BundleError, DependencyError
from stream.scorer.buckets import LENGTHS, most_rows
from stream.scorer.integers import require_exact

log = structlog.get_logger("scorer")

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

FATAL = 4
ERROR = 3
"""ONNX Runtime's log severities."""

NO_DRIVER = "no NVIDIA driver was found"

LOADING = threading.RLock()
"""Held while a session is made, and while a CUDA graph is captured."""

RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
"""Has a session say which provider took which nodes."""


class Place(NamedTuple):
    """Where a model is to run."""

    provider: Provider = "auto"
    device_id: int = 0
    """The GPU, where there are several."""
    cuda_graphs: bool = True
    """Whether shapes that repeat are captured, on the CUDA provider."""
    engines: Path | None = None
    """Folder in which TensorRT keeps engines and timings; None: one beside temporary files."""
    token_budget: int = 16_384
    """Most padded tokens in a batch: TensorRT plans its engine for it."""


def open_session(path: Path, place: Place, *, computes_int8: bool = False, half: bool = False) -> Any:
    """An inference session on the provider asked for.

    Args:
        path: the bundle's folder.
        place: where.
        computes_int8: whether its linear layers are products of integers.
        half: whether TensorRT may compute in float16.

    Raises:
        BundleError: the model cannot be loaded.
        DependencyError: a provider was demanded and cannot be used, or int8 cannot be computed with.
    """
    provider = place.provider
    if computes_int8:
        if provider in {"cuda", "tensorrt"}:
            raise DependencyError(
                f"{_NAMES[provider]} was demanded (provider {provider}) and {path} computes in int8, which is"
                " for CPUs: use --provider auto or cpu, or export it with --target cuda."
            )
        require_exact()
        provider = "cpu"
    if provider == "tensorrt":
        return _on_tensorrt(path, place, half=half)
    if provider != "cpu" and CUDA in _available() and _has_nvidia_driver():
        return _on_cuda(path, place)
    if provider == "cuda":
        raise _missing("cuda", NO_DRIVER if CUDA in _available() else "this build lacks it")
    return _opened(path, [CPU])


def captures(session: Any) -> bool:
    """Whether CUDA graphs are on in ``session``."""
    options = session.get_provider_options().get(CUDA, {})
    return bool(options.get("enable_cuda_graph") == "1" and session.get_providers()[0] == CUDA)


def cuda_options(place: Place, *, graphs: bool) -> dict[str, str]:
    """Of ONNX Runtime's CUDA provider."""
    # TF32 would shift scores by 1e-3 between providers.
    options = {"use_tf32": "0", "device_id": str(place.device_id)}
    return options | {"enable_cuda_graph": "1"} if graphs else options


def tensorrt_options(place: Place, *, half: bool) -> dict[str, str]:
    """Of ONNX Runtime's TensorRT provider.

    One profile holds every bucket, from a short text alone to the longest and most that a batch may have:
    ONNX Runtime builds several profiles, but its context stays on the first one.

    >>> options = tensorrt_options(Place(token_budget=1024, engines=Path("e")), half=True)
    >>> options["trt_profile_min_shapes"], options["trt_profile_max_shapes"]
    ('input_ids:1x16,attention_mask:1x16', 'input_ids:16x512,attention_mask:16x512')
    """
    typical = 128
    shapes = {
        "min": (1, LENGTHS[0]),
        "opt": (max(place.token_budget // typical, 1), typical),
        "max": (most_rows(place.token_budget), LENGTHS[-1]),
    }
    folder = str(place.engines or Path(tempfile.gettempdir()) / "reviewpulse-engines")
    profile = {
        f"trt_profile_{which}_shapes": ",".join(
            f"{name}:{rows}x{length}" for name in ("input_ids", "attention_mask")
        )
        for which, (rows, length) in shapes.items()
    }
    return profile | {
        "device_id": str(place.device_id),
        "trt_fp16_enable": "1" if half else "0",
        "trt_layer_norm_fp32_fallback": "1" if half else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }


def _on_cuda(path: Path, place: Place) -> Any:
    """A session on CUDA, with CUDA graphs where they are wanted and the model can have them."""
    session = None
    if place.cuda_graphs:
        try:
            session = _opened(path, [(CUDA, cuda_options(place, graphs=True)), CPU])
        except BundleError as error:  # where the model is at fault, it is again without graphs
            log.warning("without_cuda_graphs", bundle=str(path), reason=str(error))
    if session is None:
        session = _opened(path, [(CUDA, cuda_options(place, graphs=False)), CPU])
    if place.provider == "cuda" and session.get_providers()[0] != CUDA:
        raise _missing("cuda", "its CUDA or cuDNN libraries could not be loaded")
    return session


def _on_tensorrt(path: Path, place: Place, *, half: bool) -> Any:
    if TENSORRT not in _available():
        raise _missing("tensorrt", "this build lacks it")
    if not _has_nvidia_driver():
        raise _missing("tensorrt", NO_DRIVER)
    with contextlib.suppress(ImportError, OSError):  # its libraries that pip brought are on no search path
        importlib.import_module("tensorrt_libs")
    options = tensorrt_options(place, half=half)
    try:
        Path(options["trt_engine_cache_path"]).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _missing("tensorrt", f"its engines cannot be kept: {error}") from None
    cuda = (CUDA, cuda_options(place, graphs=False))
    session = _opened(path, [(TENSORRT, options), cuda, CPU], record=True)
    if session.get_providers()[0] != TENSORRT:
        raise _missing("tensorrt", "its libraries (libnvinfer 10, CUDA, cuDNN) could not be loaded")
    shares = session.get_provider_graph_assignment_info()
    # What TensorRT fused is one node; anything beside it would run elsewhere, and copy to and fro.
    others = sorted(
        {node.op_type for each in shares if each.ep_name != TENSORRT for node in each.get_nodes()}
    )
    if others or not shares:
        raise DependencyError(
            f"TensorRT was demanded (provider tensorrt) and does not take all of {path}"
            f"{': ' + ', '.join(others[:8]) if others else ''}. Export it with --target tensorrt, or use"
            " --provider cuda."
        )
    return session


def _opened(path: Path, providers: list[Any], *, record: bool = False) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = ERROR
    if record:
        options.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    with LOADING:
        # What a provider that cannot load prints to stderr is said better elsewhere.
        onnxruntime.set_default_logger_severity(FATAL)
        try:
            if len(providers) > 1:
                with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find
                    onnxruntime.preload_dlls()
            return onnxruntime.InferenceSession(
                str(path / MODEL), options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # noqa: BLE001  # its errors have no common base below Exception
            raise BundleError(_why_not_loaded(path / MODEL, error)) from None
        finally:
            onnxruntime.set_default_logger_severity(ERROR)


def _why_not_loaded(file: Path, error: Exception) -> str:
    said = " ".join(str(error).split())
    newer = re.search(r"(Opset|IR version):? (\d+) is under development|model (IR version): (\d+)", said)
    if newer:
        what, number = [each for each in newer.groups() if each]
        return (
            f"{file} is of ONNX {what.replace('Opset', 'opset')} {number}, which is too new for ONNX Runtime"
            f" {onnxruntime.__version__}: install a newer one, or export the bundle with this version of"
            " Reviewpulse."
        )
    return f"{file} cannot be loaded by ONNX Runtime: {said}"


def _available() -> list[str]:
    return list(onnxruntime.get_available_providers())


def _has_nvidia_driver() -> bool:
    """Whether the driver's library can be loaded: without it, CUDA cannot be used at all."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


_NAMES = {"cuda": "CUDA", "tensorrt": "TensorRT"}
_NEEDS = {"cuda": "CUDA 13 and cuDNN 9", "tensorrt": "CUDA 13, cuDNN 9 and TensorRT 10"}


def _missing(provider: Literal["cuda", "tensorrt"], reason: str) -> DependencyError:
    return DependencyError(
        f"{_NAMES[provider]} was demanded (provider {provider}) and cannot be used: {reason}. ONNX Runtime "
        f"{onnxruntime.__version__} here has {', '.join(_available())}; onnxruntime-gpu 1.31 needs "
        f"an NVIDIA driver, {_NEEDS[provider]}. Install them, or use --provider auto or cpu."
    )
