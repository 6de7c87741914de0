"""Whether totals stay exact and memory flat over millions of events, while workers are killed all the time.

Rules:
- Workers as shipped with the constant scorer. Every so often one of them, at random, gets SIGKILL, and
  another is started in its place at once. Some may be spared: they live through every rebalance that the
  kills cause, and show what these leave in memory. A fleet that has not counted since the last kill is
  passed over: on a slow machine it would join for ever.
- The shop's time runs faster than ours, ``DAYS`` of it in one run: records carry timestamps of their own. So
  in the second half of the run Redis holds what it holds after weeks, and must not grow.
- The recount is of what was sent and knows nothing of the counters: events by product, and by quarter-day.
- The producer is never more than ``AHEAD`` events ahead. The local broker keeps its whole log in memory, some
  150 bytes an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from stream.bench.memory import resident_bytes, used_bytes
from stream.bench.pipeline import counted, cpu_seconds, worker_environment
from stream.client import LiveCounters
from stream.core.buckets import DAY_MS, WINDOWS
from stream.errors import DependencyError, UsageError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.pipeline import THREADS
from stream.redis_config import connect, connect_async
from stream.settings import load
from stream.status import EVENT_LOOP, PROCESS, StatusBoard
from stream.store.layout import Layout
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    import redis
    from numpy.typing import NDArray

    from stream.settings import Settings
    from stream.status import WorkerStatus

DAYS = 21
"""More than twice what the longest window keeps."""
PARTITIONS = 8
AHEAD = 100_000
PIECE = 2_000
"""Events between two looks at how far the workers are."""
SAMPLE_S = 1.0
STUCK_S = 180.0
"""Without progress for so long the run is given up."""
STOP_S = 60.0
DIFFERENCES_SHOWN = 10
TEXTS = ("Works as described.", "Broke after a week.", "Okay for the price.")


class Sample(msgspec.Struct, frozen=True):
    """Memory at a moment."""

    at_s: float
    events: int
    workers: int
    """Alive."""
    largest_worker_mb: float
    redis_mb: float
    broker_mb: float
    spared_worker_mb: float = 0.0
    """The largest of those that are never killed; 0 when none is spared."""


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Least-squares slopes of the memory over the second half of the events, in MB a million events."""

    largest_worker_mb: float
    redis_mb: float
    spared_worker_mb: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench soak --json`` prints."""

    events: int
    products: int
    workers: int
    spared: int
    """Workers that were never killed."""
    kill_every_s: float
    kills: int
    duration_s: float
    products_compared: int
    differences: list[str]
    """Products whose totals or last seven days are not what was sent; the first few, in words."""
    ledger: dict[str, int]
    rewinds: int
    """By workers, as far as they lived to tell."""
    cpu_us_per_event: dict[str, float]
    """Of the workers by stage, of Redis, and of the broker."""
    growth: Growth
    samples: list[Sample]

    @property
    def is_exact(self) -> bool:
        """Whether every event sent was counted once, for its product."""
        return not self.differences and self.ledger == {"reviews:counted": self.events}


class Sent:
    """What was sent, counted apart: the independent recount.

    Args:
        events: how many there will be.
        products: the Zipf-distributed products they are of.
        end_ms: when the last of them happens.
    """

    def __init__(self, events: int, products: int, end_ms: int) -> None:
        rng = np.random.default_rng(1)
        self.of_product = (products ** rng.random(events)).astype(np.int64) - 1
        self.at_ms = end_ms - np.arange(events, 0, -1) * (DAYS * DAY_MS) // events
        self.products = products
        self.end_ms = end_ms

    def totals(self) -> NDArray[np.int64]:
        """Events by product."""
        return np.bincount(self.of_product, minlength=self.products)

    def last_week(self) -> NDArray[np.int64]:
        """Events by product, of the quarter-days that end after the last seven days begin."""
        spec = WINDOWS["7d"]
        assert spec is not None
        resolution, span_ms = spec
        first_ms = (self.end_ms - span_ms) // resolution.width_ms * resolution.width_ms
        return np.bincount(self.of_product[self.at_ms >= first_ms], minlength=self.products)


class Fleet:
    """The workers: some are killed, as many live.

    Args:
        settings: theirs, through the environment.
        size: how many.
        spared: how many of them are never killed.
        log: what they say goes there.
    """

    def __init__(self, settings: Settings, size: int, spared: int, log: BinaryIO) -> None:
        self._environment = worker_environment(settings)
        self._log = log
        self._chance = random.Random(1)
        self._spared = spared
        self._workers = [self._start() for _ in range(size)]
        self.kills = 0

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "stream.cli.main", "worker", "--scorer", "constant"],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def pids(self) -> list[int]:
        """Of those that live."""
        return [worker.pid for worker in self._workers if worker.poll() is None]

    @property
    def spared_pids(self) -> list[int]:
        """Of those that are never killed."""
        return [worker.pid for worker in self._workers[: self._spared]]

    def kill_one(self) -> None:
        """Kills a worker without a warning and starts another."""
        n = self._chance.randrange(self._spared, len(self._workers))
        self._workers[n].kill()
        self._workers[n].wait()
        self._workers[n] = self._start()
        self.kills += 1

    def check(self) -> None:
        """Looks whether a worker ended by itself.

        Raises:
            DependencyError: one did; with the end of the log.
        """
        for worker in self._workers:
            if worker.poll() is not None:
                raise DependencyError(
                    f"A worker ended by itself, with {worker.returncode}.{self._log_tail()}"
                )

    def _log_tail(self) -> str:
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - 2_000, 0))
        return " The log ends with:\n" + self._log.read().decode(errors="replace")

    def stop(self) -> None:
        """Has all of them drain and end."""
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(STOP_S)
            worker.kill()
            worker.wait()


class Statuses:
    """What workers said of themselves: the first and the last word of each, for many die without one."""

    def __init__(self) -> None:
        self._first: dict[str, WorkerStatus] = {}
        self._last: dict[str, WorkerStatus] = {}

    def note(self, statuses: list[WorkerStatus]) -> None:
        """Takes in what the board says."""
        for status in statuses:
            self._first.setdefault(status.name, status)
            self._last[status.name] = status

    @property
    def rewinds(self) -> int:
        """Of all workers."""
        return sum(status.rewinds for status in self._last.values())

    def cpu_us_per_event(self) -> dict[str, float]:
        """By stage, from the first word on: what starting takes is not an event's."""
        spent: dict[str, float] = defaultdict(float)
        events = 0
        for name, last in self._last.items():
            first = self._first[name]
            events += last.counted - first.counted
            for stage, cpu_s in last.cpu_s.items():
                spent[stage] += cpu_s - first.cpu_s[stage]
        named = (*THREADS, EVENT_LOOP)
        by_stage = {stage: spent[stage] for stage in named}
        by_stage["fetch and the rest"] = spent[PROCESS] - sum(by_stage.values())
        by_stage["worker in all"] = spent[PROCESS]
        return {stage: cpu_s / max(events, 1) * 1e6 for stage, cpu_s in by_stage.items()}


def run(
    *,
    events: int,
    products: int,
    workers: int,
    kill_every_s: float,
    spare: int = 0,
    tell: Callable[[Sample], None] = lambda _: None,
) -> Report:
    """Runs the soak on servers of its own.

    Args:
        events: how many are sent.
        products: the Zipf-distributed products they are of.
        workers: how many live.
        kill_every_s: seconds between two kills; 0 for none.
        spare: workers that are never killed.
        tell: is given each sample as it is taken.

    Raises:
        UsageError: nobody would be left to kill.
        DependencyError: a server or a worker ended by itself, or nothing moves any more.
    """
    if kill_every_s and spare >= workers:
        raise UsageError(f"Of {workers} workers at most {workers - 1} may be spared: one has to be killed.")
    with LocalServers() as servers:
        settings = load(
            kafka=servers.kafka,
            redis=servers.redis,
            namespace=(name := f"soak-{uuid4().hex[:8]}"),
            group=name,
            session_timeout_s=LOCAL_SESSION_TIMEOUT_S,
            partitions=PARTITIONS,
        )
        ensure(settings)
        sent = Sent(events, products, int(time.time() * 1000))
        with connect(settings) as client, tempfile.TemporaryFile() as log:
            soak = _Soak(settings, client, servers, Fleet(settings, workers, spare, log), sent, tell)
            try:
                asyncio.run(soak.run(kill_every_s))
            finally:
                soak.fleet.stop()
            return Report(
                events=events,
                products=products,
                workers=workers,
                spared=spare,
                kill_every_s=kill_every_s,
                kills=soak.fleet.kills,
                duration_s=soak.elapsed_s,
                products_compared=products,
                differences=differences(settings, sent),
                ledger={
                    outcome.decode(): int(number)
                    for outcome, number in client.hgetall(Layout(settings.namespace, 1).ledger(0)).items()
                },
                rewinds=soak.statuses.rewinds,
                cpu_us_per_event=soak.cpu_us_per_event(),
                growth=growth(soak.samples),
                samples=soak.samples,
            )


class _Soak:
    """Sends, kills and looks, all at once."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        servers: LocalServers,
        fleet: Fleet,
        sent: Sent,
        tell: Callable[[Sample], None],
    ) -> None:
        self.fleet = fleet
        self.samples: list[Sample] = []
        self.statuses = Statuses()
        self.elapsed_s = 0.0
        self._settings = settings
        self._client = client
        self._servers = servers
        self._sent = sent
        self._tell = tell
        self._counted = 0
        self._server_cpu_s: dict[str, float] = {}

    async def run(self, kill_every_s: float) -> None:
        started = time.monotonic()
        before = {name: cpu_seconds(pid) for name, pid in self._servers.pids.items()}
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look(started))
            killing = group.create_task(self._kill(kill_every_s))
            await self._send()
            await self._wait_for(len(self._sent.of_product))
            self.elapsed_s = time.monotonic() - started
            looking.cancel()
            killing.cancel()
        self._server_cpu_s = {
            name: cpu_seconds(pid) - before[name] for name, pid in self._servers.pids.items()
        }

    def cpu_us_per_event(self) -> dict[str, float]:
        """Of workers by stage, and of the servers."""
        events = len(self._sent.of_product)
        servers = {name: self._server_cpu_s[pid] / events * 1e6 for name, pid in _SERVERS.items()}
        return self.statuses.cpu_us_per_event() | servers

    async def _send(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka, linger_ms=10, max_batch_size=256 * 1024, acks="all"
        )
        await producer.start()
        sending: list[asyncio.Future[object]] = []
        try:
            rows = zip(self._sent.of_product.tolist(), self._sent.at_ms.tolist(), strict=True)
            for n, (product, at_ms) in enumerate(rows):
                name = product_id(product)
                value = msgspec.json.encode(
                    {
                        "event_id": f"event-{n}",
                        "product_id": name,
                        "text": TEXTS[n % len(TEXTS)],
                        "event_time": at_ms,
                        "author_id": f"author-{n % 100_000}",
                    }
                )
                topic = self._settings.topic_reviews
                sending.append(await producer.send(topic, value, key=name.encode(), timestamp_ms=at_ms))
                if n % PIECE == PIECE - 1:
                    await asyncio.gather(*sending)
                    sending.clear()
                    await self._wait_for(n - AHEAD)
            await asyncio.gather(*sending)
        finally:
            await producer.stop()

    async def _wait_for(self, events: int) -> None:
        """Until so many are counted, as the samples say."""
        moved_at, counted_then = time.monotonic(), self._counted
        while self._counted < events:
            if self._counted > counted_then:
                moved_at, counted_then = time.monotonic(), self._counted
            if time.monotonic() - moved_at > STUCK_S:
                raise DependencyError(f"Nothing was counted for {STUCK_S:g} s, at {self._counted:,} events.")
            await asyncio.sleep(0.05)

    async def _look(self, started: float) -> None:
        board = StatusBoard(connect_async(self._settings), self._settings.namespace)
        layout = Layout(self._settings.namespace, 1)
        try:
            while True:
                self._servers.check()
                self.fleet.check()
                events = counted(self._client, layout)
                self.statuses.note(await board.workers())
                sample = self._sample(time.monotonic() - started, events)
                self.samples.append(sample)
                self._tell(sample)
                self._counted = events  # last: whoever waits for the last event ends this
                await asyncio.sleep(SAMPLE_S)
        finally:
            await board.close()

    def _sample(self, at_s: float, events: int) -> Sample:
        workers = {pid: resident_bytes(pid) for pid in self.fleet.pids}
        spared = [workers[pid] for pid in self.fleet.spared_pids if pid in workers]
        return Sample(
            at_s,
            events,
            len(workers),
            max(workers.values(), default=0) / 1e6,
            used_bytes(self._client) / 1e6,
            resident_bytes(self._servers.pids["kafka"]) / 1e6,
            max(spared, default=0) / 1e6,
        )

    async def _kill(self, every_s: float) -> None:
        counted_then = 0
        while every_s:
            await asyncio.sleep(every_s)
            if self._counted > counted_then:
                counted_then = self._counted
                self.fleet.kill_one()


_SERVERS = {"Redis": "redis", "broker": "kafka"}


def product_id(number: int) -> str:
    """What a product is called."""
    return f"product-{number}"


def growth(samples: list[Sample]) -> Growth:
    """How memory grows once half of the events are counted.

    >>> flat = [Sample(n, n * 1_000_000, 4, 160.0, 90.0 + n, 0.0, 80.0 + 2 * n) for n in range(9)]
    >>> growth(flat)
    Growth(largest_worker_mb=0.0, redis_mb=1.0, spared_worker_mb=2.0)
    """
    half = samples[-1].events / 2
    second = [sample for sample in samples if sample.events >= half]
    if len({sample.events for sample in second}) < 2:
        return Growth(largest_worker_mb=0.0, redis_mb=0.0, spared_worker_mb=0.0)
    millions = np.array([sample.events for sample in second]) / 1e6

    def slope(values: Iterator[float]) -> float:
        return round(float(np.polyfit(millions, list(values), 1)[0]), 6) + 0.0

    return Growth(
        largest_worker_mb=slope(sample.largest_worker_mb for sample in second),
        redis_mb=slope(sample.redis_mb for sample in second),
        spared_worker_mb=slope(sample.spared_worker_mb for sample in second),
    )


def differences(settings: Settings, sent: Sent) -> list[str]:
    """Products whose counters are not what was sent, in words; the first few."""
    names = [product_id(n) for n in range(sent.products)]
    found: list[str] = []
    with LiveCounters(settings, now_ms=lambda: sent.end_ms) as counters:
        for window, expected in (("all", sent.totals()), ("7d", sent.last_week())):
            for read, wanted in zip(counters.get_many(names, window), expected.tolist(), strict=True):
                if read.events != wanted:
                    found.append(f"{read.product_id}, {window}: {wanted} sent, {read.events} counted")
    return found[:DIFFERENCES_SHOWN]
