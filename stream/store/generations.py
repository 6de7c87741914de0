"""The layout key in Redis, and who may change it: one compare-and-set makes a generation the live one.

Rules:
- The layout key alone says which generation is live. It changes only by compare-and-set, so of two that want
  to change it one fails and looks again.
- Before a switch the live generation is made to stand still: the layout says so and gives that a name, then
  a ``Mark`` of that name in each shard's offsets refuses every step, as long as the layout says the name.
- Standing still needs somebody alive, who holds the lock. When the lock has run out, whoever waits ends the
  standstill and goes on as before; the switch of its owner, should that wake, then fails.
- After the switch the marks stay, as ``retired``, and name what took the generation's place: should Redis
  lose the layout key's last write but not the marks (a failover in a cluster), the switch is not undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from stream.errors import DependencyError
from stream.redis_trip import exchange_async
from stream.store.layout import MARK_FIELD, Written, decode_mark, encode, read_written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.redis_config import AsyncClient
    from stream.store.layout import Layout, Mark

log = structlog.get_logger("generations")

_SET_IF_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_DROP_FIELD_IF_SAME = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


class Found(NamedTuple):
    """The layout key, as read."""

    raw: bytes
    written: Written


class Generations:
    """The layout key of a namespace.

    Errors of Redis come out as they are.

    Args:
        client: from ``stream.redis_config.connect_async``.
        namespace: prefix of every Redis key.
    """

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace
        self._key = f"{namespace}:layout"
        self._lock_key = f"{namespace}:moving"

    async def read(self) -> Found | None:
        """What the layout key says; None before the first worker.

        Raises:
            UnknownLayout: another version wrote it.
        """
        raw = await self._ask("GET", self._key)
        return None if raw is None else Found(raw, read_written(raw))

    async def agree(self, wanted: Layout) -> Found:
        """What the layout key says; where it says nothing, ``wanted`` from now on.

        Raises:
            UnknownLayout: another version wrote it.
        """
        written = Written(shards=wanted.shards, generation=wanted.generation, highest=wanted.generation)
        await self._ask("SET", self._key, encode(written), "NX")
        found = await self.read()
        return found or await self.agree(wanted)

    async def replace(self, found: Found, written: Written) -> Found | None:
        """Writes the layout key, unless it says something else than ``found`` by now; then None."""
        raw = encode(written)
        done = await self._ask("EVAL", _SET_IF_SAME, 1, self._key, found.raw, raw)
        return Found(raw, written) if done else None

    async def heed(self, layout: Layout, marks: Iterable[bytes]) -> None:
        """Does what the marks in a generation's offsets ask for. Afterwards, the layout is to be read again.

        Args:
            layout: of the generation.
            marks: as found in its shards' offsets, before this call.

        Raises:
            DependencyError: the generation stands still, and its successor is on the way.
        """
        found = await self.agree(layout)
        if found.written.generation != layout.generation:
            return
        pending = found.written.pending
        for raw in set(marks):
            mark = decode_mark(raw)
            if mark.retired:
                await self._follow(found, mark)
            elif pending is not None and pending.standstill == mark.standstill:
                await self.end_standstill(found)
            else:
                for shard in range(layout.shards):
                    await self._ask("EVAL", _DROP_FIELD_IF_SAME, 1, layout.offsets(shard), MARK_FIELD, raw)

    async def end_standstill(self, found: Found) -> None:
        """Returns when the live generation does not stand still; ends a standstill whose owner is gone.

        Raises:
            DependencyError: it stands still.
        """
        pending = found.written.pending
        if pending is None or not pending.standstill:
            return
        if await self._ask("EXISTS", self._lock_key):
            raise DependencyError(
                f"`reviewpulse {pending.kind}` is moving the counters of '{self.namespace}' to generation"
                f" {pending.generation}: nothing is counted until it is through"
            )
        going_on = msgspec.structs.replace(pending, standstill="")
        if await self.replace(found, msgspec.structs.replace(found.written, pending=going_on)):
            log.warning(
                "a standstill whose owner is gone was ended; run the command again, or with --abort",
                command=pending.kind,
                generation=pending.generation,
            )

    async def _follow(self, found: Found, mark: Mark) -> None:
        """The layout key names a generation that was retired: Redis lost its last write."""
        highest = max(found.written.highest, mark.generation)
        successor = Written(shards=mark.shards, generation=mark.generation, highest=highest)
        if await self.replace(found, successor):
            log.error(
                "Redis lost the switch to another generation; it was made again",
                generation=mark.generation,
                shards=mark.shards,
            )

    async def _ask(self, *command: str | bytes | int) -> Any:
        (reply,) = await exchange_async(self._client, [command])
        return reply
