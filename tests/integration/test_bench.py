"""The benches run and report what they say they report; how fast is no test's business."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from builders import NOW_MS

from stream import bundle
from stream.bench import fleet, soak
from stream.bench import metrics as bench_metrics
from stream.bench import redis as bench_redis
from stream.bench import scorer as bench_scorer
from stream.bench import web as bench_web
from stream.bench.live_stream import Stream
from stream.bench.redis import ONE_HASH, OURS, REFERENCE, WINDOW_WAY, ours_with
from stream.core.buckets import HOUR_MS
from stream.errors import DependencyError, UsageError
from stream.scorer.lines import text_of
from stream.settings import SHIPPED_BUNDLE, load

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings


@pytest.fixture(scope="module")
def report() -> bench_redis.Report:
    return bench_redis.run(events=1500, products=200, rounds=1, days=2, events_per_s=1.0, exponent=1.0)


def test_every_way_and_window_is_measured(report: bench_redis.Report) -> None:
    windows = [ours_with(size) for size in (256, 1024, 16_384)]
    assert set(report.costs) == {OURS, REFERENCE, ONE_HASH, WINDOW_WAY, *windows}
    assert set(report.memory) == {OURS, REFERENCE, ONE_HASH, WINDOW_WAY}
    assert all(cost.redis_us_per_event > 0 for cost in report.costs.values())
    assert report.costs[REFERENCE].times_cheaper == 1.0
    assert report.active_products == report.products == 200


def test_ours_takes_one_round_trip_a_batch_once_it_knows_the_products(report: bench_redis.Report) -> None:
    assert [report.costs[ours_with(size)].round_trips_per_batch for size in (256, 1024)] == [1.0, 1.0]


def test_ours_takes_one_round_trip_a_batch_and_shard_and_all_shards_share_it() -> None:
    report = bench_redis.run(
        events=1500, products=200, rounds=1, days=2, events_per_s=1.0, exponent=1.0, shards=3
    )
    assert report.active_products == 200
    for size in (256, 1024):
        cost = report.costs[ours_with(size)]
        assert (cost.round_trips_per_batch, cost.round_trips_per_batch_and_shard) == (1.0, 1.0)
    assert report.costs[REFERENCE].round_trips_per_batch_and_shard == 1.0


def test_the_plain_ways_send_what_they_say(report: bench_redis.Report) -> None:
    assert report.costs[REFERENCE].commands_sent_per_event == 8.0
    assert report.costs[ONE_HASH].commands_sent_per_event == 8.0
    assert report.costs[WINDOW_WAY].commands_sent_per_event == 3.0


def test_a_stream_is_the_same_for_all_who_read_it() -> None:
    shape = {"products": 50, "exponent": 1.0, "events_per_s": 2.0, "days": 2}
    one, other = Stream(**shape), Stream(**shape)
    assert list(one.history()) == list(other.history())
    assert one.take(100) == other.take(100)
    assert one.take(100) == other.take(100)


def test_a_stream_goes_forward_in_time_from_its_history_on() -> None:
    stream = Stream(products=50, exponent=1.0, events_per_s=2.0, days=2)
    pieces = [piece for day in stream.history() for piece in day]
    times = [at for piece in (*pieces, stream.take(100), stream.take(100)) for at in piece.at_ms]
    assert times == sorted(times)
    assert times[-1] - times[-200] == 199 * 500


@pytest.mark.slow
def test_a_soak_kills_workers_and_finds_every_total_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "AHEAD", 4_000)  # it then takes longer than the time between two kills
    report = soak.run(events=30_000, products=300, workers=2, kill_every_s=3.0, spare=1)
    assert report.differences == []
    assert report.ledger == {"reviews:counted": 30_000}
    assert report.is_exact
    assert report.kills >= 1
    assert all(0 < sample.spared_worker_mb <= sample.largest_worker_mb for sample in report.samples)
    assert report.samples[-1].events == 30_000
    assert set(report.cpu_us_per_event) == {
        *("decode", "score", "judge", "event loop", "fetch and the rest", "worker in all"),
        *("Redis", "broker"),
    }


def test_a_soak_that_would_spare_everybody_is_refused() -> None:
    with pytest.raises(UsageError, match="Of 2 workers at most 1 may be spared"):
        soak.run(events=1_000, products=1, workers=2, kill_every_s=3.0, spare=2)


def test_a_soak_says_which_products_are_wrong(settings: Settings) -> None:
    sent = soak.Sent(events=10, products=1, end_ms=NOW_MS)
    assert soak.differences(settings, sent) == [
        "product-0, all: 10 sent, 0 counted",
        "product-0, 7d: 3 sent, 0 counted",
    ]


def test_a_soaks_recount_of_a_week_begins_with_a_whole_bucket() -> None:
    sent = soak.Sent(events=21 * 24, products=1, end_ms=NOW_MS)  # an event an hour
    assert sent.totals().tolist() == [21 * 24]
    assert sent.last_week().tolist() == [7 * 24 + NOW_MS // HOUR_MS % 6]


def test_bundles_are_timed_on_the_same_reviews_and_compared_with_the_first(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl.gz"
    lines = [b'{"title": "Good", "text": "The battery lasts for days."}', b'{"text": "It broke."}'] * 3
    file.write_bytes(gzip.compress(b"\n".join(lines)))
    texts = bench_scorer.read_reviews(str(file), 4)
    assert texts == [text_of(line) for line in lines[:4]]
    report = bench_scorer.run(
        load(provider="cpu", threads=1), [SHIPPED_BUNDLE, SHIPPED_BUNDLE], texts, rounds=1
    )
    assert (report.reviews, report.rounds) == (4, 1)
    first, second = report.bundles
    assert first.version == second.version == bundle.load_manifest(SHIPPED_BUNDLE).version
    assert first.provider == "CPUExecutionProvider"
    assert first.times_first == 1.0
    assert second.times_first == pytest.approx(second.reviews_per_s / first.reviews_per_s)
    assert first.tokens_per_s == pytest.approx(first.reviews_per_s * report.tokens_mean)


def test_a_line_without_a_text_cannot_be_timed(tmp_path: Path) -> None:
    file = tmp_path / "reviews.jsonl"
    file.write_text('{"text": "Fine."}\n{"review": "Fine."}\n')
    with pytest.raises(UsageError, match="line 2: not an object with a `text`"):
        bench_scorer.read_reviews(str(file), 10)


@pytest.mark.slow
def test_a_watched_worker_is_measured_beside_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_web, "SETTLE_S", 1.0)
    report = bench_web.run(
        events_per_s=200, viewers=5, reads_per_s=20, products=50, rounds=1, seconds=3, backlog=2_000
    )
    assert report.steady.keys() == report.drained.keys() == {"alone", "watched"}
    of_both = {"redis", "broker", "worker", "server"}
    assert report.steady["alone"].cores.keys() == of_both | {"producer"}
    assert report.steady["watched"].cores.keys() == of_both | {"producer", "audience"}
    assert report.drained["watched"].cores.keys() == of_both | {"audience"}
    assert all(turn.events_per_s > 0 for turn in (*report.steady.values(), *report.drained.values()))
    seen = report.audience
    assert (seen.streams_kept, seen.streams, seen.failed_reads) == (5, 5, 0)
    assert seen.alerts_seen > 0


def test_metrics_are_asked_for_in_their_turns_and_their_cost_stands_beside_the_noise() -> None:
    report = bench_metrics.run(events=20_000, products=100, workers=1, turn_events=1_000)
    assert report.metrics.cpu.turns > 0
    assert report.noise.cpu.turns > 0
    assert report.metrics.cpu.low <= report.metrics.cpu.median <= report.metrics.cpu.high
    assert report.cpu_us_per_event > 0
    assert report.own_us_per_event.keys() == {"taken", "stage", "encoded", "batch", "scored", "applied"}
    assert 0 < report.own_cpu.median < 1
    assert report.scrape_cpu_ms > 0
    assert report.scrapes >= report.metrics.cpu.turns
    assert report.page_bytes > 10_000
    assert [row[0] for row in bench_metrics.rows(report)] == ["with metrics", "without: the noise"]


def test_of_too_few_events_for_turns_the_metrics_bench_says_so() -> None:
    with pytest.raises(ValueError, match="10,000 events make no eight turns of 2,000"):
        bench_metrics.run(events=10_000, products=100, workers=1, turn_events=2_000)


def test_the_whole_path_with_a_model_is_timed_by_workers_and_says_where_it_ran() -> None:
    # One lane: else many cores are done before both workers are seen to have partitions.
    found = fleet.run(
        load(provider="cpu", threads=1), workers=[2], reviews=200, ceiling_reviews=0, products=40
    )
    [both] = found.fleets
    assert (both.scorer, both.workers, both.providers) == ("onnx", 2, ("CPUExecutionProvider",))
    assert 0 < both.timed_reviews <= 200
    assert both.reviews_per_s > 0
    assert both.cpu_us_per_review > 0
    assert (found.texts, found.partitions, found.ceiling_reviews) == ("made ones", 4, 0)
    assert found.model_version == bundle.load_manifest(SHIPPED_BUNDLE).version


def test_a_worker_that_cannot_use_the_provider_ends_the_bench_with_its_reason() -> None:
    with pytest.raises(DependencyError, match=r"A worker ended by itself: .*CUDA was demanded"):
        fleet.run(load(provider="cuda"), workers=[1], reviews=100, ceiling_reviews=0, products=40)
