"""Events, and what must become of each: a count of what the log held that owes nothing to the worker.

Rules:
- An event says what must become of it before it is sent.
- What is counted is what the log held, record for record. A record that a partition holds twice, because its
  producer tried again, is an event and a duplicate; were it dead or skipped, it is that twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer

from stream.core.buckets import RESOLUTIONS
from stream.core.buckets import field as bucket_field
from stream.redis_config import connect
from stream.store.layout import read_written
from tests.builders import read_product_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stream.settings import Settings

EVENTS = 20_000
PRODUCTS = 300
LATE_MS = 9_000_000
"""Two hours and a half: the minute is no longer kept, the hour still is."""

Products = dict[str, dict["int | str", int]]
"""By product: how many events in each bucket, and in ``total``."""


class Sent(NamedTuple):
    """One record, and what must become of it."""

    topic: str
    channel: str
    outcome: str
    product_id: str
    event_ms: int
    late: bool
    value: bytes


def events(settings: Settings, seed: int) -> Iterator[Sent]:
    """Reviews, chats from both sides, late ones, and some that are no events at all; without end."""
    chance = random.Random(seed)
    number = 0
    while True:
        yield _event(settings, chance, number)
        number += 1


def _event(settings: Settings, chance: random.Random, number: int) -> Sent:
    product_id = f"p{min(int(chance.paretovariate(0.8)), PRODUCTS)}"
    late = chance.random() < 0.02
    event_ms = int(time.time() * 1000) - (LATE_MS if late else chance.randrange(120_000))
    fields: dict[str, Any] = {
        "event_id": f"e{number}",
        "product_id": product_id,
        "text": "The lid broke.",
        "event_time": event_ms,
    }
    channel, outcome = "reviews", "counted"
    if chance.random() < 0.15:
        channel = "chats"
        outcome = chance.choice(("counted", "skipped"))
        fields |= {
            "role": "customer" if outcome == "counted" else "agent",
            "conversation_id": f"c{number % 50}",
        }
    value = json.dumps(fields).encode()
    if outcome == "counted" and chance.random() < 0.01:
        outcome = "dead"
        value = chance.choice((b"{", b"[]", b"\xff", value.replace(b"The lid broke.", b"")))
    return Sent(settings.topics[channel], channel, outcome, product_id, event_ms, late, value)


def make_events(settings: Settings, seed: int) -> list[Sent]:
    """The first ``EVENTS`` of them."""
    return list(islice(events(settings, seed), EVENTS))


async def send(kafka: str, records: Sequence[Sent], over_s: float) -> None:
    """Sends at a steady pace, so that there is a middle for something to happen in."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=2, acks="all")
    await producer.start()
    try:
        started = time.monotonic()
        pending = []
        for n, event in enumerate(records):
            pending.append(await producer.send(event.topic, event.value, key=event.product_id.encode()))
            ahead_s = started + over_s * n / len(records) - time.monotonic()
            if ahead_s > 0.02:
                await asyncio.sleep(ahead_s)
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


def recount(records: Iterable[Sent]) -> tuple[Products, Counter[str]]:
    """Events by product and bucket, and the ledger.

    Args:
        records: what the log held. A record and its repetition are the same object; the key's partition is
            the same, too, and far fewer come between them than a partition remembers.
    """
    products: Products = defaultdict(Counter)
    ledger: Counter[str] = Counter()
    counted: set[int] = set()
    for event in records:
        is_duplicate = id(event) in counted
        ledger[f"{event.channel}:{'duplicate' if is_duplicate else event.outcome}"] += 1
        if is_duplicate or event.outcome != "counted":
            continue
        counted.add(id(event))
        ledger[f"{event.channel}:late"] += event.late
        products[event.product_id]["total"] += 1
        for resolution in RESOLUTIONS[1:] if event.late else RESOLUTIONS:
            products[event.product_id][bucket_field(resolution, event.event_ms)] += 1
    return products, +ledger


def stored(settings: Settings) -> tuple[Products, Counter[str]]:
    """The same from Redis. The constant scorer says positive, so that label holds every event."""
    products: Products = {}
    ledger: Counter[str] = Counter()
    with connect(settings) as client:
        layout = read_written(client.get(f"{settings.namespace}:layout")).layout(settings.namespace)
        for shard in range(layout.shards):
            for outcome, number in client.hgetall(layout.ledger(shard)).items():
                ledger[outcome.decode()] += int(number)
            for product_id in client.zrange(layout.active(shard), 0, -1):
                total, buckets = read_product_hash(client.hgetall(layout.product(product_id.decode())))
                counts = {"total": total.sums, **buckets}
                assert all(each[0] == each[1] == 0 for each in counts.values())
                assert all(each[3] == 800 * each[2] for each in counts.values())
                products[product_id.decode()] = {name: each[2] for name, each in counts.items()}
    return products, ledger


def stored_of_fleet(settings: Settings) -> int:
    """Events counted of the whole fleet: those of all products, once nothing is counted any more."""
    with connect(settings) as client:
        layout = read_written(client.get(f"{settings.namespace}:layout")).layout(settings.namespace)
        fleets = [client.hgetall(layout.fleet(shard)) for shard in range(layout.shards)]
    return sum(read_product_hash(each)[0].sums[2] for each in fleets if each)
