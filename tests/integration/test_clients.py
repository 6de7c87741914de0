"""The published clients against a real broker and a real Redis."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.client import AlertSubscriber, AsyncLiveCounters, EventProducer, LiveCounters
from stream.client.log import read_topic
from stream.core.buckets import RESOLUTIONS, field
from stream.core.events import Alert
from stream.errors import DependencyError, EventError, UsageError
from stream.local import LocalServers
from stream.redis_config import connect
from stream.settings import load
from stream.store.layout import LAYOUT_VERSION, Layout
from stream.store.values import Total
from stream.topics import ensure
from tests.builders import alert, product_hash

if TYPE_CHECKING:
    from stream.settings import Settings

NOW_MS = 1_700_000_000_000
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def topics(settings: Settings) -> Settings:
    ensure(settings)
    return settings


def review(n: int, product_id: str = "B001", **own: Any) -> dict[str, Any]:
    return {"event_id": str(n), "product_id": product_id, "text": f"review {n}", "event_time": 1.6e9, **own}


def transition(id_: str, sequence: int) -> Alert:
    return alert(
        id=id_,
        sequence=sequence,
        state="firing" if sequence == 1 else "resolved",
        at=f"2024-01-17T10:00:0{sequence}.000Z",
        quotes=[],
    )


def publish(settings: Settings, *alerts: Alert | bytes | None) -> None:
    with EventProducer(settings) as producer:
        for each in alerts:
            value = msgspec.json.encode(each) if isinstance(each, Alert) else each
            key = each.id if isinstance(each, Alert) else "other"
            producer.send_record(settings.topic_alerts, key.encode(), value)


# ---- EventProducer


def test_events_arrive_in_order_by_product_with_their_own_fields(topics: Settings) -> None:
    sent = [review(n, f"B{n % 7}", store="Basel") for n in range(3_000)]
    with EventProducer(topics) as producer:
        for event in sent:
            producer.send("reviews", event)
        producer.flush()
        assert producer.delivered == len(sent)
    records = list(read_topic(topics, topics.topic_reviews))
    assert len(records) == len(sent)
    partitions: dict[bytes, set[int]] = {}
    for record in records:
        partitions.setdefault(record.key, set()).add(record.partition)
    assert all(len(each) == 1 for each in partitions.values())
    for product in range(7):
        received = [json.loads(each.value) for each in records if each.key == f"B{product}".encode()]
        assert received == [event for event in sent if event["product_id"] == f"B{product}"]


def test_without_idempotence_everything_arrives_in_order_too(topics: Settings) -> None:
    with EventProducer(topics, idempotent=False) as producer:
        for n in range(1_000):
            producer.send_review(**review(n))
    received = [json.loads(each.value)["event_id"] for each in read_topic(topics, topics.topic_reviews)]
    assert received == [str(n) for n in range(1_000)]


def test_many_threads_may_share_a_producer(topics: Settings) -> None:
    def send(thread: int) -> None:
        for n in range(500):
            producer.send("reviews", review(thread * 500 + n, f"B{thread}"))

    with EventProducer(topics) as producer:
        threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    received = {json.loads(each.value)["event_id"] for each in read_topic(topics, topics.topic_reviews)}
    assert received == {str(n) for n in range(2_000)}


def test_a_bad_event_is_refused_before_it_is_sent(topics: Settings) -> None:
    with EventProducer(topics) as producer:
        with pytest.raises(EventError, match="missing required field `product_id`"):
            producer.send_review(event_id="1", text="x", event_time=1)
        with pytest.raises(EventError, match="the text is empty"):
            producer.send_review(**review(1) | {"text": " "})
        with pytest.raises(EventError, match="role"):
            producer.send_chat(**review(1), conversation_id="c", role="bot")
        with pytest.raises(UsageError, match="reviews, chats"):
            producer.send("mails", review(1))  # type: ignore[arg-type]
    assert list(read_topic(topics, topics.topic_reviews)) == []


def test_no_broker_is_a_sentence(settings: Settings) -> None:
    nowhere = load(kafka=NOWHERE)
    with pytest.raises(DependencyError, match="No Kafka broker answers"):
        EventProducer(nowhere, delivery_timeout_s=1)


def test_events_that_a_dying_broker_did_not_take_are_counted(clean_environment: None) -> None:
    with LocalServers() as local:
        settings = load(kafka=local.kafka, redis=local.redis)
        ensure(settings)
        producer = EventProducer(settings, delivery_timeout_s=2)
        producer.send("reviews", review(0))
        producer.flush()
        local.kill_kafka()
        for n in range(1, 6):
            producer.send("reviews", review(n))
        with pytest.raises(DependencyError, match="5 events were not delivered"):
            producer.flush()
        assert producer.delivered == 1
        producer.close()  # said once: closing does not say it again


# ---- LiveCounters


@pytest.fixture
def counted(settings: Settings) -> Settings:
    """Two products in three shards, written as the worker writes them."""
    layout = Layout(settings.namespace, 3)
    minute = RESOLUTIONS[0]
    with connect(settings) as redis:
        redis.set(layout.layout_key, json.dumps({"version": LAYOUT_VERSION, "shards": 3}))
        for product, negative, positive in (("good", 1, 99), ("bad", 60, 40), ("новый", 1, 0)):
            sums = (negative, 0, positive, (positive - negative) * 1_000)
            total = Total(sums, 2, NOW_MS - 60_000, NOW_MS)
            redis.hset(layout.product(product), mapping=product_hash(total, {field(minute, NOW_MS): sums}))
            shard = layout.shard(product)
            redis.zadd(layout.active(shard), {product: NOW_MS})
            redis.hincrby(layout.ledger(shard), "reviews:counted", negative + positive)
        redis.hincrby(layout.ledger(0), "chats:skipped", 4)
    return settings


def test_counters_are_read_across_shards(counted: Settings) -> None:
    with LiveCounters(counted, now_ms=lambda: NOW_MS) as counters:
        bad = counters.get("bad", "5m")
        assert (bad.negative, bad.events, bad.negative_share, bad.mean_sentiment) == (60, 100, 0.6, -0.2)
        assert [each.events for each in counters.get_many(["good", "bad", "none"], "all")] == [100, 100, 0]
        assert [each.product_id for each in counters.leaders("1h")] == ["bad", "новый", "good"]
        assert [each.product_id for each in counters.leaders("all", min_events=50)] == ["bad", "good"]
        assert [each.events for each in counters.windows("good", ["5m", "24h"])] == [100, 0]
        totals = counters.totals()
        assert (totals["reviews"].counted, totals["chats"].skipped) == (201, 4)


async def test_the_async_client_says_the_same(counted: Settings) -> None:
    with LiveCounters(counted, now_ms=lambda: NOW_MS) as counters:
        async with AsyncLiveCounters(counted, now_ms=lambda: NOW_MS) as others:
            assert await others.get("bad", "5m") == counters.get("bad", "5m")
            assert await others.leaders("1h", "negative") == counters.leaders("1h", "negative")
            assert await others.windows("bad") == counters.windows("bad")
            assert await others.totals() == counters.totals()


def test_before_the_first_worker_everything_is_empty(settings: Settings) -> None:
    with LiveCounters(settings) as counters:
        assert counters.get("B001").events == 0
        assert counters.leaders() == []
        assert counters.totals()["reviews"].counted == 0


async def test_no_redis_is_a_sentence_without_the_password(settings: Settings) -> None:
    nowhere = load(redis=f"redis://ops:secret@{NOWHERE}/0")
    with LiveCounters(nowhere) as counters, pytest.raises(DependencyError, match="Cannot read") as refused:
        counters.get("B001")
    assert "secret" not in str(refused.value)
    async with AsyncLiveCounters(nowhere) as counters:
        with pytest.raises(DependencyError, match="Cannot read"):
            await counters.totals()


# ---- AlertSubscriber


def test_repeats_and_what_is_no_alert_are_left_out(topics: Settings) -> None:
    publish(
        topics,
        transition("a", 1),
        transition("a", 1),
        b"{}",
        None,
        transition("a", 2),
        transition("a", 1),
        transition("b", 1),
    )
    with AlertSubscriber(topics, from_beginning=True) as alerts:
        assert [(each.id, each.sequence) for each in alerts.available()] == [("a", 1), ("a", 2), ("b", 1)]
        publish(topics, transition("b", 1), transition("b", 2))
        assert [(each.id, each.sequence) for each in alerts.available()] == [("b", 2)]


def test_a_new_subscriber_starts_with_the_next_alert(topics: Settings) -> None:
    publish(topics, transition("a", 1))
    with AlertSubscriber(topics) as alerts:
        publish(topics, transition("b", 1))
        assert [each.id for each in alerts.available()] == ["b"]


def test_following_ends_when_stopped(topics: Settings) -> None:
    received = []
    with AlertSubscriber(topics) as alerts:
        publisher = threading.Thread(target=publish, args=(topics, transition("a", 1), transition("a", 2)))
        publisher.start()
        for each in alerts:
            received.append((each.id, each.sequence))
            if len(received) == 2:
                alerts.stop()
        publisher.join()
    assert received == [("a", 1), ("a", 2)]


def test_a_group_goes_on_where_it_was_and_repeats_what_was_not_finished(topics: Settings) -> None:
    publish(topics, *(transition(id_, 1) for id_ in "abcd"))
    with AlertSubscriber(topics, from_beginning=True, group="pager") as alerts:
        for each in alerts.available():
            if each.id == "b":
                break  # handled, and left the block without an error: finished
    seen = []

    def handle_until_d() -> None:
        with AlertSubscriber(topics, from_beginning=True, group="pager") as alerts:
            for each in alerts.available():
                seen.append(each.id)
                if each.id == "d":
                    raise RuntimeError("pager is down")

    with pytest.raises(RuntimeError, match="pager is down"):
        handle_until_d()
    assert seen == ["c", "d"]
    with AlertSubscriber(topics, group="pager") as alerts:
        assert [each.id for each in alerts.available()] == ["d"]


def test_a_missing_topic_or_broker_is_a_sentence(settings: Settings) -> None:
    with pytest.raises(DependencyError, match="No Kafka broker answers"):
        AlertSubscriber(load(kafka=NOWHERE))


def test_what_comes_while_reading_is_left_for_the_next(topics: Settings) -> None:
    publish(topics, *(transition(f"a{n}", 1) for n in range(5)))
    with AlertSubscriber(topics, from_beginning=True) as alerts:
        first = alerts.available()
        got = [next(first).id]
        publish(topics, transition("late", 1))
        got += [each.id for each in first]
        assert got == [f"a{n}" for n in range(5)]
        assert [each.id for each in alerts.available()] == ["late"]
