"""Counters in Redis or Valkey: one script call, hence one atomic step, per partition and shard.

Rules:
- The steps of a micro-batch go out in one pipeline, in a cluster in one to each master: one round trip.
- Redis says which generation of counters is live (``stream.store.layout``). It is looked up whenever somebody
  asks where to begin, and with every sweep of the outbox. Steps made for another generation are refused.
- Every failure of the server or the way to it is a ``DependencyError``; the caller repeats the call. A reply
  that says the script failed on what is stored is ours, and crashes.
- A script that ends half way leaves counters without their offset, to be counted twice. Redis ends one half
  way for two reasons: a command the user may not run, so ``open`` asks for each of them; and a key that is on
  its way to another master, so in a cluster the script touches all its keys before it writes.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from redis.exceptions import NoScriptError

from stream.core.segments import MOST_SEGMENTS_KEPT, segment_of
from stream.errors import UsageError
from stream.redis_errors import REDIS_ERRORS, failure
from stream.redis_trip import exchange_async
from stream.redis_url import is_cluster, shown_url
from stream.store.contract import MOVED, NOTHING_APPLIED, Apply, Move, OutboxEntry, StoredSeen, StoredStates
from stream.store.generations import Generations
from stream.store.layout import ERASED_FIELD, MARK_FIELD, Layout, UnknownLayout, Written, read_written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.events import Channel
    from stream.redis_config import AsyncClient
    from stream.redis_trip import Command

log = structlog.get_logger("store")

APPLY_SCRIPT = files("stream.store").joinpath("apply.lua").read_text("utf-8")
APPLY_SHA = hashlib.sha1(APPLY_SCRIPT.encode(), usedforsecurity=False).hexdigest()
APPLY_KEYS = 4
MOVE_SCRIPT = files("stream.store").joinpath("move.lua").read_text("utf-8")
SWAP_SCRIPT = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
"""KEYS: logs. ARGV: name, what must be noted of it (empty: nothing), what is to be noted. Returns 1 or 0."""

FORBIDDEN_SCRIPT = files("stream.store").joinpath("forbidden.lua").read_text("utf-8")
SCRIPT_COMMANDS = sorted(set(re.findall(r"\bcall\('([A-Z]+)'", APPLY_SCRIPT + MOVE_SCRIPT + SWAP_SCRIPT)))
"""What the scripts run, hence what the user must be allowed to."""

_pack = msgspec.msgpack.Encoder().encode


class RedisStore:
    """A ``CounterStore`` on Redis or Valkey: one server, one that sentinels know, or a cluster.

    Args:
        client: connected with ``stream.redis_config.connect_async``.
        layout: the keys' names, where Redis does not say otherwise yet.
        url: where it leads to; passwords in it are not shown.
    """

    def __init__(self, client: AsyncClient, layout: Layout, url: str) -> None:
        self._client = client
        self._layout = layout
        self._generations = Generations(client, layout.namespace)
        self._url = url
        self._is_cluster = is_cluster(url)
        self._erased: tuple[int, ...] = ()

    @property
    def shards(self) -> int:
        """Slots the products are spread over."""
        return self._layout.shards

    @property
    def generation(self) -> int:
        """The generation that ``applied`` last answered for."""
        return self._layout.generation

    @property
    def erased(self) -> tuple[int, ...]:
        """The marks of erasures when ``applied`` last answered; see ``CounterStore``."""
        return self._erased

    async def open(self) -> None:
        """Asks for the permissions and agrees on the layout; see ``CounterStore``."""
        wanted = self._layout
        try:
            await self._check_permissions()
            found = await self._generations.agree(wanted)
            await self._generations.end_standstill(found)
        except UnknownLayout as error:
            raise self._unknown_layout(error) from None
        except REDIS_ERRORS as error:
            raise failure(error, self._url, at_start=True) from error
        self._go_by(found.written)
        if self._layout.shards != wanted.shards:
            # What Redis holds decides: a worker started with yesterday's setting can do no harm by it.
            log.warning(
                "REVIEWPULSE_SHARDS is for a new namespace; going by what Redis holds. Set it to that, or"
                " change what Redis holds with `reviewpulse reshard`",
                setting=wanted.shards,
                shards=self._layout.shards,
                namespace=wanted.namespace,
            )

    async def _check_permissions(self) -> None:
        keys = [self._layout.offsets(shard) for shard in range(self.shards)]
        forbidden = await exchange_async(
            self._client, [("EVAL", FORBIDDEN_SCRIPT, 1, key, *SCRIPT_COMMANDS) for key in keys]
        )
        for key, commands in zip(keys, forbidden, strict=True):
            if commands:
                names = ", ".join(name.decode() for name in commands)
                raise UsageError(
                    f"Redis at {shown_url(self._url)} refuses this user: it may not run {names} on {key}."
                    " Give it what docs/redis.md lists."
                )

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Offsets by shard in the live generation; see ``CounterStore``."""
        if not partitions:
            return {}
        while True:
            layout = self._layout
            *by_shard, raw = await self._trip(
                [
                    *(
                        ("HMGET", layout.offsets(shard), *partitions, MARK_FIELD, ERASED_FIELD)
                        for shard in range(layout.shards)
                    ),
                    ("GET", layout.layout_key),
                ]
            )
            marks = [row[-2] for row in by_shard if row[-2] is not None]
            if await self._is_current(layout, raw, marks):
                erased = tuple(int(row[-1] or 0) for row in by_shard)
                self._erased = erased if any(erased) else ()
                return {
                    partition: tuple(_offset(row[n]) for row in by_shard)
                    for n, partition in enumerate(partitions)
                }

    async def _is_current(self, layout: Layout, raw: bytes | None, marks: Sequence[bytes]) -> bool:
        """Whether ``layout`` is the live one, unmarked; else what is live is known afterwards."""
        try:
            if marks:
                await self._generations.heed(layout, marks)
                found = await self._generations.agree(layout)
            elif raw is None:  # Redis lost everything: it gets back the layout it had
                found = await self._generations.agree(layout)
            else:
                return not self._go_by_raw(raw)
        except UnknownLayout as error:
            raise self._unknown_layout(error) from None
        except REDIS_ERRORS as error:
            raise failure(error, self._url) from error
        return not self._go_by(found.written) and not marks

    def _go_by(self, written: Written) -> bool:
        """Uses what the layout key says from now on; whether that is another generation."""
        live = written.layout(self._layout.namespace)
        if live == self._layout:
            return False
        if live.generation != self._layout.generation:
            log.info("following the counters to another generation", generation=live.generation)
        self._layout = live
        return True

    def _go_by_raw(self, raw: bytes) -> bool:
        try:
            return self._go_by(read_written(raw))
        except UnknownLayout as error:
            raise self._unknown_layout(error) from None

    def _unknown_layout(self, error: UnknownLayout) -> UsageError:
        return UsageError(
            f"Redis at {shown_url(self._url)} holds {error} under '{self._layout.namespace}', which this"
            " version does not know: use the one that wrote it, or another REVIEWPULSE_NAMESPACE."
        )

    async def logs(self, names: Sequence[str]) -> dict[str, str]:
        """One HMGET; see ``CounterStore``."""
        (values,) = await self._trip([("HMGET", self._layout.logs, *names)])
        return {name: value.decode() for name, value in zip(names, values, strict=True) if value is not None}

    async def swap_log(self, name: str, before: str, after: str) -> bool:
        """A script call; see ``CounterStore``."""
        if not before:
            await self._look()  # a generation that is gone holds nothing, too
        (swapped,) = await self._trip([("EVAL", SWAP_SCRIPT, 1, self._layout.logs, name, before, after)])
        return bool(swapped)

    async def move(self, moves: Sequence[Move]) -> list[bool]:
        """A script call for each; see ``CounterStore``."""
        if any(move.seen == NOTHING_APPLIED for move in moves):
            await self._look()  # a generation that is gone holds nothing, too
        layout, done = self._layout, []
        for move in moves:
            if move.generation == layout.generation:
                (moved,) = await self._trip([("EVAL", MOVE_SCRIPT, *_move_arguments(layout, move))])
                done.append(bool(moved))
            else:
                done.append(False)
        return done

    async def forget(self, partition: str) -> None:
        """Drops the fingerprints of a partition; see ``CounterStore``."""
        stored = (await self.applied([partition]))[partition]
        commands: list[Command] = [("HDEL", self._layout.notes, partition)]
        for shard, applied in enumerate(stored):
            newest = segment_of(max(applied, 0))
            commands += [
                ("UNLINK", self._layout.seen(shard, partition, segment))
                for segment in range(max(newest - MOST_SEGMENTS_KEPT, 0), newest + 1)
            ]
        await self._trip(commands)

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, StoredSeen]:
        """Fingerprints of counted events, one MGET per shard; see ``CounterStore``."""
        wanted = [(partition, number) for partition, numbers in segments.items() for number in numbers]
        if not wanted:
            return {}
        layout, names = self._layout, list(segments)
        commands: list[Command] = []
        for shard in range(layout.shards):
            commands += [
                ("HMGET", layout.offsets(shard), *names),
                ("MGET", *(layout.seen(shard, partition, number) for partition, number in wanted)),
                ("HMGET", layout.offsets(shard), *names),
            ]
        replies = await self._trip(commands)
        found: dict[str, dict[int, bytes]] = {partition: {} for partition in segments}
        for (partition, number), packed in zip(wanted, zip(*replies[1::3], strict=True), strict=True):
            found[partition][number] = b"".join(part for part in packed if part)
        return {
            partition: StoredSeen(
                found[partition],
                tuple(
                    (_offset(before[n]), _offset(after[n]))
                    for before, after in zip(replies[::3], replies[2::3], strict=True)
                ),
            )
            for n, partition in enumerate(names)
        }

    async def notes(self, partitions: Sequence[str]) -> list[bytes | None]:
        """What workers left at partitions; see ``CounterStore``."""
        if not partitions:
            return []
        (found,) = await self._trip([("HMGET", self._layout.notes, *partitions)])
        return list(found)

    async def leave_notes(self, notes: Mapping[str, bytes]) -> None:
        """Leaves notes at partitions; see ``CounterStore``."""
        key = self._layout.notes
        await self._trip([("HSET", key, partition, note) for partition, note in notes.items()])

    async def states(self, partition: str, channel: Channel, product_ids: Sequence[str]) -> StoredStates:
        """Detector states, one MGET per shard; see ``CounterStore``."""
        layout = self._layout
        by_shard: dict[int, list[int]] = {}
        for n, product_id in enumerate(product_ids):
            by_shard.setdefault(layout.shard(product_id), []).append(n)
        commands: list[Command] = []
        for shard, rows in by_shard.items():
            commands += [
                ("HMGET", layout.offsets(shard), partition, ERASED_FIELD),
                ("MGET", *(layout.spike(channel, product_ids[n]) for n in rows)),
                ("HMGET", layout.offsets(shard), partition, ERASED_FIELD),
            ]
        replies = await self._trip(commands)
        states: list[bytes | None] = [None] * len(product_ids)
        as_of, erased = {}, {}
        for number, (shard, rows) in enumerate(by_shard.items()):
            before, found, after = replies[3 * number : 3 * number + 3]
            for n, state in zip(rows, found, strict=True):
                states[n] = state
            as_of[shard] = (_offset(before[0]), _offset(after[0]))
            erased[shard] = frozenset({int(before[1] or 0), int(after[1] or 0)})
        return StoredStates(states, as_of, erased)

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        """One round trip of script calls; see ``CounterStore``."""
        if any(step.base == NOTHING_APPLIED for step in steps):
            await self._look()  # a generation that is gone holds nothing, too: the fence would let this pass
        layout = self._layout
        calls = [
            (APPLY_KEYS, *self._script_arguments(layout, step))
            for step in steps
            if step.generation == layout.generation
        ]
        replies = await exchange_async(
            self._client, [("EVALSHA", APPLY_SHA, *call) for call in calls], raise_on_error=False
        )
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # A new, restarted or promoted server has no scripts, and may have lost the layout.
            log.info("apply script sent whole", redis=shown_url(self._url))
            await self.open()
            again: list[Any] = [MOVED] * len(unknown)
            if self._layout == layout:
                whole = [("EVAL", APPLY_SCRIPT, *calls[n]) for n in unknown]
                again = await exchange_async(self._client, whole, raise_on_error=False)
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise failure(reply, self._url) from reply
        stored = iter([None if reply is None else int(reply) for reply in replies])
        return [next(stored) if step.generation == layout.generation else MOVED for step in steps]

    async def _look(self) -> None:
        """Looks which generation is live."""
        (raw,) = await self._trip([("GET", self._layout.layout_key)])
        if raw is not None:
            self._go_by_raw(raw)

    def _script_arguments(self, layout: Layout, step: Apply) -> list[Any]:
        """Keys and arguments as ``apply.lua`` lists them."""
        shard = step.shard
        groups: dict[tuple[int, ...], int] = {}
        products: list[str | int] = []
        states = []
        for product_id, late, first_ms, last_ms, state, spans in step.products:
            states.append(state or b"")
            products += (product_id, late, first_ms, last_ms, len(states[-1]), len(spans))
            for fields, counts in spans:
                products += (groups.setdefault(fields, len(groups) + 1), *counts)
        body = _pack(
            (
                step.last,
                layout.prefix(shard),
                step.channel,
                step.arrival_ms,
                list(step.ledger.items()),
                list(groups),
                products,
                [len(transition) for transition in step.transitions],
                [
                    (layout.seen(shard, step.partition, segment), len(fingerprints))
                    for segment, fingerprints in step.seen
                ],
                [layout.seen(shard, step.partition, segment) for segment in step.forgotten],
                self._is_cluster,
                step.model,
                step.erased,
            )
        )
        fingerprints = [packed for _, packed in step.seen]
        keys = [layout.offsets(shard), layout.ledger(shard), layout.active(shard), layout.outbox(shard)]
        return [*keys, step.partition, step.base, body, b"".join(states + step.transitions + fingerprints)]

    async def outbox(self, shard: int) -> list[OutboxEntry]:
        """Alert transitions waiting in the live generation; see ``CounterStore``."""
        layout = self._layout
        entries, raw = await self._trip(
            [("XRANGE", layout.outbox(shard), "-", "+"), ("GET", layout.layout_key)]
        )
        if raw is not None and self._go_by_raw(raw):
            return await self.outbox(shard) if shard < self.shards else []
        return [
            OutboxEntry(
                shard,
                entry_id.decode(),
                fields[b"partition"].decode(),
                fields[b"alert"],
                layout.generation,
            )
            for entry_id, fields in entries
        ]

    async def delivered(self, entries: Iterable[OutboxEntry]) -> None:
        """Deletes outbox entries; see ``CounterStore``."""
        commands: list[Command] = []
        for entry in entries:
            layout = Layout(self._layout.namespace, entry.shard + 1, entry.generation)
            commands.append(("XDEL", layout.outbox(entry.shard), entry.entry_id))
        await self._trip(commands)

    async def close(self) -> None:
        """Disconnects."""
        await self._client.aclose()

    async def _trip(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return await exchange_async(self._client, commands)
        except REDIS_ERRORS as error:
            raise failure(error, self._url) from error


def _move_arguments(layout: Layout, move: Move) -> list[str | int]:
    """Keys and arguments as ``move.lua`` lists them."""
    shard, held_by = move.shard, move.renamed_from or move.partition
    names = (held_by, move.partition) if move.renamed_from else (held_by,)
    keys = [layout.offsets(shard), layout.missing(shard)]
    keys += [layout.seen(shard, name, segment) for segment in move.segments for name in names]
    listed = "1" if move.missing else ""
    return [len(keys), *keys, held_by, move.seen, move.partition, move.offset, listed, move.raised_by]


def _offset(stored: bytes | None) -> int:
    """An offset as it is stored."""
    return NOTHING_APPLIED if stored is None else int(stored)
