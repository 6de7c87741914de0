"""Counters in Redis or Valkey: one script call, hence one atomic step, per partition and shard.

Rules:
- The steps of a micro-batch go out in one pipeline: one round trip.
- Every failure of the server or the way to it is a ``DependencyError``; the caller repeats the call. A reply
  that says the script failed on what is stored is ours, and crashes.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from stream.core.segments import MOST_SEGMENTS_KEPT, segment_of
from stream.errors import DependencyError, UsageError
from stream.redis_config import shown_url
from stream.store.contract import NOTHING_APPLIED, Apply, OutboxEntry
from stream.store.layout import LAYOUT_VERSION, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from stream.core.events import Channel

log = structlog.get_logger("store")

APPLY_SCRIPT = files("stream.store").joinpath("apply.lua").read_text("utf-8")

_PASSING = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError)
"""Errors that end when somebody mends the server: repeat and say so."""
_PASSING_REPLIES = ("MISCONF", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS")

_pack = msgspec.msgpack.Encoder().encode


class RedisStore:
    """A ``CounterStore`` on one Redis or Valkey.

    Args:
        client: connected with ``stream.redis_config.connect_async``.
        layout: the keys' names.
        url: for messages; passwords in it are not shown.
    """

    def __init__(self, client: Redis, layout: Layout, url: str) -> None:
        self._client = client
        self._layout = layout
        self._place = shown_url(url)
        self._script_sha = ""

    @property
    def shards(self) -> int:
        """Slots the products are spread over."""
        return self._layout.shards

    def shard(self, product_id: str) -> int:
        """The shard a product lives in."""
        return self._layout.shard(product_id)

    async def open(self) -> None:
        """Loads the script and agrees on the layout; see ``CounterStore``."""
        wanted = {"version": LAYOUT_VERSION, "shards": self._layout.shards}
        try:
            self._script_sha = await self._client.script_load(APPLY_SCRIPT)
            await self._client.set(self._layout.layout_key, msgspec.json.encode(wanted), nx=True)
            stored = msgspec.json.decode(await self._client.get(self._layout.layout_key) or b"{}")
        except (AuthenticationError, NoPermissionError) as error:
            raise UsageError(
                f"Redis at {self._place} refuses this user: {error}."
                " Check REVIEWPULSE_REDIS, REVIEWPULSE_REDIS_PASSWORD and the ACL."
            ) from None
        except RedisError as error:
            raise self._failure(error) from error
        if stored != wanted:
            raise UsageError(
                f"Redis at {self._place} holds layout {stored} under '{self._layout.namespace}', but this"
                f" worker is set to {wanted}. Set REVIEWPULSE_SHARDS={stored.get('shards')}, or use another"
                " REVIEWPULSE_NAMESPACE."
            )

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Offsets by shard; see ``CounterStore``."""
        if not partitions:
            return {}
        pipe = self._client.pipeline(transaction=False)
        for shard in range(self.shards):
            pipe.hmget(self._layout.offsets(shard), list(partitions))
        by_shard = await self._execute(pipe)
        return {
            partition: tuple(NOTHING_APPLIED if row[n] is None else int(row[n]) for row in by_shard)
            for n, partition in enumerate(partitions)
        }

    async def forget(self, partition: str) -> None:
        """Drops the offsets of a partition; see ``CounterStore``."""
        stored = (await self.applied([partition]))[partition]
        pipe = self._client.pipeline(transaction=False)
        pipe.hdel(self._layout.notes, partition)
        for shard, applied in enumerate(stored):
            pipe.hdel(self._layout.offsets(shard), partition)
            newest = segment_of(max(applied, 0))
            for segment in range(max(newest - MOST_SEGMENTS_KEPT, 0), newest + 1):
                pipe.unlink(self._layout.seen(shard, partition, segment))
        await self._execute(pipe)

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, dict[int, bytes]]:
        """Fingerprints of counted events, one MGET per shard; see ``CounterStore``."""
        wanted = [(partition, number) for partition, numbers in segments.items() for number in numbers]
        found: dict[str, dict[int, bytes]] = {partition: {} for partition in segments}
        if not wanted:
            return found
        pipe = self._client.pipeline(transaction=False)
        for shard in range(self.shards):
            pipe.mget([self._layout.seen(shard, partition, number) for partition, number in wanted])
        by_shard = await self._execute(pipe)
        for (partition, number), packed in zip(wanted, zip(*by_shard, strict=True), strict=True):
            found[partition][number] = b"".join(part for part in packed if part)
        return found

    async def notes(self, partitions: Sequence[str]) -> list[bytes | None]:
        """What workers left at partitions; see ``CounterStore``."""
        if not partitions:
            return []
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._layout.notes, list(partitions))
        (found,) = await self._execute(pipe)
        return list(found)

    async def leave_notes(self, notes: Mapping[str, bytes]) -> None:
        """Leaves notes at partitions; see ``CounterStore``."""
        pipe = self._client.pipeline(transaction=False)
        for partition, note in notes.items():
            pipe.hset(self._layout.notes, partition, note)
        await self._execute(pipe)

    async def states(self, channel: Channel, product_ids: Sequence[str]) -> list[bytes | None]:
        """Detector states, one MGET per shard; see ``CounterStore``."""
        by_shard: dict[int, list[int]] = {}
        for n, product_id in enumerate(product_ids):
            by_shard.setdefault(self.shard(product_id), []).append(n)
        pipe = self._client.pipeline(transaction=False)
        for rows in by_shard.values():
            pipe.mget([self._layout.spike(channel, product_ids[n]) for n in rows])
        found: list[bytes | None] = [None] * len(product_ids)
        for rows, replies in zip(by_shard.values(), await self._execute(pipe), strict=True):
            for n, reply in zip(rows, replies, strict=True):
                found[n] = reply
        return found

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        """One pipeline of script calls; see ``CounterStore``."""
        pipe = self._client.pipeline(transaction=False)
        for step in steps:
            pipe.evalsha(self._script_sha, 4, *self._script_arguments(step))
        replies = await self._execute(pipe, raise_on_error=False)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A restarted or failed-over server has lost its scripts. Steps are fenced: run them all again.
            log.info("apply script loaded again", redis=self._place)
            await self.open()
            return await self.apply(steps)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise self._failure(reply)
        return [None if reply is None else int(reply) for reply in replies]

    def _script_arguments(self, step: Apply) -> list[Any]:
        """Keys and arguments as ``apply.lua`` lists them."""
        layout, shard = self._layout, step.shard
        states = [product.state or b"" for product in step.products]
        body = _pack(
            (
                step.last,
                layout.prefix(shard),
                step.channel,
                step.arrival_ms,
                list(step.ledger.items()),
                [
                    (*product[:4], len(state), product.spans)
                    for product, state in zip(step.products, states, strict=True)
                ],
                [len(transition) for transition in step.transitions],
                [
                    (layout.seen(shard, step.partition, segment), len(fingerprints))
                    for segment, fingerprints in step.seen
                ],
                [layout.seen(shard, step.partition, segment) for segment in step.forgotten],
            )
        )
        fingerprints = [packed for _, packed in step.seen]
        keys = [layout.offsets(shard), layout.ledger(shard), layout.active(shard), layout.outbox(shard)]
        return [*keys, step.partition, step.base, body, b"".join(states + step.transitions + fingerprints)]

    async def outbox(self, shard: int) -> list[OutboxEntry]:
        """Alert transitions waiting; see ``CounterStore``."""
        pipe = self._client.pipeline(transaction=False)
        pipe.xrange(self._layout.outbox(shard))
        (entries,) = await self._execute(pipe)
        return [
            OutboxEntry(shard, entry_id.decode(), fields[b"partition"].decode(), fields[b"alert"])
            for entry_id, fields in entries
        ]

    async def delivered(self, entries: Iterable[OutboxEntry]) -> None:
        """Deletes outbox entries; see ``CounterStore``."""
        pipe = self._client.pipeline(transaction=False)
        for entry in entries:
            pipe.xdel(self._layout.outbox(entry.shard), entry.entry_id)
        await self._execute(pipe)

    async def close(self) -> None:
        """Disconnects."""
        await self._client.aclose()

    async def _execute(self, pipe: Any, *, raise_on_error: bool = True) -> list[Any]:
        try:
            replies: list[Any] = await pipe.execute(raise_on_error=raise_on_error)
        except RedisError as error:
            raise self._failure(error) from error
        return replies

    def _failure(self, error: Exception) -> Exception:
        passing = isinstance(error, _PASSING) or (
            isinstance(error, ResponseError) and str(error).startswith(_PASSING_REPLIES)
        )
        return DependencyError(f"Redis at {self._place}: {error}") if passing else error
