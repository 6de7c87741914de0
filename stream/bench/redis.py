"""What an event costs Redis: CPU, round trips, commands and bytes, beside the plain ways to count.

Rules:
- One run, one Valkey of its own, the same stream for every way, turn by turn over several rounds. Figures are
  medians; ratios are taken round by round, so that the machine's mood cancels out.
- CPU is what the server says of itself, so what Python takes does not matter.
- What is bounded by the number of partitions (fingerprints) is not shared out among the products.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stream.bench.live_stream import Stream
from stream.bench.memory import bytes_by_key
from stream.bench.ways import PARTITIONS, Increments, Ours, SortedSets, Traffic
from stream.core.buckets import RESOLUTIONS
from stream.local import LocalServers
from stream.redis_config import connect
from stream.settings import load
from stream.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    import redis

    from stream.bench.live_stream import Events
    from stream.bench.ways import Way
    from stream.settings import Settings

WINDOW = 4096
"""The setting's default; the plain ways pipeline as many events at once."""
OTHER_WINDOWS = (256, 1024, 16_384)
REFERENCE = "HINCRBY, a hash a bucket"
ONE_HASH = "HINCRBY, a hash a product"
WINDOW_WAY = "sorted sets of an hour"

SERIES_A_PRODUCT = len(RESOLUTIONS) * 4
"""A time series is one number over time, so each resolution needs four: three labels and the sentiment."""
SERIES_CHUNK_BYTES = (128, 4096)
"""RedisTimeSeries allocates a chunk at once: ``CHUNK_SIZE`` is 4,096 by default, and a resolution's samples
(at most 61 of a compressed 2 bytes) fit in 128."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What an event costs in one way; medians of the rounds."""

    redis_us_per_event: float
    """CPU time of the server, user and system."""
    times_cheaper: float
    """CPU of the reference over this one's."""
    commands_sent_per_event: float
    commands_run_per_event: float
    """Those that a script calls among them."""
    round_trips_per_batch: float
    round_trips_per_batch_and_shard: float
    """Those that carried something for the shard. The plain ways have one."""
    bytes_sent_per_event: float
    """To the server, over the network."""
    aof_bytes_per_event: float | None
    """What the append-only file grows by; None where it was not measured."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a way keeps in Redis, by active product."""

    bytes_per_product: float
    """Used memory at the end."""
    bytes_per_product_and_day: float
    """What the last day but one of the history added."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench redis --json`` prints."""

    events: int
    """A turn."""
    rounds: int
    products: int
    active_products: int
    exponent: float
    events_per_s: float
    days: int
    shards: int
    """Of ours."""
    costs: dict[str, Cost]
    """By way; ours by its window, too."""
    memory: dict[str, Memory]
    bytes_by_key: dict[str, float]
    """Of ours: mean ``MEMORY USAGE`` of a product's keys."""
    fingerprint_bytes_per_partition: float
    """Of ours: what tells duplicates. Bounded, so not among the products' bytes."""
    time_series_bytes_per_product: tuple[int, int]
    """RedisTimeSeries on paper, chunks of 128 and of 4,096 bytes."""


class Usage(NamedTuple):
    """What the server says it has used; so far, or in a turn."""

    cpu_s: float
    commands: int
    """Those of scripts count."""
    bytes_in: int
    memory_bytes: int
    aof_bytes: int

    @classmethod
    def of(cls, client: redis.Redis) -> Self:
        """So far."""
        info: Mapping[str, Any] = client.info("everything")
        return cls(
            info["used_cpu_user"] + info["used_cpu_sys"],
            sum(each["calls"] for name, each in info.items() if name.startswith("cmdstat_")),
            info["total_net_input_bytes"],
            info["used_memory"],
            info.get("aof_current_size", 0),
        )

    def since(self, before: Usage) -> Usage:
        """What was used in between."""
        return Usage(
            self.cpu_s - before.cpu_s,
            self.commands - before.commands,
            self.bytes_in - before.bytes_in,
            self.memory_bytes - before.memory_bytes,
            self.aof_bytes - before.aof_bytes,
        )


class Spent(NamedTuple):
    """By one turn of one way."""

    usage: Usage
    traffic: Traffic


async def _spend(client: redis.Redis, way: Way, events: Events, window: int = WINDOW) -> Spent:
    used, sent = Usage.of(client), way.traffic()
    await way.add(events, window)
    return Spent(Usage.of(client).since(used), way.traffic().since(sent))


def run(
    *,
    events: int,
    products: int,
    rounds: int,
    days: int,
    events_per_s: float,
    exponent: float,
    shards: int = 1,
) -> Report:
    """Runs the bench on a Valkey of its own.

    Args:
        events: that each way counts in a turn.
        products: how many there are, by Zipf's law.
        rounds: turns each way gets.
        days: of history before the first turn; 0 measures products that were never seen.
        events_per_s: of the stream, in event time.
        exponent: of Zipf's law.
        shards: that our way spreads the products over, all of them on the one Valkey.

    Raises:
        DependencyError: the server failed.
    """
    with LocalServers() as servers:
        settings = load(redis=servers.redis, namespace="bench", shards=shards)
        with connect(settings) as client:
            bench = _Bench(client, settings)
            stream = {"products": products, "exponent": exponent, "events_per_s": events_per_s, "days": days}
            asyncio.run(bench.run(stream, events, rounds))
            layout = Layout(settings.namespace, shards)
            active = sum(client.zcard(layout.active(shard)) for shard in range(shards))
            seen = [client.memory_usage(key) or 0 for key in client.keys(f"{settings.namespace}:*:seen:*")]
            by_key, _ = bytes_by_key(client, layout, products)
    bench.held[OURS] -= sum(seen)
    return Report(
        events=events,
        rounds=rounds,
        products=products,
        active_products=active,
        exponent=exponent,
        events_per_s=events_per_s,
        days=days,
        shards=shards,
        costs=bench.costs(events),
        memory={
            name: Memory(
                bytes_per_product=bench.held[name] / active,
                bytes_per_product_and_day=bench.by_day[name][-2] / active if days > 1 else 0.0,
            )
            for name in bench.held
        },
        bytes_by_key=by_key,
        fingerprint_bytes_per_partition=sum(seen) / PARTITIONS,
        time_series_bytes_per_product=(
            SERIES_A_PRODUCT * SERIES_CHUNK_BYTES[0],
            SERIES_A_PRODUCT * SERIES_CHUNK_BYTES[1],
        ),
    )


def ours_with(window: int) -> str:
    """What our way is called in the report.

    >>> ours_with(4096)
    'reviewpulse, 4,096 a window'
    """
    return f"reviewpulse, {window:,} a window"


OURS = ours_with(WINDOW)


class _Bench:
    """Gives every way its turns, and keeps what they spent."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._port = int(settings.redis.rpartition(":")[2].partition("/")[0])
        self.turns: dict[str, list[Spent]] = {}
        self.with_aof: dict[str, Spent] = {}
        self.held: dict[str, int] = {}
        self.by_day: dict[str, list[int]] = {}

    async def run(self, stream: Mapping[str, Any], events: int, rounds: int) -> None:
        ours = Ours(self._settings)
        await ours.open()
        ways: dict[str, Way] = {
            OURS: ours,
            REFERENCE: Increments(self._port, hash_a_bucket=True),
            ONE_HASH: Increments(self._port, hash_a_bucket=False),
            WINDOW_WAY: SortedSets(self._port),
        }
        streams = {name: Stream(**stream) for name in ways}
        for name, way in ways.items():
            self.held[name] = 0
            for pieces in streams[name].history():
                spent = [await self._turn(name, way, piece) for piece in pieces]
                self.by_day.setdefault(name, []).append(sum(each.usage.memory_bytes for each in spent))
        for _ in range(rounds):
            for name, way in ways.items():
                self._note(name, await self._turn(name, way, streams[name].take(events)))
            for window in OTHER_WINDOWS:
                spent_so = await self._turn(OURS, ours, streams[OURS].take(events), window)
                self._note(ours_with(window), spent_so)
        await self._start_aof()
        for name, way in ways.items():
            self.with_aof[name] = await _spend(self._client, way, streams[name].take(events))
        await ours.close()

    async def _turn(self, name: str, way: Way, events: Events, window: int = WINDOW) -> Spent:
        spent = await _spend(self._client, way, events, window)
        self.held[name] += spent.usage.memory_bytes
        return spent

    def _note(self, name: str, spent: Spent) -> None:
        self.turns.setdefault(name, []).append(spent)

    async def _start_aof(self) -> None:
        """Last, for it costs CPU."""
        self._client.config_set("appendonly", "yes")
        while True:
            info = self._client.info("persistence")
            if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
                return
            await asyncio.sleep(0.05)

    def _shards_of(self, name: str) -> int:
        return 1 if name in (REFERENCE, ONE_HASH, WINDOW_WAY) else self._settings.shards

    def costs(self, events: int) -> dict[str, Cost]:
        reference = [spent.usage.cpu_s for spent in self.turns[REFERENCE]]
        return {
            name: Cost(
                redis_us_per_event=median(spent.usage.cpu_s for spent in turns) / events * 1e6,
                times_cheaper=median(
                    of_reference / spent.usage.cpu_s
                    for of_reference, spent in zip(reference, turns, strict=True)
                ),
                commands_sent_per_event=median(spent.traffic.commands for spent in turns) / events,
                commands_run_per_event=median(spent.usage.commands for spent in turns) / events,
                round_trips_per_batch=median(
                    spent.traffic.round_trips / spent.traffic.batches for spent in turns
                ),
                round_trips_per_batch_and_shard=median(
                    spent.traffic.shard_trips / spent.traffic.batches / self._shards_of(name)
                    for spent in turns
                ),
                bytes_sent_per_event=median(spent.usage.bytes_in for spent in turns) / events,
                aof_bytes_per_event=(
                    self.with_aof[name].usage.aof_bytes / events if name in self.with_aof else None
                ),
            )
            for name, turns in self.turns.items()
        }
