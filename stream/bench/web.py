"""Whether people who look slow the pipeline down: `reviewpulse web`, watched, beside a worker at work.

Rules:
- One run, one broker, one Redis. Turn by turn with the audience and without it; figures are medians of the
  turns, and ratios are taken turn by turn.
- Two questions. *Steady*: does a worker still count what comes, at a given rate, and how late? *Backlog*:
  how fast does it count what has piled up, with all the CPU there is to be had?
- Everything shares the machine's cores, the load and the audience too. So the CPU of each process is told,
  and what the audience itself takes is to be read as what would be on other machines.
- The worker has the constant scorer: with a model there would be no rate to slow down.
- The server runs during turns without an audience as well, idle.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.audience import Seen, Task, quantile, spec
from stream.bench.memory import resident_bytes
from stream.bench.pipeline import (
    counted,
    cpu_seconds,
    event_value,
    fill,
    running_worker,
    wait_until,
)
from stream.bench.web_process import running_server
from stream.errors import DependencyError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.redis_config import connect_async
from stream.settings import load
from stream.status import StatusBoard
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

    from stream.settings import Settings
    from stream.store.layout import Layout

SETTLE_S = 3.0
"""Of load, and of the audience coming in, before a turn is measured."""
WARM_UP_EVENTS = 2_000
SINGLE_EVENTS = 1_000
"""As many runs as a worker remembers the latencies of."""
STATUS_S = 1.5
"""Between two looks at what the worker says of its latency, which it says of its latest events."""
BACKLOG_SPARE_S = 120.0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the pipeline."""

    events_per_s: float
    """Counted."""
    sent_per_s: float = 0.0
    """What the producer managed to send: less than was asked where it lacks CPU, too."""
    latency_p50_ms: float | None = None
    """From Kafka's timestamp to visible in Redis, as the worker says; median of its words in the turn."""
    latency_p99_ms: float | None = None
    cores: dict[str, float]
    """CPU seconds a second, by process."""
    worker_us_per_event: float
    redis_us_per_event: float


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """What the audience saw, of all steady turns together."""

    reads_per_s: float
    """Answered."""
    failed_reads: int
    unanswered_reads: int
    """Not even sent when their turn's time was up."""
    read_p50_ms: float | None
    read_p99_ms: float | None
    streams_kept: int
    """Viewers, of all turns, whose stream lived to the turn's end."""
    streams: int
    messages_per_s: float
    overview_gap_worst_s: float | None
    """The longest that any viewer waited for figures."""
    alerts_seen: int
    """By viewers: each of them each alert."""
    alert_p50_ms: float | None
    """From Kafka's acknowledgement of an alert to its arrival at a viewer."""
    alert_p99_ms: float | None
    alert_worst_ms: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench web --json`` prints."""

    offered_events_per_s: float
    viewers: int
    reads_per_s: float
    products: int
    rounds: int
    seconds: float
    """Of a steady turn."""
    backlog: int
    """Events of a backlog turn."""
    cores: int
    """Of the machine, as far as this process may use them."""
    steady: dict[str, Turn]
    """``alone`` and ``watched``."""
    drained: dict[str, Turn]
    steady_ratio: float
    """Events/s watched over alone."""
    latency_p99_ratio: float | None
    worker_cpu_ratio: float
    """The worker's CPU an event, watched over alone, at the steady rate."""
    drained_ratio: float
    audience: Audience
    server_mb: float
    """Resident memory of the server at the end."""


class _Processes(NamedTuple):
    """By name, which process."""

    pids: dict[str, int]

    def cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}


def run(
    *,
    events_per_s: float,
    viewers: int,
    reads_per_s: float,
    products: int,
    rounds: int,
    seconds: float,
    backlog: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Runs the bench on servers of its own.

    Args:
        events_per_s: offered in steady turns.
        viewers: of the live stream.
        reads_per_s: of counters.
        products: the Zipf-distributed products that events are of.
        rounds: turns of each kind.
        seconds: that a steady turn is measured.
        backlog: events of a backlog turn.
        tell: is told what happens.

    Raises:
        DependencyError: a server or a process failed.
    """
    with LocalServers() as servers:
        bench = _Bench(
            load(
                kafka=servers.kafka,
                redis=servers.redis,
                session_timeout_s=LOCAL_SESSION_TIMEOUT_S,
                partitions=4,
            ),
            servers.pids,
            Task(
                kind="audience",
                kafka=servers.kafka,
                topic="",
                products=products,
                seconds=seconds,
                events_per_s=events_per_s,
                viewers=viewers,
                reads_per_s=reads_per_s,
            ),
            tell,
        )
        steady = [bench.steady(*_order(n)) for n in range(rounds)]
        drained = bench.drained(backlog, rounds)
    return _report(bench, steady, drained, rounds, backlog)


class _Bench:
    def __init__(
        self, settings: Settings, pids: dict[str, int], task: Task, tell: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.task = task
        self.seen: list[Seen] = []
        self.server_mb = 0.0
        self._servers = {"redis": pids["redis"], "broker": pids["kafka"]}
        self._tell = tell

    def steady(self, *names: str) -> dict[str, Turn]:
        """A turn alone and one watched, in this order, on one topic, worker and server."""
        topic = f"reviews-{uuid4().hex[:8]}"
        settings = self.settings.model_copy(
            update={"topic_reviews": topic, "topic_alerts": f"{topic}.alerts"}
        )
        ensure(settings)
        turns = {}
        with running_worker(settings) as (worker, client, layout):
            asyncio.run(fill(settings, WARM_UP_EVENTS, self.task.products))
            wait_until(lambda: counted(client, layout) >= WARM_UP_EVENTS, worker)
            asyncio.run(_one_by_one(settings))
            own = settings.model_copy(update={"namespace": layout.namespace})
            with running_server(own) as (server, address):
                processes = self._servers | {"worker": worker, "server": server}
                for name in names:
                    self._tell(f"steady, {name}")
                    watched = address if name == "watched" else ""
                    turns[name] = self._steady_turn(own, client, layout, processes, watched)
                self.server_mb = max(self.server_mb, resident_bytes(server) / 1e6)
        return turns

    def _steady_turn(
        self, settings: Settings, client: redis.Redis, layout: Layout, pids: dict[str, int], address: str
    ) -> Turn:
        seconds = self.task.seconds
        lasting = seconds + 2 * SETTLE_S
        producer = _start(self._task("producer", settings.topic_reviews, lasting))
        started = {"producer": producer}
        if address:
            started["audience"] = _start(self._task("audience", settings.topic_alerts, lasting, address))
        try:
            time.sleep(SETTLE_S)
            processes = _Processes(pids | {name: each.pid for name, each in started.items()})
            turn = _measured(client, layout, processes, lambda: _wait_and_listen(settings, seconds))
            seen = {name: _said(each) for name, each in started.items()}
        finally:
            for each in started.values():
                each.kill()
                each.wait()
        if address:
            self.seen.append(seen["audience"])
        return msgspec.structs.replace(turn, sent_per_s=seen["producer"].sent / lasting)

    def drained(self, events: int, rounds: int) -> list[dict[str, Turn]]:
        """Turns alone and watched, each with a worker and counters of its own, on one full topic."""
        if not events:
            return []
        topic = f"reviews-{uuid4().hex[:8]}"
        settings = self.settings.model_copy(
            update={"topic_reviews": topic, "topic_alerts": f"{topic}.alerts"}
        )
        ensure(settings)
        self._tell("filling the backlog")
        asyncio.run(fill(settings, events, self.task.products))
        return [{name: self._drain(settings, events, name) for name in _order(n)} for n in range(rounds)]

    def _drain(self, settings: Settings, events: int, name: str) -> Turn:
        self._tell(f"backlog, {name}")
        namespace = f"bench-{uuid4().hex[:8]}"
        own = settings.model_copy(update={"namespace": namespace, "group": namespace})
        with running_server(own) as (server, address):
            started: dict[str, subprocess.Popen[str]] = {}
            try:
                if name == "watched":
                    started["audience"] = _start(
                        self._task("audience", settings.topic_alerts, BACKLOG_SPARE_S, address)
                    )
                    time.sleep(SETTLE_S)
                with running_worker(own, namespace) as (worker, client, layout):
                    processes = _Processes(
                        self._servers
                        | {"worker": worker, "server": server}
                        | {each: process.pid for each, process in started.items()}
                    )
                    wait_until(lambda: counted(client, layout), worker)

                    def until_all_are_counted() -> list[tuple[float, float]]:
                        wait_until(lambda: counted(client, layout) >= events, worker)
                        return []

                    return _measured(client, layout, processes, until_all_are_counted)
            finally:
                for each in started.values():
                    each.kill()
                    each.wait()

    def _task(self, kind: str, topic: str, seconds: float, address: str = "") -> Task:
        return msgspec.structs.replace(self.task, kind=kind, topic=topic, seconds=seconds, address=address)


async def _one_by_one(settings: Settings) -> None:
    """Events that each make a run of their own: the worker forgets the latencies of its start."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    await producer.start()
    try:
        for n in range(SINGLE_EVENTS):
            value = event_value(f"single-{n}", f"product-{n}", time.time())
            await producer.send_and_wait(settings.topic_reviews, value, key=b"%d" % n)
    finally:
        await producer.stop()


def _order(number: int) -> tuple[str, str]:
    """Which turn comes first, by the round: a worker that has just begun is not at its best."""
    return ("watched", "alone") if number % 2 == 0 else ("alone", "watched")


def _measured(
    client: redis.Redis, layout: Layout, processes: _Processes, wait: Callable[[], list[tuple[float, float]]]
) -> Turn:
    """What happens while ``wait`` waits; it returns latencies, p50 and p99."""
    events, cpu, started = counted(client, layout), processes.cpu(), time.perf_counter()
    latencies = wait()
    wall_s = time.perf_counter() - started
    cpu_s = {name: now - cpu[name] for name, now in processes.cpu().items()}
    events = counted(client, layout) - events
    return Turn(
        events_per_s=events / wall_s,
        latency_p50_ms=statistics.median(p50 for p50, _ in latencies) if latencies else None,
        latency_p99_ms=statistics.median(p99 for _, p99 in latencies) if latencies else None,
        cores={name: spent / wall_s for name, spent in cpu_s.items()},
        worker_us_per_event=cpu_s["worker"] / max(events, 1) * 1e6,
        redis_us_per_event=cpu_s["redis"] / max(events, 1) * 1e6,
    )


def _wait_and_listen(settings: Settings, seconds: float) -> list[tuple[float, float]]:
    """Waits, and looks now and then at what the worker says of its latency."""

    async def listen() -> list[tuple[float, float]]:
        board = StatusBoard(connect_async(settings), settings.namespace)
        said: dict[float, tuple[float, float]] = {}
        until = time.perf_counter() + seconds
        try:
            while (left := until - time.perf_counter()) > 0:
                await asyncio.sleep(min(STATUS_S, left))
                for each in await board.workers():
                    if each.latency_p50_ms is not None and each.latency_p99_ms is not None:
                        said[each.at] = (each.latency_p50_ms, each.latency_p99_ms)
        finally:
            await board.close()
        return list(said.values())

    return asyncio.run(listen())


def _start(task: Task) -> subprocess.Popen[str]:
    return subprocess.Popen(spec(task), stdout=subprocess.PIPE, text=True)


def _said(process: subprocess.Popen[str]) -> Seen:
    said, _ = process.communicate(timeout=120)
    if process.returncode:
        raise DependencyError(f"A process of the bench ended with {process.returncode}.")
    return msgspec.json.decode(said, type=Seen)


def _report(
    bench: _Bench,
    steady: list[dict[str, Turn]],
    drained: list[dict[str, Turn]],
    rounds: int,
    backlog: int,
) -> Report:
    task = bench.task

    def ratio(turns: list[dict[str, Turn]], of: Callable[[Turn], float | None]) -> float | None:
        pairs = [(of(turn["watched"]), of(turn["alone"])) for turn in turns]
        ratios = [watched / alone for watched, alone in pairs if watched is not None and alone]
        return statistics.median(ratios) if ratios else None

    return Report(
        offered_events_per_s=task.events_per_s,
        viewers=task.viewers,
        reads_per_s=task.reads_per_s,
        products=task.products,
        rounds=rounds,
        seconds=task.seconds,
        backlog=backlog,
        cores=len(os.sched_getaffinity(0)),
        steady=_medians(steady),
        drained=_medians(drained),
        steady_ratio=ratio(steady, lambda turn: turn.events_per_s) or 0.0,
        latency_p99_ratio=ratio(steady, lambda turn: turn.latency_p99_ms),
        worker_cpu_ratio=ratio(steady, lambda turn: turn.worker_us_per_event) or 0.0,
        drained_ratio=ratio(drained, lambda turn: turn.events_per_s) or 0.0,
        audience=_audience(bench.seen, task),
        server_mb=bench.server_mb,
    )


def _audience(seen: list[Seen], task: Task) -> Audience:
    lasted_s = (task.seconds + 2 * SETTLE_S) * len(seen)
    reads = [ms for each in seen for ms in each.read_ms]
    alerts = [ms for each in seen for ms in each.alert_ms]
    return Audience(
        reads_per_s=sum(each.reads for each in seen) / max(sum(each.read_s for each in seen), 1e-9),
        unanswered_reads=sum(each.unanswered_reads for each in seen),
        failed_reads=sum(each.failed_reads for each in seen),
        read_p50_ms=quantile(reads, 0.5),
        read_p99_ms=quantile(reads, 0.99),
        streams_kept=sum(each.streams for each in seen),
        streams=task.viewers * len(seen),
        messages_per_s=sum(each.messages for each in seen) / lasted_s,
        overview_gap_worst_s=max((gap for each in seen for gap in each.overview_gap_s), default=None),
        alerts_seen=len(alerts),
        alert_p50_ms=quantile(alerts, 0.5),
        alert_p99_ms=quantile(alerts, 0.99),
        alert_worst_ms=max(alerts, default=None),
    )


def _medians(turns: list[dict[str, Turn]]) -> dict[str, Turn]:
    if not turns:
        return {}
    return {name: _median([turn[name] for turn in turns]) for name in ("alone", "watched")}


def _median(turns: list[Turn]) -> Turn:
    def of_known(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return Turn(
        events_per_s=statistics.median(turn.events_per_s for turn in turns),
        sent_per_s=statistics.median(turn.sent_per_s for turn in turns),
        latency_p50_ms=of_known(turn.latency_p50_ms for turn in turns),
        latency_p99_ms=of_known(turn.latency_p99_ms for turn in turns),
        cores={
            process: statistics.median(turn.cores[process] for turn in turns) for process in turns[0].cores
        },
        worker_us_per_event=statistics.median(turn.worker_us_per_event for turn in turns),
        redis_us_per_event=statistics.median(turn.redis_us_per_event for turn in turns),
    )
