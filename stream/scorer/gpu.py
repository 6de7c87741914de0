"""Batches on one GPU: few shapes, buffers that stay.

Rules:
- A batch is padded to a bucket: rows and length are each rounded up to one of a few numbers, so that shapes
  repeat, buffers are made once for each, and the arena stands still. Rows that fill a bucket are one token
  long, and their logits are dropped.
- Inputs are written into the bucket's buffers on the device, the logits are bound to another: nothing is
  allocated or pinned anew for a batch that has a shape seen before.
- One stream, one thread: batches are asked for one at a time.
- The largest bucket is run first (``OnnxScorer.warm_up``), so that memory is sized once.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Multiples of 16, which float16 tensor cores want; a third of padding at most, a sixth in the mean."""

STEPS = 4
"""Row numbers between two powers of two, evenly: 8, 10, 12, 14, 16, 20, ...; an eighth of padding in the
mean."""

DEVICE = "cuda"


class Bucket(NamedTuple):
    """The shape that a batch is padded to."""

    rows: int
    length: int


class _Buffers(NamedTuple):
    ids: Any
    mask: Any
    binding: Any


def bucket_of(rows: int, length: int) -> Bucket:
    """The least bucket that holds a batch.

    >>> bucket_of(9, 100), bucket_of(3, 16), bucket_of(65, 700)
    (Bucket(rows=10, length=128), Bucket(rows=3, length=16), Bucket(rows=80, length=704))
    """
    place = bisect_left(LENGTHS, length)
    long = LENGTHS[place] if place < len(LENGTHS) else -(-length // 16) * 16
    if rows <= 8:
        return Bucket(rows, long)
    step = (1 << ((rows - 1).bit_length() - 1)) // STEPS
    return Bucket(-(-rows // step) * step, long)


class GpuRunner:
    """Runs a session's model on one device.

    Args:
        session: on the CUDA provider; takes input_ids and attention_mask, and perhaps token_type_ids.
        device_id: the GPU that the session is on.
        pad_id: what is no token.
        columns: of the logits.
    """

    def __init__(self, session: Any, device_id: int, pad_id: int, columns: int) -> None:
        self._session, self._device_id, self._pad_id, self._columns = session, device_id, pad_id, columns
        self._takes_types = "token_type_ids" in {each.name for each in session.get_inputs()}
        self._output = session.get_outputs()[0].name
        self._of: dict[Bucket, _Buffers] = {}

    @property
    def buckets(self) -> frozenset[Bucket]:
        """Those that have buffers."""
        return frozenset(self._of)

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of a padded batch, shape (rows, columns)."""
        rows, length = ids.shape
        bucket = bucket_of(rows, length)
        buffers = self._of.get(bucket)
        if buffers is None:
            buffers = self._of[bucket] = self._made(bucket)
        wide_ids = np.full(bucket, self._pad_id, np.int64)
        wide_mask = np.zeros(bucket, np.int64)
        wide_mask[rows:, 0] = 1  # the mean of no token is no number
        wide_ids[:rows, :length] = ids
        wide_mask[:rows, :length] = mask
        buffers.ids.update_inplace(wide_ids)
        buffers.mask.update_inplace(wide_mask)
        self._session.run_with_iobinding(buffers.binding)
        [logits] = buffers.binding.copy_outputs_to_cpu()
        return np.asarray(logits[:rows], np.float32)

    def _made(self, bucket: Bucket) -> _Buffers:
        def on_device(kind: type, shape: tuple[int, ...]) -> Any:
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, kind), DEVICE, self._device_id)

        ids, mask = on_device(np.int64, bucket), on_device(np.int64, bucket)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("input_ids", ids)
        binding.bind_ortvalue_input("attention_mask", mask)
        if self._takes_types:
            binding.bind_ortvalue_input("token_type_ids", on_device(np.int64, bucket))
        binding.bind_ortvalue_output(self._output, on_device(np.float32, (bucket.rows, self._columns)))
        return _Buffers(ids, mask, binding)
