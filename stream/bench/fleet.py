"""Reviews a second from Kafka to Redis with a real model, by the number of workers.

Rules:
- The workers are as shipped, a process each, one group and one set of counters; timed from outside by what
  Redis shows. Beside each number of workers, in the same run, as many that score by a constant: what the path
  allows without a model, on these servers and cores. They read a longer topic of the same texts.
- Time runs from when every worker has partitions (until then they load models and the group settles) to when
  everything is counted. What was counted before is not in the figures; how much is left is reported. A window
  or two of it were begun before: there should be many.
- Texts have the length spread of chats and reviews: those of a file, or made ones, and the report says so.
  Products are equally frequent, so that no partition has more of the work.
- The provider that each worker says it scores on is reported, and is the one that was demanded.
- What the GPU did meanwhile is asked of ``nvidia-smi``, where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.pipeline import counted, cpu_seconds, worker_environment
from stream.bench.texts import synthetic
from stream.bundle import verify
from stream.errors import DependencyError, UsageError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.redis_config import connect
from stream.settings import load
from stream.status import WorkerStatus
from stream.store.layout import Layout
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import redis

    from stream.settings import Settings

T = TypeVar("T")

POLL_S = 0.02
LONGEST_S = 600.0
STARTING_S = 240.0
"""For every worker to load its model and get partitions."""
TEXTS = 20_000
"""Different texts in the topic; beyond, they repeat."""
LOGGED = 2000
"""Characters of a worker's log that are shown when it ends by itself."""
SAMPLE_MS = 200


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """So many workers' figures."""

    scorer: str
    workers: int
    providers: tuple[str, ...]
    """That they say they score on, each once."""
    reviews_per_s: float
    timed_reviews: int
    """Counted while it was timed; the others were before every worker had partitions."""
    cpu_us_per_review: float
    """Of all workers."""
    gpu_busy_percent: float | None = None
    """Mean of what ``nvidia-smi`` says; None without one."""
    gpu_memory_mib: int | None = None
    """The most that was in use on the GPU, whoever used it."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench pipeline --scorer onnx --json`` prints."""

    reviews: int
    ceiling_reviews: int
    """That those with the constant scorer read."""
    products: int
    partitions: int
    texts: str
    cores: int
    model_version: str
    token_budget: int
    fleets: tuple[Fleet, ...]


class _Mark(NamedTuple):
    at_s: float
    counted: int
    cpu_s: float


def run(
    settings: Settings,
    *,
    workers: Sequence[int],
    reviews: int,
    ceiling_reviews: int,
    products: int,
    texts: Sequence[str] = (),
    source: str = "",
    tell: Callable[[str], object] = lambda _: None,
) -> Report:
    """Runs the bench on servers of its own.

    Args:
        settings: bundle, provider, threads and token budget of the workers; its addresses are not used.
        workers: how many there are in each turn.
        reviews: in the topic.
        ceiling_reviews: in that of the workers with the constant scorer; 0: there are none.
        products: that they are of, in turn.
        texts: of the reviews, over and over; made ones where there are none.
        source: where they are from.
        tell: is told what is being done.

    Raises:
        BundleError: the bundle cannot be used.
        DependencyError: a server or worker failed, or did not use the provider demanded.
        UsageError: a number of workers is none.
    """
    if not workers or min(workers) < 1:
        raise UsageError("--workers wants numbers from 1 on, with commas: 1,2,4.")
    manifest = verify(settings.bundle, settings.bundle_key)  # before anything is written
    texts = texts or synthetic(min(reviews, TEXTS))
    source = source or "made ones"
    partitions = max(4, 2 * max(workers))
    fleets = []
    with LocalServers() as servers:
        own = settings.model_copy(
            update=load(
                kafka=servers.kafka,
                redis=servers.redis,
                session_timeout_s=LOCAL_SESSION_TIMEOUT_S,
                partitions=partitions,
            ).model_dump(include={"kafka", "redis", "session_timeout_s", "partitions"})
        )
        topics = {
            "constant": (own.model_copy(update={"topic_reviews": "reviews-ceiling"}), ceiling_reviews),
            "onnx": (own, reviews),
        }
        for where, count in topics.values():
            if count:
                tell(f"writing {count:,} reviews")
                ensure(where)
                asyncio.run(_fill(where, count, products, texts))
        for number in workers:
            for scorer, (where, count) in topics.items():
                if count:
                    tell(f"{number} workers, {scorer} scorer")
                    fleets.append(_timed(where, scorer, number, count))
    return Report(
        reviews=reviews,
        ceiling_reviews=ceiling_reviews,
        products=products,
        partitions=partitions,
        texts=source,
        cores=os.cpu_count() or 1,
        model_version=manifest.version,
        token_budget=settings.token_budget,
        fleets=tuple(fleets),
    )


def variables(settings: Settings, workers: int) -> dict[str, str]:
    """What a worker of several on one machine is configured by, beside its addresses.

    Its lanes on the CPU are its share of the cores, unless ``settings`` say how many.
    """
    threads = settings.threads or max((os.cpu_count() or 1) // workers, 1)
    return {
        "REVIEWPULSE_BUNDLE": str(settings.bundle),
        "REVIEWPULSE_PROVIDER": settings.provider,
        "REVIEWPULSE_DEVICE_ID": str(settings.device_id),
        "REVIEWPULSE_THREADS": str(threads),
        "REVIEWPULSE_TOKEN_BUDGET": str(settings.token_budget),
        "REVIEWPULSE_CUDA_GRAPHS": settings.cuda_graphs,
    } | ({"REVIEWPULSE_TENSORRT_CACHE": str(settings.tensorrt_cache)} if settings.tensorrt_cache else {})


async def _fill(settings: Settings, reviews: int, products: int, texts: Sequence[str]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, linger_ms=10, max_batch_size=256 * 1024, acks="all"
    )
    await producer.start()
    try:
        now_s = time.time()
        for n in range(reviews):
            product_id = f"product-{n % products}"
            review = {
                "event_id": f"event-{n}",
                "product_id": product_id,
                "text": texts[n % len(texts)],
                "event_time": now_s,
            }
            await producer.send(settings.topic_reviews, msgspec.json.encode(review), key=product_id.encode())
        await producer.flush()
    finally:
        await producer.stop()


def _timed(settings: Settings, scorer: str, workers: int, reviews: int) -> Fleet:
    with _running(settings, scorer, workers) as fleet, _gpu(settings.device_id) as gpu:
        statuses = fleet.wait_until(fleet.all_assigned, STARTING_S)
        start = fleet.mark()
        gpu.clear()
        fleet.wait_until(lambda: fleet.counted() >= reviews, LONGEST_S)
        end = fleet.mark()
        if start.counted >= reviews:
            option = "--events" if scorer == "onnx" else "--ceiling-events"
            raise DependencyError(
                f"All {reviews:,} reviews were counted before {workers} workers were ready: raise {option}."
            )
        busy, memory = [each[0] for each in gpu], [each[1] for each in gpu]
    timed = end.counted - start.counted
    return Fleet(
        scorer=scorer,
        workers=workers,
        providers=tuple(sorted({each.provider for each in statuses})),
        reviews_per_s=timed / (end.at_s - start.at_s),
        timed_reviews=timed,
        cpu_us_per_review=(end.cpu_s - start.cpu_s) / timed * 1e6,
        gpu_busy_percent=statistics.mean(busy) if busy else None,
        gpu_memory_mib=max(memory) if memory else None,
    )


class _Running:
    """Workers that run."""

    def __init__(
        self, processes: list[subprocess.Popen[bytes]], namespace: str, log: IO[bytes], client: redis.Redis
    ) -> None:
        self._processes, self._namespace, self._log, self._client = processes, namespace, log, client

    def counted(self) -> int:
        """Reviews counted so far."""
        return counted(self._client, Layout(self._namespace, 1))

    def all_assigned(self) -> list[WorkerStatus]:
        """What each says of itself, once all have partitions; nothing until then."""
        said = self._client.hgetall(f"{self._namespace}:workers")
        statuses = [msgspec.json.decode(each, type=WorkerStatus) for each in said.values()]
        busy = [each for each in statuses if each.partitions]
        return busy if len(busy) == len(self._processes) else []

    def mark(self) -> _Mark:
        """Where things stand."""
        return _Mark(
            time.perf_counter(), self.counted(), sum(cpu_seconds(each.pid) for each in self._processes)
        )

    def wait_until(self, reached: Callable[[], T], longest_s: float) -> T:
        """Polls until ``reached`` returns something true; returns it."""
        deadline = time.monotonic() + longest_s
        while not (value := reached()):
            if any(each.poll() is not None for each in self._processes):
                raise DependencyError(f"A worker ended by itself: {self._said()}")
            if time.monotonic() > deadline:
                raise DependencyError(f"The workers did not get there in {longest_s:.0f} s: {self._said()}")
            time.sleep(POLL_S)
        return value

    def _said(self) -> str:
        self._log.seek(0)
        return " ".join(self._log.read().decode(errors="replace")[-LOGGED:].split()) or "they said nothing"


@contextlib.contextmanager
def _running(settings: Settings, scorer: str, workers: int) -> Iterator[_Running]:
    """So many workers, with counters and a group of their own."""
    namespace = f"bench-{uuid4().hex[:8]}"
    own = settings.model_copy(update={"namespace": namespace, "group": namespace})
    environment: Mapping[str, str] = worker_environment(own) | variables(settings, workers)
    command = [sys.executable, "-m", "stream.cli.main", "worker", "--scorer", scorer]
    with tempfile.TemporaryFile() as log, connect(settings) as client:
        processes = [
            subprocess.Popen(command, env=environment, stdout=log, stderr=log) for _ in range(workers)
        ]
        try:
            yield _Running(processes, namespace, log, client)
        finally:
            for each in processes:
                each.send_signal(signal.SIGTERM)
            for each in processes:
                try:
                    each.wait(60)
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()


@contextlib.contextmanager
def _gpu(device_id: int) -> Iterator[list[tuple[float, int]]]:
    """What ``nvidia-smi`` says of the GPU, as it goes: busy percent and memory in use; empty without one."""
    samples: list[tuple[float, int]] = []
    program = shutil.which("nvidia-smi")
    if program is None:
        yield samples
        return
    asked = subprocess.Popen(
        [
            program,
            "--query-gpu=utilization.gpu,memory.used",
            "--format=csv,noheader,nounits",
            f"--id={device_id}",
            f"--loop-ms={SAMPLE_MS}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def read() -> None:
        assert asked.stdout is not None
        for line in asked.stdout:
            with contextlib.suppress(ValueError):  # "[N/A]", of a GPU that does not tell
                busy, memory = line.split(",")
                samples.append((float(busy), int(memory)))

    reader = threading.Thread(target=read, name="nvidia-smi", daemon=True)
    reader.start()
    try:
        yield samples
    finally:
        asked.terminate()
        asked.wait()
        reader.join()
