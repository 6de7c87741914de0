from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from builders import NOW_MS, event
from hypothesis import given
from hypothesis import strategies as st

from stream.core.buckets import DAY_MS, HOUR_MS, MINUTE_MS, RESOLUTIONS, field, is_expired
from stream.core.tally import ProductTally, tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.decode import Event

LATE_MS = HOUR_MS

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["kettle", "lamp", "灯"]),
        st.one_of(st.integers(-5 * MINUTE_MS, 2 * HOUR_MS), st.integers(0, 9 * DAY_MS)),
        st.integers(0, 2),
        st.integers(-1000, 1000),
        st.integers(0, 3 * DAY_MS),
    ),
    max_size=60,
)


def batch(rows: Sequence[tuple[str, int, int, int, int]]) -> tuple[list[Event], list[int], list[int]]:
    """Events, labels and sentiments of (product, age, label, sentiment, arrival after NOW)."""
    events = [
        event(offset, product_id=product, event_ms=NOW_MS + arrival - age, arrival_ms=NOW_MS + arrival)
        for offset, (product, age, _, _, arrival) in enumerate(rows)
    ]
    return events, [row[2] for row in rows], [row[3] for row in rows]


def buckets_of(product: ProductTally) -> dict[int, list[int]]:
    """Sums by bucket field."""
    sums: dict[int, list[int]] = {}
    for fields, counts in product.spans.items():
        for each in fields:
            before = sums.setdefault(each, [0, 0, 0, 0])
            sums[each] = [a + b for a, b in zip(before, counts, strict=True)]
    return sums


def total_of(product: ProductTally) -> list[int]:
    return [sum(column) for column in zip(*product.spans.values(), strict=True)]


def test_nothing_makes_nothing() -> None:
    assert tally([], [], [], LATE_MS) == {}


def test_counts_go_to_the_label_and_sentiments_are_summed() -> None:
    [product] = tally([event(n) for n in range(4)], [0, 2, 2, 1], [-700, 500, 300, 10], LATE_MS).values()
    assert total_of(product) == [1, 1, 2, 110]
    assert product.rows == [0, 1, 2, 3]


def test_rows_are_the_events_places_in_the_batch() -> None:
    products = tally(
        [event(product_id="a"), event(product_id="b"), event(product_id="a")], [0] * 3, [0] * 3, LATE_MS
    )
    assert {name: product.rows for name, product in products.items()} == {"a": [0, 2], "b": [1]}


def test_an_event_is_late_beyond_the_limit_only() -> None:
    events = [event(event_ms=NOW_MS - LATE_MS), event(event_ms=NOW_MS - LATE_MS - 1)]
    assert tally(events, [0, 0], [0, 0], LATE_MS)["kettle"].late == 1


def test_an_event_older_than_every_bucket_is_in_the_total_alone() -> None:
    [product] = tally([event(event_ms=NOW_MS - 30 * DAY_MS)], [0], [-5], LATE_MS).values()
    assert product.spans == {(): [1, 0, 0, -5]}


def test_first_and_last_are_by_event_time_not_by_order() -> None:
    events = [event(event_ms=NOW_MS - age) for age in (5, 1, 9, 3)]
    product = tally(events, [0] * 4, [0] * 4, LATE_MS)["kettle"]
    assert (product.first_event_ms, product.last_event_ms) == (NOW_MS - 9, NOW_MS - 1)


def test_retention_is_judged_by_the_batchs_latest_arrival() -> None:
    """A backlog of weeks, read at once, must not write buckets that have expired by its end."""
    arrivals = [NOW_MS + minute * MINUTE_MS for minute in range(3 * 24 * 60)]
    events = [event(arrival_ms=at, event_ms=at) for at in arrivals]
    [product] = tally(events, [0] * len(events), [0] * len(events), LATE_MS).values()
    assert total_of(product)[0] == len(events)
    buckets = buckets_of(product)
    assert not any(is_expired(each, arrivals[-1]) for each in buckets)
    assert len(buckets) <= sum(each.slots for each in RESOLUTIONS)


@given(EVENTS)
def test_sums_equal_an_independent_recount(rows: list[tuple[str, int, int, int, int]]) -> None:
    events, labels, sentiments = batch(rows)
    latest_ms = max((each.arrival_ms for each in events), default=0)
    expected: dict[str, Counter[tuple[int, int]]] = {}
    for each, label, sentiment in zip(events, labels, sentiments, strict=True):
        counter = expected.setdefault(each.product_id, Counter())
        for resolution in RESOLUTIONS:
            end = (each.event_ms // resolution.width_ms + 1) * resolution.width_ms
            if latest_ms < end + resolution.keep_ms:
                counter[field(resolution, each.event_ms), label] += 1
                counter[field(resolution, each.event_ms), 3] += sentiment
    found = {
        name: Counter({(each, n): sums[n] for each, sums in buckets_of(product).items() for n in range(4)})
        for name, product in tally(events, labels, sentiments, LATE_MS).items()
    }
    # Counter's equality takes a missing count for zero.
    assert found == expected


@given(EVENTS)
def test_the_totals_hold_every_event(rows: list[tuple[str, int, int, int, int]]) -> None:
    events, labels, sentiments = batch(rows)
    products = tally(events, labels, sentiments, LATE_MS)
    for name, product in products.items():
        mine = [row for row in rows if row[0] == name]
        counts = [sum(row[2] == label for row in mine) for label in range(3)]
        assert total_of(product) == [*counts, sum(row[3] for row in mine)]
        assert product.late == sum(row[1] > LATE_MS for row in mine)
    assert sorted(row for product in products.values() for row in product.rows) == list(range(len(rows)))


@given(EVENTS, st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_the_order(
    rows: list[tuple[str, int, int, int, int]], random: st.DataObject
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = tally(*batch(rows), LATE_MS), tally(*batch(shuffled), LATE_MS)
    assert {name: buckets_of(each) for name, each in one.items()} == {
        name: buckets_of(each) for name, each in other.items()
    }
