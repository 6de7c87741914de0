"""What a worker's meter makes of what it is told, number by number; and what may never be in a label."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import REVIEWS, alert, event, record, run
from faust.types import TP
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004
    OutOfMemoryError,
    ResponseError,
)

from stream.core.drift import LEAST_TEXTS, MOST_TEXTS, Recent, reference, stability_index
from stream.core.language import LANGUAGES, languages
from stream.core.reference import BOUNDS
from stream.core.watch import Check, Report
from stream.deliver.open_alerts import KEPT, OpenAlerts
from stream.errors import DependencyError, UsageError
from stream.lanes import Lane
from stream.metrics.__main__ import page
from stream.metrics.catalogue import BY_NAME, CATALOGUE, LABELS, label
from stream.metrics.distribution import Distribution
from stream.metrics.families import Values
from stream.metrics.lag import LagWatch, Standing
from stream.metrics.page import metrics_page, registry
from stream.metrics.store import TimedStore, Trips
from stream.metrics.vitals import Vitals
from stream.metrics.worker import SKEW_S, Parts, Skew, WorkerMeter, WorkerReading
from stream.record import Refused, Transition
from stream.redis_errors import failure, kind_of
from stream.scorer.isolate import Scored
from stream.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

C0 = TP("chats", 0)
NOW_MS = 1_700_000_000_000


def shown(*readers: Any, process: Any = "worker") -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and label values, as a scraper reads them."""
    text = metrics_page(registry(process, *readers)).body.decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("reviewpulse_"):
                name = sample.name.removeprefix("reviewpulse_")
                metric = next(each for each in CATALOGUE if sample.name.startswith(each.name))
                order = [*metric.labels, *(("le",) if "le" in sample.labels else ())]
                found.setdefault(name, {})[tuple(sample.labels[each] for each in order)] = sample.value
    return found


def judged(
    *labels: int,
    channel: str = "reviews",
    dead: Iterable[Refused] = (),
    ledger: Mapping[str, int] | None = None,
    transitions: Iterable[Transition] = (),
    arrivals_ms: Iterable[int] = (),
) -> Any:
    arrivals = list(arrivals_ms) or [NOW_MS] * len(labels)
    return SimpleNamespace(
        part=SimpleNamespace(channel=channel),
        steps=[SimpleNamespace(ledger=ledger or {})],
        dead=list(dead),
        events=[event(n, arrival_ms=at) for n, at in enumerate(arrivals)],
        labels=np.array(labels, np.int8),
        transitions=list(transitions),
    )


def scored(*negative: float, failed: Iterable[int] = ()) -> Scored:
    probabilities = np.zeros((len(negative), 3), np.float32)
    probabilities[:, 0] = negative
    return Scored(probabilities, np.zeros(len(negative), np.int8), dict.fromkeys(failed, "why"))


class TokenScorer:
    """Knows words; "?" is none of them."""

    reference: Any = None

    def unknown_tokens(self, encoded: Any) -> Any:
        return encoded.unknown


def encoded(lengths: list[int], unknown: list[int]) -> Any:
    return SimpleNamespace(lengths=np.array(lengths, np.int32), unknown=np.array(unknown, np.int64))


# The catalogue.


def test_the_page_in_the_documents_is_the_catalogues_own(request: pytest.FixtureRequest) -> None:
    path: Path = request.config.rootpath / "docs" / "metrics.md"
    assert path.read_text("utf-8") == page(), "python -m stream.metrics > docs/metrics.md"


def test_every_name_keeps_to_prometheus_conventions() -> None:
    assert len(BY_NAME) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert metric.name.startswith("reviewpulse_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.help.endswith("."), metric.name
        if "seconds" in metric.name or metric.kind == "histogram":
            assert not metric.name.endswith(("_ms", "_milliseconds"))


def test_every_label_is_a_closed_set_or_says_what_bounds_it() -> None:
    for metric in CATALOGUE:
        for name in metric.labels:
            allowed = label(metric.name, name)
            assert bool(allowed.values) != bool(allowed.bounded_by), (metric.name, name)
            assert name not in {"product", "product_id", "author", "author_id", "text", "event_id", "reason"}
    used = {name for metric in CATALOGUE for name in metric.labels}
    assert {name for labels in LABELS.values() for name in labels} == used


def test_series_are_bounded_whatever_the_configuration_has_few_of() -> None:
    """Closed labels alone: topics, partitions, targets, routes, checks are few by configuration."""
    for metric in CATALOGUE:
        closed = [label(metric.name, name).values for name in metric.labels]
        series = int(np.prod([len(values) or 1 for values in closed])) * (len(metric.buckets) + 3 or 1)
        assert series <= 250, metric.name


def test_what_the_catalogue_does_not_have_is_refused() -> None:
    values = Values("worker")
    with pytest.raises(ValueError, match="no metric reviewpulse_secrets"):
        values.set("reviewpulse_secrets", 1)
    with pytest.raises(ValueError, match="of this process"):
        values.set("reviewpulse_viewers", 1)
    with pytest.raises(ValueError, match="has the labels channel"):
        values.set("reviewpulse_events_late_total", 1)
    with pytest.raises(ValueError, match="takes no channel='kettle'"):
        values.set("reviewpulse_events_late_total", 1, "kettle")
    with pytest.raises(ValueError, match="other buckets"):
        values.histogram("reviewpulse_batch_texts", Distribution((1.0,)))


def test_counters_of_closed_labels_begin_at_zero() -> None:
    found = shown(lambda _: None)
    assert found["events_dead_total"] == {
        (channel, stage): 0 for channel in ("reviews", "chats") for stage in ("decode", "score", "condemned")
    }
    assert set(found["build_info"].values()) == {1}
    assert "partition_lag_records" not in found
    assert "notify_deliveries_total" not in found


# Distributions.


def test_a_value_at_a_bound_is_below_it_alone_or_among_others() -> None:
    values = [0.0, 0.1, 0.10001, 1.0, 5.0, 1e9]
    one_by_one, at_once = Distribution((0.1, 1.0)), Distribution((0.1, 1.0))
    for each in values:
        one_by_one.add(each)
    at_once.add_all(np.array(values))
    assert one_by_one.read() == at_once.read()
    assert at_once.read().cumulative == (2, 4, 6)


# The meter.


def test_outcomes_are_counted_by_channel_label_and_stage() -> None:
    meter = WorkerMeter()
    meter.applied(
        judged(
            0,
            2,
            2,
            1,
            dead=[
                Refused(record(0, b"{"), "decode", "not JSON"),
                Refused(record(1, b"{"), "decode", "ahead", is_ahead=True),
                Refused(record(2, b"{"), "worker", "it died"),
                Refused(record(3, b"{"), "score", "no"),
            ],
            ledger={"reviews:late": 2, "reviews:duplicate": 3, "reviews:counted": 4},
        ),
        NOW_MS,
    )
    meter.applied(judged(2, channel="chats", ledger={"chats:skipped": 5}), NOW_MS)
    found = shown(meter.read)
    assert found["events_counted_total"] == {
        ("reviews", "negative"): 1,
        ("reviews", "neutral"): 1,
        ("reviews", "positive"): 2,
        ("chats", "negative"): 0,
        ("chats", "neutral"): 0,
        ("chats", "positive"): 1,
    }
    dead = {key: number for key, number in found["events_dead_total"].items() if number}
    assert dead == {("reviews", "decode"): 2, ("reviews", "condemned"): 1, ("reviews", "score"): 1}
    assert found["events_ahead_total"] == {("reviews",): 1, ("chats",): 0}
    assert found["events_late_total"] == {("reviews",): 2, ("chats",): 0}
    assert found["events_duplicate_total"] == {("reviews",): 3, ("chats",): 0}
    assert found["events_skipped_total"] == {("reviews",): 0, ("chats",): 5}


def test_latency_is_of_each_event_and_transitions_are_counted() -> None:
    meter = WorkerMeter()
    fired = Transition(alert(), [event()])
    over = Transition(alert(state="resolved", severity="critical"), [event()])
    arrivals = [NOW_MS - 4, NOW_MS - 6, NOW_MS - 400_000]
    meter.applied(judged(0, 0, 0, transitions=[fired, fired, over], arrivals_ms=arrivals), NOW_MS)
    found = shown(meter.read)
    assert found["end_to_end_seconds_bucket"]["0.005",] == 1
    assert found["end_to_end_seconds_bucket"]["0.01",] == 2
    assert found["end_to_end_seconds_bucket"]["300.0",] == 2
    assert found["end_to_end_seconds_count"][()] == 3
    assert found["end_to_end_seconds_sum"][()] == pytest.approx(400.01)
    changed = {key: number for key, number in found["alert_transitions_total"].items() if number}
    assert changed == {("firing", "warning"): 2, ("resolved", "critical"): 1}


def test_of_many_events_some_are_looked_at_and_the_histogram_still_counts_all() -> None:
    meter = WorkerMeter()
    arrivals = [NOW_MS - 4] * 64 + [NOW_MS - 40] * 65
    meter.applied(judged(0, 0, 0, transitions=[], arrivals_ms=arrivals), NOW_MS)
    found = shown(meter.read)
    # Every third of 129: 22 early ones for three each, 21 late ones.
    assert found["end_to_end_seconds_bucket"]["0.005",] == 66
    assert found["end_to_end_seconds_count"][()] == 129
    assert found["end_to_end_seconds_sum"][()] == pytest.approx(66 * 0.004 + 63 * 0.04)


def test_batches_tell_texts_useful_and_padded_tokens_and_their_cpu_time() -> None:
    meter = WorkerMeter()
    meter.batch(np.array([3, 5, 4], np.int32), 0.25)
    meter.batch(np.array([7], np.int32), 0.5)
    meter.batch(np.array([], np.int32), 0.0)  # a window of dead letters alone
    found = shown(meter.read)
    assert found["batch_tokens_total"] == {("useful",): 19, ("padded",): 22}
    assert found["batch_texts_count"][()] == 2
    assert found["batch_texts_sum"][()] == 4
    assert meter.score_cpu_s == 0.75


def test_texts_tell_tokens_unknown_ones_and_languages() -> None:
    meter, scorer = WorkerMeter(), TokenScorer()
    texts = ["It broke.", "质量很好", "ひどい"]
    meter.encoded(scorer, texts, encoded([8, 9, 600], [0, 1, 2]))  # type: ignore[arg-type]
    meter.encoded(scorer, ["lost"], ValueError("cannot be tokenised"))  # type: ignore[arg-type]
    found = shown(meter.read)
    assert found["input_tokens_total"][()] == 617
    assert found["input_unknown_tokens_total"][()] == 3
    assert found["input_texts_tokens_bucket"]["8.0",] == 1
    assert found["input_texts_tokens_bucket"]["+Inf",] == 3
    assert found["input_language_total"] == {("en",): 1, ("zh",): 1, ("other",): 1}


def test_of_a_large_window_some_languages_are_guessed_and_stand_for_all() -> None:
    meter = WorkerMeter()
    texts = ["It broke.", "质量很好"] * 257
    meter.encoded(TokenScorer(), texts, encoded([8] * 514, [0] * 514))  # type: ignore[arg-type]
    found = shown(meter.read)
    # Every third: English and Chinese by turns, 86 of each, and the last stands for one.
    assert found["input_language_total"] == {("en",): 258, ("zh",): 256, ("other",): 0}
    assert found["input_tokens_total"][()] == 514 * 8


def test_a_text_that_failed_has_no_probability() -> None:
    meter = WorkerMeter()
    meter.scored(TokenScorer(), scored(0.04, 0.0, 0.96, failed=[1]))  # type: ignore[arg-type]
    meter.scored(TokenScorer(), scored(0.0, failed=[0]))  # type: ignore[arg-type]
    found = shown(meter.read)
    assert found["score_negative_probability_count"][()] == 2
    assert found["score_negative_probability_bucket"]["0.05",] == 1


def test_consumed_records_and_the_newest_timestamps(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = WorkerMeter()
    monkeypatch.setattr("stream.metrics.worker.time.time", lambda: NOW_MS / 1000)
    meter.taken("reviews", run(0, record(0, b"{"), record(1, b"{", arrival_ms=NOW_MS - 2000)))
    assert shown(meter.read)["clock_skew_seconds"][()] == -2
    meter.taken("chats", run(0, record(0, b"{", arrival_ms=NOW_MS + 90_000), tp=C0))
    meter.taken("chats", run(1, record(1, b"{", arrival_ms=-1), tp=C0))  # the broker tells no time
    found = shown(meter.read)
    assert found["clock_skew_seconds"][()] == 90
    assert found["records_consumed_total"] == {("reviews",): 2, ("chats",): 2}


def test_a_skew_is_forgotten_after_two_spans() -> None:
    skew = Skew()
    assert skew.seconds is None
    skew.note(90_000, 0.0)
    skew.note(SKEW_S * 1000, SKEW_S)
    assert skew.seconds == 90
    skew.note(2 * SKEW_S * 1000 - 500, 2 * SKEW_S)
    assert skew.seconds == 0
    skew.note(0.0, 10 * SKEW_S)
    assert skew.seconds == -10 * SKEW_S


# Drift.


def a_reference(n: int = 1000) -> Any:
    values = np.arange(n) / n
    zeros = np.zeros(n)
    return reference("made", {"length": 100 * values, "unknown": zeros, "language": zeros, "score": values})


def test_the_same_texts_do_not_drift_and_others_do() -> None:
    meter, scorer = WorkerMeter(), TokenScorer()
    scorer.reference = a_reference()
    lengths = [max(int(100 * n / 1000), 1) for n in range(1000)]
    for start in range(0, 1000, 100):
        some = lengths[start : start + 100]
        meter.encoded(scorer, ["fine"] * 100, encoded(some, [0] * 100))  # type: ignore[arg-type]
        meter.scored(scorer, scored(*(n / 1000 for n in range(start, start + 100))))  # type: ignore[arg-type]
        if start + 100 < LEAST_TEXTS:
            assert "input_drift" not in shown(meter.read)
    drift = shown(meter.read)["input_drift"]
    assert drift["score",] < 0.001
    assert drift["length",] < 0.01
    assert drift["language",] == drift["unknown",] == 0
    for _ in range(MOST_TEXTS // 1000):
        meter.encoded(scorer, ["太差了"] * 1000, encoded([400] * 1000, [100] * 1000))  # type: ignore[arg-type]
        meter.scored(scorer, scored(*([0.99] * 1000)))  # type: ignore[arg-type]
    drift = shown(meter.read)["input_drift"]
    assert min(drift.values()) > 1


def test_another_bundle_begins_anew_and_one_without_a_reference_ends_it() -> None:
    meter, before, after = WorkerMeter(), TokenScorer(), TokenScorer()
    before.reference, after.reference = a_reference(), a_reference(999)
    texts: tuple[Any, ...] = (["fine"] * 250, encoded([50] * 250, [0] * 250))
    for scorer in (before, before, after, after):
        meter.encoded(scorer, *texts)  # type: ignore[arg-type]
    meter.scored(before, scored(*[0.5] * 600))  # type: ignore[arg-type]  # a window that was inside
    assert set(shown(meter.read)["input_drift"]) == {("length",), ("unknown",), ("language",)}
    meter.scored(after, scored(*[0.5] * 600))  # type: ignore[arg-type]
    assert ("score",) in shown(meter.read)["input_drift"]
    meter.encoded(TokenScorer(), *texts)  # type: ignore[arg-type]
    assert "input_drift" not in shown(meter.read)


def test_recent_texts_are_the_latest_of_at_least_as_many() -> None:
    recent = Recent((1.0,), most=10)
    recent.add(np.zeros(6))
    recent.add(np.zeros(6))
    assert (recent.texts, recent.counts) == (12, (12, 0))
    recent.add(np.full(4, 5.0))
    assert (recent.texts, recent.counts) == (10, (6, 4))
    assert stability_index((1, 0), (0, 1)) == pytest.approx(1.0986, abs=1e-4)  # an empty bin is not infinite


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("It broke after two days and nobody answers.", "en"),
        ("The café was fine, its design less so, and the rest of this line has no accents", "en"),
        ("5/5!!", "en"),
        ("Works — “great” 👍", "en"),
        ("太差了。用了一次就坏了。", "zh"),
        ("iPhone 12 Pro Max 很好用", "zh"),
        ("商品が届きません", "other"),
        ("Die Schüssel läuft über, größer wäre schöner", "other"),
        ("Очень плохо", "other"),
        ("배송이 느려요", "other"),
        ("two\nlines", "en"),
    ],
)
def test_a_language_is_guessed_from_letters(text: str, language: str) -> None:
    assert LANGUAGES[languages([text])[0]] == language
    among = languages(["fine", "很好", text, "\ud800", "é"])
    assert LANGUAGES[among[2]] == language


def test_the_reference_has_the_bins_of_the_exports_day() -> None:
    made = a_reference()
    assert made.length.bounds == BOUNDS["length"]
    assert sum(made.length.counts) == 1000
    assert len(made.score.counts) == len(BOUNDS["score"]) + 1


# Lag.


def test_lag_is_the_age_of_the_oldest_record_that_is_not_counted() -> None:
    watch = LagWatch()
    inside = watch.look({REVIEWS: Standing(applied=9, end=20, inside_ms=NOW_MS - 3000)})[REVIEWS]
    assert (inside.records, inside.seconds(NOW_MS)) == (10, 3)
    done = watch.look({REVIEWS: Standing(applied=19, end=20, counted_ms=NOW_MS)})[REVIEWS]
    assert (done.records, done.seconds(NOW_MS)) == (0, 0)


def test_a_lane_knows_its_oldest_record_until_every_shard_has_it() -> None:
    lane = Lane(REVIEWS, "reviews", applied=[-1, -1], judged=[-1, -1])
    lane.inside.append([record(0, b"{", arrival_ms=100), record(2, b"{", arrival_ms=200)])
    lane.inside.append([record(3, b"{", arrival_ms=300)])
    assert lane.oldest_ms() == 100
    lane.advance(0, 2)
    assert lane.oldest_ms() == 100  # the other shard has nothing yet
    lane.advance(1, 0)
    assert lane.oldest_ms() == 200
    lane.advance(1, 2)
    assert (lane.oldest_ms(), lane.counted_ms) == (300, 200)
    lane.advance(0, 3)
    lane.advance(1, 3)
    assert (lane.oldest_ms(), lane.counted_ms) == (None, 300)
    lane.inside.append([record(4, b"{")])
    lane.close()
    assert lane.oldest_ms() is None  # what may never come back is not held


def test_what_is_not_fetched_yet_is_about_as_old_as_what_was_counted_last() -> None:
    watch = LagWatch()
    waiting = {REVIEWS: Standing(applied=9, end=20, counted_ms=NOW_MS - 3_600_000)}
    assert watch.look(waiting)[REVIEWS].seconds(NOW_MS) == 0  # it may have come this moment
    assert watch.look(waiting)[REVIEWS].seconds(NOW_MS) == 3600
    exact = {REVIEWS: Standing(applied=9, end=20, read_ms=NOW_MS - 60_000, counted_ms=NOW_MS - 3_600_000)}
    assert watch.look(exact)[REVIEWS].seconds(NOW_MS) == 60


def test_a_transactions_marker_is_no_lag_and_no_timestamp_is_no_age() -> None:
    watch = LagWatch()
    marker = Standing(applied=9, end=11, is_empty=True, counted_ms=NOW_MS - 1000)
    for _ in range(3):
        assert watch.look({REVIEWS: marker})[REVIEWS] == (0, None)
    lag = watch.look({REVIEWS: Standing(applied=-1, end=5, inside_ms=-1)})[REVIEWS]
    assert (lag.records, lag.seconds(NOW_MS)) == (5, 0)


# The store.


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionError("refused"), "away"),
        (TimeoutError(), "away"),
        (BusyLoadingError("LOADING"), "away"),
        (OutOfMemoryError("used memory > 'maxmemory'"), "full"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "full"),
        (AuthenticationError("WRONGPASS"), "refused"),
    ],
)
def test_an_error_of_redis_is_of_a_kind(error: Exception, kind: str) -> None:
    raised = failure(error, "redis://r")
    raised.__cause__ = error
    assert kind_of(raised) == kind


async def test_calls_to_the_store_are_timed_and_failed_ones_counted() -> None:
    class Ill(MemoryStore):
        async def applied(self, partitions: Any) -> Any:
            raise DependencyError("Redis is full") from OutOfMemoryError("OOM")

        async def open(self) -> None:
            raise UsageError("no") from AuthenticationError("WRONGPASS")

    trips = Trips()
    well, ill = TimedStore(MemoryStore(1), trips), TimedStore(Ill(1), trips)
    assert await well.applied(["reviews:0"]) == {"reviews:0": (-1,)}
    assert (well.shards, well.generation) == (1, 0)
    for call in (ill.applied([]), ill.applied([]), ill.open()):
        with pytest.raises((DependencyError, UsageError)):
            await call
    assert {name: each.read().cumulative[-1] for name, each in trips.seconds.items()} == {
        "applied": 3,
        "open": 1,
    }
    assert trips.errors == {"away": 0, "full": 2, "refused": 1, "other": 0}


# The parts.


def parts(**changes: Any) -> Parts:
    lag = LagWatch().look({REVIEWS: Standing(applied=9, end=20, inside_ms=0)})
    given: dict[str, Any] = {
        "app": SimpleNamespace(rebalancing_count=4),
        "pipeline": SimpleNamespace(
            progress=SimpleNamespace(rewinds=2, cpu_s={"decode": 1.0, "score": 9.0, "judge": 3.0}),
            scorer=SimpleNamespace(version="v1", provider="CPUExecutionProvider"),
        ),
        "lookout": SimpleNamespace(joined=True, lags=lag),
        "publisher": SimpleNamespace(waiting=7),
        "missing": lambda: 5,
        "swap": SimpleNamespace(
            status=SimpleNamespace(bundle="a" * 64), outcomes={"switched": 1, "refused": 2, "rolled_back": 3}
        ),
    }
    return Parts(**(given | changes))


def test_a_worker_is_read_when_somebody_asks() -> None:
    checks = (Check("redis", True, 0.0, ""), Check("kafka", False, 0.0, "away"), Check("loop", True, 0.0, ""))
    reading = WorkerReading(lambda: Report(0.0, ready=checks), WorkerMeter(), Trips())
    before = shown(reading.read)
    assert before["redis_up"][()] == before["kafka_up"][()] == 0  # nobody has asked them yet
    reading.parts, reading.has_redis = parts(), True
    reading.meter.score_cpu_s = 2.0
    found = shown(reading.read)
    assert (found["redis_up"][()], found["kafka_up"][()]) == (1, 0)
    assert found["watchdog_ok"] == {("redis",): 1, ("kafka",): 0, ("loop",): 1}
    assert found["partition_lag_records"] == {("reviews", "0"): 10}
    assert found["partition_lag_seconds"]["reviews", "0"] > 1e9
    assert found["partitions_assigned"][()] == 1
    assert found["rebalances_total"][()] == 4
    assert found["rewinds_total"][()] == 2
    assert found["missing_offsets_total"][()] == 5
    assert found["outbox_transitions"][()] == 7
    assert found["model_info"] == {("v1", "CPUExecutionProvider", "a" * 12): 1}
    assert found["model_swaps_total"] == {("switched",): 1, ("refused",): 2, ("rolled_back",): 3}
    assert found["stage_cpu_seconds_total"] == {("decode",): 1, ("score",): 2, ("judge",): 3, ("loop",): 0}


def test_what_customers_and_producers_write_is_in_no_label() -> None:
    meter = WorkerMeter()
    hostile = 'kettle"}\n evil 1'
    letter = Refused(record(0, hostile.encode()), "decode", hostile)
    meter.applied(judged(0, dead=[letter], transitions=[Transition(alert(product_id=hostile), [])]), NOW_MS)
    meter.encoded(TokenScorer(), [hostile], encoded([4], [0]))  # type: ignore[arg-type]
    text = metrics_page(registry("worker", meter.read)).body.decode()
    assert "kettle" not in text
    assert "evil" not in text


# Processes without a watchdog.


async def test_vitals_tell_what_is_wrong_and_since_when() -> None:
    troubles: dict[str, str | None] = {"redis": None, "kafka": "away"}

    async def probe() -> dict[str, str | None]:
        return dict(troubles)

    vitals = Vitals(probe)
    assert [check.ok for check in vitals.report().ready] == [True, False]  # it has not looked yet
    await vitals._look()
    first = {check.name: check for check in vitals.report().ready}
    assert {name: check.ok for name, check in first.items()} == {"fresh": True, "redis": True, "kafka": False}
    assert first["kafka"].says == "away"
    troubles["kafka"] = None
    await vitals._look()
    second = {check.name: check for check in vitals.report().ready}
    assert second["kafka"].since > first["kafka"].since
    assert second["redis"].since == first["redis"].since
    found = shown(vitals.read, process="web")
    assert found["redis_up"][()] == found["kafka_up"][()] == 1
    vitals.lag.turned_at -= 60
    assert [check.ok for check in vitals.report().live] == [False]


async def test_a_probe_that_hangs_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.metrics.vitals.PATIENCE_S", 0.0)
    answers = [{"redis": None}]

    async def probe() -> dict[str, str | None]:
        if answers:
            return dict(answers.pop())
        await asyncio.Event().wait()
        raise AssertionError

    vitals = Vitals(probe)
    await vitals._look()
    await vitals._look()
    (check,) = [each for each in vitals.report().ready if each.name == "redis"]
    assert not check.ok
    assert check.says == "no answer within 0 s"


def test_open_alerts_are_those_whose_last_transition_fires() -> None:
    known = OpenAlerts()
    known.add(alert(id="a", sequence=1))
    known.add(alert(id="a", sequence=2, severity="critical"))
    known.add(alert(id="b", sequence=1, historic=True))
    known.add(alert(id="c", sequence=2, state="resolved"))
    known.add(alert(id="c", sequence=1))  # an older one, late
    assert known.firing == {"warning": 0, "critical": 1}
    for number in range(KEPT):
        known.add(alert(id=str(number), sequence=1))
    assert known.firing == {"warning": KEPT, "critical": 0}  # the oldest was forgotten
