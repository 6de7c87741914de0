"""The clients for asyncio against a real broker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.client import (
    AlertSubscriber,
    AsyncAlertSubscriber,
    AsyncEventProducer,
    DependencyError,
    EventError,
    EventProducer,
    UsageError,
    load_settings,
)
from stream.client.log import read_topic
from stream.local import LocalServers
from stream.topics import ensure
from tests.builders import alert

if TYPE_CHECKING:
    from stream.settings import Settings

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def topics(settings: Settings) -> Settings:
    ensure(settings)
    return settings


def review(n: int, product_id: str = "B001", **own: Any) -> dict[str, Any]:
    return {"event_id": str(n), "product_id": product_id, "text": f"review {n}", "event_time": 1.6e9, **own}


def publish(settings: Settings, *ids: str) -> None:
    with EventProducer(settings) as producer:
        for each in ids:
            value = msgspec.json.encode(alert(id=each, quotes=[]))
            producer.send_record(settings.topic_alerts, each.encode(), value)


# ---- AsyncEventProducer


async def test_what_was_awaited_is_in_the_log(topics: Settings) -> None:
    async with AsyncEventProducer(topics) as producer:
        await producer.send_review(**review(0), rating=1)
        assert [json.loads(each.value)["rating"] for each in read_topic(topics, topics.topic_reviews)] == [1]
        await producer.send_chat(**review(1), conversation_id="c", role="customer")
        assert len(list(read_topic(topics, topics.topic_chats))) == 1


async def test_a_batch_keeps_its_order_by_product_and_lies_where_the_other_client_puts_it(
    topics: Settings,
) -> None:
    sent = [review(n, f"B{n % 7}", store="Basel") for n in range(3_000)]
    async with AsyncEventProducer(topics) as producer:
        await producer.send_many("reviews", sent)
    with EventProducer(topics) as other:
        for n in range(7):
            other.send("reviews", review(10_000 + n, f"B{n}"))
    records = list(read_topic(topics, topics.topic_reviews))
    for product in range(7):
        of_product = [each for each in records if each.key == f"B{product}".encode()]
        assert len({each.partition for each in of_product}) == 1
        received = [json.loads(each.value) for each in of_product][:-1]
        assert received == [event for event in sent if event["product_id"] == f"B{product}"]


async def test_many_tasks_share_a_producer_and_wait_for_room(
    topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.client.async_producer.MAX_UNACKNOWLEDGED", 50)
    monkeypatch.setattr("stream.client.async_producer.EVENTS_A_STEP", 20)
    async with AsyncEventProducer(topics) as producer, asyncio.TaskGroup() as tasks:
        for n in range(200):
            tasks.create_task(producer.send("reviews", review(n)))
        tasks.create_task(producer.send_many("reviews", [review(n) for n in range(200, 500)]))
    received = {json.loads(each.value)["event_id"] for each in read_topic(topics, topics.topic_reviews)}
    assert received == {str(n) for n in range(500)}


async def test_one_bad_event_is_named_and_its_batch_is_not_sent(topics: Settings) -> None:
    async with AsyncEventProducer(topics) as producer:
        with pytest.raises(EventError, match=r"^the text is empty$"):
            await producer.send("reviews", review(1) | {"text": " "})
        with pytest.raises(EventError, match=r"^event 2 of 3: .*`product_id`"):
            await producer.send_many("reviews", [review(1), {"event_id": "2"}, review(3)])
        with pytest.raises(EventError, match=r"^event 1 of 1: .*JSON"):
            await producer.send_many("reviews", [review(1, store=object())])
        with pytest.raises(UsageError, match="reviews, chats"):
            await producer.send("mails", review(1))  # type: ignore[arg-type]
        await producer.send_many("reviews", [])
    assert list(read_topic(topics, topics.topic_reviews)) == []


async def test_a_send_that_is_cancelled_arrives_and_leaves_room(topics: Settings) -> None:
    async with AsyncEventProducer(topics) as producer:
        await producer.send("reviews", review(0))
        sending = asyncio.create_task(producer.send("reviews", review(1)))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await producer.send("reviews", review(2))
        assert producer._unacknowledged == 0
    received = [json.loads(each.value)["event_id"] for each in read_topic(topics, topics.topic_reviews)]
    assert received[0] == "0"
    assert received[-1] == "2"


async def test_no_broker_is_a_sentence(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.client.log.BOOTSTRAP_MS", 500)
    nowhere = load_settings(kafka=NOWHERE)
    with pytest.raises(DependencyError, match="No Kafka broker answers"):
        async with AsyncEventProducer(nowhere, delivery_timeout_s=0.5):
            pass
    with pytest.raises(DependencyError, match="No Kafka broker answers"):
        await anext(AsyncAlertSubscriber(nowhere))


async def test_an_event_that_a_dying_broker_did_not_take_is_an_error_of_its_sender(
    clean_environment: None,
) -> None:
    with LocalServers() as local:
        settings = load_settings(kafka=local.kafka, redis=local.redis)
        ensure(settings)
        async with AsyncEventProducer(settings, delivery_timeout_s=3) as producer:
            await producer.send("reviews", review(0))
            local.kill_kafka()
            sending = [producer.send("reviews", review(n)) for n in range(1, 4)]
            for refused in await asyncio.gather(*sending, return_exceptions=True):
                assert isinstance(refused, DependencyError)
                assert "1 event was not delivered" in str(refused)
            with pytest.raises(DependencyError, match="2 events were not delivered"):
                await producer.send_many("reviews", [review(4), review(5)])


# ---- AsyncAlertSubscriber


async def test_following_hands_out_what_comes_until_stopped(topics: Settings) -> None:
    publish(topics, "a", "b")
    async with AsyncAlertSubscriber(topics, from_beginning=True) as alerts:
        assert {each.id async for each in alerts.available()} == {"a", "b"}
        await asyncio.to_thread(publish, topics, "c")
        async for each in alerts:
            assert each.id == "c"
            alerts.stop()
        assert [each.id async for each in alerts] == []


async def test_an_alert_that_comes_after_the_wait_was_given_up_is_handed_out_next(topics: Settings) -> None:
    async with AsyncAlertSubscriber(topics, group="web") as alerts:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(alerts), 0.05)
        await asyncio.to_thread(publish, topics, "a")
        assert (await anext(alerts)).id == "a"


async def test_what_nobody_was_handed_comes_again(topics: Settings) -> None:
    async with AsyncAlertSubscriber(topics, group="web") as alerts:
        await asyncio.to_thread(publish, topics, "a")
        alerts._steps = alerts._subscriber.steps()
        came = None
        while came is None:  # it comes when whoever waited for it is gone
            alerts._fetching = alerts._steps, alerts._in_thread(next, alerts._steps, None)
            came = await alerts._fetching[1]
    async with AsyncAlertSubscriber(topics, group="web") as alerts:
        assert [each.id async for each in alerts.available()] == ["a"]
    async with AsyncAlertSubscriber(topics, group="web") as alerts:  # finished: the block ended well
        assert [each.id async for each in alerts.available()] == []


async def test_a_block_that_fails_has_not_finished_its_alert(topics: Settings) -> None:
    publish(topics, "a")

    async def fail() -> None:
        async with AsyncAlertSubscriber(topics, from_beginning=True, group="web") as alerts:
            await anext(alerts)
            raise RuntimeError("the page is down")

    with pytest.raises(RuntimeError, match="the page is down"):
        await fail()
    with AlertSubscriber(topics, from_beginning=True, group="web") as alerts:
        assert [each.id for each in alerts.available()] == ["a"]
