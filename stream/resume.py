"""Where a partition is read on from, after every assignment and rewind, when its log may not be what it was.

Rules:
- Offsets belong to a log, so the store keeps them under ``topic:number@log``, the log being Kafka's id of the
  topic. A topic that was made anew has another id, so it has no offsets yet: it is counted from its start,
  counters stay, and a step that a paused worker still has of the old log is fenced by the old log's offset.
- Which log each partition was read from last is noted beside, to say aloud when it is another one.
- A broker that tells no id: the log is the one noted, unless the record that was counted last is not there.
  Then it is another one, and gets a name of ours.
- Same log, but it ends before what was counted: it was cut back (an unclean election of a leader). What was
  counted stays, and the stored offset goes back to the log's end, so that what comes in place is counted.
- Records that retention deleted before they were counted are *missing*: the stored offset goes on to the
  first one there is, and the same atomic step lists the range.
- Redis may have lost what a worker counted and still remembers. An offset that is moved may come to be just
  where that worker is, and the fence would let it go on; so the move raises the mark of erasures, which every
  step and every state is held against. Also where nothing seems counted: that may have been lost.
- Stored offsets change only if they still are what was seen. After any change everything is looked at again,
  and what is said aloud is said by whoever made the change: once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import structlog

from stream.backoff import retry
from stream.core.segments import MOST_SEGMENTS_KEPT, segment_of, segments_out_of_reach
from stream.errors import DependencyError
from stream.runs import Position
from stream.store.contract import NOTHING_APPLIED, Move, log_partition
from stream.store.layout import drawn_raise
from stream.store.missing import Missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP

    from stream.store.contract import CounterStore
    from stream.topic_ids import TopicFacts
    from stream.transport import Log

log = structlog.get_logger("resume")

RANGES_KEPT = 200
"""Of missing records; about as many as Redis lists of a partition."""
OURS = "~"
"""Begins the name of a log that Kafka tells no id of."""


class _Found(NamedTuple):
    """What is known of one partition."""

    tp: TP
    noted: str
    """The log it was read from last."""
    now: str
    """The log it is; what was noted, when Kafka tells no id."""
    under_noted: tuple[int, ...]
    """Highest applied offset of each shard, of the log that was noted."""
    applied: tuple[int, ...]
    """The same, of the log that it is."""
    generation: int
    erased: tuple[int, ...]
    first: int
    end: int
    is_known: bool
    """Whether this partition was read before, as far as can be told: else nothing of it can be missing."""

    @property
    def partition(self) -> str:
        return f"{self.tp.topic}:{self.tp.partition}"

    @property
    def name(self) -> str:
        return log_partition(self.partition, self.now)


class Resume:
    """Decides where partitions are read from.

    Args:
        store: who owns the offsets.
        segments_kept: segments of fingerprints that are kept; None for none.
    """

    def __init__(self, store: CounterStore, segments_kept: int | None) -> None:
        self._store = store
        self._segments_kept = segments_kept
        self._read: set[TP] = set()
        """What this worker has read."""
        self.missing = 0
        """Offsets found missing by this worker."""
        self.missing_ranges: tuple[Missing, ...] = ()
        """Where they are; the latest ``RANGES_KEPT``."""

    async def positions(self, tps: set[TP], kafka: Log) -> dict[TP, Position]:
        """Where to read each partition from.

        Raises:
            DependencyError: the store is away, or a topic is.
        """
        while True:
            looked_at = await self._look(tps, kafka)
            changed = [await self._changed(each, kafka) for each in looked_at]
            if len(looked_at) == len(tps) and not any(changed):  # a change of one may refuse them all
                break
        self._read |= tps
        return {
            each.tp: Position(
                max(min(each.applied) + 1, each.first), each.applied, each.generation, each.now, each.erased
            )
            for each in looked_at
        }

    async def _look(self, tps: set[TP], kafka: Log) -> list[_Found]:
        topics = {tp.topic for tp in tps}
        # The ids first. Should a topic be made anew before the ends are asked for, the transport sees another
        # id with the first fetch, and this is asked again; the other way round it would not.
        facts = await kafka.topics(topics)
        if topics - facts.keys():
            raise DependencyError(f"Kafka has no topic {', '.join(sorted(topics - facts.keys()))}.")
        partitions = {tp: f"{tp.topic}:{tp.partition}" for tp in tps}
        generation = self._store.generation
        noted = await retry(
            lambda: self._store.logs([*topics, *partitions.values()]), "ask Redis which logs it counted"
        )
        await self._note_partitions(facts, noted)
        before = {tp: noted.get(partition, "") for tp, partition in partitions.items()}
        now = {tp: facts[tp.topic].log or before[tp] for tp in tps}
        names = {log_partition(partitions[tp], log_) for tp in tps for log_ in (before[tp], now[tp])}
        stored = await retry(lambda: self._store.applied(sorted(names)), "ask Redis where to begin")
        if self._store.generation != generation:
            return []  # the counters have moved, and what was noted may have changed
        erased = self._store.erased
        ends = await kafka.ends(tps)
        return [
            _Found(
                tp,
                noted=before[tp],
                now=now[tp],
                under_noted=stored[log_partition(partition, before[tp])],
                applied=(applied := stored[log_partition(partition, now[tp])]),
                generation=generation,
                erased=erased,
                first=ends[tp][0],
                end=ends[tp][1],
                is_known=bool(before[tp]) or max(applied) != NOTHING_APPLIED,
            )
            for tp, partition in partitions.items()
        ]

    async def _note_partitions(self, facts: Mapping[str, TopicFacts], noted: Mapping[str, str]) -> None:
        for topic, (_, partitions) in facts.items():
            before = noted.get(topic, "")
            if (
                before != str(partitions)
                and await self._store.swap_log(topic, before, str(partitions))
                and before
            ):
                log.warning(
                    "the topic has another number of partitions: many products' keys lead to other ones now."
                    " Counters stay exact; events that are sent again across the change are counted again",
                    topic=topic,
                    partitions_before=int(before),
                    partitions=partitions,
                )

    async def _changed(self, found: _Found, kafka: Log) -> bool:
        """Puts right what is not as it must be; True when there was anything: then look at it anew."""
        if found.now != found.noted:
            await self._take_up(found, kafka)
            return True
        if max(found.applied) >= found.end and max(found.applied) != NOTHING_APPLIED:
            # The end alone is no proof: after a change of leader it may lag behind what was read (KIP-207).
            there = await kafka.has_record(found.tp, max(found.applied))
            if not there and _is_ours(found.now):
                await self._start_over(found, OURS + uuid4().hex[:8])
                return True
            if there is False:
                await self._go_back(found)
                return True
        if min(found.applied) + 1 < found.first:
            await self._go_on(found, kafka)
            return True
        return False

    async def _take_up(self, found: _Found, kafka: Log) -> None:
        """The log is not the one noted: it is another one, or the same one and its id is news to us."""
        if not _is_ours(found.noted):
            await self._start_over(found, found.now)
            return
        counted_to = max(found.under_noted)
        if counted_to == NOTHING_APPLIED:
            if found.first > 0:
                await self._go_on(found, kafka)
            await self._store.swap_log(found.partition, found.noted, found.now)
        elif counted_to < found.end or await kafka.has_record(found.tp, counted_to):
            await self._adopt(found)
        else:
            await self._start_over(found, found.now)

    async def _adopt(self, found: _Found) -> None:
        """Offsets that were stored without the log's id get it."""
        older = log_partition(found.partition, found.noted)
        moves = [
            Move(
                shard,
                found.name,
                seen,
                seen,
                renamed_from=older,
                segments=_latest_segments(seen),
                generation=found.generation,
            )
            for shard, (seen, already) in enumerate(zip(found.under_noted, found.applied, strict=True))
            if seen != NOTHING_APPLIED and already == NOTHING_APPLIED
        ]
        if all(await self._store.move(moves)) and await self._store.swap_log(
            found.partition, found.noted, found.now
        ):
            log.info("the log's id is known now", partition=found.partition, log=found.now)

    async def _start_over(self, found: _Found, now: str) -> None:
        """It is another log: there are no offsets of it yet."""
        if await self._store.swap_log(found.partition, found.noted, now):
            log.error(
                "it is another log than the one counted so far: counting it from its start; counters stay",
                partition=found.partition,
                old_log=found.noted or "without an id",
                new_log=now,
                counted_to=max(found.under_noted),
            )
            await self._store.forget(log_partition(found.partition, found.noted))

    async def _go_back(self, found: _Found) -> None:
        """The log was cut back: new records get the offsets of records that were counted and are gone."""
        moves = [
            Move(
                shard,
                found.name,
                seen,
                found.end - 1,
                generation=found.generation,
                raised_by=drawn_raise(),
            )
            for shard, seen in enumerate(found.applied)
            if seen >= found.end
        ]
        if any(await self._store.move(moves)):
            log.error(
                "the log was cut back, it ends before what was counted: what was counted stays, new records"
                " are counted from its end on. Those that came before this was noticed may be left out",
                partition=found.partition,
                counted_to=max(found.applied),
                log_end=found.end,
            )

    async def _go_on(self, found: _Found, kafka: Log) -> None:
        """The log begins behind what is to be counted next."""
        # Redis may have been emptied: this worker, or the group's commit, still knows that it was counted.
        is_known = found.is_known or found.tp in self._read or await kafka.committed(found.tp) > 0
        last = found.first - 1
        moves = [
            Move(
                shard,
                found.name,
                seen,
                last,
                missing=is_known,
                segments=segments_out_of_reach(seen, last, self._segments_kept or MOST_SEGMENTS_KEPT),
                generation=found.generation,
                raised_by=drawn_raise(),
            )
            for shard, seen in enumerate(found.applied)
            if seen < last
        ]
        done = await self._store.move(moves)
        if is_known and any(done):
            missing_from = min(move.seen for move, was in zip(moves, done, strict=True) if was) + 1
            range_ = Missing(found.partition, found.now, missing_from, last)
            self.missing += range_.offsets
            self.missing_ranges = (*self.missing_ranges, range_)[-RANGES_KEPT:]
            log.error(
                "records were deleted by retention before they were counted",
                partition=found.partition,
                missing_from=missing_from,
                missing_to=last,
                missing=range_.offsets,
            )


def _is_ours(name: str) -> bool:
    """Whether a log is known by no id of Kafka's."""
    return not name or name.startswith(OURS)


def _latest_segments(applied: int) -> range:
    newest = segment_of(applied)
    return range(max(newest - MOST_SEGMENTS_KEPT, 0), newest + 1)
