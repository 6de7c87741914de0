"""Segments of a partition's offsets: what ``stream.core.seen`` remembers and forgets as one."""

from __future__ import annotations

SEGMENT_OFFSETS = 131_072
"""Remembered and forgotten as one: a megabyte of fingerprints in Redis, two in the worker."""

DEFAULT_SEGMENTS_KEPT = 2
MOST_SEGMENTS_KEPT = 64
"""Beside the one that is written: eight million offsets."""


def segment_of(offset: int) -> int:
    """The segment an offset lies in.

    >>> segment_of(131_071), segment_of(131_072)
    (0, 1)
    """
    return offset // SEGMENT_OFFSETS


def segments_in_reach(offset: int, kept: int) -> range:
    """The segments that an event at ``offset`` is compared with.

    >>> segments_in_reach(3 * SEGMENT_OFFSETS, kept=2)
    range(1, 4)
    """
    segment = segment_of(offset)
    return range(max(segment - kept, 0), segment + 1)


def segments_out_of_reach(base: int, last: int, kept: int) -> list[int]:
    """The segments that no event after ``last`` is compared with, but one after ``base`` was.

    >>> segments_out_of_reach(SEGMENT_OFFSETS, 2 * SEGMENT_OFFSETS, kept=1)
    [0]
    """
    if segment_of(base) == segment_of(last):
        return []
    reach = segments_in_reach(last, kept)
    return [segment for segment in segments_in_reach(max(base, 0), kept) if segment < reach.start]
