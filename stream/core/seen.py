"""Which events a partition counted lately: a repeated event id is counted once.

Rules:
- A producer that sends an event again sends it for the same product, so with the same key, so to the same
  partition. Each partition therefore remembers its own events, and nobody else's.
- An event is a *duplicate* when one with the same product and id was counted in its *segment* of
  ``SEGMENT_OFFSETS`` offsets or in one of the ``kept`` segments before. The rule goes by offsets alone, so
  the same log has the same duplicates, however it was cut into batches and whoever read it.
- Only what was counted is remembered: a dead letter that is sent again has its chance.
- An event is remembered by a 64-bit fingerprint. Two different ones look alike with a chance of 5e-20, so
  that one of ``n`` remembered events hides a new one with a chance of n * 5e-20: with a million remembered,
  one event in 20 trillion is wrongly taken for a duplicate.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from stream.core.segments import SEGMENT_OFFSETS, segments_in_reach

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream.core.decode import Event

FINGERPRINT_BYTES = 8
EMPTY = np.uint64(0)
LEAST_SLOTS = 1024


def fingerprints(events: Sequence[Event]) -> NDArray[np.uint64]:
    """What each event is remembered by: BLAKE2b of its product and id.

    Returns:
        (events,), none of them 0.
    """
    digests = [
        blake2b(f"{event.product_id}\0{event.event_id}".encode(), digest_size=FINGERPRINT_BYTES).digest()
        for event in events
    ]
    return np.maximum(from_bytes(b"".join(digests)), 1)


def from_bytes(stored: bytes) -> NDArray[np.uint64]:
    """Fingerprints as they were stored, end to end.

    >>> from_bytes(to_bytes(np.array([7, 8], np.uint64))).tolist()
    [7, 8]
    """
    return np.frombuffer(stored, "<u8").astype(np.uint64, copy=False)


def to_bytes(values: NDArray[np.uint64]) -> bytes:
    """Fingerprints as they are stored."""
    return values.astype("<u8", copy=False).tobytes()


class FingerprintSet:
    """A set of fingerprints that is asked about and added to by the batch.

    An open-addressing hash table with linear probing (Knuth, TAOCP 3, 6.4), at most half full. A Python set
    would take ten times the memory.
    """

    def __init__(self) -> None:
        self._slots = np.zeros(LEAST_SLOTS, np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def contains(self, values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of ``values`` (n,) are in it. May run in one thread while another adds."""
        slots = self._slots  # a table that grows is replaced
        found = np.zeros(len(values), np.bool_)
        asking = np.arange(len(values))
        places = _home(values, slots)
        while len(asking):
            there = slots[places]
            hit = there == values[asking]
            found[asking[hit]] = True
            go_on = ~hit & (there != EMPTY)
            asking, places = asking[go_on], _next(places[go_on], slots)
        return found

    def add(self, values: NDArray[np.uint64]) -> None:
        """Adds ``values`` (n,): all different, none of them in it, none of them 0."""
        if 2 * (self._used + len(values)) > len(self._slots):
            self._grow(self._used + len(values))
        _insert(self._slots, values)
        self._used += len(values)

    def _grow(self, needed: int) -> None:
        slots = np.zeros(1 << (2 * needed).bit_length(), np.uint64)
        _insert(slots, self._slots[self._slots != EMPTY])
        self._slots = slots


def _home(values: NDArray[np.uint64], slots: NDArray[np.uint64]) -> NDArray[np.intp]:
    return (values & np.uint64(len(slots) - 1)).astype(np.intp)


def _next(places: NDArray[np.intp], slots: NDArray[np.uint64]) -> NDArray[np.intp]:
    following: NDArray[np.intp] = (places + 1) & (len(slots) - 1)
    return following


def _insert(slots: NDArray[np.uint64], values: NDArray[np.uint64]) -> None:
    places = _home(values, slots)
    while len(values):
        free = slots[places] == EMPTY
        slots[places[free]] = values[free]  # of several that want one slot, the last has it
        out = slots[places] != values
        values, places = values[out], _next(places[out], slots)


class Seen:
    """What one partition remembers.

    Args:
        kept: segments remembered beside the one that is being written.
        stored: fingerprints by segment, as a store gives them.

    >>> seen = Seen(kept=1)
    >>> seen.admit(np.array([10, 11, 12]), np.array([7, 8, 7], np.uint64)).tolist()
    [True, True, False]
    >>> seen.known(np.array([13, 4 * SEGMENT_OFFSETS]), np.array([8, 8], np.uint64)).tolist()
    [True, False]
    """

    def __init__(self, kept: int, stored: Mapping[int, bytes] | None = None) -> None:
        self.kept = kept
        self._segments: dict[int, FingerprintSet] = {}
        for segment, packed in (stored or {}).items():
            self._segment(segment).add(np.unique(from_bytes(packed)))

    def known(self, offsets: NDArray[np.int64], values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which events are duplicates of what is remembered already.

        Args:
            offsets: (n,), ascending.
            values: (n,), their fingerprints.
        """
        known = np.zeros(len(values), np.bool_)
        for segment, rows in _by_segment(offsets):
            known[rows] = self._in_reach(segment, values[rows])
        return known

    def admit(self, offsets: NDArray[np.int64], values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which events are no duplicates, neither of what is remembered nor of each other. Remembers those.

        Args:
            offsets: (n,), ascending, beyond all that were admitted before.
            values: (n,), their fingerprints.
        """
        admitted = np.zeros(len(values), np.bool_)
        for segment, rows in _by_segment(offsets):
            here = values[rows]
            new = ~self._in_reach(segment, here)
            _, first = np.unique(here, return_index=True)
            once = np.zeros(len(here), np.bool_)
            once[first] = True
            new &= once
            self._segment(segment).add(here[new])
            admitted[rows] = new
            self._forget(before=segment - self.kept)
        return admitted

    def _in_reach(self, segment: int, values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        known = np.zeros(len(values), np.bool_)
        for number, fingerprints_there in list(self._segments.items()):
            if segment - self.kept <= number <= segment:
                known |= fingerprints_there.contains(values)
        return known

    def _segment(self, segment: int) -> FingerprintSet:
        return self._segments.setdefault(segment, FingerprintSet())

    def _forget(self, before: int) -> None:
        for segment in [segment for segment in self._segments if segment < before]:
            del self._segments[segment]


def _by_segment(offsets: NDArray[np.int64]) -> Iterable[tuple[int, slice]]:
    """Segments of ascending offsets, each with the rows that lie in it."""
    if not len(offsets):
        return []
    segments = offsets // SEGMENT_OFFSETS
    starts = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(offsets)]
    return [(int(segments[first]), slice(first, last)) for first, last in pairwise(starts)]


def packed_by_segment(
    offsets: NDArray[np.int64], values: NDArray[np.uint64], last: int, kept: int
) -> list[tuple[int, bytes]]:
    r"""Fingerprints to store by the segment of their offset, of the segments in reach after ``last``.

    >>> packed_by_segment(np.array([1, SEGMENT_OFFSETS]), np.array([7, 8], np.uint64), SEGMENT_OFFSETS, 0)
    [(1, b'\x08\x00\x00\x00\x00\x00\x00\x00')]
    """
    in_reach = segments_in_reach(last, kept)
    return [
        (segment, to_bytes(values[rows])) for segment, rows in _by_segment(offsets) if segment in in_reach
    ]
