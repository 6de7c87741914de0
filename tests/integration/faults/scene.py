"""What a fault strikes: servers, workers and a load; and the reckoning afterwards.

Rules:
- Workers reach the servers by the proxies, where a fault wants them; the reckoning does not.
- What Redis holds in the end is compared with what the log held, read back by a consumer of its own. Where a
  log was lost with its broker, what counts of it is what Redis had taken from it.
- Every worker that is asked to stop must exit with 0.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from stream.local import FREE_PORTS, LocalServers, is_free
from stream.redis_config import connect
from stream.settings import PREFIX, Settings, dead_letter_topic, load
from stream.store.contract import NOTHING_APPLIED
from stream.store.layout import NO_OFFSETS, Layout
from stream.topics import ensure
from tests.integration.conftest import STOP_S, WorkerProcess
from tests.integration.conservation import recount, stored, stored_of_fleet
from tests.integration.faults.load import Load, Logged, read_back
from tests.integration.faults.proxy import HOST, TcpProxy

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from tests.conftest import ExternalServers

SESSION_S = 6
"""The shortest there is; the local broker's joins take half of it."""
EVENTS_PER_S = 1000.0
"""Two workers on two slow cores keep up with it, and have something in hand at each moment."""
WINDOW_EVENTS = 64
"""Small windows: many steps, so that a fault falls between two of them."""
REDIS_ANSWER_S = 4
"""As long as a worker waits for Redis here; 15 s in production."""
STALL_S = 15.0
"""So that a silent server is noticed after 7 s. Workers that wait for one are not stuck, and none may be."""
RECOVERY_S = 60.0
CHANNELS = ("reviews", "chats")
REDIS_PORT = 6379
"""Where a URL names none."""

REWINDS, REFUSED = "rewinding to what Redis holds", "refused"
ANOTHER_LOG = "it is another log than the one counted so far"


class Reckoning(NamedTuple):
    """How it went."""

    events: int
    rewinds: int
    refused: int
    """Applies that the fence refused."""


class Scene:
    """A context manager: on entering, workers are up; the load is started by ``Scene.begin``."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        shared: LocalServers | ExternalServers | None = None,
        ways: Collection[str] = (),
        shards: int = 1,
        repeats: float = 0.0,
        redis_answer_s: float = REDIS_ANSWER_S,
    ) -> None:
        """Says what there is to be; starts nothing.

        Args:
            folder: for logs and data.
            seed: of the events and of what the fault draws by lot.
            shared: servers to use; None starts servers of the scene's own.
            ways: ``redis``, which workers then reach by a proxy; ``kafka``, which everybody does. That broker
                has to tell clients so: one of the scene's own.
            shards: of the counters.
            repeats: share of events sent twice.
            redis_answer_s: how long workers wait for an answer of Redis, by a proxy.
        """
        self.chance = random.Random(seed)
        self.folder = folder
        self.workers: list[WorkerProcess] = []
        """Those that live and were not asked to stop."""
        self._all_workers: list[WorkerProcess] = []
        self._stopping: list[WorkerProcess] = []
        self._lost_log: list[Logged] = []
        self._counted_from: set[str] = set()
        self._seed = seed
        self._shared = shared
        self._ways = ways
        self._shards = shards
        self._repeats = repeats
        self._redis_answer_s = redis_answer_s
        self._resources = ExitStack()
        self._own: LocalServers | None = None
        self._proxies: dict[str, TcpProxy] = {}

    def __enter__(self) -> Self:
        with self._resources as resources:
            servers = self._shared or self._start_servers()
            if "redis" in self._ways:
                self._proxies["redis"] = resources.enter_context(proxy_before(servers.redis))
            self.settings = self._make_settings(servers)
            self._environment = self._make_environment()
            ensure(self.settings)
            resources.callback(self._clean_up)
            self.load = Load(self.settings, self._seed, events_per_s=EVENTS_PER_S, repeats=self._repeats)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def _start_servers(self) -> LocalServers:
        kafka, redis, kafka_proxy = free_ports(3)
        is_proxied = "kafka" in self._ways
        if is_proxied:
            self._proxies["kafka"] = self._resources.enter_context(TcpProxy(kafka_proxy, kafka))
        self._own = self._resources.enter_context(
            LocalServers(
                kafka_port=kafka,
                redis_port=redis,
                data_dir=self.folder / "servers",
                advertised_kafka_port=kafka_proxy if is_proxied else 0,
            )
        )
        return self._own

    def _make_settings(self, servers: LocalServers | ExternalServers) -> Settings:
        name = f"test-{uuid4().hex[:10]}"
        return load(
            kafka=servers.kafka,
            redis=servers.redis,
            namespace=name,
            group=name,
            topic_reviews=f"{name}.reviews",
            topic_chats=f"{name}.chats",
            topic_alerts=f"{name}.alerts",
            partitions=4,
            session_timeout_s=SESSION_S,
            shards=self._shards,
            scorer="constant",
            watchdog_stall_s=STALL_S,
            window_events=WINDOW_EVENTS,
        )

    def _make_environment(self) -> dict[str, str]:
        """The workers': the settings as they are, but for the ways to the servers."""
        given = self.settings.model_dump(include=self.settings.model_fields_set, mode="json")
        if "kafka" in self._ways:
            given["kafka"] = f"{HOST}:{self.kafka.port}"
        if "redis" in self._ways:
            given["redis"] = by_the_proxy(self.settings.redis, self.redis, self._redis_answer_s)
        return dict(os.environ) | {f"{PREFIX}{key.upper()}": str(value) for key, value in given.items()}

    def _clean_up(self) -> None:
        if self.load.is_running:
            self.load.finish()
        for worker in self._all_workers:
            if worker.process.poll() is None:
                worker.kill()
        with connect(self.settings) as client:
            for key in client.scan_iter(f"{self.settings.namespace}:*", count=1000):
                client.unlink(key)

    # What a fault may do.

    @property
    def servers(self) -> LocalServers:
        """The scene's own."""
        assert self._own is not None, "these servers are not ours to harm"
        return self._own

    @property
    def kafka(self) -> TcpProxy:
        """The way to the broker, of workers, load and readers alike."""
        return self._proxies["kafka"]

    @property
    def redis(self) -> TcpProxy:
        """The workers' way to Redis."""
        return self._proxies["redis"]

    def wait(self, least_s: float, most_s: float) -> None:
        """Lets the load go on for a moment, drawn by lot."""
        time.sleep(self.chance.uniform(least_s, most_s))

    def join(self) -> WorkerProcess:
        """Starts a worker; does not wait until it works."""
        worker = WorkerProcess(
            self.folder / f"worker{len(self._all_workers)}.log", environment=self._environment
        )
        self.workers.append(worker)
        self._all_workers.append(worker)
        return worker

    def kill(self) -> None:
        """Kills a worker with -9, drawn by lot."""
        self._draw().kill()

    def leave(self) -> None:
        """Asks a worker to stop, drawn by lot; does not wait for it."""
        worker = self._draw()
        worker.process.send_signal(signal.SIGTERM)
        self._stopping.append(worker)

    def check_stopped(self, worker: WorkerProcess) -> None:
        """Waits for a worker that was asked to stop; it must end with 0.

        Asked before it had said a word, it may not have known how to be asked, and simply ends.
        """
        code = worker.process.wait(STOP_S)
        assert code == 0 or (code == -signal.SIGTERM and not worker.log), f"exit {code}: {worker.log[-3000:]}"

    def _draw(self) -> WorkerProcess:
        return self.workers.pop(self.chance.randrange(len(self.workers)))

    def log_is_lost(self, held: list[Logged]) -> None:
        """The broker's log is gone. What Redis took from it stays counted; the rest nobody can count."""
        self._lost_log = held
        self._counted_from = {f"{topic}:{partition}" for topic, partition in self.applied()}
        self.load.acknowledged.clear()

    def counted_of_lost_log(self) -> list[Logged]:
        """What Redis took from the log that is gone, by the workers' word.

        Not by what Redis held when it went: a worker may have had a part in hand, of which a dead letter
        waited for a broker.
        """
        counted_to = {
            tuple(line["partition"].rsplit(":", 1)): line["counted_to"] for line in self.said(ANOTHER_LOG)
        }
        return [
            record
            for record in self._lost_log
            if record.offset <= counted_to.get((record.tp[0], str(record.tp[1])), NOTHING_APPLIED)
        ]

    def read_log(self) -> list[Logged]:
        """What the topics of events hold now."""
        return read_back(self.settings, self.settings.topics.values(), self.load.acknowledged)

    def applied(self) -> Mapping[Any, int]:
        """The offsets Redis holds, by (topic, partition); of the only log there was."""
        layout = Layout(self.settings.namespace, self.settings.shards)
        with connect(self.settings) as client:
            stored_offsets = client.hgetall(layout.offsets(0))
        applied: defaultdict[tuple[str, int], int] = defaultdict(lambda: NOTHING_APPLIED)
        for name, offset in stored_offsets.items():
            if name in NO_OFFSETS:
                continue
            topic, _, partition = name.decode().partition("@")[0].rpartition(":")
            applied[topic, int(partition)] = int(offset)
        return applied

    # The course of it.

    def begin(self, workers: int) -> None:
        """Workers first, then the load."""
        for _ in range(workers):
            self.join()
        for worker in self.workers:
            worker.wait_for("worker started")
        self.load.start()

    def reckon(self) -> Reckoning:
        """Ends the load, waits until all of the log is recorded, stops the workers and compares.

        Raises:
            AssertionError: something was lost, counted twice or left unsaid.
        """
        self.load.finish()
        held = self.read_log()
        self._wait_for_new_log()
        records = [self.load.sent[record.number] for record in (*self.counted_of_lost_log(), *held)]
        products, ledger = recount(records)
        self._wait_for_ledger(ledger)
        self._stop_workers()
        in_the_end = stored(self.settings)
        assert in_the_end[1] == ledger
        assert in_the_end[0] == products
        assert stored_of_fleet(self.settings) == sum(each["total"] for each in products.values())
        self._check_dead_letters(held)
        rewinds = self.said(REWINDS)
        return Reckoning(len(records), len(rewinds), sum(REFUSED in line["reason"] for line in rewinds))

    def _stop_workers(self) -> None:
        while self.workers:
            self.leave()
        for worker in self._stopping:
            self.check_stopped(worker)

    def _check_dead_letters(self, held: list[Logged]) -> None:
        """Each dead record of the log is in the dead-letter topic, once or more."""
        letters = read_back(
            self.settings, [dead_letter_topic(topic) for topic in self.settings.topics.values()]
        )
        sources = {
            (
                letter.headers["source_topic"].decode(),
                int(letter.headers["source_partition"]),
                int(letter.headers["source_offset"]),
            )
            for letter in letters
        }
        dead = {
            (*record.tp, record.offset) for record in held if self.load.sent[record.number].outcome == "dead"
        }
        assert dead <= sources

    def said(self, text: str, since: str = "", by: WorkerProcess | None = None) -> list[dict[str, Any]]:
        """Every log line of any worker that holds ``text``.

        Args:
            text: as it is in the line's JSON.
            since: a time as the lines have it.
            by: this worker alone.
        """
        workers = self._all_workers if by is None else [by]
        return [line for line in _log_lines(workers, text) if line.get("timestamp", "") >= since]

    def _wait_for_new_log(self) -> None:
        """Waits until each partition that was counted from the lost log is read from the new one."""
        deadline = time.monotonic() + RECOVERY_S
        while missing := self._counted_from - {line["partition"] for line in self.said(ANOTHER_LOG)}:
            assert time.monotonic() < deadline, f"nobody reads the new log of {missing}"
            time.sleep(0.1)

    def _wait_for_ledger(self, expected: Counter[str]) -> None:
        deadline = time.monotonic() + RECOVERY_S
        while (ledger := stored(self.settings)[1]) != expected:
            for worker in self.workers:
                assert worker.process.poll() is None, f"a worker ended:\n{worker.log[-3000:]}"
            assert time.monotonic() < deadline, f"{ledger} is stored, {expected} was to be"
            time.sleep(0.1)


def proxy_before(redis: str) -> TcpProxy:
    """A proxy to the Redis of a URL, on a port of its own choice."""
    parts = urlsplit(redis)
    assert parts.hostname is not None
    return TcpProxy(0, parts.port or REDIS_PORT, parts.hostname)


def by_the_proxy(redis: str, proxy: TcpProxy, answer_s: float) -> str:
    """The URL by which workers reach a Redis through a proxy, and wait so long for its answers."""
    parts = urlsplit(redis)
    user, at, _ = parts.netloc.rpartition("@")
    query = "&".join(filter(None, (parts.query, f"socket_timeout={answer_s:g}")))
    return urlunsplit(parts._replace(netloc=f"{user}{at}{HOST}:{proxy.port}", query=query))


def until(condition: Callable[[], object], timeout_s: float) -> None:
    """Returns when it holds.

    Raises:
        AssertionError: it does not within the time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to it within {timeout_s:g} s"
        time.sleep(0.1)


def _log_lines(workers: Iterable[WorkerProcess], text: str) -> Iterator[dict[str, Any]]:
    for worker in workers:
        for line in worker.log.splitlines():
            if text in line:
                with suppress(ValueError):  # a traceback, or the cut last line of a worker that was killed
                    yield json.loads(line)


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on, below those that systems give to connections."""
    free = (port for port in random.sample(FREE_PORTS, len(FREE_PORTS)) if is_free(port))
    return [next(free) for _ in range(number)]
