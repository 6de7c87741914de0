"""Hashes of counters put together: what a reshard makes of the shards' fleets."""

from __future__ import annotations

import struct

import pytest
from builders import NOW_MS, product_hash, read_product_hash

from stream.core.buckets import DAY_MS, HOUR_MS, MINUTE_MS, RESOLUTIONS, field
from stream.errors import DependencyError
from stream.store.values import (
    CURRENT,
    TOTAL,
    Sums,
    Total,
    merged,
    unpack_current,
    unpack_slot,
    unpack_total,
)

MINUTE, HOUR, QUARTER = RESOLUTIONS


def hash_of(last_ms: int, sums: Sums, buckets: dict[int, Sums], *, late: int = 0) -> dict[bytes, bytes]:
    total = Total(sums, late, last_ms - DAY_MS, last_ms)
    return {name.encode(): value for name, value in product_hash(total, buckets).items()}


def test_buckets_of_the_same_time_are_added_wherever_they_lie() -> None:
    now, before = field(MINUTE, NOW_MS), field(MINUTE, NOW_MS - MINUTE_MS)
    ahead = hash_of(NOW_MS, (1, 0, 2, 700), {now: (1, 0, 0, -900), before: (0, 0, 2, 1_600)}, late=1)
    # Its newest event is a minute older, so what is in a slot of the first is current in this one.
    behind = hash_of(NOW_MS - MINUTE_MS, (300, 5, 0, -99_000), {before: (300, 5, 0, -99_000)}, late=2)
    total, buckets = read_product_hash(merged([ahead, behind]))
    assert total == Total((301, 5, 2, -98_300), 3, NOW_MS - DAY_MS - MINUTE_MS, NOW_MS)
    assert buckets == {now: (1, 0, 0, -900), before: (300, 5, 2, -97_400)}


def test_what_no_window_of_the_newest_event_reaches_is_left_out() -> None:
    old_ms = NOW_MS - 2 * HOUR_MS
    old = hash_of(
        old_ms,
        (4, 0, 0, -400),
        {field(MINUTE, old_ms): (4, 0, 0, -400), field(HOUR, old_ms): (4, 0, 0, -400)},
    )
    new = hash_of(NOW_MS, (1, 0, 0, -9), {field(QUARTER, NOW_MS): (1, 0, 0, -9)})
    total, buckets = read_product_hash(merged([old, new]))
    assert total.sums == (5, 0, 0, -409)
    assert buckets == {field(HOUR, old_ms): (4, 0, 0, -400), field(QUARTER, NOW_MS): (1, 0, 0, -9)}


def test_one_hash_stays_what_it_is() -> None:
    one = hash_of(NOW_MS, (70_000, 1, 0, -5), {field(HOUR, NOW_MS - HOUR_MS): (70_000, 1, 0, -5)})
    assert read_product_hash(merged([one, {}])) == read_product_hash(one)


def test_shards_without_events_make_nothing() -> None:
    assert merged([{}, {}]) == {}


def test_the_fields_that_steps_read_come_first() -> None:
    one = hash_of(NOW_MS, (1, 0, 0, -9), {field(MINUTE, NOW_MS - MINUTE_MS): (1, 0, 0, -9)})
    assert list(merged([one]))[:2] == [TOTAL, CURRENT]


def test_what_another_program_wrote_is_no_counter_and_is_told() -> None:
    nan = float("nan")
    with pytest.raises(DependencyError, match=r"no counter \(total: .*give it another REVIEWPULSE_NAMESPACE"):
        unpack_total(b"nine")
    with pytest.raises(DependencyError, match=r"no counter \(total: cannot convert float NaN"):
        unpack_total(struct.pack("<7d", *[nan] * 7))
    with pytest.raises(DependencyError, match=r"no counter \(current: "):
        unpack_current(b"", 0)
    with pytest.raises(DependencyError, match=r"no counter \(a slot: "):
        unpack_slot(b"x", 1)
