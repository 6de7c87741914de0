"""How fast the whole path is with a model that costs nothing, beside plain readers of the same topic.

Rules:
- One run, one broker, one topic: each contestant in a process of its own, in turn, several rounds. Figures
  are medians, ratios are taken round by round; the machine's mood cancels out.
- The whole path is one worker as shipped (decode, window, score by a constant, judge, atomic step), timed
  from outside by what Redis shows. The others only count.
- Latency is from Kafka's acknowledgement to visible in Redis, polled from outside, at a tenth of the whole
  path's throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.readers import READERS
from stream.errors import DependencyError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.redis_config import connect, connect_async
from stream.settings import Settings, load
from stream.store.layout import Layout
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

POLL_S = 0.005
FAUST_SHARE = 4
"""Plain Faust reads a quarter of the events: its rate is flat, and it is that much slower."""
LATENCY_S = 12.0
SETTLING_S = 2.0
"""Of steady load before the first probe."""
WARM_UP_EVENTS = 2000
PROBES_PER_S = 20
PACE_S = 0.01
"""Between two handfuls of load: larger ones would be bursts, and keep the probes waiting in this process."""
LONGEST_S = 300.0
TEXT = (
    "Bought this for my daughter's birthday. It arrived quickly and looked fine out of the box, but after two"
    " weeks the hinge started to creak and the battery no longer lasts the evening. Support answered within a"
    " day and offered a replacement, which I appreciate."
)


class Rate(msgspec.Struct, frozen=True):
    """One contestant's figures."""

    events_per_s: float
    cpu_us_per_event: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench pipeline --json`` prints."""

    events: int
    products: int
    rounds: int
    rates: dict[str, Rate]
    """Medians by contestant; ``whole path`` is the worker."""
    times_faust: float
    """Events/s of the whole path over those of plain Faust, median of the rounds."""
    redis_cpu_us_per_event: float
    broker_cpu_us_per_event: float
    latency_load_events_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float


def run(*, events: int, products: int, rounds: int) -> Report:
    """Runs the bench on servers of its own.

    Args:
        events: records in the topic.
        products: the Zipf-distributed products they are of.
        rounds: turns each contestant gets.

    Raises:
        DependencyError: a server or contestant failed.
    """
    with LocalServers() as servers:
        settings = load(
            kafka=servers.kafka, redis=servers.redis, session_timeout_s=LOCAL_SESSION_TIMEOUT_S, partitions=4
        )
        ensure(settings)
        asyncio.run(fill(settings, events, products))
        pids = {"redis": servers.pids["redis"], "broker": servers.pids["kafka"]}
        results: list[dict[str, Any]] = []
        for _ in range(rounds):
            turn: dict[str, Any] = {"whole path": time_worker(settings, events, pids)}
            for kind in READERS:
                turn[kind] = _time_reader(kind, settings, events // (FAUST_SHARE if kind == "faust" else 1))
            results.append(turn)
        rates = {
            name: Rate(
                statistics.median(turn[name]["events_per_s"] for turn in results),
                statistics.median(turn[name]["cpu_us_per_event"] for turn in results),
            )
            for name in results[0]
        }
        load_events_per_s = rates["whole path"].events_per_s / 10
        latencies = _time_latency(settings, load_events_per_s, products)
    return Report(
        events=events,
        products=products,
        rounds=rounds,
        rates=rates,
        times_faust=statistics.median(
            turn["whole path"]["events_per_s"] / turn["faust"]["events_per_s"] for turn in results
        ),
        redis_cpu_us_per_event=statistics.median(turn["whole path"]["redis"] for turn in results),
        broker_cpu_us_per_event=statistics.median(turn["whole path"]["broker"] for turn in results),
        latency_load_events_per_s=load_events_per_s,
        latency_p50_ms=statistics.median(latencies),
        latency_p99_ms=statistics.quantiles(latencies, n=100)[98],
    )


def zipf_products(products: int, seed: int = 1) -> Iterator[str]:
    """Product ids, the n-th most popular with a frequency of about 1/n."""
    chance = random.Random(seed)
    while True:
        yield f"product-{int(products ** chance.random())}"


def event_value(event_id: str, product_id: str, now_s: float) -> bytes:
    """A review of ordinary size."""
    return msgspec.json.encode(
        {
            "event_id": event_id,
            "product_id": product_id,
            "text": TEXT,
            "rating": 3.0,
            "event_time": now_s,
            "author_id": f"author-{hash(event_id) % 100_000}",
        }
    )


async def fill(settings: Settings, events: int, products: int) -> None:
    """Writes reviews into the topic."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, linger_ms=10, max_batch_size=256 * 1024, acks="all"
    )
    await producer.start()
    try:
        now_s = time.time()
        for n, product_id in zip(range(events), zipf_products(products), strict=False):
            value = event_value(f"event-{n}", product_id, now_s)
            await producer.send(settings.topic_reviews, value, key=product_id.encode())
        await producer.flush()
    finally:
        await producer.stop()


def worker_environment(settings: Settings) -> dict[str, str]:
    """What a worker process is configured by."""
    return os.environ | {
        "REVIEWPULSE_KAFKA": settings.kafka,
        "REVIEWPULSE_REDIS": settings.redis,
        "REVIEWPULSE_NAMESPACE": settings.namespace,
        "REVIEWPULSE_GROUP": settings.group,
        "REVIEWPULSE_TOPIC_REVIEWS": settings.topic_reviews,
        "REVIEWPULSE_SESSION_TIMEOUT_S": str(settings.session_timeout_s),
        "REVIEWPULSE_LOG_LEVEL": "warning",
    }


@contextlib.contextmanager
def running_worker(
    settings: Settings,
    namespace: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[int, redis.Redis, Layout]]:
    """A worker process with the constant scorer; yields its pid, a client, and the names of its keys."""
    namespace = namespace or f"bench-{uuid4().hex[:8]}"
    own = settings.model_copy(update={"namespace": namespace, "group": namespace})
    with tempfile.TemporaryFile() as log, connect(settings) as client:
        worker = subprocess.Popen(
            [sys.executable, "-m", "stream.cli.main", "worker", "--scorer", "constant"],
            env=worker_environment(own) | dict(variables),
            stdout=log,
            stderr=log,
        )
        try:
            yield worker.pid, client, Layout(namespace, 1)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)


def counted(client: redis.Redis, layout: Layout) -> int:
    """Reviews counted so far."""
    return int(client.hget(layout.ledger(0), "reviews:counted") or 0)


def cpu_seconds(pid: int) -> float:
    """User and system CPU time of a process so far (Linux ``/proc``, see proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def time_worker(
    settings: Settings, events: int, pids: dict[str, int], variables: Mapping[str, str] = MappingProxyType({})
) -> dict[str, float]:
    """Events a second of a worker of its own, and the CPU time an event takes in each process, µs.

    Args:
        settings: where the events are.
        events: how many.
        pids: of other processes, by name.
        variables: the worker's, beside those of ``settings``.
    """
    with running_worker(settings, variables=variables) as (pid, client, layout):
        first = wait_until(lambda: counted(client, layout), pid)
        started = time.perf_counter()
        cpu = {name: cpu_seconds(each) for name, each in (pids | {"worker": pid}).items()}
        wait_until(lambda: counted(client, layout) >= events, pid)
        wall_s = time.perf_counter() - started
        used = {
            name: (cpu_seconds(each) - cpu[name]) / (events - first) * 1e6
            for name, each in (pids | {"worker": pid}).items()
        }
    return {
        "events_per_s": (events - first) / wall_s,
        "cpu_us_per_event": used.pop("worker"),
        **used,
    }


def _time_reader(kind: str, settings: Settings, events: int) -> dict[str, float]:
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "stream.bench.readers",
            kind,
            settings.kafka,
            settings.topic_reviews,
            str(events),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=LONGEST_S,
        check=True,
    )
    rate: dict[str, float] = json.loads(finished.stdout)
    return rate


def _time_latency(settings: Settings, events_per_s: float, products: int) -> list[float]:
    """Milliseconds from acknowledged to visible, of probes among a steady load."""
    settings = settings.model_copy(update={"topic_reviews": "reviews-latency"})  # with nothing in it
    ensure(settings)
    with running_worker(settings) as (pid, client, layout):
        asyncio.run(fill(settings, WARM_UP_EVENTS, products))
        wait_until(lambda: counted(client, layout) >= WARM_UP_EVENTS, pid)
        return asyncio.run(_probe(settings, layout, events_per_s, products))


async def _probe(settings: Settings, layout: Layout, events_per_s: float, products: int) -> list[float]:
    client = connect_async(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=20)
    await producer.start()
    latencies: list[float] = []

    async def probe(name: str) -> None:
        value = event_value(name, name, time.time())
        await producer.send_and_wait(settings.topic_reviews, value, key=name.encode())
        acknowledged = time.perf_counter()
        while not await client.exists(layout.product(name)):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(POLL_S / 2)
        latencies.append((time.perf_counter() - acknowledged) * 1000)

    try:
        async with asyncio.timeout(LONGEST_S), asyncio.TaskGroup() as probes:
            started = time.perf_counter()
            sent = probed = 0
            names = zipf_products(products, seed=2)
            while (elapsed := time.perf_counter() - started) < LATENCY_S:
                while sent < elapsed * events_per_s:
                    name = next(names)
                    value = event_value(f"load-{sent}", name, time.time())
                    await producer.send(settings.topic_reviews, value, key=name.encode())
                    sent += 1
                if probed < (elapsed - SETTLING_S) * PROBES_PER_S:
                    probed += 1
                    probes.create_task(probe(f"probe-{uuid4().hex}"))
                await asyncio.sleep(PACE_S)
    finally:
        await producer.stop()
        await client.aclose()
    return latencies


def wait_until(reached: Any, pid: int) -> int:
    """Polls until ``reached`` returns something true; returns it.

    Args:
        reached: asks.
        pid: of the worker, a child of this process: once it has ended there is nothing to wait for.

    Raises:
        DependencyError: the worker has ended.
        TimeoutError: after ``LONGEST_S``.
    """
    deadline = time.monotonic() + LONGEST_S
    while not (value := reached()):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise DependencyError("The worker ended by itself: `reviewpulse worker` says why.")
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not get there; see its log")
        time.sleep(POLL_S)
    return int(value)
