"""Batches on one GPU: few shapes, buffers that stay, captured graphs, copies beside computing.

Rules:
- A batch is padded to a bucket (``buckets.py``). Rows that fill a bucket are one token long, and their logits
  are dropped.
- Inputs are written into the bucket's buffers on the device, the logits are bound to another: nothing is
  allocated anew for a batch that has a shape seen before.
- ``run`` may be called from several threads at once (``AT_ONCE``, each with buffers of its own): one pads and
  copies while another's batch is computed.
- One thread of the process makes all runs, whichever bundle and thread they are for. ONNX Runtime keeps a
  captured CUDA graph with the thread that captured it; and a GPU gains nothing by two runs at once.
- Where the session has CUDA graphs, one is captured for a bucket's buffers when the bucket was warmed up or
  seen ``SEEN`` times, and replayed from then on: a run is one launch instead of some hundred. At most
  ``MOST_GRAPHS``; other buckets run as without.
- While a graph is captured no other thread may allocate, copy or wait on the GPU: CUDA would refuse that call
  and drop the capture. So copies and captures hold ``_COPYING``; and what loads a model holds
  ``providers.LOADING``, for which no capture waits: it is put off to the next batch of the bucket.
- A capture that fails is no error: the model is opened anew without graphs, once and for good, and the reason
  is logged.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import structlog

from stream.scorer.buckets import Bucket, bucket_of, full_buckets
from stream.scorer.providers import LOADING, captures

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

log = structlog.get_logger("scorer")

DEVICE = "cuda"

AT_ONCE = 2
"""Batches under way: one is computed while the next is padded and copied. More would only wait."""

SEEN = 3
"""Batches of a bucket after which it is captured: capturing costs two runs more."""

MOST_GRAPHS = 128
"""Captured graphs of a model, two for each bucket that is met twice at once: the 48 commonest buckets are
nine batches of ten (0016). A graph holds launches and no activations: those are in the arena, for all graphs
the same."""

GRAPH_ID = "gpu_graph_id"
"""ONNX Runtime's run option: which captured graph a run is; -1 is none."""

_COPYING = threading.Lock()

_runs = ThreadPoolExecutor(1, thread_name_prefix="gpu")


@dataclass
class _Buffers:
    """One batch of a bucket: where it lies on the device, and how it is run."""

    ids: Any
    mask: Any
    types: Any
    logits: Any
    session: Any = None
    """That the binding is of."""
    binding: Any = None
    options: Any = None
    """Of a run: its graph's number once it is captured."""


class GpuRunner:
    """Runs a session's model on one device.

    Args:
        session: on the CUDA or TensorRT provider; takes input_ids and attention_mask, and perhaps
            token_type_ids.
        device_id: the GPU that the session is on.
        pad_id: what is no token.
        columns: of the logits.
        plain: opens the same model without CUDA graphs; wanted where ``session`` has them.
        most_rows: of one run; a batch that has more is run in parts. None: any number.
    """

    def __init__(
        self,
        session: Any,
        device_id: int,
        pad_id: int,
        columns: int,
        *,
        plain: Callable[[], Any] | None = None,
        most_rows: int | None = None,
    ) -> None:
        self._session, self._device_id, self._pad_id, self._columns = session, device_id, pad_id, columns
        self._plain = plain if captures(session) else None
        self._most_rows = most_rows
        self._takes_types = "token_type_ids" in {each.name for each in session.get_inputs()}
        self._output = session.get_outputs()[0].name
        self._idle: dict[Bucket, list[_Buffers]] = {}
        self._lock = threading.Lock()  # of _idle
        self._seen: Counter[Bucket] = Counter()
        self._graphs = 0

    @property
    def buckets(self) -> frozenset[Bucket]:
        """Those that have buffers."""
        return frozenset(self._idle)

    @property
    def graphs(self) -> int:
        """CUDA graphs captured so far; 0 where the model runs without."""
        return self._graphs if self._plain else 0

    @property
    def provider(self) -> str:
        """The execution provider really in use."""
        return str(self._session.get_providers()[0])

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of a padded batch, shape (rows, columns)."""
        most = self._most_rows
        if most and len(ids) > most:
            starts = range(0, len(ids), most)
            return np.concatenate([self.run(ids[at : at + most], mask[at : at + most]) for at in starts])
        rows, length = ids.shape
        bucket = bucket_of(rows, length)
        wide_ids = np.full(bucket, self._pad_id, np.int64)
        wide_mask = np.zeros(bucket, np.int64)
        wide_mask[rows:, 0] = 1  # the mean of no token is no number
        wide_ids[:rows, :length] = ids
        wide_mask[:rows, :length] = mask
        buffers = self._taken(bucket)
        try:
            with _COPYING:
                buffers.ids.update_inplace(wide_ids)
                buffers.mask.update_inplace(wide_mask)
            _runs.submit(self._run, bucket, buffers).result()
            with _COPYING:
                [logits] = buffers.binding.copy_outputs_to_cpu()
            return np.asarray(logits[:rows], np.float32)
        finally:
            with self._lock:
                self._idle[bucket].append(buffers)

    def warm_up(self, token_budget: int, longest: int) -> None:
        """Runs a full batch of each length, the longest first, so that memory is sized once; captures them.

        Args:
            token_budget: most padded tokens a batch will have.
            longest: tokens of a row.
        """
        for bucket in full_buckets(token_budget, longest):
            if self._most_rows:
                bucket = bucket._replace(rows=min(bucket.rows, self._most_rows))  # noqa: PLW2901
            several = [self._taken(bucket) for _ in range(AT_ONCE if self._plain else 1)]
            for buffers in several:
                with _COPYING:
                    buffers.ids.update_inplace(np.full(bucket, self._pad_id, np.int64))
                    buffers.mask.update_inplace(np.ones(bucket, np.int64))
                _runs.submit(self._run, bucket, buffers, seen=SEEN).result()
            with self._lock:
                self._idle[bucket].extend(several)

    def _run(self, bucket: Bucket, buffers: _Buffers, seen: int = 1) -> None:
        """Computes what lies in ``buffers``; on the one thread that makes runs."""
        self._seen[bucket] += seen
        if buffers.session is not self._session:
            self._bind(buffers)
        is_captured = buffers.options is not None
        if self._plain and not is_captured:
            wanted = self._seen[bucket] >= SEEN and self._graphs < MOST_GRAPHS
            if wanted and self._capture(bucket, buffers):
                return
        # Without a number of its own, a run of a session with graphs would capture number 0.
        options = buffers.options or (_run_options(-1) if self._plain else None)
        self._session.run_with_iobinding(buffers.binding, options)

    def _capture(self, bucket: Bucket, buffers: _Buffers) -> bool:
        """Runs ``buffers`` and keeps the run as a graph; False: it was not run."""
        if not LOADING.acquire(blocking=False):
            return False  # another time
        try:
            options = _run_options(self._graphs + 1)
            with _COPYING:
                self._session.run_with_iobinding(buffers.binding, options)
        except Exception as error:  # noqa: BLE001  # its errors have no common base below Exception
            log.warning(
                "without_cuda_graphs",
                reason=f"capturing {bucket.rows} x {bucket.length} failed: {' '.join(str(error).split())}",
            )
            assert self._plain is not None
            self._session, self._plain = self._plain(), None
            self._bind(buffers)
            return False
        finally:
            LOADING.release()
        self._graphs += 1
        buffers.options = options
        return True

    def _taken(self, bucket: Bucket) -> _Buffers:
        with self._lock:
            idle = self._idle.setdefault(bucket, [])
            if idle:
                return idle.pop()
        with _COPYING:
            return self._made(bucket)

    def _made(self, bucket: Bucket) -> _Buffers:
        def on_device(kind: type, shape: tuple[int, ...]) -> Any:
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, kind), DEVICE, self._device_id)

        return _Buffers(
            ids=on_device(np.int64, bucket),
            mask=on_device(np.int64, bucket),
            types=on_device(np.int64, bucket) if self._takes_types else None,
            logits=on_device(np.float32, (bucket.rows, self._columns)),
        )

    def _bind(self, buffers: _Buffers) -> None:
        """Ties ``buffers`` to the session as it is now."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", buffers.ids)
        binding.bind_ortvalue_input("attention_mask", buffers.mask)
        if self._takes_types:
            binding.bind_ortvalue_input("token_type_ids", buffers.types)
        binding.bind_ortvalue_output(self._output, buffers.logits)
        buffers.session, buffers.binding, buffers.options = self._session, binding, None


def _run_options(graph: int) -> Any:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph))
    return options
