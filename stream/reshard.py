"""Moves all that is kept of the products into another number of shards.

Rules:
- Workers are stopped. One that is started meanwhile waits, and a zombie's steps are refused: the live
  generation stands still until the switch.
- Nothing is read from Kafka: counters may be older than what it retains.
- Offsets must be level: each partition applied equally far in every shard. Then a partition has one offset,
  and it holds for any number of shards.
- Products are copied some at a time, and how far is noted beside the copies: a run that was killed goes on
  there. Should a worker have ended the standstill meanwhile, the copies are of no use and it starts over.
- What a shard holds besides products is added up, or put together, and written anew on every attempt.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from stream.core.events import CHANNELS
from stream.errors import UsageError
from stream.redis_trip import exchange_async
from stream.store.contract import log_partition
from stream.store.layout import Pending, shard_of
from stream.store.missing import packed, union
from stream.store.switch import READERS_S, seen_keys, stored_offsets
from stream.store.values import merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream.redis_config import AsyncClient
    from stream.redis_trip import Command
    from stream.status import StatusBoard
    from stream.store.switch import Switch

log = structlog.get_logger("reshard")

COPIED_AT_ONCE = 500
"""Products copied in one round trip out and one in: a megabyte at most."""

STANDSTILL_FIELD = "standstill"
"""Beside the numbers of the shards copied: during which standstill that was."""


class Reshard:
    """One run of ``reviewpulse reshard``.

    Args:
        client: from ``stream.redis_config.connect_async``.
        switch: holds the lock, has looked.
        board: says which workers are at work.
        topics: Kafka topics that workers read.
    """

    def __init__(
        self, client: AsyncClient, switch: Switch, board: StatusBoard, topics: Iterable[str]
    ) -> None:
        self._client = client
        self._switch = switch
        self._board = board
        self._topics = set(topics)

    async def run(
        self,
        shards: int,
        *,
        on_step: Callable[[int], None] = lambda _done: None,
        readers_s: float = READERS_S,
    ) -> int:
        """Moves everything and switches; or goes on with a move that was interrupted.

        Args:
            shards: how many there are to be.
            on_step: called with how many products are copied so far.
            readers_s: pause before the old keys are removed.

        Returns:
            How many products were moved.

        Raises:
            UsageError: it cannot be done now; the message says why and what to do.
        """
        switch = self._switch
        await switch.remove_old()
        if switch.written.pending is None and switch.live.shards == shards:
            raise UsageError(f"'{switch.namespace}' has {shards} shards already: there is nothing to do.")
        self._check_pending(shards)
        await self._check_workers()
        if switch.written.pending is None:
            number = switch.written.next_generation()
            await switch.begin(Pending(kind="reshard", generation=number, shards=shards, owner=""))
        else:
            await switch.begin(switch.pending)
        await switch.stand_still()
        offsets = await self._level_offsets()
        total = await self._copy_products(on_step)
        await self._copy_rest(offsets)
        await switch.switch()
        await asyncio.sleep(readers_s)
        await switch.remove_old()
        return total

    def _check_pending(self, shards: int) -> None:
        pending = self._switch.written.pending
        if pending is not None and (pending.kind != "reshard" or pending.shards != shards):
            what = "rebuild" if pending.kind == "rebuild" else f"reshard --shards {pending.shards}"
            raise UsageError(
                f"`reviewpulse {what}` of '{self._switch.namespace}' is not finished: run it again to go on,"
                f" or `reviewpulse {pending.kind} --abort` to give it up."
            )

    async def _check_workers(self) -> None:
        workers = await self._board.workers()
        if workers:
            names = ", ".join(each.name for each in workers)
            raise UsageError(
                f"Workers are at work: {names}. Stop them first; one that died is forgotten after 10 s. Those"
                " started during the move wait for its end."
            )

    # What must be level.

    async def _level_offsets(self) -> dict[str, int]:
        """The offset of each partition.

        Raises:
            UsageError: the shards of one disagree; then all is as it was before.
        """
        live = self._switch.live
        by_shard = [await stored_offsets(self._client, live, shard) for shard in range(live.shards)]
        offsets = {name: at for stored in by_shard for name, at in stored.items()}
        (noted,) = await self._trip([("HGETALL", live.logs)])
        read = {
            log_partition(partition.decode(), log_.decode())
            for partition, log_ in noted.items()
            if partition.decode().rpartition(":")[0] in self._topics
        }
        uneven = sorted(
            name for name in read & offsets.keys() if len({stored.get(name) for stored in by_shard}) > 1
        )
        if uneven:
            await self._switch.give_up()
            await self._switch.remove_old()
            raise UsageError(
                f"The shards of '{self._switch.namespace}' are not equally far in {', '.join(uneven)}: a"
                " worker died between two of them. Start one until it has caught up, stop it, and try again."
            )
        # Of a log that nobody reads any more, the highest: nothing of it is counted again.
        return {name: max(stored.get(name, -1) for stored in by_shard) for name in offsets}

    # Products.

    async def _copy_products(self, on_step: Callable[[int], None]) -> int:
        live, new = self._switch.live, self._switch.next
        copied = await self._copied()
        sizes = await self._trip(("ZCARD", live.active(shard)) for shard in range(live.shards))
        done = sum(copied.values())
        for shard, size in enumerate(sizes):
            for first in range(copied.get(shard, 0), size, COPIED_AT_ONCE):
                last = min(first + COPIED_AT_ONCE, size)
                await self._copy(shard, first, last)
                await self._trip([("HSET", new.copied, shard, last)])
                done += last - first
                on_step(done)
        return sum(sizes)

    async def _copied(self) -> dict[int, int]:
        """How many products of each shard were copied during this very standstill."""
        key, standstill = self._switch.next.copied, self._switch.pending.standstill
        (noted,) = await self._trip([("HGETALL", key)])
        if noted.pop(STANDSTILL_FIELD.encode(), b"").decode() == standstill:
            return {int(shard): int(number) for shard, number in noted.items()}
        await self._trip([("UNLINK", key), ("HSET", key, STANDSTILL_FIELD, standstill)])
        return {}

    async def _copy(self, shard: int, first: int, last: int) -> None:
        """Copies the products of a shard from rank ``first`` up to, not including, ``last``."""
        live, new = self._switch.live, self._switch.next
        (ranked,) = await self._trip([("ZRANGE", live.active(shard), first, last - 1, "WITHSCORES")])
        scores = _scores(ranked)
        names = list(scores)
        *counters, states = await self._trip(
            [
                *(("HGETALL", live.product(name)) for name in names),
                ("MGET", *(live.spike(channel, name) for channel in CHANNELS for name in names)),
            ]
        )
        by_shard: dict[int, list[int]] = {}
        for n, name in enumerate(names):
            by_shard.setdefault(shard_of(name, new.shards), []).append(n)
        commands: list[Command] = []
        for to, rows in by_shard.items():
            # First: what is among the active products can be found again, should this be given up.
            commands.append(
                ("ZADD", new.active(to), *(x for n in rows for x in (scores[names[n]], names[n])))
            )
            commands.append(("UNLINK", *(new.product(names[n]) for n in rows)))
            commands += [("HSET", new.product(names[n]), *_flat(counters[n])) for n in rows if counters[n]]
            stored = [
                (new.spike(channel, names[n]), states[of_channel * len(names) + n])
                for of_channel, channel in enumerate(CHANNELS)
                for n in rows
            ]
            commands.append(("UNLINK", *(key for key, _ in stored)))
            held = [each for key, state in stored if state is not None for each in (key, state)]
            if held:
                commands.append(("MSET", *held))
        await self._trip(commands)

    # Everything else.

    async def _copy_rest(self, offsets: Mapping[str, int]) -> None:
        live, new = self._switch.live, self._switch.next
        ledger: dict[bytes, int] = {}
        entries: list[dict[bytes, bytes]] = []
        for of_shard, outbox in zip(
            await self._trip(("HGETALL", live.ledger(shard)) for shard in range(live.shards)),
            await self._trip(("XRANGE", live.outbox(shard), "-", "+") for shard in range(live.shards)),
            strict=True,
        ):
            for outcome, number in of_shard.items():
                ledger[outcome] = ledger.get(outcome, 0) + int(number)
            entries += [fields for _, fields in outbox]
        of_partitions = {new.notes: live.notes, new.logs: live.logs, new.models: live.models}
        hashes = await self._trip(("HGETALL", key) for key in of_partitions.values())
        missing = await self._missing()
        fleet = merged(await self._trip(("HGETALL", live.fleet(shard)) for shard in range(live.shards)))
        # Readers add up the shards' ledgers and fleets, and each outbox is delivered whole: the first has
        # all.
        commands: list[Command] = [
            ("UNLINK", new.fleet(0)),
            ("UNLINK", new.ledger(0)),
            ("UNLINK", new.outbox(0)),
            ("UNLINK", *of_partitions),
        ]
        commands += [("HSET", new.fleet(0), *_flat(fleet))] if fleet else []
        commands += [("HSET", new.ledger(0), *_flat(ledger))] if ledger else []
        commands += [("XADD", new.outbox(0), "*", *_flat(fields)) for fields in entries]
        commands += [
            ("HSET", key, *_flat(hash_)) for key, hash_ in zip(of_partitions, hashes, strict=True) if hash_
        ]
        for shard in range(new.shards):
            commands.append(("UNLINK", new.missing(shard)))
            commands += [("HSET", new.missing(shard), *_flat(missing))] if missing else []
        await self._trip(commands)
        for partition, at in offsets.items():
            await self._copy_seen(partition, at)
        if offsets:
            await self._trip(("HSET", new.offsets(shard), *_flat(offsets)) for shard in range(new.shards))
        await self._trip([("UNLINK", new.copied)])

    async def _missing(self) -> dict[str, str]:
        """Ranges of offsets that were deleted uncounted; each shard lists those it went over."""
        live = self._switch.live
        by_shard = await self._trip(("HGETALL", live.missing(shard)) for shard in range(live.shards))
        lists = [(name.decode(), ranges.decode()) for each in by_shard for name, ranges in each.items()]
        return packed(union(lists))

    async def _copy_seen(self, partition: str, applied: int) -> None:
        """Fingerprints of all shards into the first: whoever loads them takes those of every shard."""
        live, new = self._switch.live, self._switch.next
        to = seen_keys(new, 0, partition, applied)
        by_shard = await self._trip(
            ("MGET", *seen_keys(live, shard, partition, applied)) for shard in range(live.shards)
        )
        packed = [b"".join(part for part in parts if part) for parts in zip(*by_shard, strict=True)]
        await self._trip([("UNLINK", *to)])
        await self._trip(("SET", key, content) for key, content in zip(to, packed, strict=True) if content)

    async def _trip(self, commands: Iterable[Command]) -> list[Any]:
        return await exchange_async(self._client, list(commands))


def _scores(ranked: list[Any]) -> dict[str, float | bytes]:
    """Members of a sorted set with their scores: pairs, or one after the other from an older server."""
    pairs = ranked if isinstance(ranked[0], list) else zip(ranked[::2], ranked[1::2], strict=True)
    return {member.decode(): score for member, score in pairs}


def _flat(pairs: Mapping[Any, Any]) -> Sequence[Any]:
    """Names and values in turns, as commands take them."""
    return [each for pair in pairs.items() for each in pair]
