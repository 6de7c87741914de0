"""The store and generations of counters: following a switch, standing still, what is lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from structlog.testing import capture_logs

from stream.errors import DependencyError
from stream.redis_config import connect, connect_async
from stream.store.contract import MOVED, Apply
from stream.store.generations import Generations
from stream.store.layout import LAYOUT_VERSION, MARK_FIELD, Layout, Mark, Pending, Written, encode
from stream.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import redis

    from stream.settings import Settings

NAME = "one standstill"


def step(*, base: int, last: int, generation: int = 0, shard: int = 0) -> Apply:
    return Apply(
        shard, "reviews:0", base, last, "reviews", 0, {"reviews:skipped": 1}, [], [], generation=generation
    )


def store_of(settings: Settings, shards: int = 1) -> RedisStore:
    return RedisStore(connect_async(settings), Layout(settings.namespace, shards), settings.redis)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[RedisStore]:
    """With offset 9 of reviews:0 applied in generation 0."""
    opened = store_of(settings)
    await opened.open()
    assert await opened.apply([step(base=-1, last=9)]) == [None]
    yield opened
    await opened.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings) as connected:
        yield connected


def write(client: redis.Redis, settings: Settings, **written: object) -> None:
    client.set(f"{settings.namespace}:layout", encode(Written(**{"shards": 1, **written})))  # type: ignore[arg-type]


def pending(**changes: object) -> Pending:
    fields = {"kind": "rebuild", "generation": 1, "shards": 2, "owner": "somebody", **changes}
    return Pending(**fields)  # type: ignore[arg-type]


def mark(client: redis.Redis, settings: Settings, *, retired: bool = False) -> None:
    """Makes generation 0, of one shard, refuse steps."""
    offsets = Layout(settings.namespace, 1).offsets(0)
    client.hset(offsets, MARK_FIELD, encode(Mark(NAME, 1, 2, retired)))


def hold_lock(client: redis.Redis, settings: Settings) -> None:
    client.set(f"{settings.namespace}:moving", "somebody")


async def test_the_offsets_of_the_live_generation_are_found_after_a_switch(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    write(client, settings, shards=2, generation=1)
    client.hset(Layout(settings.namespace, 2, 1).offsets(1), "reviews:0", 5)
    assert await store.applied(["reviews:0"]) == {"reviews:0": (-1, 5)}
    assert (store.generation, store.shards) == (1, 2)


async def test_a_step_made_for_the_generation_before_is_refused_once_the_new_one_is_known(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    """Its base may well be what the new generation holds; its shards and states are not."""
    write(client, settings, generation=1)
    client.hset(Layout(settings.namespace, 1, 1).offsets(0), "reviews:0", 9)
    assert await store.applied(["reviews:0"]) == {"reviews:0": (9,)}
    before, after = step(base=9, last=12), step(base=9, last=15, generation=1)
    assert await store.apply([before, after, before]) == [MOVED, None, MOVED]
    assert await store.applied(["reviews:0"]) == {"reviews:0": (15,)}


async def test_a_retired_generation_refuses_every_step(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    other = step(base=-1, last=3)._replace(partition="reviews:1")
    mark(client, settings, retired=True)
    assert await store.apply([step(base=9, last=12)]) == [MOVED]
    # The worker has not looked yet; the layout it knows is asked for first where nothing is stored.
    assert await store.apply([other]) == [MOVED]
    assert client.hgetall(Layout(settings.namespace, 1).ledger(0)) == {b"reviews:skipped": b"1"}


async def test_a_first_step_asks_which_generation_is_live(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    """A generation whose keys are gone holds what a partition never counted holds: nothing to fence with."""
    write(client, settings, generation=1)
    first = step(base=-1, last=3)._replace(partition="reviews:1")
    assert await store.apply([first]) == [MOVED]
    assert await store.apply([first._replace(generation=1)]) == [None]


async def test_while_a_switch_is_under_way_nobody_is_told_where_to_begin(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    write(client, settings, pending=pending(standstill=NAME))
    hold_lock(client, settings)
    mark(client, settings)
    for _ in range(2):
        with pytest.raises(DependencyError, match="`reviewpulse rebuild` is moving the counters"):
            await store.applied(["reviews:0"])
    assert await store.apply([step(base=9, last=12)]) == [MOVED]
    other = store_of(settings)
    with pytest.raises(DependencyError, match="generation 1"):
        await other.open()
    await other.close()


async def test_a_standstill_whose_owner_is_gone_is_ended(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    write(client, settings, pending=pending(standstill=NAME))
    mark(client, settings)
    with capture_logs() as said:
        assert await store.applied(["reviews:0"]) == {"reviews:0": (9,)}
    assert [line["event"] for line in said if "was ended" in line["event"]]
    assert await store.apply([step(base=9, last=12)]) == [None]
    assert not client.hexists(Layout(settings.namespace, 1).offsets(0), MARK_FIELD)


async def test_an_owner_that_wakes_after_its_standstill_was_ended_cannot_switch(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    write(client, settings, pending=pending(standstill=NAME))
    own = connect_async(settings)
    generations = Generations(own, settings.namespace)
    before = await generations.read()
    assert before is not None
    mark(client, settings)
    await store.applied(["reviews:0"])
    assert await generations.replace(before, Written(shards=2, generation=1)) is None
    await own.aclose()


async def test_a_mark_of_a_standstill_that_was_ended_is_removed(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    """Its owner was slow: it set the mark after somebody had ended the standstill."""
    write(client, settings, pending=pending(standstill="another"))
    hold_lock(client, settings)
    mark(client, settings)
    assert await store.applied(["reviews:0"]) == {"reviews:0": (9,)}
    assert not client.hexists(Layout(settings.namespace, 1).offsets(0), MARK_FIELD)


async def test_a_switch_that_redis_lost_is_made_again_by_the_marks(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    """In a cluster the layout key and the marks may lie on servers with different fates."""
    mark(client, settings, retired=True)
    client.hset(Layout(settings.namespace, 2, 1).offsets(0), "reviews:0", 12)
    with capture_logs() as said:
        assert await store.applied(["reviews:0"]) == {"reviews:0": (12, -1)}
    assert [line["event"] for line in said if line["log_level"] == "error"] == [
        "Redis lost the switch to another generation; it was made again"
    ]
    assert msgspec.json.decode(client.get(f"{settings.namespace}:layout"))["generation"] == 1


async def test_a_redis_that_lost_everything_gets_back_the_layout_it_had(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    write(client, settings, shards=3, generation=2)
    assert await store.applied(["reviews:0"]) == {"reviews:0": (-1, -1, -1)}
    client.delete(f"{settings.namespace}:layout")
    assert await store.applied(["reviews:0"]) == {"reviews:0": (-1, -1, -1)}
    restored = msgspec.json.decode(client.get(f"{settings.namespace}:layout"))
    assert restored == {"version": LAYOUT_VERSION, "shards": 3, "generation": 2, "highest": 2}


async def test_the_outbox_of_the_live_generation_is_delivered_by_a_worker_with_nothing_else_to_do(
    store: RedisStore, client: redis.Redis, settings: Settings
) -> None:
    assert await store.outbox(0) == []
    new = Layout(settings.namespace, 1, 1)
    entry_id = client.xadd(new.outbox(0), {"partition": "reviews:0", "alert": "{}"})
    write(client, settings, generation=1)
    (entry,) = await store.outbox(0)
    assert (entry.entry_id.encode(), entry.generation) == (entry_id, 1)
    old = client.xadd(Layout(settings.namespace, 1).outbox(0), {"partition": "a", "alert": "{}"}, id=entry_id)
    await store.delivered([entry])
    assert client.xlen(new.outbox(0)) == 0
    assert [each for each, _ in client.xrange(Layout(settings.namespace, 1).outbox(0))] == [old]
