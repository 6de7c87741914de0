"""A real Redis Cluster: each event is counted once, also when masters die with writes of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from redis.crc import key_slot

from stream.client import LiveCounters
from stream.doctor import Finding, redis_findings
from stream.errors import DependencyError
from stream.redis_config import connect
from stream.settings import load
from stream.store.layout import Layout
from tests.integration.cluster import LocalCluster
from tests.integration.conservation import EVENTS, make_events, recount, send, stored, stored_of_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.settings import Settings

SHARDS = 12
LOAD_S = 9.0
LONGEST_S = 90.0


class Watcher:
    """Reads the totals all the time, as a dashboard does."""

    def __init__(self) -> None:
        self._counters = LiveCounters(load())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.answers = 0
        self.refusals = 0
        self.ended = 0
        self.broken: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._counters.close()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self.ended = sum(each.ended for each in self._counters.totals().values())
                self.answers += 1
            except DependencyError:
                self.refusals += 1
            except BaseException as error:  # noqa: BLE001 - told to the test's thread
                self.broken = error
                return

    def wait_until_ended(self, number: int) -> None:
        deadline = time.monotonic() + LONGEST_S
        while self.ended < number:
            assert self.broken is None, self.broken
            assert time.monotonic() < deadline, f"{self.ended} of {number} events ended"
            time.sleep(0.1)


@pytest.fixture
def on_cluster(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[LocalCluster], Settings]:
    """Has workers and readers use a cluster."""

    def use(cluster: LocalCluster) -> Settings:
        # One address is enough, and only it can be wrong: the others are learned from it.
        monkeypatch.setenv("REVIEWPULSE_REDIS", cluster.url)
        monkeypatch.setenv("REVIEWPULSE_SHARDS", str(SHARDS))
        monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
        return load()

    return use


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as started:
        yield started


def kill_ahead_of_its_replica(cluster: LocalCluster, port: int) -> None:
    """Kills a master whose last writes have reached nobody, and returns when its replica has taken over."""
    (replica,) = cluster.replicas_of(port)
    # With a password that its master does not have, a replica whose link is cut cannot come back.
    cluster.call(replica, "CONFIG", "SET", "masterauth", "wrong")
    cluster.call(replica, "CLIENT", "KILL", "TYPE", "master")
    time.sleep(0.7)
    cluster.kill(port)
    cluster.wait(lambda: replica in cluster.masters(), "the replica takes over")
    cluster.call(replica, "CONFIG", "SET", "masterauth", "")


def count_under_load(
    settings: Settings, start_worker: Callable[..., Any], seed: int, trouble: Callable[[], None]
) -> tuple[list[Any], Watcher]:
    """Two workers count a steady load while there is trouble; checks the totals."""
    events = make_events(settings, seed)
    workers = [start_worker(), start_worker()]
    for worker in workers:
        worker.wait_for("worker started")
    sender = threading.Thread(target=asyncio.run, args=(send(settings.kafka, events, over_s=LOAD_S),))
    with Watcher() as watcher:
        sender.start()
        time.sleep(LOAD_S / 4)
        trouble()
        sender.join()
        watcher.wait_until_ended(EVENTS)
    assert watcher.broken is None
    assert [worker.stop() for worker in workers] == [0, 0]
    expected_products, expected_ledger = recount(events)
    products, ledger = stored(settings)
    assert ledger == expected_ledger
    assert products == expected_products
    assert stored_of_fleet(settings) == sum(each["total"] for each in products.values())
    return workers, watcher


def gaps(workers: list[Any]) -> int:
    """How often the fence saw that Redis had lost writes."""
    return sum(worker.log.count("Redis lost writes") for worker in workers)


@pytest.mark.slow
def test_two_workers_count_exactly_on_a_cluster(
    on_cluster: Callable[[LocalCluster], Settings], cluster: LocalCluster, start_worker: Callable[..., Any]
) -> None:
    settings = on_cluster(cluster)
    workers, watcher = count_under_load(settings, start_worker, 1, lambda: None)
    assert gaps(workers) == 0
    assert watcher.refusals == 0
    sizes = [cluster.call(port, "DBSIZE") for port in cluster.masters()]
    assert min(sizes) > 0  # every master has its part


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_masters_that_die_with_writes_nobody_else_has_cost_nothing(
    on_cluster: Callable[[LocalCluster], Settings],
    cluster: LocalCluster,
    start_worker: Callable[..., Any],
    seed: int,
) -> None:
    settings = on_cluster(cluster)

    def trouble() -> None:
        first, second, _ = cluster.masters()
        kill_ahead_of_its_replica(cluster, first)
        cluster.restart(first)  # as a replica of its successor
        cluster.wait_until_well()
        kill_ahead_of_its_replica(cluster, second)

    workers, watcher = count_under_load(settings, start_worker, seed, trouble)
    assert gaps(workers) > 0
    assert watcher.refusals > 0
    assert watcher.answers > watcher.refusals


@pytest.mark.slow
def test_shards_that_lost_everything_are_counted_again_and_the_others_are_not(
    on_cluster: Callable[[LocalCluster], Settings], start_worker: Callable[..., Any]
) -> None:
    with LocalCluster(replicas=0) as cluster:
        settings = on_cluster(cluster)

        def trouble() -> None:
            port = cluster.masters()[0]
            cluster.kill(port)
            cluster.restart(port)  # with its slots, and nothing in them
            cluster.wait_until_well()

        workers, _ = count_under_load(settings, start_worker, 4, trouble)
    assert gaps(workers) > 0


@pytest.mark.slow
def test_slots_that_move_under_load_are_counted_exactly(
    on_cluster: Callable[[LocalCluster], Settings], cluster: LocalCluster, start_worker: Callable[..., Any]
) -> None:
    """Key by key, as ``redis-cli --cluster reshard`` does: some keys of a step are here, the others there."""
    settings = on_cluster(cluster)
    layout = Layout(settings.namespace, SHARDS)
    with connect(settings) as client:
        # Empty outboxes, as alerts leave them: a step all of whose declared keys are there is let in.
        for shard in range(SHARDS):
            client.xdel(layout.outbox(shard), client.xadd(layout.outbox(shard), {"partition": "none:0"}))

    def trouble() -> None:
        for shard in range(0, SHARDS, 2):
            slot = key_slot(layout.offsets(shard).encode())
            source = cluster.master_of(slot)
            target = next(port for port in cluster.masters() if port != source)
            cluster.move_slot(slot, target, pause_s=0.02)

    count_under_load(settings, start_worker, 5, trouble)


def examined(settings: Settings) -> dict[str, Finding]:
    """The doctor's findings about Redis, by name."""
    return {each.name: each for each in redis_findings(settings)}


def test_the_doctor_tells_what_the_cluster_is_and_how_the_shards_fall(
    on_cluster: Callable[[LocalCluster], Settings], cluster: LocalCluster
) -> None:
    settings = on_cluster(cluster)
    findings = examined(settings)
    assert findings["redis"].state == "ok"
    assert findings["redis topology"].detail == (f"{cluster.url}: a cluster of 3 masters and 3 replicas")
    assert findings["redis shards"].state == "ok"
    assert findings["redis shards"].detail.startswith("12 shards on 3 masters: 127.0.0.1:")
    assert findings["redis memory"].state == "ok"

    evicting = cluster.ports[-1]  # a replica; the cluster tells of it when it has got a write
    cluster.call(evicting, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with connect(settings) as client:
        for number in range(100):
            client.set(f"key-{number}", "")
    evicted = f"127.0.0.1:{evicting}: "
    cluster.wait(
        lambda: examined(settings)["redis memory"].detail.startswith(evicted), "the cluster tells of it"
    )

    few = settings.model_copy(update={"shards": 2})
    spread = examined(few)["redis shards"]
    assert spread.state == "warn"
    assert "some masters have nothing to do" in spread.detail
