"""Making another generation of counters and switching to it: what ``rebuild`` and ``reshard`` have in common.

Rules:
- One at a time: a lock, which runs out ``LOCK_S`` after its holder dies.
- Every change of the layout key is a compare-and-set from what this owner wrote last. Whoever lost the key to
  somebody else learns it at the next change, and stops.
- A generation that is given up, or switched from, is marked first and removed afterwards. Which are still to
  be removed is in the layout key, so whoever comes next goes on with it.
- Keys are found by the set of active products and by the offsets, not by a scan.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from msgspec.structs import replace

from stream.core.events import CHANNELS
from stream.core.segments import MOST_SEGMENTS_KEPT, segment_of
from stream.errors import ReviewpulseError, UsageError
from stream.redis_errors import REDIS_ERRORS
from stream.redis_trip import exchange_async
from stream.store.generations import Found, Generations
from stream.store.layout import ERASED_FIELD, MARK_FIELD, NO_OFFSETS, Mark, Old, Pending, Written, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from stream.redis_config import AsyncClient
    from stream.redis_trip import Command
    from stream.store.layout import Layout

LOCK_S = 30.0
"""Longer than any stall of a healthy process; workers wait as long when one dies during a switch."""
RENEW_S = 5.0
READERS_S = 5.0
"""Pause between a switch and the removal of what was switched from. On a cluster the commands of one question
go to several servers: the last of them may come that much later than the look at the layout."""
REMOVED_AT_ONCE = 1000
"""Products whose keys are removed in one round trip."""

_EXTEND_IF_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_DROP_IF_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


def new_owner() -> str:
    """A name for one run of a command: where it runs, and what no other run is called."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


class LayoutLostError(ReviewpulseError):
    """Somebody else has changed the layout key meanwhile. Repeating the call does not help."""

    exit_code = 3


class Switch:
    """One owner's way from the live generation to another.

    Errors of Redis come out as they are.

    Args:
        client: from ``stream.redis_config.connect_async``.
        namespace: prefix of every Redis key.
        owner: from ``new_owner``.
    """

    def __init__(self, client: AsyncClient, namespace: str, owner: str) -> None:
        self._client = client
        self._generations = Generations(client, namespace)
        self._lock_key = f"{namespace}:moving"
        self._found: Found | None = None
        self.namespace = namespace
        self.owner = owner

    @property
    def written(self) -> Written:
        """The layout key as this owner read or wrote it last."""
        assert self._found is not None, "look() comes first"
        return self._found.written

    @property
    def live(self) -> Layout:
        """The live generation's names."""
        return self.written.layout(self.namespace)

    @property
    def pending(self) -> Pending:
        """The generation that is being made."""
        assert self.written.pending is not None
        return self.written.pending

    @property
    def next(self) -> Layout:
        """Its names."""
        return self.pending.layout(self.namespace)

    @asynccontextmanager
    async def holding_lock(self) -> AsyncIterator[None]:
        """Holds the lock while the block runs.

        Raises:
            UsageError: somebody else holds it.
        """
        lifetime_ms = round(LOCK_S * 1000)
        if not await self._ask("SET", self._lock_key, self.owner, "NX", "PX", lifetime_ms):
            holder = await self._ask("GET", self._lock_key) or b"somebody who left this moment"
            raise UsageError(
                f"The counters of '{self.namespace}' are being rebuilt or resharded already, by"
                f" {holder.decode()}. Wait for it; if it is dead, its lock runs out within {LOCK_S:g} s."
            )
        renewing = asyncio.create_task(self._renew(lifetime_ms))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(*REDIS_ERRORS):
                await self._ask("EVAL", _DROP_IF_SAME, 1, self._lock_key, self.owner)

    async def _renew(self, lifetime_ms: int) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(*REDIS_ERRORS):  # the next attempt may succeed; the layout key tells who lost
                await self._ask("EVAL", _EXTEND_IF_SAME, 1, self._lock_key, self.owner, lifetime_ms)

    async def look(self, otherwise: Layout) -> Written:
        """Reads the layout key; where it says nothing yet, ``otherwise`` from now on."""
        self._found = await self._generations.agree(otherwise)
        return self._found.written

    async def check(self) -> None:
        """Whether the layout key still says what this owner wrote.

        Raises:
            LayoutLostError: it does not.
        """
        now = await self._generations.read()
        if now is None or self._found is None or now.raw != self._found.raw:
            raise self._lost()

    async def begin(self, pending: Pending) -> None:
        """Notes that a generation is being made, or that this owner goes on with one."""
        highest = max(self.written.highest, pending.generation)
        mine = replace(pending, owner=self.owner)
        await self._write(replace(self.written, highest=highest, pending=mine))

    async def stand_still(self) -> None:
        """Has the live generation refuse every step from here on."""
        standstill = self.pending.standstill or uuid4().hex
        await self._write(replace(self.written, pending=replace(self.pending, standstill=standstill)))
        await self._mark(self.live, Mark(standstill, self.pending.generation, self.pending.shards))

    async def go_on(self) -> None:
        """Has the live generation go on."""
        await self._write(replace(self.written, pending=replace(self.pending, standstill="")))
        await self._trip(("HDEL", self.live.offsets(shard), MARK_FIELD) for shard in range(self.live.shards))

    async def switch(self) -> None:
        """Makes the pending generation the live one; the one before is retired for good."""
        before, pending, written = self.live, self.pending, self.written
        await self._write(
            Written(
                shards=pending.shards,
                generation=pending.generation,
                highest=written.highest,
                old=(*written.old, Old(generation=before.generation, shards=before.shards)),
            )
        )
        await self._retire(before)

    async def give_up(self) -> None:
        """Gives the pending generation up; the live one goes on, should it stand still."""
        if self.pending.standstill:
            await self.go_on()
        given_up = Old(generation=self.pending.generation, shards=self.pending.shards)
        await self._write(replace(self.written, pending=None, old=(*self.written.old, given_up)))

    async def remove_old(self, on_step: Callable[[int], None] = lambda _: None) -> None:
        """Removes the keys of every generation that nobody reads any more.

        Args:
            on_step: called with how many products were removed in a step.
        """
        for old in self.written.old:
            layout = old.layout(self.namespace)
            await self._retire(layout)
            for shard in range(layout.shards):
                await self._remove_shard(layout, shard, on_step)
            rest = tuple(each for each in self.written.old if each != old)
            await self._write(replace(self.written, old=rest))

    async def _retire(self, layout: Layout) -> None:
        written = self.written
        await self._mark(layout, Mark("", written.generation, written.shards, retired=True))

    async def _mark(self, layout: Layout, mark: Mark) -> None:
        packed = encode(mark)
        await self._trip(
            ("HSET", layout.offsets(shard), MARK_FIELD, packed) for shard in range(layout.shards)
        )

    async def _remove_shard(self, layout: Layout, shard: int, on_step: Callable[[int], None]) -> None:
        active = layout.active(shard)
        while products := await self._ask("ZRANGE", active, 0, REMOVED_AT_ONCE - 1):
            names = [each.decode() for each in products]
            spikes = (layout.spike(channel, name) for channel in CHANNELS for name in names)
            await self._trip([("UNLINK", *map(layout.product, names), *spikes), ("ZREM", active, *products)])
            on_step(len(products))
        applied = await stored_offsets(self._client, layout, shard)
        await self._ask(
            "UNLINK",
            active,
            layout.fleet(shard),
            layout.ledger(shard),
            layout.outbox(shard),
            layout.withheld(shard),
            layout.missing(shard),
            *([layout.notes, layout.logs, layout.models, layout.copied] if shard == 0 else []),
            *(key for name, at in applied.items() for key in seen_keys(layout, shard, name, at)),
        )
        await self._ask("HDEL", layout.offsets(shard), ERASED_FIELD, *applied)

    async def _write(self, written: Written) -> None:
        assert self._found is not None
        found = await self._generations.replace(self._found, written)
        if found is None:
            raise self._lost()
        self._found = found

    def _lost(self) -> LayoutLostError:
        return LayoutLostError(
            f"Somebody else has changed which counters of '{self.namespace}' are live, or Redis lost it. Run"
            " the command again: it looks at what there is and goes on."
        )

    async def _trip(self, commands: Iterable[Command]) -> list[Any]:
        return await exchange_async(self._client, list(commands))

    async def _ask(self, *command: str | bytes | float) -> Any:
        return (await self._trip([command]))[0]


async def stored_offsets(client: AsyncClient, layout: Layout, shard: int) -> dict[str, int]:
    """Highest applied offset of every partition that a shard of a generation knows."""
    (stored,) = await exchange_async(client, [("HGETALL", layout.offsets(shard))])
    return {name.decode(): int(at) for name, at in stored.items() if name not in NO_OFFSETS}


def seen_keys(layout: Layout, shard: int, partition: str, applied: int) -> list[str]:
    """The keys that may hold fingerprints of a partition counted up to ``applied``."""
    newest = segment_of(max(applied, 0))
    return [
        layout.seen(shard, partition, segment)
        for segment in range(max(newest - MOST_SEGMENTS_KEPT, 0), newest + 1)
    ]
