"""How fast events come in over HTTP, beside the clients that speak Kafka themselves.

Rules:
- One run, one broker: each contestant sends the same events in turn, several rounds. Figures are medians,
  ratios are taken round by round.
- All of them judge each event by the worker's decoder, but for the last, which only writes: aiokafka's
  producer with acks from every replica, as fast as it goes.
- The senders over HTTP are plain: batches made beforehand, each connection sends its next one when the last
  was acknowledged. Their CPU is not the server's, and is not counted.
- In the end the log must hold what every contestant was told it holds.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import resource
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.pipeline import cpu_seconds, event_value, zipf_products
from stream.bench.web_process import running_server
from stream.client import EventProducer
from stream.client.log import ends_of, open_consumer, partitions_of
from stream.client.validation import limits_of
from stream.errors import DependencyError
from stream.ingest import Ingested, ingest
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stream.settings import Settings

HTTP = "HTTP"
CLIENT = "EventProducer"
RAW = "aiokafka, unjudged"
WARM_UP_EVENTS = 2_000


class Rate(msgspec.Struct, frozen=True):
    """One contestant's figures."""

    events_per_s: float
    cpu_us_per_event: float
    """Of the server, or of the process that sends."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench ingest-http --json`` prints."""

    events: int
    batch: int
    connections: int
    rounds: int
    rates: dict[str, Rate]
    """Medians by contestant."""
    times_client: float
    """Events/s over HTTP over those of ``EventProducer``, median of the rounds."""
    times_raw: float
    batch_p50_ms: float
    """From a batch's first byte to its 202."""
    batch_p99_ms: float
    in_log: int
    """Records in the log at the end: as many as were acknowledged, or the bench fails."""


class _Turn(NamedTuple):
    rate: Rate
    latencies_ms: Sequence[float] = ()


def run(*, events: int, batch: int, connections: int, rounds: int) -> Report:
    """Runs the bench on servers of its own.

    Args:
        events: each contestant sends in a round.
        batch: events of one request.
        connections: that send at the same time.
        rounds: turns each contestant gets.

    Raises:
        DependencyError: a server failed, or the log does not hold what was acknowledged.
    """
    with LocalServers() as servers:
        settings = load(
            kafka=servers.kafka, redis=servers.redis, session_timeout_s=LOCAL_SESSION_TIMEOUT_S, partitions=4
        )
        ensure(settings)
        turns: list[dict[str, _Turn]] = []
        with running_server(settings) as (pid, address):
            _by_http(pid, address, _bodies(WARM_UP_EVENTS, batch), WARM_UP_EVENTS, connections)
            for _ in range(rounds):
                values = _values(events)
                turns.append(
                    {
                        HTTP: _by_http(pid, address, _bodies(events, batch), events, connections),
                        CLIENT: _by_client(settings, values),
                        RAW: asyncio.run(_raw(settings, values)),
                    }
                )
        acknowledged = WARM_UP_EVENTS + 3 * rounds * events
        in_log = _in_log(settings)
    if in_log != acknowledged:
        raise DependencyError(f"The log holds {in_log:,} events; {acknowledged:,} were acknowledged.")
    latencies = [each for turn in turns for each in turn[HTTP].latencies_ms]

    def times(name: str) -> float:
        return statistics.median(
            turn[HTTP].rate.events_per_s / turn[name].rate.events_per_s for turn in turns
        )

    return Report(
        events=events,
        batch=batch,
        connections=connections,
        rounds=rounds,
        rates={
            name: Rate(
                statistics.median(turn[name].rate.events_per_s for turn in turns),
                statistics.median(turn[name].rate.cpu_us_per_event for turn in turns),
            )
            for name in turns[0]
        },
        times_client=times(CLIENT),
        times_raw=times(RAW),
        batch_p50_ms=statistics.median(latencies),
        batch_p99_ms=statistics.quantiles(latencies, n=100)[98],
        in_log=in_log,
    )


def _values(events: int) -> list[tuple[str, bytes]]:
    now_s = time.time()
    return [
        (product_id, event_value(f"event-{n}", product_id, now_s))
        for n, product_id in zip(range(events), zipf_products(10_000), strict=False)
    ]


def _bodies(events: int, batch: int) -> list[bytes]:
    lines = [value for _, value in _values(events)]
    return [b"\n".join(lines[start : start + batch]) for start in range(0, events, batch)]


def _by_http(pid: int, address: str, bodies: list[bytes], events: int, connections: int) -> _Turn:
    cpu_s = cpu_seconds(pid)
    started = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        shares = [bodies[n::connections] for n in range(connections)]
        latencies_ms = [each for of_one in pool.map(partial(_send, address), shares) for each in of_one]
    wall_s = time.perf_counter() - started
    used_us = (cpu_seconds(pid) - cpu_s) / events * 1e6
    return _Turn(Rate(events / wall_s, used_us), latencies_ms)


def _send(address: str, bodies: list[bytes]) -> list[float]:
    """Sends them one after the other; ms that each took."""
    latencies_ms = []
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        for body in bodies:
            started = time.perf_counter()
            while (answered := _answer(connection, body))[0] in (429, 503):
                time.sleep(0.1)
            if answered[0] != 202:
                raise DependencyError(f"The web server answered {answered[0]}: {answered[1][:200]!r}.")
            latencies_ms.append((time.perf_counter() - started) * 1000)
    finally:
        connection.close()
    return latencies_ms


def _answer(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", "/api/v1/reviews", body, {"Content-Type": "application/x-ndjson"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def _by_client(settings: Settings, values: list[tuple[str, bytes]]) -> _Turn:
    file = io.BytesIO(b"\n".join(value for _, value in values))
    # The local broker knows no idempotent producers.
    with EventProducer(settings, idempotent=False) as producer, _timed(len(values)) as rates:
        ingest(file, "reviews", producer, limits_of(settings), Ingested())
    return _Turn(rates[0])


async def _raw(settings: Settings, values: list[tuple[str, bytes]]) -> _Turn:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, linger_ms=10, max_batch_size=256 * 1024, acks="all"
    )
    await producer.start()
    try:
        with _timed(len(values)) as rates:
            for product_id, value in values:
                await producer.send(settings.topic_reviews, value, key=product_id.encode())
            await producer.flush()
    finally:
        await producer.stop()
    return _Turn(rates[0])


@contextmanager
def _timed(events: int) -> Iterator[list[Rate]]:
    """What this process does meanwhile."""
    rates: list[Rate] = []
    cpu_s, started = _own_cpu_s(), time.perf_counter()
    yield rates
    wall_s = time.perf_counter() - started
    rates.append(Rate(events / wall_s, (_own_cpu_s() - cpu_s) / events * 1e6))


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _in_log(settings: Settings) -> int:
    consumer = open_consumer(settings)
    try:
        partitions = partitions_of(consumer, settings.topic_reviews)
        return sum(ends_of(consumer, partitions).values())
    finally:
        consumer.close(autocommit=False)
