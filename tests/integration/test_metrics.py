"""A real worker's metrics: what can be known is compared with what was sent, and with the ledger."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from stream.client import EventProducer
from stream.client.log import read_topic
from stream.metrics.catalogue import BY_NAME, CATALOGUE, label
from stream.redis_config import connect
from stream.settings import load
from stream.store.layout import Layout
from tests.integration.conftest import WorkerProcess, free_port
from tests.integration.scrape import Samples, scraped, total, until, value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream.local import LocalServers

pytestmark = pytest.mark.slow

AUTHOR = "somebody-7"


def send_everything() -> None:
    """10 reviews: 5 good, 2 again, 1 late, 1 no JSON, 1 from the future. 5 chat lines: 2 of an agent."""
    now = time.time()
    settings = load()

    def review(event_id: str, event_time: float) -> bytes:
        fields = {"event_id": event_id, "product_id": "kettle", "text": "It broke.", "event_time": event_time}
        return json.dumps({**fields, "author_id": AUTHOR}).encode()

    with EventProducer(settings) as producer:
        for n in range(5):
            producer.send_record(settings.topic_reviews, b"kettle", review(f"e{n}", now))
        producer.send_record(settings.topic_reviews, b"kettle", review("e-late", now - 7200))
        producer.flush()
        for n in range(2):
            producer.send_record(settings.topic_reviews, b"kettle", review(f"e{n}", now))
        producer.send_record(settings.topic_reviews, b"kettle", b"no JSON")
        producer.send_record(settings.topic_reviews, b"kettle", review("e-future", now + 7200))
        for n in range(5):
            producer.send_chat(
                event_id=f"c{n}",
                conversation_id="77",
                product_id="kettle",
                role="agent" if n < 2 else "customer",
                text="你好" if n == 4 else "Hello.",
                event_time=now,
            )
        producer.flush()


def test_every_record_is_in_the_metrics_and_they_agree_with_the_ledger(
    start_worker: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
    worker = start_worker("--scorer", "constant")
    worker.wait_for("worker started")
    before = until(port, lambda found: total(found, "partitions_assigned") == 8)
    assert value(before, "records_consumed_total", channel="reviews") == 0
    assert value(before, "redis_up") == value(before, "kafka_up") == 1

    send_everything()
    samples = until(port, lambda found: total(found, "records_consumed_total") == 15 and ended(found) == 15)

    assert value(samples, "records_consumed_total", channel="reviews") == 10
    assert value(samples, "records_consumed_total", channel="chats") == 5
    assert value(samples, "events_counted_total", channel="reviews", label="positive") == 6
    assert value(samples, "events_counted_total", channel="chats", label="positive") == 3
    assert total(samples, "events_counted_total", label="negative") == 0
    assert value(samples, "events_dead_total", channel="reviews", stage="decode") == 2
    assert total(samples, "events_dead_total") == 2
    assert value(samples, "events_ahead_total", channel="reviews") == 1
    assert value(samples, "events_skipped_total", channel="chats") == 2
    assert value(samples, "events_duplicate_total", channel="reviews") == 2
    assert value(samples, "events_late_total", channel="reviews") == 1
    assert value(samples, "end_to_end_seconds_count") == 9
    assert value(samples, "input_texts_tokens_count") == value(samples, "input_tokens_total")
    # A duplicate of what is still inside is tokenised before it is known for one.
    assert 9 <= value(samples, "input_tokens_total") <= 11
    assert value(samples, "batch_tokens_total", kind="useful") == value(samples, "input_tokens_total")
    assert value(samples, "batch_texts_sum") == value(samples, "input_tokens_total")
    assert value(samples, "input_language_total", language="zh") == 1
    assert value(samples, "score_negative_probability_count") == value(samples, "input_tokens_total")
    assert value(samples, "model_info", version="constant", provider="none", bundle="none") == 1
    for stage in label("reviewpulse_stage_seconds", "stage").values:
        assert value(samples, "stage_seconds_count", stage=stage) >= 1, stage
    assert value(samples, "redis_trip_seconds_count", operation="apply") >= 2
    assert total(samples, "redis_errors_total") == 0
    assert total(samples, "event_loop_lag_seconds_count") >= 1

    with connect(load()) as client:
        ledger = client.hgetall(Layout(load().namespace, 1).ledger(0))
    stored = {name.decode(): int(number) for name, number in ledger.items()}
    for channel in ("reviews", "chats"):
        assert stored.get(f"{channel}:counted", 0) == total(samples, "events_counted_total", channel=channel)
        for outcome in ("dead", "skipped", "duplicate", "late"):
            shown = total(samples, f"events_{outcome}_total", channel=channel)
            assert stored.get(f"{channel}:{outcome}", 0) == shown, (channel, outcome)

    at_rest = until(port, lambda found: total(found, "partition_lag_records") == 0)
    assert total(at_rest, "partition_lag_seconds") == 0
    assert worker.stop() == 0


def ended(samples: Samples) -> float:
    names = ("counted", "dead", "skipped", "duplicate")
    return sum(total(samples, f"events_{name}_total") for name in names)


def test_the_page_is_in_prometheus_format_and_names_only_what_the_catalogue_has(
    start_worker: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
    start_worker("--scorer", "constant").wait_for("worker started")
    send_everything()
    until(port, lambda found: ended(found) == 15 and total(found, "partitions_assigned") == 8)
    kind, samples = scraped(port)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"

    ours = {each.name for each in CATALOGUE if "worker" in each.processes}
    suffixes = ("_bucket", "_sum", "_count", "_created")
    seen = set()
    for name, labels in samples:
        if not name.startswith("reviewpulse_"):
            assert name.startswith(("process_", "python_"))
            continue
        base = next((name.removesuffix(each) for each in suffixes if name.removesuffix(each) in ours), name)
        seen.add(base)
        assert {key for key, _ in labels} - {"le"} == set(BY_NAME[base].labels)
        for key, shown in labels:
            allowed = () if key == "le" else label(base, key).values
            assert not allowed or shown in allowed
    # There is no bundle, hence no reference to compare with.
    assert ours - seen == {"reviewpulse_input_drift"}
    text = repr(samples)
    for private in ("kettle", AUTHOR, "broke", "Hello", "no JSON"):
        assert private not in text


class ComplainingWorker(WorkerProcess):
    """Takes "Bad" for a complaint."""

    command = ("tests.integration.complaining_worker",)


def test_an_alert_is_counted_leaves_the_outbox_and_carries_the_trace_of_what_caused_it(
    topics_made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, settings = free_port(), load()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
    worker = ComplainingWorker(tmp_path / "worker.log")
    try:
        worker.wait_for("worker started")
        now = time.time()
        with EventProducer(settings) as producer:
            for n in range(120):
                fields = {
                    "event_id": f"e{n}",
                    "product_id": "kettle",
                    "text": "Bad lid." if n >= 60 else "Good lid.",
                    "event_time": now,
                    "author_id": f"a{n}",
                }
                header = ("traceparent", b"00-%032x-%016x-01" % (n + 1, n + 1))
                written = json.dumps(fields).encode()
                producer.send_record(settings.topic_reviews, b"kettle", written, [header])
            bad = ("traceparent", b"00-%032x-%016x-01" % (999, 999))
            producer.send_record(settings.topic_reviews, b"kettle", b"no JSON", [bad])
            producer.flush()
        samples = until(
            port,
            lambda found: (
                total(found, "alert_transitions_total", state="firing") >= 1
                and ended(found) == 121
                and value(found, "outbox_transitions") == 0
                and value(found, "redis_trip_seconds_count", operation="delivered") >= 1
            ),
        )
    finally:
        worker.stop()
    assert value(samples, "events_counted_total", channel="reviews", label="negative") == 60
    assert value(samples, "events_counted_total", channel="reviews", label="positive") == 60
    alerts = list(read_topic(settings, settings.topic_alerts))
    assert len(alerts) == total(samples, "alert_transitions_total")
    for each in alerts:
        header = dict(each.headers)["traceparent"].decode()
        assert 61 <= int(header.split("-")[1], 16) <= 120  # a complaint, not what came before
    (letter,) = read_topic(settings, f"{settings.topic_reviews}.dlq")
    assert int(dict(letter.headers)["traceparent"].split(b"-")[1], 16) == 999


def test_servers_that_are_away_are_down_and_what_waits_grows_older(
    own_servers: LocalServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, settings = free_port(), load()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
    worker = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    try:
        worker.wait_for("worker started")
        until(port, lambda found: value(found, "redis_up") == 1 and total(found, "partitions_assigned") == 8)
        own_servers.kill_redis()
        sent = time.time()
        with EventProducer(settings, idempotent=False) as producer:
            for n in range(3):
                producer.send_review(event_id=f"e{n}", product_id="kettle", text="Fine.", event_time=sent)
        until(
            port,
            lambda found: (
                value(found, "redis_up") == 0
                and value(found, "redis_errors_total", kind="away") >= 1
                and total(found, "partition_lag_records") == 3
                and total(found, "partition_lag_seconds") >= 3
                and total(found, "watchdog_ok", check="redis") == 0
            ),
        )
        own_servers.restart_redis()
        samples = until(
            port,
            lambda found: (
                value(found, "redis_up") == 1
                and ended(found) == 3
                and total(found, "partition_lag_records") == 0
            ),
        )
        assert total(samples, "partition_lag_seconds") == 0
        assert value(samples, "end_to_end_seconds_count") == 3
        assert value(samples, "end_to_end_seconds_sum") >= 9  # they waited
        own_servers.kill_kafka()
        until(port, lambda found: value(found, "kafka_up") == 0)
    finally:
        worker.kill()
