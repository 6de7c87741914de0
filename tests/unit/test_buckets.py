from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.buckets import (
    CODES,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    RESOLUTIONS,
    WINDOWS,
    Resolution,
    field,
    fields_for,
    is_expired,
    window_fields,
)
from stream.store.values import slot_of

NOW_MS = 1_700_000_000_000
SKEW_MS = 5 * MINUTE_MS
TIMES = st.integers(0, 4_000_000_000_000)
AGES = st.integers(-SKEW_MS, 9 * DAY_MS)


def bounds(bucket_field: int) -> tuple[int, int]:
    """From and to (exclusive), in ms."""
    width = RESOLUTIONS[bucket_field % CODES].width_ms
    start = bucket_field // CODES * width
    return start, start + width


@given(TIMES)
def test_a_bucket_holds_its_event(event_ms: int) -> None:
    for resolution in RESOLUTIONS:
        start, end = bounds(field(resolution, event_ms))
        assert start <= event_ms < end


@given(TIMES)
def test_an_event_that_arrives_at_once_is_counted_at_every_resolution(event_ms: int) -> None:
    assert fields_for(event_ms, event_ms) == tuple(field(each, event_ms) for each in RESOLUTIONS)


@given(TIMES, AGES)
def test_an_event_is_counted_where_its_bucket_is_retained(arrival_ms: int, age_ms: int) -> None:
    event_ms = max(0, arrival_ms - age_ms)
    wanted = [field(each, event_ms) for each in RESOLUTIONS]
    assert list(fields_for(event_ms, arrival_ms)) == [
        each for each in wanted if not is_expired(each, arrival_ms)
    ]


@pytest.mark.parametrize(
    ("age_ms", "codes"),
    [
        (HOUR_MS - 1, [0, 1, 2]),
        (HOUR_MS + MINUTE_MS, [1, 2]),
        (DAY_MS, [1, 2]),
        (DAY_MS + HOUR_MS, [2]),
        (7 * DAY_MS + 6 * HOUR_MS, []),
    ],
)
def test_the_later_an_event_the_coarser_its_buckets(age_ms: int, codes: list[int]) -> None:
    assert [each % CODES for each in fields_for(NOW_MS - age_ms, NOW_MS)] == codes


@given(st.sampled_from([name for name, spec in WINDOWS.items() if spec]), TIMES)
def test_a_window_covers_its_span_and_at_most_one_bucket_more(window: str, now_ms: int) -> None:
    spec = WINDOWS[window]
    assert spec is not None
    resolution, span_ms = spec
    fields = window_fields(window, now_ms)
    assert fields is not None
    buckets = [bounds(each) for each in fields]
    assert now_ms - span_ms - resolution.width_ms < buckets[0][0] <= now_ms - span_ms
    assert buckets[-1][1] > now_ms + SKEW_MS or resolution.width_ms > SKEW_MS
    assert [end for _, end in buckets[:-1]] == [start for start, _ in buckets[1:]]
    assert {each % CODES for each in fields} == {resolution.code}


@given(st.sampled_from([name for name, spec in WINDOWS.items() if spec]), TIMES)
def test_every_bucket_of_a_window_is_still_retained(window: str, now_ms: int) -> None:
    fields = window_fields(window, now_ms)
    assert fields is not None
    assert not any(is_expired(each, now_ms) for each in fields)


@given(TIMES, st.sampled_from(RESOLUTIONS))
def test_each_retained_bucket_has_a_slot_of_its_own(now_ms: int, resolution: Resolution) -> None:
    times = range(now_ms - resolution.keep_ms - DAY_MS, now_ms + SKEW_MS, resolution.width_ms)
    buckets = {field(resolution, event_ms) for event_ms in (*times, now_ms + SKEW_MS)}
    retained = [each for each in buckets if not is_expired(each, now_ms)]
    assert len({slot_of(each).name for each in retained}) == len(retained) <= resolution.slots


@given(st.sampled_from(RESOLUTIONS), TIMES, st.integers(0, 8 * 365 * DAY_MS))
def test_a_slot_and_its_lap_tell_the_buckets_of_eight_years_apart(
    resolution: Resolution, event_ms: int, later_ms: int
) -> None:
    one, other = field(resolution, event_ms), field(resolution, event_ms + later_ms)
    assert (slot_of(one) == slot_of(other)) is (one == other)


def test_an_unknown_window_is_refused() -> None:
    with pytest.raises(KeyError):
        window_fields("2m", NOW_MS)
