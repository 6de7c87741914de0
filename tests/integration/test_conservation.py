"""Every event is counted exactly once, whatever dies: sums are compared with a recount of what was sent."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from builders import read_product_hash

from stream.core.buckets import RESOLUTIONS
from stream.core.buckets import field as bucket_field
from stream.redis_config import connect
from stream.store.layout import read_written

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings

EVENTS = 20_000
SESSION_S = 6
"""As the fixture ``env`` sets it."""
LATE_MS = 9_000_000
"""Two hours and a half: the minute is no longer kept, the hour still is."""


class Sent(NamedTuple):
    """One record, and what must become of it."""

    topic: str
    channel: str
    outcome: str
    product_id: str
    event_ms: int
    late: bool
    value: bytes


def make_events(settings: Settings, seed: int) -> list[Sent]:
    """Reviews, chats from both sides, late ones, and some that are no events at all."""
    chance = random.Random(seed)
    now_ms = int(time.time() * 1000)
    events = []
    for n in range(EVENTS):
        product_id = f"p{min(int(chance.paretovariate(0.8)), 300)}"
        late = chance.random() < 0.02
        event_ms = now_ms - (LATE_MS if late else chance.randrange(120_000))
        fields: dict[str, Any] = {
            "event_id": f"e{n}",
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
                "conversation_id": f"c{n % 50}",
            }
        value = json.dumps(fields).encode()
        if outcome == "counted" and chance.random() < 0.01:
            outcome = "dead"
            value = chance.choice((b"{", b"[]", b"\xff", value.replace(b"The lid broke.", b"")))
        events.append(Sent(settings.topics[channel], channel, outcome, product_id, event_ms, late, value))
    return events


async def send(kafka: str, events: list[Sent], over_s: float) -> None:
    """Sends at a steady pace, so that there is a middle to kill in."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=2, acks="all")
    await producer.start()
    try:
        started = time.monotonic()
        pending = []
        for n, event in enumerate(events):
            pending.append(await producer.send(event.topic, event.value, key=event.product_id.encode()))
            ahead_s = started + over_s * n / len(events) - time.monotonic()
            if ahead_s > 0.02:
                await asyncio.sleep(ahead_s)
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


def recount(events: list[Sent]) -> tuple[dict[str, dict[int | str, int]], Counter[str]]:
    """Events by product and bucket, and the ledger; from what was sent, not from what was stored."""
    products: dict[str, dict[int | str, int]] = defaultdict(Counter)
    ledger: Counter[str] = Counter()
    for event in events:
        ledger[f"{event.channel}:{event.outcome}"] += 1
        if event.outcome != "counted":
            continue
        ledger[f"{event.channel}:late"] += event.late
        products[event.product_id]["total"] += 1
        for resolution in RESOLUTIONS[1:] if event.late else RESOLUTIONS:
            products[event.product_id][bucket_field(resolution, event.event_ms)] += 1
    return products, +ledger


def stored(settings: Settings) -> tuple[dict[str, dict[int | str, int]], Counter[str]]:
    """The same from Redis. The constant scorer says positive, so that label holds every event."""
    products: dict[str, dict[int | str, int]] = {}
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


def kill(worker: Any, start: Callable[..., Any]) -> Any:
    worker.kill()
    return start()


def pause(worker: Any, start: Callable[..., Any]) -> Any:
    """Stops a worker until its partitions are another's, and wakes it: a zombie with work in its hands."""
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(SESSION_S + 3)
    worker.process.send_signal(signal.SIGCONT)
    return worker


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "shards", "faults"),
    [(1, 1, [kill, kill, kill]), (2, 1, [pause, kill, pause]), (3, 3, [kill, pause, kill])],
)
def test_two_workers_count_exactly_when_one_is_killed_or_paused_again_and_again(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
    seed: int,
    shards: int,
    faults: list[Callable[..., Any]],
) -> None:
    monkeypatch.setenv("REVIEWPULSE_SHARDS", str(shards))
    monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
    settings = settings.model_copy(update={"shards": shards})
    chance = random.Random(seed)
    events = make_events(settings, seed)
    workers = [start_worker(), start_worker()]
    for worker in workers:
        worker.wait_for("worker started")

    for part, fault in enumerate(faults):
        chunk = events[part * EVENTS // len(faults) : (part + 1) * EVENTS // len(faults)]
        sender = threading.Thread(target=asyncio.run, args=(send(settings.kafka, chunk, over_s=3.0),))
        sender.start()
        time.sleep(chance.uniform(0.3, 2.7))
        victim = chance.randrange(2)
        workers[victim] = fault(workers[victim], start_worker)
        sender.join()

    wait_until_ended(EVENTS)
    assert [worker.stop() for worker in workers] == [0, 0]

    expected_products, expected_ledger = recount(events)
    products, ledger = stored(settings)
    assert ledger == expected_ledger
    assert products == expected_products
