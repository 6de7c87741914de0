"""Counters moved into other numbers of shards: nothing lost, nothing counted twice, and streams go on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.client import LiveCounters
from stream.redis_config import connect, connect_async
from stream.settings import load
from stream.store.contract import Move
from stream.store.layout import MARK_FIELD, Layout, read_written
from stream.store.redis import RedisStore
from tests.integration.conservation import EVENTS, Sent, make_events, recount, send, stored, stored_of_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings

STALE_S = 10.0
MORTAL = Path(__file__).with_name("mortal_reshard.py")


def reshard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "reshard", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def count(
    start: Callable[..., Any], wait: Callable[..., Any], kafka: str, events: list[Sent], ended: int
) -> None:
    """Has two workers count ``events``, and stops them; ``ended`` is how many there are by then."""
    workers = []
    for _ in range(2):  # one after the other: the local broker's joins may stall when both come at once
        workers.append(start())
        workers[-1].wait_for("worker started")
    asyncio.run(send(kafka, events, over_s=0.5))
    wait(ended)
    assert [worker.stop() for worker in workers] == [0, 0]


def keys_of(settings: Settings, client: Any) -> set[str]:
    return {key.decode() for key in client.scan_iter(f"{settings.namespace}:*", count=1000)}


def live(settings: Settings, client: Any) -> Layout:
    return read_written(client.get(f"{settings.namespace}:layout")).layout(settings.namespace)


@pytest.fixture
def counted(
    settings: Settings, start_worker: Callable[..., Any], wait_until_ended: Callable[..., Any]
) -> list[Sent]:
    """The first third of the events, counted by two workers that have stopped since."""
    events = make_events(settings, seed=5)
    third = EVENTS // 3
    count(start_worker, wait_until_ended, settings.kafka, events[:third], third)
    return events


@pytest.mark.slow
def test_one_shard_becomes_four_and_then_two_and_every_total_stays_and_goes_on_exactly(
    settings: Settings,
    counted: list[Sent],
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
) -> None:
    third = EVENTS // 3
    before = stored(settings)
    with connect(settings) as client, LiveCounters(settings) as counters:
        totals = counters.totals()
        top = counters.leaders("all", "events", limit=5)

        assert reshard("--shards", "4").returncode == 0
        assert stored(settings) == before == recount(counted[:third])
        assert stored_of_fleet(settings) == sum(each["total"] for each in before[0].values())
        assert (live(settings, client).shards, live(settings, client).generation) == (4, 1)
        assert (counters.totals(), counters.leaders("all", "events", limit=5)) == (totals, top)
        count(start_worker, wait_until_ended, settings.kafka, counted[third : 2 * third], 2 * third)

        # What was sent before the move and comes again is still known.
        asyncio.run(send(settings.kafka, counted[:200], over_s=0.1))
        assert reshard("--shards", "2").returncode == 0
        count(start_worker, wait_until_ended, settings.kafka, counted[2 * third :], EVENTS + 200)
        products, ledger = stored(settings)
        assert stored_of_fleet(settings) == sum(each["total"] for each in products.values())
        repeated = sum(ledger.pop(f"{channel}:duplicate", 0) for channel in ("reviews", "chats"))
        assert repeated == sum(each.outcome == "counted" for each in counted[:200])
        once, again = recount(counted), recount(counted[:200])
        for name in ("reviews:dead", "chats:dead", "chats:skipped"):
            once[1][name] += again[1][name]
        assert (products, +ledger) == (once[0], +once[1])

        strange = keys_of(settings, client)
        for shard in range(2):
            strange = {key for key in strange if not key.startswith(live(settings, client).prefix(shard))}
        assert strange == {
            f"{settings.namespace}:layout",
            # What remains of generations that are gone: what refuses a zombie.
            Layout(settings.namespace, 1).offsets(0),
            *(Layout(settings.namespace, 4, 1).offsets(shard) for shard in range(4)),
        }
        assert list(client.hgetall(Layout(settings.namespace, 1).offsets(0))) == [MARK_FIELD.encode()]


async def test_offsets_that_only_some_shards_lack_stay_listed(settings: Settings) -> None:
    store = RedisStore(connect_async(settings), Layout(settings.namespace, 3), settings.redis)
    await store.open()
    name = f"{settings.topic_reviews}:1@A"
    for shard, applied in enumerate((8, 3, 3)):
        before = Move(shard, name, -1, applied)
        assert await store.move([before, Move(shard, name, applied, 11, missing=True)]) == [True, True]
    await store.close()
    assert reshard("--shards", "2").returncode == 0
    with connect(settings) as client, LiveCounters(settings) as counters:
        for shard in range(2):
            assert client.hgetall(live(settings, client).missing(shard)) == {name.encode(): b"4-11"}
        assert counters.totals()["reviews"].missing == 8


@pytest.mark.slow
def test_a_worker_that_sleeps_through_a_reshard_does_no_harm(
    settings: Settings,
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It wakes with work in its hands, judged for shards that are gone."""
    monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
    events = make_events(settings, seed=6)[:6000]
    zombie = start_worker()
    zombie.wait_for("worker started")
    asyncio.run(send(settings.kafka, events[:2000], over_s=0.5))
    wait_until_ended(2000)
    asyncio.run(send(settings.kafka, events[2000:3000], over_s=0.0))
    zombie.process.send_signal(signal.SIGSTOP)
    time.sleep(STALE_S + 1)
    assert reshard("--shards", "3").returncode == 0
    zombie.process.send_signal(signal.SIGCONT)
    asyncio.run(send(settings.kafka, events[3000:], over_s=0.5))
    wait_until_ended(6000)
    assert zombie.stop() == 0
    assert stored(settings) == recount(events)


@pytest.mark.slow
def test_a_reshard_that_is_killed_goes_on_where_it_was(
    settings: Settings, counted: list[Sent], start_worker: Callable[..., Any]
) -> None:
    before = stored(settings)
    mortal = subprocess.Popen([sys.executable, str(MORTAL), "4"], stdout=subprocess.PIPE, text=True)
    assert mortal.stdout is not None
    for _ in range(11):
        mortal.stdout.readline()
    mortal.kill()
    mortal.wait()

    # The one who holds the lock is dead; a second reshard has to wait until that is known.
    refused = reshard("--shards", "4")
    assert refused.returncode == 2
    assert "being rebuilt or resharded already" in refused.stderr
    with connect(settings) as client:
        client.delete(f"{settings.namespace}:moving")  # as if 30 s had passed
        new = Layout(settings.namespace, 4, 1)
        copied = client.hgetall(new.copied)
        assert 50 <= int(copied[b"0"]) < client.zcard(Layout(settings.namespace, 1).active(0))
    assert reshard("--shards", "2").returncode == 2  # four are under way
    done = reshard("--shards", "4")
    assert (done.returncode, "products are in 4 shards now" in done.stdout) == (0, True)
    assert stored(settings) == before


@pytest.mark.slow
def test_a_worker_started_after_a_reshard_died_counts_on_and_the_next_attempt_starts_over(
    settings: Settings,
    counted: list[Sent],
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
) -> None:
    third = EVENTS // 3
    mortal = subprocess.Popen([sys.executable, str(MORTAL), "4"], stdout=subprocess.PIPE, text=True)
    assert mortal.stdout is not None
    for _ in range(11):
        mortal.stdout.readline()
    worker = start_worker()
    worker.wait_for("`reviewpulse reshard` is moving the counters")
    mortal.kill()
    mortal.wait()
    with connect(settings) as client:
        client.delete(f"{settings.namespace}:moving")
    worker.wait_for("a standstill whose owner is gone was ended")
    asyncio.run(send(settings.kafka, counted[third : 2 * third], over_s=0.5))
    wait_until_ended(2 * third)

    assert "Workers are at work" in reshard("--shards", "4").stderr
    assert worker.stop() == 0
    assert reshard("--shards", "4").returncode == 0
    assert stored(settings) == recount(counted[: 2 * third])


def test_an_interrupted_reshard_can_be_given_up(settings: Settings, counted: list[Sent]) -> None:
    before = stored(settings)
    with connect(settings) as client:
        keys = keys_of(settings, client)
        mortal = subprocess.Popen(
            [sys.executable, str(MORTAL), "4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert mortal.stdout is not None
        for _ in range(11):
            mortal.stdout.readline()
        mortal.send_signal(signal.SIGTERM)
        _, said = mortal.communicate(timeout=30)
        assert (mortal.returncode, "The same command goes on" in said) == (130, True)

        given_up = reshard("--abort")
        assert (given_up.returncode, "was given up" in given_up.stdout) == (0, True)
        new = Layout(settings.namespace, 4, 1)
        assert keys_of(settings, client) == keys | {new.offsets(shard) for shard in range(4)}
        assert not client.hexists(Layout(settings.namespace, 1).offsets(0), MARK_FIELD)
        # The number is not given again: somebody may still believe in it.
        assert reshard("--shards", "2").returncode == 0
        assert live(settings, client).generation == 2
    assert stored(settings) == before


def test_shards_that_are_not_equally_far_are_refused_with_the_remedy(
    settings: Settings, counted: list[Sent]
) -> None:
    assert reshard("--shards", "2").returncode == 0
    before = stored(settings)
    with connect(settings) as client:
        layout = live(settings, client)
        (name,) = (
            each
            for each in client.hkeys(layout.offsets(1))
            if each.startswith(f"{settings.topic_reviews}:0".encode())
        )
        client.hincrby(layout.offsets(1), name, -1)
        refused = reshard("--shards", "4")
        assert refused.returncode == 2
        assert f"not equally far in {settings.topic_reviews}:0" in " ".join(refused.stderr.split())
        assert "Start one until it has caught up" in " ".join(refused.stderr.split())
        assert live(settings, client) == layout
        assert not client.hexists(layout.offsets(0), MARK_FIELD)
    assert stored(settings) == before


def test_wishes_that_cannot_be_met_are_one_sentence_each(settings: Settings, counted: list[Sent]) -> None:
    for arguments, sentence in [
        ((), "Say how many shards"),
        (("--shards", "1"), "has 1 shards already"),
    ]:
        refused = reshard(*arguments)
        assert refused.returncode == 2
        assert sentence in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    nothing = reshard("--abort")
    assert (nothing.returncode, nothing.stdout.strip()) == (
        0,
        f"No reshard of '{settings.namespace}' is pending.",
    )


def test_alerts_on_their_way_and_detector_states_move_too(settings: Settings, counted: list[Sent]) -> None:
    with connect(settings) as client:
        before = live(settings, client)
        products = [name.decode() for name in client.zrange(before.active(0), 0, -1)]
        states = {name: client.get(before.spike("reviews", name)) for name in products}
        client.xadd(before.outbox(0), {"partition": "reviews:0", "alert": msgspec.json.encode({"id": "a"})})
        client.xadd(before.outbox(0), {"partition": "reviews:1", "alert": msgspec.json.encode({"id": "b"})})
        assert reshard("--shards", "4").returncode == 0
        after = live(settings, client)
        assert {name: client.get(after.spike("reviews", name)) for name in products} == states
        moved = [fields for shard in range(4) for _, fields in client.xrange(after.outbox(shard))]
        assert [each[b"alert"] for each in moved] == [b'{"id":"a"}', b'{"id":"b"}']


def test_settings_of_the_old_number_of_shards_do_no_harm(
    settings: Settings,
    counted: list[Sent],
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
) -> None:
    third = EVENTS // 3
    assert reshard("--shards", "4").returncode == 0
    assert load().shards == 1
    worker = start_worker()
    worker.wait_for("REVIEWPULSE_SHARDS is for a new namespace")
    asyncio.run(send(settings.kafka, counted[third : third + 500], over_s=0.1))
    wait_until_ended(third + 500)
    assert worker.stop() == 0
    assert stored(settings) == recount(counted[: third + 500])
