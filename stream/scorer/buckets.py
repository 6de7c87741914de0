"""The few shapes that batches are padded to on a GPU.

Rules:
- Rows and length are each rounded up to one of a few numbers, so that shapes repeat: buffers are made once
  for each, CUDA graphs can be captured, and the arena stands still.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from stream.core.batch import Rounding

LENGTHS = (16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
"""Multiples of 8, which float16 tensor cores want; a third of padding at most, a tenth in the mean."""

STEPS = 4
"""Row numbers between two powers of two, evenly: 8, 10, 12, 14, 16, 20, ... A cut that knows them ends its
batches there."""

MOST_ROWS = 4096
"""Of a batch that is cut for a GPU."""

SHORT = 64
"""Tokens of a row, on average, in the batch with the most rows that TensorRT is planned for."""


class Bucket(NamedTuple):
    """The shape that a batch is padded to."""

    rows: int
    length: int


def rounding(longest: int) -> Rounding:
    """What ``bucket_of`` makes of every length up to ``longest`` and number of rows, for the cut."""
    return Rounding(
        np.array([0, *(bucket_of(1, each).length for each in range(1, longest + 1))], np.int32),
        np.array([0, *(bucket_of(each, 1).rows for each in range(1, MOST_ROWS + 1))], np.int32),
    )


def bucket_of(rows: int, length: int) -> Bucket:
    """The least bucket that holds a batch.

    >>> bucket_of(9, 100), bucket_of(3, 16), bucket_of(65, 700)
    (Bucket(rows=10, length=112), Bucket(rows=3, length=16), Bucket(rows=80, length=704))
    """
    place = bisect_left(LENGTHS, length)
    long = LENGTHS[place] if place < len(LENGTHS) else -(-length // 16) * 16
    if rows <= 8:
        return Bucket(rows, long)
    step = (1 << ((rows - 1).bit_length() - 1)) // STEPS
    return Bucket(-(-rows // step) * step, long)


def most_rows(token_budget: int) -> int:
    """Rows of a batch on TensorRT, which plans memory for them at the greatest length; more are split.

    >>> most_rows(16_384), most_rows(64)
    (256, 8)
    """
    return max(bucket_of(max(token_budget // SHORT, 1), LENGTHS[0]).rows, 8)


def full_buckets(token_budget: int, longest: int) -> list[Bucket]:
    """Of each length up to ``longest``, the bucket of a batch that is as full as it may be; longest first.

    >>> full_buckets(1024, 30)
    [Bucket(rows=32, length=32), Bucket(rows=40, length=24), Bucket(rows=64, length=16)]
    """
    last = bucket_of(1, longest).length
    lengths = sorted({last, *(each for each in LENGTHS if each < last)}, reverse=True)
    return [Bucket(_whole(max(token_budget // each, 1)), each) for each in lengths]


def _whole(rows: int) -> int:
    """The most rows up to ``rows`` that are a bucket's."""
    return next(each for each in range(rows, 0, -1) if bucket_of(each, 1).rows == each)
