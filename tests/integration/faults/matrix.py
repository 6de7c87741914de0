"""The faults, each as what happens to a scene while the load goes on."""

from __future__ import annotations

import resource
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stream.redis_config import connect
from stream.topics import ensure
from tests.integration.faults.proxy import is_plain
from tests.integration.faults.scene import (
    ANOTHER_LOG,
    RECOVERY_S,
    REDIS_ANSWER_S,
    REFUSED,
    REWINDS,
    SESSION_S,
    Reckoning,
    Scene,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream.local import LocalServers
    from tests.conftest import ExternalServers
    from tests.integration.conftest import WorkerProcess
    from tests.integration.faults.proxy import TcpProxy

BEYOND_SESSION_S = SESSION_S + 4
PAUSE_S = 25.0
"""Within this the others must have taken over: below the watchdog's limit, and the patience with Redis."""
MOST_PAUSES = 4
"""A worker that is woken may hear of its loss before it goes on with what it had in hand; not four times."""


@dataclass(frozen=True)
class Fault:
    """One row of the matrix."""

    name: str
    strike: Callable[[Scene], None]
    says: tuple[str, ...]
    """What stands in lines of the workers' logs from then on, for people: what is wrong, and what happens."""
    workers: int = 2
    shards: int = 1
    own: str = ""
    """Why it wants servers of its own, as a clause; none when those that others use come to no harm."""
    ways: tuple[str, ...] = ()
    """Servers that workers reach by a proxy, ``kafka`` or ``redis``."""
    redis_answer_s: float = REDIS_ANSWER_S
    """How long workers wait for an answer that comes by a proxy."""
    repeats: float = 0.0
    by_default: bool = True
    """Whether it runs with all other tests."""

    @property
    def what(self) -> str:
        """For the docs."""
        assert self.strike.__doc__ is not None
        return " ".join(self.strike.__doc__.split())

    def why_not_at(self, redis: str) -> str | None:
        """Why it cannot strike servers that somebody else runs; None when it can.

        Args:
            redis: Redis' URL.
        """
        if self.own:
            return f"it {self.own}"
        if "redis" in self.ways and not is_plain(redis):
            return "its proxy can only stand before a single Redis by its host and port, without TLS"
        return None


def meet(
    fault: Fault, seed: int, folder: Path, shared: LocalServers | ExternalServers | None = None
) -> Reckoning:
    """Lets a fault strike under load, and reckons afterwards.

    Args:
        fault: what happens.
        seed: when, to whom, and with which events.
        folder: for logs and data.
        shared: servers for faults that want none of their own.

    Raises:
        AssertionError: an event was lost or counted twice, or nobody said what happened.
    """
    with Scene(
        folder,
        seed,
        shared=None if fault.own else shared,
        ways=fault.ways,
        shards=fault.shards,
        repeats=fault.repeats,
        redis_answer_s=fault.redis_answer_s,
    ) as scene:
        scene.begin(fault.workers)
        scene.wait(0.5, 1.5)
        struck_at = datetime.now(UTC).isoformat()
        fault.strike(scene)
        scene.wait(1.0, 1.5)
        reckoning = scene.reckon()
        for text in fault.says:
            assert scene.said(text, since=struck_at), f"no worker said {text!r}"
        return reckoning


# Workers.


def workers_killed(scene: Scene) -> None:
    """A worker is killed with -9 and another started, three times."""
    for _ in range(3):
        scene.kill()
        scene.join()
        scene.wait(0.2, 1.5)


def worker_paused(scene: Scene) -> None:
    """A worker is stopped until its partitions are another's, and woken: a zombie with work in hand."""
    for pause in range(MOST_PAUSES):
        worker, other = scene.workers[pause % 2], scene.workers[1 - pause % 2]
        scene.redis.stall()  # so that windows wait to be recorded, with more patience than the pause takes
        scene.wait(0.5, 1.0)
        paused_at = datetime.now(UTC).isoformat()
        worker.process.send_signal(signal.SIGSTOP)
        scene.redis.resume()
        until(lambda: scene.said(READS_ON, since=paused_at, by=other), PAUSE_S)  # noqa: B023 - called here
        scene.wait(0.5, 1.0)  # in which the other one counts
        woken_at = datetime.now(UTC).isoformat()
        worker.process.send_signal(signal.SIGCONT)
        if _met_the_fence(scene, worker, woken_at):
            return
    raise AssertionError("no paused worker had work in hand: the fence was not met, and nothing is proven")


def _met_the_fence(scene: Scene, worker: WorkerProcess, woken_at: str) -> bool:
    """Whether one of the worker's steps was refused before it heard that its partitions are another's."""

    def refused() -> bool:
        return any(REFUSED in line["reason"] for line in scene.said(REWINDS, since=woken_at, by=worker))

    until(lambda: refused() or scene.said(READS_ON, since=woken_at, by=worker), RECOVERY_S)
    return refused()


def worker_stopped_and_woken(scene: Scene) -> None:
    """A worker is stopped until its partitions are another's, and woken, whatever it has in hand."""
    worker = scene.workers[0]
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(BEYOND_SESSION_S)
    worker.process.send_signal(signal.SIGCONT)


def rebalance_storm(scene: Scene) -> None:
    """Workers join, leave and are killed, one every two seconds or so: the group hardly settles."""
    for _ in range(10):
        if len(scene.workers) > 1 and scene.chance.random() < len(scene.workers) / 4:
            scene.chance.choice((scene.kill, scene.leave))()
        else:
            scene.join()
        scene.wait(1.0, 2.5)  # a worker needs some two seconds to join
    scene.join().wait_for("worker started")  # on a slow machine nobody may have come that far


def scaled_up_and_down(scene: Scene) -> None:
    """One worker becomes four and one again."""
    for _ in range(3):
        scene.join()
    for worker in scene.workers:
        worker.wait_for("worker started")
    scene.wait(1.0, 3.0)
    for _ in range(3):
        scene.leave()
        scene.wait(0.1, 1.0)


def producer_repeats_itself(scene: Scene) -> None:
    """The producer sends a tenth of the events again, later and out of order; a worker is killed."""
    scene.wait(1.0, 2.0)
    scene.kill()
    scene.join()
    scene.wait(1.0, 2.0)


# Redis.


def redis_killed(scene: Scene) -> None:
    """Redis is killed with -9 and comes back two seconds later with its append-only file."""
    scene.servers.kill_redis()
    time.sleep(2.0)
    scene.servers.restart_redis()


def redis_lost_a_second(scene: Scene) -> None:
    """Redis' machine dies: the last second of its append-only file was not on the disk, a write is torn."""
    (file,) = (scene.folder / "servers" / "appendonlydir").glob("*.incr.aof")
    on_disk = file.stat().st_size
    scene.wait(0.7, 1.2)
    scene.servers.kill_redis()
    with file.open("r+b") as append_only:
        append_only.truncate(on_disk)
    scene.servers.restart_redis()


def redis_older_copy(scene: Scene) -> None:
    """Redis is put back to a copy of its files made some seconds before."""
    files, copy = scene.folder / "servers" / "appendonlydir", scene.folder / "copy"
    shutil.copytree(files, copy)
    scene.wait(2.0, 4.0)
    scene.servers.kill_redis()
    shutil.rmtree(files)
    shutil.copytree(copy, files)
    scene.servers.restart_redis()


def redis_flushed(scene: Scene) -> None:
    """Somebody flushes Redis: counters, offsets, layout and script are gone."""
    with connect(scene.settings) as client:
        client.flushall()
        client.script_flush()


def redis_slow(scene: Scene) -> None:
    """The way to Redis takes half a second and carries 20 KB/s, for some seconds."""
    scene.redis.slow(delay_s=0.5, bytes_per_s=20_000)
    scene.wait(5.0, 6.0)
    scene.redis.resume()


def redis_unreachable(scene: Scene) -> None:
    """The way to Redis goes dead, half-open, for longer than a worker waits for an answer."""
    scene.redis.stall()
    time.sleep(REDIS_ANSWER_S + 2.0)
    scene.redis.resume()


def redis_cut(scene: Scene) -> None:
    """Connections to Redis are reset again and again; some replies get lost after the step was done."""
    for _ in range(3):
        scene.redis.lose_replies()
        scene.wait(0.1, 0.5)
        scene.redis.cut()
        scene.wait(0.1, 1.0)
        scene.redis.resume()
        scene.wait(0.2, 1.0)


def redis_full(scene: Scene) -> None:
    """Redis may use no more memory (maxmemory, noeviction) for some seconds; then it is given more."""
    with connect(scene.settings) as client:
        client.config_set("maxmemory", 1)
        scene.wait(2.0, 3.0)
        client.config_set("maxmemory", 0)


def redis_disk_full(scene: Scene) -> None:
    """Redis' disk takes no more of its append-only file for some seconds; then it does."""
    (file,) = (scene.folder / "servers" / "appendonlydir").glob("*.incr.aof")
    valkey = scene.servers.pids["redis"]
    # The write fails as on a full disk; only the error has another number.
    before = resource.prlimit(valkey, resource.RLIMIT_FSIZE)
    resource.prlimit(valkey, resource.RLIMIT_FSIZE, (file.stat().st_size + 10_000, before[1]))
    scene.wait(3.0, 4.0)
    resource.prlimit(valkey, resource.RLIMIT_FSIZE, before)


# Kafka.


def broker_emptied(scene: Scene) -> None:
    """The broker dies with its log, of which a part was not counted yet; an empty one takes its place."""
    scene.load.pause()
    for worker in scene.workers:
        worker.process.send_signal(signal.SIGSTOP)
    scene.load.resume()
    scene.wait(0.5, 1.0)
    scene.load.pause()
    held = scene.read_log()
    scene.servers.kill_kafka()
    for worker in scene.workers:
        worker.process.send_signal(signal.SIGCONT)
    _until_steady(scene)
    scene.log_is_lost(held)
    scene.servers.restart_kafka()
    ensure(scene.settings)
    scene.load.resume()
    scene.wait(1.0, 4.0)


def broker_unreachable(scene: Scene) -> None:
    """The way to the broker goes dead, half-open, for everybody and for longer than a session."""
    scene.kafka.stall()
    time.sleep(BEYOND_SESSION_S)
    scene.kafka.resume()


def broker_cut(scene: Scene) -> None:
    """Connections to the broker are reset again and again, the last time for longer than a session."""
    for _ in range(3):
        scene.kafka.lose_replies()
        scene.wait(0.1, 0.5)
        scene.kafka.cut()
        scene.wait(0.1, 0.5)
        scene.kafka.resume()
        scene.wait(0.5, 1.5)
    scene.kafka.cut()
    time.sleep(BEYOND_SESSION_S)
    scene.kafka.resume()


def stopped_without_broker(scene: Scene) -> None:
    """The way to the broker goes dead, and just then all workers are told to stop; others come afterwards."""
    _stopped_while(scene, scene.kafka)


def stopped_without_redis(scene: Scene) -> None:
    """The way to Redis goes dead, and just then all workers are told to stop; others come afterwards."""
    _stopped_while(scene, scene.redis)


def _stopped_while(scene: Scene, way: TcpProxy) -> None:
    way.stall()
    scene.wait(0.5, 1.0)
    scene.load.hold()
    workers = list(scene.workers)
    for _ in workers:
        scene.leave()
    for worker in workers:
        scene.check_stopped(worker)
    way.resume()
    for _ in workers:
        scene.join()
    scene.load.resume()


# All at once.


def several_at_once(scene: Scene) -> None:
    """Something happens to the workers, to Redis and to the way to the broker at the same time, by lot."""
    strikes = [
        scene.chance.choice((workers_killed, worker_stopped_and_woken, rebalance_storm)),
        scene.chance.choice((redis_killed, redis_older_copy, redis_unreachable, redis_cut, redis_full)),
        scene.chance.choice((broker_unreachable, broker_cut)),
    ]
    with ThreadPoolExecutor(len(strikes)) as threads:
        for struck in [threads.submit(strike, scene) for strike in strikes]:
            struck.result()


def _until_steady(scene: Scene) -> None:
    """Returns when the workers have applied what they had in hand."""
    before = None
    while (applied := dict(scene.applied())) != before:
        before = applied
        time.sleep(1.0)


READS_ON = "reading from what Redis holds"
WAITS, IS_BACK = "waiting for a dependency", "the dependency is back"
IS_AWAY, ANSWERS = "a server is away; waiting for it", "the server answers again"
LOST_WRITES = "Redis lost writes"

KILLS, PUTS_BACK = "kills Redis", "puts Redis' files back"
EVERYBODYS = "does to Redis what everybody else there would feel, too"
LIMITS = "limits what Redis' process may write"
ADVERTISED = "stands before the broker, which itself must tell clients to come by the proxy"

FAULTS = (
    Fault("workers-killed", workers_killed, (READS_ON,)),
    Fault("worker-paused", worker_paused, (READS_ON, REWINDS), ways=("redis",), redis_answer_s=30),
    Fault("rebalance-storm", rebalance_storm, (READS_ON,)),
    Fault("scaled-up-and-down", scaled_up_and_down, (READS_ON,), workers=1),
    Fault("producer-repeats", producer_repeats_itself, (READS_ON,), repeats=0.1),
    Fault("redis-killed", redis_killed, (WAITS, IS_BACK), own=KILLS),
    Fault("redis-lost-a-second", redis_lost_a_second, (LOST_WRITES, READS_ON), own=KILLS, by_default=False),
    Fault("redis-older-copy", redis_older_copy, (LOST_WRITES, READS_ON), own=PUTS_BACK),
    Fault("redis-flushed", redis_flushed, (LOST_WRITES, READS_ON), own=EVERYBODYS),
    Fault("redis-slow", redis_slow, ("a dependency is slow",), ways=("redis",)),
    Fault("redis-unreachable", redis_unreachable, (WAITS, IS_BACK), ways=("redis",)),
    Fault("redis-cut", redis_cut, (WAITS, IS_BACK), ways=("redis",)),
    Fault("redis-full", redis_full, (WAITS, "is full: raise its maxmemory", IS_BACK), own=EVERYBODYS),
    Fault("redis-disk-full", redis_disk_full, (WAITS, "Errors writing to the AOF file", IS_BACK), own=LIMITS),
    Fault("broker-emptied", broker_emptied, (ANOTHER_LOG,), own="kills the broker"),
    # Whether these two cost workers their partitions is the choice of the broker: a late heartbeat may count.
    Fault("broker-unreachable", broker_unreachable, (IS_AWAY, ANSWERS), own=ADVERTISED, ways=("kafka",)),
    Fault("broker-cut", broker_cut, (IS_AWAY, ANSWERS), own=ADVERTISED, ways=("kafka",)),
    Fault(
        "stopped-without-broker",
        stopped_without_broker,
        ("Kafka does not answer",),
        own=ADVERTISED,
        ways=("kafka",),
        by_default=False,
    ),
    Fault(
        "stopped-without-redis",
        stopped_without_redis,
        (WAITS, "not everything could be recorded in time"),
        ways=("redis",),
        by_default=False,  # the drain alone takes 20 s
    ),
    Fault(
        "several-at-once",
        several_at_once,
        (READS_ON,),
        shards=3,
        own=f"{KILLS}, and {ADVERTISED}",
        ways=("kafka", "redis"),
        by_default=False,
    ),
)
