"""The questions that both counter clients ask, against a Redis that is a dict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import product_hash
from hypothesis import given
from hypothesis import strategies as st

from stream.client import counts
from stream.client.counts import PRODUCTS_A_TRIP, LiveLayout, ProductCounts, leading, wilson_lower
from stream.core import spike_state
from stream.core.buckets import RESOLUTIONS, WINDOWS, field
from stream.core.detection import _States as State
from stream.core.detection import pack
from stream.errors import DependencyError, UsageError
from stream.store.layout import LAYOUT_VERSION, Layout
from stream.store.values import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

NOW_MS = 1_700_000_000_000


class FakeRedis:
    """Answers the commands that the questions use, and counts the round trips."""

    def __init__(self, *, shards: int = 1) -> None:
        self.layout = Layout("rp", shards)
        self.strings: dict[str, bytes] = {
            "rp:layout": json.dumps({"version": LAYOUT_VERSION, "shards": shards}).encode()
        }
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.active: dict[str, dict[bytes, int]] = {}
        self.trips = 0

    def add(
        self, product_id: str, total: list[int], last_ms: int, buckets: dict[int, list[int]] | None = None
    ) -> None:
        negative, neutral, positive, sentiment = total
        all_time = Total((negative, neutral, positive, sentiment), 1, last_ms - 1000, last_ms)
        self.hashes[self.layout.product(product_id)] = product_hash(all_time, buckets or {})
        active = self.layout.active(self.layout.shard(product_id))
        self.active.setdefault(active, {})[product_id.encode()] = last_ms

    def ask(self, question: Generator[Any, Any, Any], replies: Any = None) -> Any:
        """Answers a question; ``replies`` are those to commands that it has given already."""
        try:
            commands = question.send(replies)
            while True:
                self.trips += 1
                commands = question.send([self.answer(*command) for command in commands])
        except StopIteration as answered:
            return answered.value

    def answer(self, name: str, key: str, *rest: Any) -> Any:
        if name == "GET":
            return self.strings.get(key)
        if name == "ZCARD":
            return len(self.active.get(key, {}))
        if name == "HMGET":
            held = self.hashes.get(key, {})
            return [held.get(each.decode() if isinstance(each, bytes) else str(each)) for each in rest]
        if name == "HGETALL":
            return {each.encode(): value for each, value in self.hashes.get(key, {}).items()}
        assert name == "ZRANGE", name
        if len(rest) == 2:
            return list(self.active.get(key, {}))[rest[0] : rest[1] + 1]
        assert rest[1:] == ("+inf", "BYSCORE")
        return [each for each, score in self.active.get(key, {}).items() if score >= float(rest[0])]


def test_total_counts_are_read() -> None:
    redis = FakeRedis()
    redis.add("p", [3, 1, 6, 2_500], NOW_MS)
    (found,) = redis.ask(counts.ask_products(redis.layout, ["p"], "all", NOW_MS))
    assert (found.negative, found.neutral, found.positive, found.events) == (3, 1, 6, 10)
    assert (found.negative_share, found.mean_sentiment, found.late) == (0.3, 0.25, 1)
    assert found.last_event_time.timestamp() * 1000 == NOW_MS


def test_a_window_sums_its_buckets_and_no_other() -> None:
    redis = FakeRedis()
    minute = RESOLUTIONS[0]
    redis.add(
        "p",
        [9, 9, 9, 9],
        NOW_MS,
        {
            field(minute, NOW_MS): [1, 0, 0, -900],
            field(minute, NOW_MS - 4 * 60_000): [0, 1, 2, 1_000],
            field(minute, NOW_MS - 30 * 60_000): [5, 0, 0, -5_000],
            field(RESOLUTIONS[1], NOW_MS): [7, 7, 7, 7],
        },
    )
    (found,) = redis.ask(counts.ask_products(redis.layout, ["p"], "5m", NOW_MS))
    assert (found.negative, found.neutral, found.positive) == (1, 1, 2)
    assert found.mean_sentiment == pytest.approx(0.1 / 4)


def test_several_windows_are_one_round_trip() -> None:
    redis = FakeRedis()
    redis.add("p", [1, 0, 0, -900], NOW_MS, {field(RESOLUTIONS[0], NOW_MS): [1, 0, 0, -900]})
    found = redis.ask(counts.ask_windows(redis.layout, "p", ["5m", "24h", "all"], NOW_MS))
    assert [(each.window, each.events) for each in found] == [("5m", 1), ("24h", 0), ("all", 1)]
    assert redis.trips == 1


def test_a_product_never_seen_is_zeros() -> None:
    redis = FakeRedis()
    (found,) = redis.ask(counts.ask_products(redis.layout, ["p"], "1h", NOW_MS))
    assert (found.events, found.negative_share, found.mean_sentiment, found.last_event_time) == (
        0,
        None,
        None,
        None,
    )


def test_products_are_asked_for_in_chunks_and_come_back_in_order() -> None:
    redis = FakeRedis(shards=8)
    names = [f"p{n}" for n in range(PRODUCTS_A_TRIP + 5)]
    for n, name in enumerate(names):
        redis.add(name, [n, 0, 0, 0], NOW_MS)
    found = redis.ask(counts.ask_products(redis.layout, names, "all", NOW_MS))
    assert [(each.product_id, each.negative) for each in found] == [(name, n) for n, name in enumerate(names)]
    assert redis.trips == 2


def test_leaders_leave_out_products_without_an_event_in_the_window() -> None:
    redis = FakeRedis(shards=4)
    fresh = {field(RESOLUTIONS[0], NOW_MS): [2, 0, 8, 0]}
    redis.add("fresh", [2, 0, 8, 0], NOW_MS, fresh)
    redis.add("stale", [9, 0, 0, 0], NOW_MS - 2 * 3_600_000)
    found = redis.ask(
        counts.ask_leaders(redis.layout, "1h", NOW_MS, by="negative_share", min_events=1, limit=10)
    )
    assert [each.product_id for each in found] == ["fresh"]
    everything = redis.ask(
        counts.ask_leaders(redis.layout, "all", NOW_MS, by="negative", min_events=1, limit=10)
    )
    assert [each.product_id for each in everything] == ["stale", "fresh"]


def test_min_events_and_limit_hold() -> None:
    redis = FakeRedis()
    for n in range(1, 6):
        redis.add(f"p{n}", [n, 0, 0, 0], NOW_MS)
    found = redis.ask(counts.ask_leaders(redis.layout, "all", NOW_MS, by="events", min_events=3, limit=2))
    assert [each.product_id for each in found] == ["p5", "p4"]


def test_totals_add_the_shards_up() -> None:
    redis = FakeRedis(shards=2)
    redis.hashes["rp:{s0}:ledger"] = {"reviews:counted": b"3", "reviews:dead": b"1", "chats:skipped": b"2"}
    redis.hashes["rp:{s1}:ledger"] = {"reviews:counted": b"4", "reviews:late": b"1"}
    totals = redis.ask(counts.ask_totals(redis.layout, {}))
    assert (totals["reviews"].counted, totals["reviews"].dead, totals["reviews"].late) == (7, 1, 1)
    assert (totals["chats"].counted, totals["chats"].skipped) == (0, 2)


def test_an_offset_that_several_shards_lack_is_missing_once() -> None:
    redis = FakeRedis(shards=3)
    redis.hashes["rp:{s0}:missing"] = {"shop.reviews:0@A": b"7-8"}
    redis.hashes["rp:{s1}:missing"] = {"shop.reviews:0@A": b"4-8 20-20", "chats:1@B": b"0-0"}
    redis.hashes["rp:{s2}:missing"] = {"shop.reviews:0@C": b"4-8"}  # another log: other records
    totals = redis.ask(counts.ask_totals(redis.layout, {"reviews": "shop.reviews"}))
    assert {channel: each.missing for channel, each in totals.items()} == {"reviews": 11, "chats": 1}


# Over time, the fleet, baselines, products.


def test_a_series_has_every_bucket_up_to_now_the_empty_ones_too() -> None:
    redis = FakeRedis()
    minute, hour, quarter = RESOLUTIONS
    redis.add(
        "p",
        [3, 1, 6, 2_500],
        NOW_MS + 120_000,  # a producer's clock that runs ahead
        {
            field(minute, NOW_MS + 120_000): [9, 9, 9, 9],
            field(minute, NOW_MS): [1, 0, 3, 2_000],
            field(minute, NOW_MS - 59 * 60_000): [0, 2, 0, -100],
            field(hour, NOW_MS): [2, 0, 0, -1_000],
            field(quarter, NOW_MS - 7 * 86_400_000): [5, 0, 0, 0],
        },
    )
    asked = counts.ask_series(redis.layout, "p", ["1h", "24h", "7d"], NOW_MS)
    by_minute, by_hour, by_quarter = redis.ask(asked)
    assert redis.trips == 1
    assert [len(each.points) for each in (by_minute, by_hour, by_quarter)] == [61, 25, 29]
    assert [each.width_s for each in (by_minute, by_hour, by_quarter)] == [60, 3_600, 21_600]
    last = by_minute.points[-1]
    assert (last.negative, last.neutral, last.positive, last.mean_sentiment) == (1, 0, 3, 0.5)
    assert last.at.timestamp() * 1000 == NOW_MS // 60_000 * 60_000
    assert (by_minute.points[1].neutral, by_minute.points[1].mean_sentiment) == (2, -0.05)
    assert sum(each.negative + each.neutral + each.positive for each in by_minute.points) == 6
    assert by_minute.points[2].mean_sentiment is None
    assert by_hour.points[-1].negative == 2
    assert by_quarter.points[0].negative == 5


def test_a_bucket_of_another_lap_is_empty_in_a_series() -> None:
    redis = FakeRedis()
    old_ms = NOW_MS - 66 * 60_000  # the same slot as the minute that is now
    redis.add("p", [4, 0, 0, 0], NOW_MS - 60_000, {field(RESOLUTIONS[0], old_ms): [4, 0, 0, 0]})
    (series,) = redis.ask(counts.ask_series(redis.layout, "p", ["1h"], NOW_MS))
    assert all(each.negative == 0 for each in series.points)


def test_a_series_of_a_product_never_seen_is_zeros() -> None:
    redis = FakeRedis()
    (series,) = redis.ask(counts.ask_series(redis.layout, "p", ["24h"], NOW_MS))
    assert len(series.points) == 25
    assert {(each.negative, each.mean_sentiment) for each in series.points} == {(0, None)}


@pytest.mark.parametrize("window", ["5m", "all", "2h"])
def test_a_window_without_a_series_is_refused(window: str) -> None:
    with pytest.raises(UsageError, match="1h, 24h, 7d"):
        FakeRedis().ask(counts.ask_series(Layout("rp", 1), "p", [window], NOW_MS))


def test_figures_are_what_windows_and_series_say_in_one_read_of_each_product() -> None:
    redis = FakeRedis(shards=3)
    for n, name in enumerate(("p", "q")):
        sums = [n + 1, 0, 2, 900]
        buckets = {field(each, NOW_MS - n * 60_000): sums for each in RESOLUTIONS}
        redis.add(name, sums, NOW_MS - n * 60_000, buckets)
    found = redis.ask(counts.ask_figures(redis.layout, ["p", "q", "never seen"], 3, NOW_MS))
    assert redis.trips == 1
    for product_id, figures in zip(("p", "q", "never seen"), found, strict=True):
        windows = redis.ask(counts.ask_windows(redis.layout, product_id, list(WINDOWS), NOW_MS))
        (series,) = redis.ask(counts.ask_series(redis.layout, product_id, ["1h"], NOW_MS))
        assert figures.counters == windows
        assert figures.tail.points == series.points[-3:]
    assert found[1].counters[1].negative == 2


def add_fleet(redis: FakeRedis, shard: int, sums: list[int], last_ms: int) -> None:
    negative, neutral, positive, sentiment = sums
    total = Total((negative, neutral, positive, sentiment), 1, last_ms - 1000, last_ms)
    sums = (negative, neutral, positive, sentiment)
    fleet = product_hash(total, {field(each, last_ms): sums for each in RESOLUTIONS})
    redis.hashes[redis.layout.fleet(shard)] = fleet


def test_the_fleet_is_all_shards_together_in_one_round_trip() -> None:
    redis = FakeRedis(shards=3)
    redis.add("p", [1, 0, 0, -900], NOW_MS)
    redis.hashes[redis.layout.ledger(1)] = {"reviews:counted": b"7"}
    add_fleet(redis, 0, [2, 0, 3, 1_000], NOW_MS)
    add_fleet(redis, 2, [2, 1, 0, -1_800], NOW_MS - 60_000)  # no event in the last minute there
    fleet = redis.ask(counts.ask_fleet(redis.layout, ["5m", "1h", "24h", "7d", "all"], {}, NOW_MS))
    assert redis.trips == 1
    five_minutes, *_, all_time = fleet.windows
    assert {(each.negative, each.neutral, each.positive) for each in fleet.windows} == {(4, 1, 3)}
    assert (five_minutes.negative_share, five_minutes.mean_sentiment) == (0.5, -0.1)
    assert all_time.late == 2
    assert all_time.last_event_time.timestamp() * 1000 == NOW_MS
    assert (fleet.products, fleet.totals["reviews"].counted) == (1, 7)
    (series,) = redis.ask(counts.ask_series(redis.layout, None, ["1h"], NOW_MS))
    assert [each.negative for each in series.points[-2:]] == [2, 2]


def test_the_fleet_is_nothing_before_a_worker_kept_it() -> None:
    fleet = FakeRedis(shards=2).ask(counts.ask_fleet(Layout("rp", 2), ["1h"], {}, NOW_MS))
    assert (fleet.windows[0].events, fleet.windows[0].negative_share, fleet.products) == (0, None, 0)


def test_baselines_are_what_the_detectors_remember_by_channel() -> None:
    redis = FakeRedis(shards=4)
    resting = spike_state.pack(spike_state.State(12.0, 88.0, 90))
    redis.strings[redis.layout.spike("reviews", "p")] = resting
    redis.strings[redis.layout.spike("chats", "p")] = b"\xfa a newer worker's"
    (baseline,) = redis.ask(counts.ask_baselines(redis.layout, "p"))
    assert (baseline.channel, baseline.share, baseline.events) == ("reviews", 0.12, 100.0)
    assert baseline.interval == pytest.approx((0.07, 0.198), abs=1e-3)
    assert redis.ask(counts.ask_baselines(redis.layout, "never seen")) == []


def test_baselines_are_found_beside_other_rules_states() -> None:
    redis = FakeRedis()
    state = State(spike=spike_state.pack(spike_state.State(1.0, 3.0)), surge=b"whatever", thresholds=None)
    redis.strings[redis.layout.spike("chats", "p")] = pack(state)
    assert redis.ask(counts.ask_baselines(redis.layout, "p"))[0].share == 0.25


def test_products_since_a_time_are_those_of_its_minute_and_later() -> None:
    redis = FakeRedis(shards=2)
    minute_ms = NOW_MS // 60_000 * 60_000
    for n, ms in enumerate((minute_ms - 60_000, minute_ms, minute_ms + 60_000)):
        redis.add(f"p{n}", [1, 0, 0, 0], ms)
    layout, found = redis.ask(counts.ask_active(redis.layout, minute_ms + 59_999))
    assert (layout, sorted(found)) == (redis.layout, ["p1", "p2"])
    assert sorted(redis.ask(counts.ask_active(redis.layout, None))[1]) == ["p0", "p1", "p2"]


def test_all_products_are_read_in_several_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "IDS_A_TRIP", 2)
    redis = FakeRedis(shards=2)
    names = [f"p{n}" for n in range(9)]
    for name in names:
        redis.add(name, [1, 0, 0, 0], NOW_MS)
    assert sorted(redis.ask(counts.ask_active(redis.layout, None))[1]) == names
    largest = max(len(each) for each in redis.active.values())
    assert redis.trips == largest // 2 + 1


def totals_of(product_id: str) -> Callable[[Layout], Any]:
    return lambda layout: counts.ask_products(layout, [product_id], "all", NOW_MS)


def test_shards_come_from_redis_and_are_asked_for_along_with_the_rest() -> None:
    redis = FakeRedis(shards=16)
    redis.add("p", [3, 1, 6, 2_500], NOW_MS)
    live = LiveLayout("rp")
    assert redis.ask(live.asked(totals_of("p")))[0].events == 10
    assert redis.trips == 2  # the first guess is one shard
    assert redis.ask(live.asked(totals_of("p")))[0].events == 10
    assert redis.trips == 3


def test_before_the_first_worker_everything_is_empty_and_then_it_is_not() -> None:
    redis = FakeRedis()
    written = redis.strings.pop("rp:layout")
    live = LiveLayout("rp")
    assert redis.ask(live.asked(totals_of("p")))[0].events == 0
    redis.strings["rp:layout"] = written
    redis.add("p", [1, 0, 0, 0], NOW_MS)
    assert redis.ask(live.asked(totals_of("p")))[0].events == 1


def switch(redis: FakeRedis, *, shards: int, generation: int) -> None:
    """What `rebuild` and `reshard` do; the old generation's keys go."""
    redis.layout = Layout("rp", shards, generation)
    written = {"version": LAYOUT_VERSION, "shards": shards, "generation": generation}
    redis.strings["rp:layout"] = json.dumps(written).encode()
    redis.hashes.clear()
    redis.active.clear()


def test_a_reader_follows_a_switch_to_another_generation() -> None:
    redis = FakeRedis()
    redis.add("p", [3, 1, 6, 2_500], NOW_MS)
    live = LiveLayout("rp")
    assert redis.ask(live.asked(totals_of("p")))[0].events == 10
    switch(redis, shards=4, generation=1)
    redis.add("p", [7, 0, 0, -7_000], NOW_MS)
    assert redis.ask(live.asked(totals_of("p")))[0].events == 7
    trips = redis.trips
    assert redis.ask(live.asked(totals_of("p")))[0].events == 7
    assert redis.trips == trips + 1


def test_a_switch_in_the_middle_of_a_question_begins_it_anew() -> None:
    redis = FakeRedis()
    names = [f"p{n}" for n in range(PRODUCTS_A_TRIP + 1)]
    for name in names:
        redis.add(name, [1, 0, 0, 0], NOW_MS)
    question = LiveLayout("rp").asked(lambda layout: counts.ask_products(layout, names, "all", NOW_MS))
    first = [redis.answer(*command) for command in next(question)]
    switch(redis, shards=2, generation=1)
    for name in names:
        redis.add(name, [0, 0, 2, 0], NOW_MS)
    found = redis.ask(question, first)
    assert [each.events for each in found] == [2] * len(names)


def test_a_layout_of_a_newer_version_is_refused_by_name() -> None:
    redis = FakeRedis()
    redis.strings["rp:layout"] = b'{"version": 99, "shards": 1}'
    with pytest.raises(DependencyError, match="layout version 99"):
        redis.ask(LiveLayout("rp").asked(totals_of("p")))


@pytest.mark.parametrize("window", ["2h", "", "ALL"])
def test_an_unknown_window_names_the_known_ones(window: str) -> None:
    with pytest.raises(UsageError, match="5m, 1h, 24h, 7d, all"):
        FakeRedis().ask(counts.ask_products(Layout("rp", 1), ["p"], window, NOW_MS))


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(UsageError, match="negative_share, negative, events"):
        FakeRedis().ask(
            counts.ask_leaders(Layout("rp", 1), "1h", NOW_MS, by="best", min_events=1, limit=1)  # type: ignore[arg-type]
        )


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_lower_bound_stays_below_the_share_and_above_zero(negative: int, other: int) -> None:
    events = negative + other
    bound = wilson_lower(negative, events)
    assert 0 <= bound <= (negative / events if events else 0)


@given(st.integers(1, 200), st.integers(1, 200))
def test_ten_times_the_evidence_raises_the_lower_bound(negative: int, other: int) -> None:
    assert wilson_lower(10 * negative, 10 * (negative + other)) > wilson_lower(negative, negative + other)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), st.integers(1, 10))
def test_leading_in_chunks_is_leading_at_once(shares: list[tuple[int, int]], limit: int) -> None:
    products = [ProductCounts.of(f"p{n}", "all", (bad, 0, good, 0)) for n, (bad, good) in enumerate(shares)]
    in_chunks: list[ProductCounts] = []
    for start in range(0, len(products), 7):
        in_chunks = leading([*in_chunks, *products[start : start + 7]], "negative_share", limit)
    assert in_chunks == leading(products, "negative_share", limit)
