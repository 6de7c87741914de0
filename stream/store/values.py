"""What a product's hash in Redis holds.

Rules:
- ``total`` and ``current`` are read and written by every step. They are the first fields, so that Redis,
  which walks a listpack from its start, finds them at once however long the product's history is.
- ``current`` holds the bucket of each resolution that the product's newest event lies in. When a later event
  leaves one behind, it goes to its *slot*: a field whose name is the bucket's number modulo the number of
  slots. So the slots of a resolution are a ring, and nothing must be looked for or thrown away to make room.
- A slot says which *lap* of the ring it was written in. One of another lap is another bucket, of which a late
  event changes nothing: the later bucket keeps the slot.
- A value that is none is a ``DependencyError``: other programs may use the same Redis.
- Everything is little-endian. No value is longer than 64 bytes, up to which Redis keeps a hash as a listpack.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from stream.core.buckets import CODES, RESOLUTIONS, field
from stream.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOTAL = b"total"
CURRENT = b"current"
SLOTS_APART = 100
"""Between the first slots of two resolutions."""
LAPS = 65_536
"""A lap of the minutes' ring is 66 minutes, so the count of laps comes around after eight years."""

Sums = tuple[int, int, int, int]
"""Negative, neutral, positive, and the sum of sentiment in thousandths."""

_TOTAL = struct.Struct("<7d")
_CURRENT = struct.Struct("<3Id3Id3Id")
"""Counts of a bucket end at four billion: six hours of 199,000 events a second of one product."""
_TINY, _SMALL, _LARGE = struct.Struct("<H3Bh"), struct.Struct("<H3Hi"), struct.Struct("<H3Id")
_SHAPES = {shape.size: shape for shape in (_TINY, _SMALL, _LARGE)}
"""The least that holds a slot's sums: most buckets hold a few events."""


NO_VALUE = (struct.error, KeyError, ValueError, OverflowError)
"""What unpacking raises of a value that somebody else wrote: another length, sums that are no numbers."""


def _damaged(what: str, error: Exception) -> DependencyError:
    return DependencyError(
        f"What Redis holds of a product is no counter ({what}: {error}): something else wrote there; give it"
        " another REVIEWPULSE_NAMESPACE or database, and count again with `reviewpulse rebuild`."
    )


class Total(NamedTuple):
    """All-time figures of a product."""

    sums: Sums
    late: int
    first_event_ms: int
    last_event_ms: int


class Slot(NamedTuple):
    """Where a bucket lies once it is not current any more."""

    name: int
    lap: int


def unpack_total(packed: bytes) -> Total:
    """The field ``total``.

    >>> unpack_total(struct.pack("<7d", 3, 1, 6, 2_500, 1, 0, 60_000))
    Total(sums=(3, 1, 6, 2500), late=1, first_event_ms=0, last_event_ms=60000)
    """
    try:
        negative, neutral, positive, sentiment, late, first_ms, last_ms = map(int, _TOTAL.unpack(packed))
    except NO_VALUE as error:
        raise _damaged("total", error) from None
    return Total((negative, neutral, positive, sentiment), late, first_ms, last_ms)


def unpack_current(packed: bytes, last_event_ms: int) -> dict[int, Sums]:
    """The field ``current``: sums by bucket. A bucket may be empty.

    Args:
        packed: the value.
        last_event_ms: from ``total``; says which buckets they are.

    >>> unpack_current(struct.pack("<3Id3Id3Id", 1, 0, 0, -900, 2, 0, 0, -800, 2, 0, 1, 0), 60_000)
    {4: (1, 0, 0, -900), 1: (2, 0, 0, -800), 2: (2, 0, 1, 0)}
    """
    try:
        numbers = _CURRENT.unpack(packed)
        return {
            field(each, last_event_ms): (*numbers[4 * n : 4 * n + 3], int(numbers[4 * n + 3]))
            for n, each in enumerate(RESOLUTIONS)
        }
    except NO_VALUE as error:
        raise _damaged("current", error) from None


def slot_of(bucket: int) -> Slot:
    """Where a bucket lies once it is not current any more.

    >>> slot_of(field(RESOLUTIONS[0], 0)), slot_of(field(RESOLUTIONS[1], 27 * 3_600_000))
    (Slot(name=0, lap=0), Slot(name=101, lap=1))
    """
    index, code = divmod(bucket, CODES)
    lap, slot = divmod(index, RESOLUTIONS[code].slots)
    return Slot(code * SLOTS_APART + slot, lap % LAPS)


def unpack_slot(packed: bytes | None, lap: int) -> Sums | None:
    """A slot's sums, or None when it is empty or holds a bucket of another lap.

    >>> unpack_slot(struct.pack("<H3Bh", 7, 1, 0, 2, 800), lap=7), unpack_slot(bytes(12), lap=7)
    ((1, 0, 2, 800), None)
    """
    if packed is None:
        return None
    try:
        of_lap, negative, neutral, positive, sentiment = _SHAPES[len(packed)].unpack(packed)
        return (negative, neutral, positive, int(sentiment)) if of_lap == lap else None
    except NO_VALUE as error:
        raise _damaged("a slot", error) from None


def pack_slot(lap: int, sums: Sums) -> bytes:
    """A slot's value, in the least shape that holds it.

    >>> unpack_slot(pack_slot(7, (300, 0, 2, -800)), lap=7), len(pack_slot(7, (1, 0, 2, 800)))
    ((300, 0, 2, -800), 7)
    """
    *counts, sentiment = sums
    if max(counts) < 1 << 8 and -(1 << 15) <= sentiment < 1 << 15:
        return _TINY.pack(lap, *counts, sentiment)
    return (_SMALL if max(counts) < 1 << 16 else _LARGE).pack(lap, *counts, sentiment)


def merged(hashes: Iterable[Mapping[bytes, bytes]]) -> dict[bytes, bytes]:
    """The hash of several hashes' events together: what a reshard makes of the shards' fleets.

    Buckets that the ring of the newest event has no place for are left out: no window reaches them.
    """
    held = [(hash_, unpack_total(hash_[TOTAL])) for hash_ in hashes if TOTAL in hash_]
    if not held:
        return {}
    totals = [total for _, total in held]
    newest_ms = max(total.last_event_ms for total in totals)
    buckets: dict[int, list[int]] = {}
    for hash_, total in held:
        for bucket, counts in _buckets(hash_, total.last_event_ms).items():
            _accumulate(buckets.setdefault(bucket, [0, 0, 0, 0]), counts)
    sums = [sum(column) for column in zip(*(total.sums for total in totals), strict=True)]
    late = sum(total.late for total in totals)
    first_ms = min(total.first_event_ms for total in totals)
    current = [buckets.pop(field(each, newest_ms), [0, 0, 0, 0]) for each in RESOLUTIONS]
    made = {
        TOTAL: _TOTAL.pack(*sums, late, first_ms, newest_ms),
        CURRENT: _CURRENT.pack(*(number for each in current for number in each)),
    }
    for bucket in older_buckets(newest_ms):
        if bucket in buckets:
            slot = slot_of(bucket)
            negative, neutral, positive, sentiment = buckets[bucket]
            made[b"%d" % slot.name] = pack_slot(slot.lap, (negative, neutral, positive, sentiment))
    return made


def older_buckets(last_event_ms: int) -> list[int]:
    """The buckets that have a slot when the newest event is this one.

    >>> len(older_buckets(1_700_000_000_000))
    119
    """
    return [
        bucket
        for each in RESOLUTIONS
        for bucket in range(
            field(each, last_event_ms) - (each.slots - 1) * CODES, field(each, last_event_ms), CODES
        )
    ]


def _buckets(hash_: Mapping[bytes, bytes], last_event_ms: int) -> dict[int, Sums]:
    """Sums of every bucket that a hash holds."""
    found = unpack_current(hash_[CURRENT], last_event_ms)
    for bucket in older_buckets(last_event_ms):
        slot = slot_of(bucket)
        sums = unpack_slot(hash_.get(b"%d" % slot.name), slot.lap)
        if sums is not None:
            found[bucket] = sums
    return found


def _accumulate(sums: list[int], counts: Sums) -> None:
    for n in range(4):
        sums[n] += counts[n]
