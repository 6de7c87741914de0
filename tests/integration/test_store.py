"""The store in Redis does what the one in memory does, and says whose fault it is when it cannot."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import NOW_MS, event, read_product_hash
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from stream.client import LiveCounters
from stream.core.buckets import CODES, DAY_MS, HOUR_MS, MINUTE_MS, RESOLUTIONS, field, fields_for
from stream.core.segments import SEGMENT_OFFSETS
from stream.core.tally import tally
from stream.doctor import missing_records, redis_findings
from stream.errors import DependencyError, UsageError
from stream.local import LocalServers
from stream.redis_config import connect, connect_async
from stream.settings import Settings
from stream.store.contract import Apply, Move, ProductApply
from stream.store.layout import ERASED_FIELD, Layout
from stream.store.memory import MemoryStore
from stream.store.missing import Missing
from stream.store.redis import RedisStore
from stream.store.values import older_buckets, unpack_total

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    import redis

    from stream.core.decode import Event
    from stream.core.events import Channel
    from stream.store.contract import CounterStore

LATE_MS = HOUR_MS
RIGHT, WRONG = "correct horse", "wr0ng-secret"
MOST_BUCKETS = sum(each.slots for each in RESOLUTIONS)
PRODUCTS = ["kettle", "lamp", "灯", "a b:{c}", "x" * 256]


def redis_store(settings: Settings, shards: int = 1) -> RedisStore:
    return RedisStore(connect_async(settings), Layout(settings.namespace, shards), settings.redis)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[RedisStore]:
    opened = redis_store(settings)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def own_servers() -> Iterator[LocalServers]:
    """Servers this module may mistreat."""
    with LocalServers() as servers:
        yield servers


@pytest.fixture
def own(own_servers: LocalServers) -> Iterator[redis.Redis]:
    """An empty Redis to mistreat; what a test configures is undone."""
    with connect(Settings(redis=own_servers.redis)) as client:
        client.flushall()
        yield client
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 0)
        client.config_set("requirepass", "")


@pytest.fixture
def own_settings(own_servers: LocalServers, own: redis.Redis) -> Settings:
    return Settings(redis=own_servers.redis)


@pytest.fixture
async def own_store(own_settings: Settings) -> AsyncIterator[RedisStore]:
    opened = redis_store(own_settings)
    await opened.open()
    yield opened
    await opened.close()


def step_of(
    events: Sequence[Event],
    *,
    base: int = -1,
    last: int = 0,
    shard: int = 0,
    partition: str = "reviews:0",
    channel: Channel = "reviews",
    states: dict[str, bytes] | None = None,
    transitions: Sequence[bytes] = (),
    ledger: dict[str, int] | None = None,
    chance: random.Random | None = None,
    seen: Sequence[tuple[int, bytes]] = (),
    forgotten: Sequence[int] = (),
) -> Apply:
    """The step that counts ``events``; labels and sentiments by ``chance``, else all are positive."""
    labels = [chance.randrange(3) if chance else 2 for _ in events]
    sentiments = [chance.randrange(-1000, 1001) if chance else 800 for _ in events]
    products = [
        ProductApply(
            name,
            product.late,
            product.first_event_ms,
            product.last_event_ms,
            (states or {}).get(name),
            list(product.spans.items()),
        )
        for name, product in tally(events, labels, sentiments, LATE_MS).items()
    ]
    return Apply(
        shard=shard,
        partition=partition,
        base=base,
        last=last,
        channel=channel,
        arrival_ms=max((each.arrival_ms for each in events), default=0),
        ledger={"reviews:counted": len(events)} if ledger is None else ledger,
        products=products,
        transitions=list(transitions),
        seen=seen,
        forgotten=forgotten,
    )


def read_back(client: redis.Redis, layout: Layout) -> dict[str, Any]:
    """Everything under the namespace, by the documented layout; the outbox without its entries' ids."""
    contents: dict[str, Any] = {
        "products": {},
        "fleet": {},
        "states": {},
        "active": {},
        "offsets": [],
        "missing": [],
        "logs": {name.decode(): log.decode() for name, log in client.hgetall(layout.logs).items()},
        "ledger": Counter(),
        "outbox": [],
        "seen": [],
    }
    known = {layout.layout_key.encode(), layout.logs.encode()}
    for shard in range(layout.shards):
        prefix = layout.prefix(shard).encode()
        product_prefix, spike_prefix = prefix + b"product:", prefix + b"spike:"
        seen_prefix = prefix + b"seen:"
        contents["seen"].append({})
        for key in client.keys(f"{layout.prefix(shard)}*"):
            if key.startswith(product_prefix):
                total, buckets = read_product_hash(client.hgetall(key))
                contents["products"][key.removeprefix(product_prefix).decode()] = {
                    "total": [*total.sums, *total[1:]],
                    **{bucket: list(sums) for bucket, sums in buckets.items()},
                }
                known.add(key)
            elif key.startswith(spike_prefix):
                channel, _, product_id = key.removeprefix(spike_prefix).decode().partition(":")
                contents["states"][channel, product_id] = client.get(key)
                known.add(key)
            elif key.startswith(seen_prefix):
                partition, _, segment = key.removeprefix(seen_prefix).decode().rpartition(":")
                contents["seen"][shard][partition, int(segment)] = client.get(key)
                known.add(key)
        if fleet := client.hgetall(layout.fleet(shard)):
            total, buckets = read_product_hash(fleet)
            contents["fleet"][shard] = {
                "total": [*total.sums, *total[1:]],
                **{bucket: list(sums) for bucket, sums in buckets.items()},
            }
        active = client.zrange(layout.active(shard), 0, -1, withscores=True)
        contents["active"].update({name.decode(): int(ms) for name, ms in active})
        offsets = client.hgetall(layout.offsets(shard))
        contents["offsets"].append({name.decode(): int(offset) for name, offset in offsets.items()})
        missing = client.hgetall(layout.missing(shard))
        contents["missing"].append({name.decode(): ranges.decode() for name, ranges in missing.items()})
        ledger = client.hgetall(layout.ledger(shard))
        contents["ledger"].update({name.decode(): int(number) for name, number in ledger.items()})
        entries = [fields for _, fields in client.xrange(layout.outbox(shard))]
        contents["outbox"].append([(each[b"partition"].decode(), each[b"alert"]) for each in entries])
        named = (layout.fleet, layout.active, layout.offsets, layout.missing, layout.ledger, layout.outbox)
        known |= {name(shard).encode() for name in named}
    assert set(client.keys(f"{layout.namespace}:*")) <= known, "a key that the layout does not name"
    return contents


def in_the_rings(hash_: dict[int | str, list[int]]) -> dict[int | str, list[int]]:
    """Without buckets that no window reaches: when they go depends on the store."""
    last_event_ms = hash_["total"][6]
    live = {"total", *older_buckets(last_event_ms), *(field(each, last_event_ms) for each in RESOLUTIONS)}
    return {name: sums for name, sums in hash_.items() if name in live}


def contents_of(memory: MemoryStore) -> dict[str, Any]:
    return {
        "products": {product_id: in_the_rings(hash_) for product_id, hash_ in memory.products.items()},
        "fleet": {shard: in_the_rings(hash_) for shard, hash_ in memory.fleet.items()},
        "states": memory.detector_states,
        "active": {
            product_id: hash_["total"][6] // MINUTE_MS * MINUTE_MS
            for product_id, hash_ in memory.products.items()
        },
        "offsets": [
            offsets | ({ERASED_FIELD: raised} if raised else {})
            for offsets, raised in zip(memory.offsets, memory.erasures, strict=True)
        ],
        "missing": [
            {name: " ".join(f"{first}-{last}" for first, last in ranges) for name, ranges in missing.items()}
            for missing in memory.missing
        ],
        "logs": memory.log_names,
        "ledger": +memory.ledger,
        "outbox": [
            [(entry.partition, entry.alert) for entry in outbox.values()] for outbox in memory.outboxes
        ],
        "seen": memory.fingerprints,
    }


def some_steps(seed: int, shards: int, number: int = 60) -> list[list[Apply]]:
    """Micro-batches of steps over weeks of event time, a third of them on a base that may be wrong."""
    chance = random.Random(seed)
    layout = Layout("", shards)
    now_ms = NOW_MS
    applied: dict[tuple[str, int], int] = {}
    batches = []
    for _ in range(number):
        now_ms += chance.choice([1000, MINUTE_MS, 7 * HOUR_MS, 2 * DAY_MS])
        channel: Channel = chance.choice(["reviews", "chats"])
        partition = f"{channel}:{chance.randrange(2)}"
        events = [
            event(
                product_id=chance.choice(PRODUCTS),
                arrival_ms=now_ms + n * chance.choice([1, 3_000_000]),
                event_ms=now_ms - chance.choice([-200_000, 0, 50_000, 10 * HOUR_MS, 5 * DAY_MS, 30 * DAY_MS]),
            )
            for n in range(chance.randrange(40))
        ]
        batch = []
        for shard in range(shards):
            here = [each for each in events if layout.shard(each.product_id) == shard]
            base = applied.get((partition, shard), -1)
            if chance.random() < 0.3:
                base += chance.choice([-2, 1, 5])
            last = base + 10
            if base == applied.get((partition, shard), -1):
                applied[partition, shard] = last
            batch.append(
                step_of(
                    here,
                    base=base,
                    last=last,
                    shard=shard,
                    partition=partition,
                    channel=channel,
                    states={name: chance.randbytes(chance.randrange(1, 40)) for name in PRODUCTS[:3]},
                    transitions=[f'{{"id":"灯{n}"}}'.encode() for n in range(chance.randrange(3))],
                    ledger={f"{channel}:counted": len(here), f"{channel}:dead": 2} if here else {},
                    chance=chance,
                    seen=[
                        (n, chance.randbytes(8 * chance.randrange(1, 9))) for n in range(chance.randrange(4))
                    ],
                    forgotten=chance.sample(range(3), chance.randrange(2)),
                )
            )
        batches.append(batch)
    return batches


# What is written.


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(6))
async def test_it_does_what_the_store_in_memory_does(settings: Settings, seed: int, shards: int) -> None:
    store, memory = redis_store(settings, shards), MemoryStore(shards)
    await store.open()
    with connect(settings) as client:
        for batch in some_steps(seed, shards):
            assert await store.apply(batch) == await memory.apply(batch)
        assert read_back(client, Layout(settings.namespace, shards)) == contents_of(memory)
    partitions = ["reviews:0", "reviews:1", "chats:0", "chats:1", "chats:9"]
    assert await store.applied(partitions) == await memory.applied(partitions)
    for partition in partitions:
        channel, wanted = partition.partition(":")[0], [*PRODUCTS, "never seen"]
        asked = partition, channel, wanted
        assert await store.states(*asked) == await memory.states(*asked)
    segments = {partition: range(4) for partition in partitions}
    assert await store.seen(segments) == await memory.seen(segments)
    assert await store.seen({}) == {}
    await store.forget("reviews:0")
    await memory.forget("reviews:0")
    assert await store.applied(partitions) == await memory.applied(partitions)
    await store.close()


@pytest.mark.parametrize("shards", [1, 3])
async def test_forgetting_a_partition_forgets_its_events_and_keeps_its_offsets(
    settings: Settings, shards: int
) -> None:
    store = redis_store(settings, shards)
    await store.open()
    last = 5 * SEGMENT_OFFSETS
    for partition in ("reviews:0", "reviews:1"):
        seen = [(segment, b"8 bytes.") for segment in (3, 4, 5)]
        steps = [step_of([], shard=n, partition=partition, last=last, seen=seen) for n in range(shards)]
        assert await store.apply(steps) == [None] * shards
    await store.forget("reviews:0")
    found = await store.seen({"reviews:0": [3, 4, 5], "reviews:1": [5]})
    assert found == {
        "reviews:0": ({3: b"", 4: b"", 5: b""}, ((last, last),) * shards),
        "reviews:1": ({5: b"8 bytes." * shards}, ((last, last),) * shards),
    }
    await store.close()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(4))
async def test_offsets_are_moved_as_in_the_store_in_memory(
    settings: Settings, seed: int, shards: int
) -> None:
    store, memory = redis_store(settings, shards), MemoryStore(shards)
    await store.open()
    chance = random.Random(seed)
    names = ["reviews:0", "reviews:0@A", "reviews:0@B"]
    done: Counter[bool] = Counter()
    with connect(settings) as client:
        for n in range(80):
            shard, name = chance.randrange(shards), chance.choice(names)
            stored = memory.offsets[shard].get(name, -1)
            seen = chance.choice([stored, stored, stored + 1])
            segments = chance.sample(range(3), chance.randrange(3))
            remembered = [(segment, chance.randbytes(8)) for segment in segments]
            steps = [step_of([], shard=shard, partition=name, base=stored, last=stored + 9, seen=remembered)]
            older = chance.choice(["", *(each for each in names if each != name)])
            move = chance.choice(
                [
                    Move(shard, name, seen, stored + 5, missing=True, segments=segments),
                    Move(shard, name, seen, stored - 1, raised_by=5),
                    Move(
                        shard,
                        name,
                        seen := memory.offsets[shard].get(older or name, -1),
                        seen,
                        renamed_from=older,
                        segments=segments,
                    ),
                ]
            )
            if n % 3 == 0:
                assert await store.apply(steps) == await memory.apply(steps)
            else:
                moved = await store.move([move])
                assert moved == await memory.move([move])
                done.update(moved)
            assert read_back(client, Layout(settings.namespace, shards)) == contents_of(memory)
            wanted = dict.fromkeys(names, range(3))
            assert await store.seen(wanted) == await memory.seen(wanted)
            assert (await store.applied(names), store.erased) == (await memory.applied(names), memory.erased)
    assert min(done[True], done[False]) >= 5
    await store.close()


async def test_a_long_list_of_missing_ranges_loses_its_oldest(settings: Settings) -> None:
    store = redis_store(settings)
    await store.open()
    for n in range(600):
        assert await store.move([Move(0, "reviews:0@A", n * 10 - 1, n * 10 + 9, missing=True)]) == [True]
    with connect(settings) as client:
        layout = Layout(settings.namespace, 1)
        listed = client.hget(layout.missing(0), "reviews:0@A").decode().split(" ")
        assert listed == [f"{n * 10}-{n * 10 + 9}" for n in range(600 - len(listed), 600)]
        assert len(listed) == 400
    await store.close()


async def test_missing_records_are_in_the_totals_and_the_doctors_report(settings: Settings) -> None:
    store = redis_store(settings, shards=3)
    await store.open()
    reviews = f"{settings.topic_reviews}:1"
    name = f"{reviews}@A"
    assert await store.apply([step_of([], shard=0, partition=name, last=6)]) == [None]  # it is ahead
    moves = [Move(shard, name, 6 if shard == 0 else -1, 8, missing=True) for shard in range(3)]
    assert await store.move(moves) == [True] * 3
    assert await store.move(moves) == [False] * 3
    with connect(settings) as client:
        assert client.hgetall(Layout(settings.namespace, 3).missing(0)) == {name.encode(): b"7-8"}
        assert missing_records(client, Layout(settings.namespace, 3)) == [Missing(reviews, "A", 0, 8)]
    with LiveCounters(settings) as counters:
        assert counters.totals()["reviews"].missing == 9
    [found] = [each for each in redis_findings(settings) if each.missing]
    assert f"{reviews} 0-8" in found.detail
    assert found.missing == (Missing(reviews, "A", 0, 8),)
    await store.close()


async def test_a_note_is_changed_only_by_who_knows_it(store: RedisStore) -> None:
    assert await store.logs(["reviews:0", "reviews"]) == {}
    assert await store.swap_log("reviews:0", "", "A") is True
    assert await store.swap_log("reviews:0", "", "B") is False
    assert await store.swap_log("reviews:0", "A", "B") is True
    assert await store.logs(["reviews:0", "reviews"]) == {"reviews:0": "B"}


@pytest.mark.parametrize("make", ["redis", "memory"])
@pytest.mark.parametrize(("base", "why"), [(5, "a gap"), (20, "what another one built on"), (-1, "nothing")])
async def test_a_step_on_another_base_changes_nothing(
    settings: Settings, make: str, base: int, why: str
) -> None:
    store: CounterStore = redis_store(settings) if make == "redis" else MemoryStore()
    await store.open()
    assert await store.apply([step_of([event()], last=9)]) == [None]

    async def everything() -> Any:
        if isinstance(store, MemoryStore):
            return contents_of(store)
        with connect(settings) as client:
            return read_back(client, Layout(settings.namespace, 1))

    before = await everything()
    refused = step_of([event()], base=base, last=30, states={"kettle": b"x"}, transitions=[b"{}"])
    assert await store.apply([refused]) == [9], why
    assert await everything() == before
    assert await store.apply([refused._replace(base=9)]) == [None]
    assert await everything() != before
    await store.close()


@pytest.mark.parametrize("make", ["redis", "memory"])
async def test_a_note_stays_until_the_next_one_or_until_the_partition_is_forgotten(
    settings: Settings, make: str
) -> None:
    store: CounterStore = redis_store(settings) if make == "redis" else MemoryStore()
    await store.open()
    await store.leave_notes({"reviews:0": b"one", "reviews:1": b"two"})
    await store.leave_notes({"reviews:0": b"three"})
    assert await store.notes(["reviews:1", "reviews:0", "chats:0"]) == [b"two", b"three", None]
    assert await store.notes([]) == []
    await store.forget("reviews:0")
    assert await store.notes(["reviews:0", "reviews:1"]) == [None, b"two"]
    await store.close()


async def test_of_several_steps_only_those_on_a_wrong_base_are_refused(store: RedisStore) -> None:
    good = step_of([event()], last=4)
    other = step_of([event()], partition="reviews:1", base=2, last=4)
    assert await store.apply([good, other, good._replace(base=4, last=8)]) == [None, -1, None]
    assert await store.applied(["reviews:0", "reviews:1"]) == {"reviews:0": (8,), "reviews:1": (-1,)}


async def test_repeating_a_step_counts_it_once(store: RedisStore, settings: Settings) -> None:
    step = step_of([event(), event()], last=1, transitions=[b'{"id":"a"}'])
    assert await store.apply([step]) == [None]
    assert await store.apply([step]) == [1]
    with connect(settings) as client:
        contents = read_back(client, Layout(settings.namespace, 1))
    assert contents["products"]["kettle"]["total"][:4] == [0, 0, 2, 1600]
    assert contents["ledger"] == {"reviews:counted": 2}
    assert len(contents["outbox"][0]) == 1


async def test_a_step_of_thousands_of_products_fits(store: RedisStore, settings: Settings) -> None:
    """Lua's stack holds some 8,000 values."""
    names = [f"product-{n}" for n in range(9000)]
    step = step_of([event(product_id=name) for name in names], states={name: name.encode() for name in names})
    assert await store.apply([step]) == [None]
    found = await store.states("reviews:0", "reviews", names)
    assert found == ([name.encode() for name in names], {0: (0, 0)}, {0: frozenset({0})})
    with connect(settings) as client:
        assert client.zcard(Layout(settings.namespace, 1).active(0)) == len(names)


async def test_a_backlog_of_years_in_one_step_fits(store: RedisStore, settings: Settings) -> None:
    """Each event in a minute, an hour and a quarter-day of its own: as buckets, 30,000 fields."""
    arrivals = [NOW_MS + n * 6 * HOUR_MS for n in range(10_000)]
    step = step_of([event(arrival_ms=at, event_ms=at) for at in arrivals])
    assert await store.apply([step]) == [None]
    with connect(settings) as client:
        hash_ = read_back(client, Layout(settings.namespace, 1))["products"]["kettle"]
    assert hash_["total"][2] == len(arrivals)
    assert len(hash_) <= 1 + MOST_BUCKETS


async def test_a_products_hash_stays_a_listpack_for_ever(store: RedisStore, settings: Settings) -> None:
    """Once Redis has turned it into a hash table it takes several times the memory, and never turns back."""
    key = Layout(settings.namespace, 1).product("kettle")
    base, now_ms = -1, NOW_MS
    with connect(settings) as client:
        for round_ in range(60):
            # Two hours with an event a minute, then a pause: whole series expire between two steps.
            minutes = [now_ms + n * MINUTE_MS for n in range(121)]
            step = step_of([event(arrival_ms=at, event_ms=at) for at in minutes], base=base, last=base + 121)
            assert await store.apply([step]) == [None]
            base, now_ms = base + 121, minutes[-1] + (round_ % 4) * 5 * HOUR_MS
            assert client.object("encoding", key) == b"listpack"
            assert client.hlen(key) <= 2 + MOST_BUCKETS
        total = unpack_total(client.hget(key, "total"))
    assert total.sums[2] == 60 * 121


@pytest.mark.parametrize(
    "sums",
    [
        [255, 0, 1, -32_768],
        [256, 0, 1, -7],
        [3, 0, 1, 32_768],
        [65_535, 9, 1, -65_000_000],
        [70_000, 0, 1, -7],
    ],
)
async def test_a_bucket_that_is_left_behind_keeps_its_sums_however_large(
    store: RedisStore, settings: Settings, sums: list[int]
) -> None:
    many = ProductApply("kettle", 0, NOW_MS, NOW_MS, None, [(fields_for(NOW_MS, NOW_MS), sums)])
    step = step_of([], last=0)._replace(products=[many], arrival_ms=NOW_MS)
    assert await store.apply([step]) == [None]
    later_ms = NOW_MS + 7 * HOUR_MS
    later = step_of([event(arrival_ms=later_ms, event_ms=later_ms)], base=0, last=1)
    assert await store.apply([later]) == [None]
    late = later._replace(
        base=1, last=2, products=[many._replace(spans=[(fields_for(NOW_MS, NOW_MS), sums)])]
    )
    assert await store.apply([late]) == [None]
    with connect(settings) as client:
        buckets = read_back(client, Layout(settings.namespace, 1))["products"]["kettle"]
    assert buckets[field(RESOLUTIONS[2], NOW_MS)] == [2 * each for each in sums]


@pytest.mark.parametrize("make", ["redis", "memory"])
async def test_a_partition_that_lags_a_day_takes_no_bucket_from_one_that_does_not(
    settings: Settings, make: str
) -> None:
    """Both channels of a product share its hash, and yesterday's minutes share today's slots."""
    store: CounterStore = redis_store(settings) if make == "redis" else MemoryStore()
    await store.open()
    minutes = [NOW_MS + n * MINUTE_MS for n in range(60)]
    yesterday = [each - 24 * 66 * MINUTE_MS for each in minutes]
    on_time = step_of([event(arrival_ms=at, event_ms=at) for at in minutes])
    lagging = step_of([event(arrival_ms=at, event_ms=at) for at in yesterday], partition="chats:0")
    assert await store.apply([on_time, lagging]) == [None, None]
    if isinstance(store, MemoryStore):
        buckets = contents_of(store)["products"]["kettle"]
    else:
        with connect(settings) as client:
            buckets = read_back(client, Layout(settings.namespace, 1))["products"]["kettle"]
    of_minutes = {name: sums for name, sums in buckets.items() if name != "total" and name % CODES == 0}
    assert of_minutes == {field(RESOLUTIONS[0], at): [0, 0, 1, 800] for at in minutes}
    assert buckets["total"][2] == 120
    await store.close()


async def test_an_event_from_the_far_future_hides_none_that_follow(
    store: RedisStore, settings: Settings
) -> None:
    """Producers may set the record's own timestamp, so its arrival is no proof."""
    far_ms = NOW_MS + 400 * DAY_MS
    assert await store.apply([step_of([event(arrival_ms=NOW_MS, event_ms=NOW_MS)], last=0)]) == [None]
    assert await store.apply([step_of([event(arrival_ms=far_ms, event_ms=far_ms)], base=0, last=1)]) == [None]
    today = [NOW_MS + n * MINUTE_MS for n in (1, 2, 3)]
    steps = [
        step_of([event(arrival_ms=at, event_ms=at)], base=1 + n, last=2 + n) for n, at in enumerate(today)
    ]
    assert await store.apply(steps) == [None] * 3
    with LiveCounters(settings, now_ms=lambda: today[-1]) as counters:
        windows = counters.windows("kettle")
        assert [each.events for each in windows] == [3, 3, 3, 3, 5]
        assert [each.product_id for each in counters.leaders("5m")] == ["kettle"]


async def test_a_product_of_few_events_keeps_few_buckets(store: RedisStore, settings: Settings) -> None:
    """An event every half an hour for a month: each has a minute of its own."""
    for n in range(30 * 48):
        at = NOW_MS + n * 30 * MINUTE_MS
        step = step_of([event(arrival_ms=at, event_ms=at)], base=n - 1, last=n)
        assert await store.apply([step]) == [None]
    with connect(settings) as client:
        held = client.hlen(Layout(settings.namespace, 1).product("kettle"))
    live = 2 + 2 + 25 + 29
    assert live - 3 <= held <= live + 24


async def test_no_state_leaves_the_stored_one(store: RedisStore) -> None:
    await store.apply([step_of([event()], last=0, states={"kettle": b"\x00\xff"})])
    await store.apply([step_of([event()], base=0, last=1)])
    assert (await store.states("reviews:0", "reviews", ["kettle"])).states == [b"\x00\xff"]
    assert (await store.states("chats:0", "chats", ["kettle"])).states == [None]


async def test_asking_for_nothing_answers_nothing(store: RedisStore) -> None:
    assert await store.applied([]) == {}
    assert await store.states("reviews:0", "reviews", []) == ([], {}, {})
    assert await store.apply([]) == []
    await store.delivered([])


async def test_transitions_wait_in_order_until_they_are_delivered(store: RedisStore) -> None:
    await store.apply([step_of([], last=0, transitions=[b'{"id":"a"}', b'{"id":"b"}'])])
    await store.apply([step_of([], partition="chats:0", last=0, transitions=['{"id":"灯"}'.encode()])])
    first, second, third = await store.outbox(0)
    assert [(each.partition, each.alert) for each in (first, second, third)] == [
        ("reviews:0", b'{"id":"a"}'),
        ("reviews:0", b'{"id":"b"}'),
        ("chats:0", '{"id":"灯"}'.encode()),
    ]
    await store.delivered([first, third])
    assert await store.outbox(0) == [second]
    await store.delivered([first])  # again: no harm
    assert await store.outbox(0) == [second]


# Agreement.


async def test_a_worker_set_to_other_shards_goes_by_what_redis_holds_and_says_so(settings: Settings) -> None:
    first, other = redis_store(settings, 2), redis_store(settings, 3)
    await first.open()
    with capture_logs() as said:
        await other.open()
    assert other.shards == 2
    assert [(line["setting"], line["shards"]) for line in said if line["log_level"] == "warning"] == [(3, 2)]
    for each in (first, other):
        await each.close()


async def test_a_layout_of_another_version_is_refused(settings: Settings) -> None:
    with connect(settings) as client:
        client.set(f"{settings.namespace}:layout", '{"version":2,"shards":1}')
    store = redis_store(settings)
    with pytest.raises(UsageError, match="holds layout version 2"):
        await store.open()
    await store.close()


# A server with troubles of its own.


async def test_a_server_that_lost_its_scripts_gets_them_again(
    own: redis.Redis, own_store: RedisStore
) -> None:
    assert await own_store.apply([step_of([event()], last=0)]) == [None]
    own.script_flush()
    assert await own_store.apply([step_of([event()], base=0, last=1)]) == [None]
    assert await own_store.applied(["reviews:0"]) == {"reviews:0": (1,)}


async def test_a_server_that_lost_everything_is_noticed(own: redis.Redis, own_store: RedisStore) -> None:
    await own_store.apply([step_of([event()], last=0)])
    own.flushall()
    own.script_flush()
    assert await own_store.apply([step_of([event()], base=0, last=1)]) == [-1]
    assert own.keys("rp:*") == [b"rp:layout"]


async def test_a_restart_without_persistence_is_noticed(
    own_servers: LocalServers, own_store: RedisStore
) -> None:
    await own_store.apply([step_of([event()], last=0)])
    own_servers.kill_redis()
    with pytest.raises(DependencyError):
        await own_store.apply([step_of([event()], base=0, last=1)])
    own_servers.restart_redis()
    assert await own_store.apply([step_of([event()], base=0, last=1)]) == [-1]


async def test_a_wrong_password_is_the_callers_fault_and_not_shown(
    own: redis.Redis, own_settings: Settings
) -> None:
    own.config_set("requirepass", RIGHT)
    for password in (WRONG, None):
        wrong = Settings(redis=own_settings.redis, redis_password=password)
        store = redis_store(wrong)
        with pytest.raises(UsageError, match="REVIEWPULSE_REDIS_PASSWORD") as raised:
            await store.open()
        assert WRONG not in str(raised.value)
        await store.close()
    right = redis_store(Settings(redis=own_settings.redis, redis_password=RIGHT))
    await right.open()
    await right.close()


async def test_a_user_without_the_permission_is_the_callers_fault(
    own: redis.Redis, own_settings: Settings
) -> None:
    own.execute_command("ACL", "SETUSER", "reader", "on", f">{RIGHT}", "~*", "+@read", "+hello", "+client")
    as_reader = Settings(redis=own_settings.redis.replace("//", "//reader@"), redis_password=RIGHT)
    store = redis_store(as_reader)
    with pytest.raises(UsageError, match="refuses this user"):
        await store.open()
    await store.close()
    own.execute_command("ACL", "DELUSER", "reader")


CALLS: dict[str, Callable[[RedisStore], Any]] = {
    "open": lambda store: store.open(),
    "applied": lambda store: store.applied(["reviews:0"]),
    "forget": lambda store: store.forget("reviews:0"),
    "states": lambda store: store.states("reviews:0", "reviews", ["kettle"]),
    "logs": lambda store: store.logs(["reviews:0"]),
    "swap_log": lambda store: store.swap_log("reviews:0", "", "A"),
    "move": lambda store: store.move([Move(0, "reviews:0", 1, 2)]),
    "apply": lambda store: store.apply([step_of([event()])]),
    "outbox": lambda store: store.outbox(0),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_is_away_is_a_dependency_and_the_message_says_where(call: str) -> None:
    away = Settings(redis="redis://ops:s3cret@127.0.0.1:1/0")  # nothing listens on port 1
    store = redis_store(away)
    with pytest.raises(DependencyError, match=r"Redis at redis://ops:\*\*\*@127\.0\.0\.1:1/0") as raised:
        await CALLS[call](store)
    assert "s3cret" not in str(raised.value)
    await store.close()


async def assert_refuses_writes_whole(
    own: redis.Redis, store: RedisStore, break_: Callable[[], object], mend: Callable[[], object]
) -> None:
    """While broken an apply is a ``DependencyError`` and writes nothing at all; mended, it is applied."""
    layout = Layout("rp", 1)
    assert await store.apply([step_of([event()], last=0)]) == [None]
    before = read_back(own, layout)
    step = step_of(
        [event(product_id=name) for name in PRODUCTS],
        base=0,
        last=9,
        states={"kettle": b"x"},
        transitions=[b"{}"],
    )
    break_()
    for _ in range(3):
        with pytest.raises(DependencyError):
            await store.apply([step])
    assert read_back(own, layout) == before
    mend()
    assert await store.apply([step]) == [None]


async def test_a_full_server_takes_nothing_half(own: redis.Redis, own_store: RedisStore) -> None:
    def fill() -> None:
        own.config_set("maxmemory-policy", "noeviction")
        own.config_set("maxmemory", 1)

    await assert_refuses_writes_whole(own, own_store, fill, lambda: own.config_set("maxmemory", 0))


async def test_a_replica_takes_nothing(own: redis.Redis, own_store: RedisStore) -> None:
    """After a failover the old address may be a replica's."""
    await assert_refuses_writes_whole(
        own,
        own_store,
        lambda: own.execute_command("REPLICAOF", "127.0.0.1", "1"),
        lambda: own.execute_command("REPLICAOF", "NO", "ONE"),
    )


async def test_a_primary_without_its_replicas_takes_nothing(own: redis.Redis, own_store: RedisStore) -> None:
    await assert_refuses_writes_whole(
        own,
        own_store,
        lambda: own.config_set("min-replicas-to-write", 1),
        lambda: own.config_set("min-replicas-to-write", 0),
    )


async def test_what_is_stored_in_another_shape_is_our_error(own: redis.Redis, own_store: RedisStore) -> None:
    own.set(Layout("rp", 1).product("kettle"), "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await own_store.apply([step_of([event()])])


# The documentation.


async def test_the_documented_way_to_read_an_hour_reads_it(store: RedisStore, settings: Settings) -> None:
    page = (Path(__file__).parents[2] / "docs/redis-layout.md").read_text("utf-8")
    documented: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], documented)  # noqa: S102 - our own page
    now_ms = int(time.time() * 1000)
    ages_min = [0, 0, 1, 5, 59, 62, 130]
    events = [event(event_ms=now_ms - age * MINUTE_MS, arrival_ms=now_ms) for age in ages_min]
    await store.apply([step_of(events[3:], last=0), step_of(events[:3], base=0, last=1)])
    with connect(settings) as client, LiveCounters(settings, now_ms=lambda: now_ms) as counters:
        layout = Layout(settings.namespace, 1)
        read = documented["last_hour"](client, layout.product("kettle"))
        assert documented["last_hour"](client, layout.fleet(0)) == read
        known = counters.get("kettle", "1h")
    assert read == [0, 0, known.events, known.events * 800] == [0, 0, 5, 4000]
