"""What reaches Kafka, in which order, and what a refusal leaves behind."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError
from builders import CHATS, record, until

from stream import backoff, publish
from stream.core.events import Score
from stream.errors import DependencyError
from stream.publish import MAX_LETTER_BYTES, KafkaPublisher
from stream.record import Refused
from stream.store.contract import Apply
from stream.store.memory import MemoryStore
from tests.builders import alert


class FakeProducer:
    """Faust's producer: ``send`` queues and gives a future that the broker's answer completes."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.refuse_send: Exception | None = None
        self.refuse_ack: Exception | None = None
        self.held: list[asyncio.Future[None]] | None = None
        """Acknowledgements that wait, where a test holds them back."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: list[tuple[str, bytes]] | None,
    ) -> asyncio.Future[None]:
        if self.refuse_send is not None:
            raise self.refuse_send
        assert partition is None
        assert timestamp is None
        self.sent.append({"topic": topic, "key": key, "value": value, "headers": dict(headers or ())})
        acknowledgement: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.held is not None:
            self.held.append(acknowledgement)
        elif self.refuse_ack is not None:
            acknowledgement.set_exception(self.refuse_ack)
        else:
            acknowledgement.set_result(None)
        return acknowledgement


def make(
    producer: FakeProducer | None = None, *, store: MemoryStore | None = None, owned: set[str] | None = None
) -> tuple[KafkaPublisher, FakeProducer, MemoryStore]:
    producer, store = producer or FakeProducer(), store or MemoryStore()
    publisher = KafkaPublisher(
        producer=producer,
        store=store,
        owned=lambda: {"reviews:0"} if owned is None else owned,
        alerts_topic="alerts",
        scores_topic="scores",
    )
    return publisher, producer, store


async def add_transitions(
    store: MemoryStore, *ids: str, partition: str = "reviews:0", shard: int = 0
) -> None:
    base = (await store.applied([partition]))[partition][shard]
    alerts = [msgspec.json.encode(alert(id=each)) for each in ids]
    assert await store.apply([Apply(shard, partition, base, base + 1, "reviews", 0, {}, [], alerts)]) == [
        None
    ]


async def waiting(store: MemoryStore) -> list[str]:
    return [
        msgspec.json.decode(entry.alert)["id"]
        for shard in range(store.shards)
        for entry in await store.outbox(shard)
    ]


async def test_a_dead_letter_carries_the_bytes_as_received_and_why() -> None:
    publisher, producer, _ = make()
    raw = record(17, b"{\xff\x00", tp=CHATS._replace(partition=3), key=b"ket\xfftle")
    await publisher.dead_letters([Refused(raw, "decode", "das ist kein JSON: é")])
    [sent] = producer.sent
    assert (sent["topic"], sent["key"], sent["value"]) == ("chats.dlq", b"ket\xfftle", b"{\xff\x00")
    failed_at = sent["headers"].pop("failed_at").decode()
    assert datetime.fromisoformat(failed_at).tzinfo is not None
    assert sent["headers"] == {
        "stage": b"decode",
        "reason": "das ist kein JSON: é".encode(),
        "source_topic": b"chats",
        "source_partition": b"3",
        "source_offset": b"17",
    }


async def test_a_tombstone_can_be_a_dead_letter() -> None:
    publisher, producer, _ = make()
    await publisher.dead_letters([Refused(record(0, None), "decode", "no value")])
    assert (producer.sent[0]["key"], producer.sent[0]["value"]) == (None, None)


async def test_a_redriven_record_keeps_where_it_came_from_and_no_other_header() -> None:
    publisher, producer, _ = make()
    headers = (("redriven_from", b"reviews/0/4/abc"), ("stage", b"score"), ("traceparent", b"00-1"))
    await publisher.dead_letters([Refused(record(9, b"{", headers=headers), "decode", "not JSON")])
    sent = producer.sent[0]["headers"]
    assert sent["redriven_from"] == b"reviews/0/4/abc"
    assert sent["stage"] == b"decode"
    assert "traceparent" not in sent


@pytest.mark.parametrize(
    ("key_bytes", "value_bytes"), [(5, MAX_LETTER_BYTES), (MAX_LETTER_BYTES, 5), (700_000, 700_000)]
)
async def test_a_record_too_large_for_its_letter_is_cut_and_says_so(key_bytes: int, value_bytes: int) -> None:
    """A producer refuses a request above its limit each time: the letter would stop the stream for ever."""
    publisher, producer, _ = make()
    large = record(0, b"v" * value_bytes, key=b"k" * key_bytes, headers=(("redriven_from", b"h" * 500_000),))
    await publisher.dead_letters([Refused(large, "decode", "r" * 500_000)])
    [sent] = producer.sent
    sizes = [len(sent["key"]), len(sent["value"]), *(len(n) + len(v) for n, v in sent["headers"].items())]
    assert sum(sizes) < 1_000_000
    assert sent["headers"]["cut_from"] == str(key_bytes + value_bytes).encode()
    assert set(sent["key"]) == set(b"k")
    assert sent["value"] in large.value


async def test_a_record_that_fits_is_not_cut() -> None:
    publisher, producer, _ = make()
    await publisher.dead_letters([Refused(record(0, b"v" * (MAX_LETTER_BYTES - 1), key=b"k"), "decode", "r")])
    assert len(producer.sent[0]["value"]) == MAX_LETTER_BYTES - 1
    assert "cut_from" not in producer.sent[0]["headers"]


async def test_a_reason_that_is_no_text_can_be_sent() -> None:
    publisher, producer, _ = make()
    await publisher.dead_letters([Refused(record(0, b"{"), "score", "cannot take \ud800")])
    assert producer.sent[0]["headers"]["reason"] == b"cannot take \\ud800"


async def test_scores_go_out_keyed_by_product() -> None:
    publisher, producer, _ = make()
    score = Score(
        event_id="e",
        product_id="灯",
        channel="reviews",
        label="negative",
        probabilities={"negative": 1.0, "neutral": 0.0, "positive": 0.0},
        sentiment=-1.0,
        model_version="v1",
        event_time="2023-11-14T22:13:20.000Z",
        queue_ms=1.0,
        score_ms=2.0,
    )
    await publisher.scores([score])
    [sent] = producer.sent
    assert (sent["topic"], sent["key"]) == ("scores", "灯".encode())
    assert msgspec.json.decode(sent["value"], type=Score) == score


async def test_a_call_returns_only_when_the_broker_has_acknowledged_everything() -> None:
    publisher, producer, _ = make()
    producer.held = []
    letters = [Refused(record(n, b"{"), "decode", "not JSON") for n in range(2)]
    sending = asyncio.create_task(publisher.dead_letters(letters))
    await until(lambda: len(producer.held) == 2)
    producer.held[0].set_result(None)
    await asyncio.wait({sending}, timeout=0)
    assert not sending.done()
    producer.held[1].set_result(None)
    await sending


@pytest.mark.parametrize("where", ["refuse_send", "refuse_ack"])
@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), KafkaTimeoutError()])
async def test_a_broker_that_does_not_take_it_is_a_dependency(where: str, error: Exception) -> None:
    publisher, producer, _ = make()
    setattr(producer, where, error)
    with pytest.raises(DependencyError, match="Kafka did not take 1 records"):
        await publisher.dead_letters([Refused(record(0, b"{"), "decode", "not JSON")])


async def test_transitions_go_out_in_order_keyed_by_alert_and_leave_the_outbox() -> None:
    publisher, producer, store = make()
    await add_transitions(store, "a", "b")
    await add_transitions(store, "a")
    await publisher.deliver()
    assert [(sent["topic"], sent["key"]) for sent in producer.sent] == [
        ("alerts", b"a"),
        ("alerts", b"b"),
        ("alerts", b"a"),
    ]
    assert await waiting(store) == []
    await publisher.deliver()
    assert len(producer.sent) == 3


async def test_only_transitions_of_partitions_read_here_are_delivered() -> None:
    publisher, producer, store = make(owned={"reviews:1"})
    await add_transitions(store, "theirs", partition="reviews:0")
    await add_transitions(store, "ours", partition="reviews:1")
    await publisher.deliver()
    assert [sent["key"] for sent in producer.sent] == [b"ours"]
    assert await waiting(store) == ["theirs"]


async def test_every_shard_is_delivered() -> None:
    publisher, producer, store = make(store=MemoryStore(3))
    for shard in range(3):
        await add_transitions(store, f"shard-{shard}", shard=shard)
    await publisher.deliver()
    assert [sent["key"] for sent in producer.sent] == [b"shard-0", b"shard-1", b"shard-2"]
    assert await waiting(store) == []


@pytest.mark.parametrize("where", ["refuse_send", "refuse_ack"])
async def test_transitions_stay_in_the_outbox_until_kafka_has_them(where: str) -> None:
    publisher, producer, store = make()
    await add_transitions(store, "a")
    setattr(producer, where, KafkaConnectionError("gone"))
    with pytest.raises(DependencyError):
        await publisher.deliver()
    assert await waiting(store) == ["a"]
    setattr(producer, where, None)
    await publisher.deliver()
    assert await waiting(store) == []


async def test_transitions_leave_the_outbox_only_after_the_acknowledgement() -> None:
    publisher, producer, store = make()
    await add_transitions(store, "a")
    producer.held = []
    delivering = asyncio.create_task(publisher.deliver())
    await until(lambda: producer.held)
    assert await waiting(store) == ["a"]
    producer.held[0].set_result(None)
    await delivering
    assert await waiting(store) == []


async def test_a_nudge_delivers_without_waiting_for_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "SWEEP_S", 3600.0)
    publisher, producer, store = make()
    running = asyncio.create_task(publisher.run())
    await until(lambda: publisher._nudge._waiters)  # it has looked once and found nothing
    await add_transitions(store, "a")
    publisher.alerts_waiting()
    await until(lambda: not store.outboxes[0])
    assert [sent["key"] for sent in producer.sent] == [b"a"]
    running.cancel()


async def test_leftovers_of_a_dead_worker_are_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody nudges for them."""
    monkeypatch.setattr(publish, "SWEEP_S", 0)
    owned: set[str] = set()
    publisher, producer, store = make(owned=owned)
    await add_transitions(store, "left")
    running = asyncio.create_task(publisher.run())
    await asyncio.sleep(0)
    assert producer.sent == []
    owned.add("reviews:0")
    await until(lambda: not store.outboxes[0])
    assert [sent["key"] for sent in producer.sent] == [b"left"]
    running.cancel()


async def test_delivery_goes_on_when_kafka_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0)
    publisher, producer, store = make()
    await add_transitions(store, "a")
    producer.refuse_send = KafkaConnectionError("gone")
    running = asyncio.create_task(publisher.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert await waiting(store) == ["a"]
    producer.refuse_send = None
    await until(lambda: not store.outboxes[0])
    running.cancel()


async def test_nothing_to_send_sends_nothing() -> None:
    publisher, producer, _ = make()
    await publisher.deliver()
    await publisher.dead_letters([])
    assert producer.sent == []
