"""Whether memory stays flat, and what a product costs in Redis.

Rules:
- One worker as shipped with the constant scorer; events are produced while it counts, so that nothing but
  the worker and Redis grows with their number.
- Memory of the worker is its resident set, sampled; Redis' is what it says it uses, beyond the empty server.
- The second half of the run must not grow beyond the first: by then every product has been seen.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.pipeline import TEXT, counted, running_worker, wait_until
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.redis_config import connect
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    import redis

    from stream.settings import Settings
    from stream.store.layout import Layout

SAMPLES = 20
SAMPLED_PRODUCTS = 200
AHEAD = 20_000
"""Events the producer may be ahead of the worker."""


class Sample(msgspec.Struct, frozen=True):
    """Memory after so many events."""

    events: int
    worker_mb: float
    redis_mb: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench memory --json`` prints."""

    events: int
    products: int
    samples: list[Sample]
    worker_growth_mb: float
    """Of the second half of the run: last sample minus the middle one."""
    redis_growth_mb: float
    redis_bytes_per_product: float
    """Used memory beyond the empty server's, by active product."""
    bytes_by_key: dict[str, float]
    """Mean ``MEMORY USAGE`` of a product's keys, and its part of the sorted set of active products."""
    encodings: dict[str, int]
    """How Redis stores the sampled product hashes."""


def run(*, events: int, products: int) -> Report:
    """Runs the bench on servers of its own.

    Args:
        events: how many are counted.
        products: how many products they are of, in turn, so that each is active.
    """
    with LocalServers() as servers:
        settings = load(
            kafka=servers.kafka, redis=servers.redis, session_timeout_s=LOCAL_SESSION_TIMEOUT_S, partitions=4
        )
        ensure(settings)
        with connect(settings) as client:
            empty_bytes = used_bytes(client)
        with running_worker(settings) as (pid, client, layout):
            samples = asyncio.run(_feed(settings, client, layout, pid, events, products))
            used = used_bytes(client) - empty_bytes
            by_key, encodings = bytes_by_key(client, layout, products)
            return Report(
                events=events,
                products=products,
                samples=samples,
                worker_growth_mb=samples[-1].worker_mb - samples[len(samples) // 2].worker_mb,
                redis_growth_mb=samples[-1].redis_mb - samples[len(samples) // 2].redis_mb,
                redis_bytes_per_product=used / client.zcard(layout.active(0)),
                bytes_by_key=by_key,
                encodings=encodings,
            )


async def _feed(
    settings: Settings, client: redis.Redis, layout: Layout, pid: int, events: int, products: int
) -> list[Sample]:
    samples: list[Sample] = []
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, linger_ms=10, max_batch_size=256 * 1024, acks="all"
    )
    await producer.start()
    try:
        for n in range(events):
            product_id = f"product-{n % products}"
            value = msgspec.json.encode(
                {
                    "event_id": f"event-{n}",
                    "product_id": product_id,
                    "text": TEXT,
                    "event_time": time.time(),
                    "author_id": f"author-{n}",
                }
            )
            await producer.send(settings.topic_reviews, value, key=product_id.encode())
            if n % 5000 == 4999:
                await asyncio.to_thread(wait_until, lambda n=n: counted(client, layout) + AHEAD > n, pid)
            if (n + 1) % (events // SAMPLES) == 0:
                samples.append(Sample(n + 1, resident_bytes(pid) / 1e6, used_bytes(client) / 1e6))
        await producer.flush()
    finally:
        await producer.stop()
    await asyncio.to_thread(wait_until, lambda: counted(client, layout) >= events, pid)
    return samples


def resident_bytes(pid: int) -> int:
    """Resident set of a process (Linux ``/proc``, see proc(5))."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def used_bytes(client: redis.Redis) -> int:
    """What Redis says it uses."""
    return int(client.info("memory")["used_memory"])


def bytes_by_key(
    client: redis.Redis, layout: Layout, products: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Mean bytes of what a product keeps, and how its hash is encoded, over a sample of the products."""
    names = [f"product-{n}" for n in range(0, products, max(products // SAMPLED_PRODUCTS, 1))]
    hashes = [layout.product(name) for name in names]
    states = [layout.spike("reviews", name) for name in names]
    active = [layout.active(shard) for shard in range(layout.shards)]

    def mean_bytes(keys: list[str]) -> float:
        return sum(client.memory_usage(key) or 0 for key in keys) / len(keys)

    by_key = {
        "counters": mean_bytes(hashes),
        "detector state": mean_bytes(states),
        "entry in the set of active products": (
            sum(client.memory_usage(key) or 0 for key in active) / sum(client.zcard(key) for key in active)
        ),
    }
    return by_key, Counter(client.object("encoding", key).decode() for key in hashes)
