"""Planted bugs: what the simulator must catch, each a small change of one part.

Rules:
- A bug is one that somebody could write, and most of them pass every test without faults.
- It changes the worker's or the store's code, never what is checked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from stream.backoff import retry
from stream.core.suspicion import Note
from stream.lanes import Lanes, partition_name
from stream.pipeline import FORGOTTEN, Pipeline
from stream.publish import KafkaPublisher, Message
from stream.store.contract import NOTHING_APPLIED, Apply, Move, log_partition, plain_partition
from stream.store.layout import shard_of
from stream.store.memory import MemoryStore
from tests.simulation.consumer import SimConsumer
from tests.simulation.erasing import Eraser
from tests.simulation.inputs import SEGMENT_OFFSETS
from tests.simulation.redis_model import Command, WiredStore
from tests.simulation.worker import Parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.lanes import Lane
    from stream.pipeline import Window
    from stream.record import Basis, Judge, Judged, Part
    from stream.runs import Position, Run
    from stream.store.memory import Replacement
    from stream.tracing import Trace

MOST_OFFSETS = 100
"""No log of a schedule has more."""


class Bug(NamedTuple):
    """A planted bug."""

    says: str
    parts: Parts
    is_rare: bool = False
    """Caught too seldom to be looked for each time the tests run."""


# The store.


class Unfenced(MemoryStore):
    def _apply(self, step: Apply) -> int | None:
        stored = self.offsets[step.shard].get(step.partition, NOTHING_APPLIED)
        return super()._apply(step._replace(base=stored))


class GapsTaken(MemoryStore):
    def _apply(self, step: Apply) -> int | None:
        stored = self.offsets[step.shard].get(step.partition, NOTHING_APPLIED)
        return super()._apply(step._replace(base=stored) if stored < step.base else step)


class RepeatsTaken(MemoryStore):
    def _apply(self, step: Apply) -> int | None:
        stored = self.offsets[step.shard].get(step.partition, NOTHING_APPLIED)
        return super()._apply(step._replace(base=stored) if step.base < stored < step.last else step)


class HalfStore(MemoryStore):
    """A store that can be told to do half a step."""

    async def offset_alone(self, step: Apply) -> int | None:
        """The fence and the offset, without the counters."""
        empty = step._replace(ledger={}, products=[], transitions=[], seen=(), forgotten=())
        return self._apply(empty)

    async def counters_alone(self, step: Apply) -> int | None:
        """The fence and the counters, without the offset."""
        stored = self.offsets[step.shard].get(step.partition, NOTHING_APPLIED)
        if stored != step.base:
            return stored
        self._apply(step)
        self.offsets[step.shard][step.partition] = stored
        return None

    async def counters_unfenced(self, step: Apply) -> None:
        """The counters alone, whatever is stored."""
        stored = self.offsets[step.shard].get(step.partition, NOTHING_APPLIED)
        self._apply(step._replace(base=stored))
        self.offsets[step.shard][step.partition] = stored

    async def seen_alone(self, step: Apply) -> None:
        """The fingerprints alone."""
        await self.counters_unfenced(step._replace(ledger={}, products=[], transitions=[]))


class InTwoRequests(WiredStore):
    """Sends one half of each step after the other."""

    first: str
    second: str

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        results = await self._ask([Command(self.first, (step,), step.shard) for step in steps])
        taken = [step for step, result in zip(steps, results, strict=True) if result is None]
        if taken:
            await self._ask([Command(self.second, (step,), step.shard) for step in taken])
        return results


class OffsetFirst(InTwoRequests):
    first, second = "offset_alone", "counters_unfenced"


class OffsetLast(InTwoRequests):
    first, second = "counters_alone", "offset_alone"


class SeenApart(WiredStore):
    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        results = await super().apply([step._replace(seen=(), forgotten=()) for step in steps])
        taken = [step for step, result in zip(steps, results, strict=True) if result is None]
        if taken:
            await self._ask([Command("seen_alone", (step,), step.shard) for step in taken])
        return results


# Erasures.


class ErasedTaken(MemoryStore):
    def _apply(self, step: Apply) -> int | None:
        return super()._apply(step._replace(erased=self.erasures[step.shard]))


class MovesUnmarked(MemoryStore):
    def _move(self, move: Move) -> bool:
        return super()._move(move._replace(raised_by=0))


class CountsApart(MemoryStore):
    """A store that counts an erasure when it is told to, not when it erases."""

    def count_erasure(self, product_id: str, by: int) -> None:
        """Counts it."""
        self.erasures[self._layout.shard(product_id)] += by

    def erase(self, product_id: str, by: int = 1) -> None:
        before = list(self.erasures)
        super().erase(product_id, by)
        self.erasures = before


class CountedFirst(Eraser):
    async def erase(self, product_id: str, by: int) -> None:
        await self._ask([Command("count_erasure", (product_id, by), shard_of(product_id, self.shards))])
        await asyncio.sleep(3)  # other products' turn
        await super().erase(product_id, by)


class OutboxLeft(MemoryStore):
    def erase(self, product_id: str, by: int = 1) -> None:
        before = [dict(entries) for entries in self.outboxes]
        super().erase(product_id, by)
        self.outboxes = before


class ReplacesBlindly(MemoryStore):
    def replace(self, shard: int, states: Iterable[Replacement], by: int = 1) -> int:
        there = self.detector_states
        states = [(*key, there.get(tuple(key), b""), to) for *key, _, to in states]
        return super().replace(shard, states, by)


class QuietLanesRemember(Pipeline):
    def _start_rewind(self, tp: Any, reason: str) -> None:
        if reason != FORGOTTEN:  # as the audit says it, of lanes that have nothing to be refused
            super()._start_rewind(tp, reason)


# The pipeline.


class LaneStaysOpen(Pipeline):
    def _start_rewind(self, tp: Any, reason: str) -> None:
        super()._start_rewind(tp, reason)
        self._lanes[tp].closed = False


class LatestLane(Pipeline):
    async def _judge_window(self, window: Window, parts: Sequence[tuple[Part, Lane]]) -> list[Judged]:
        judged = await super()._judge_window(window, parts)
        lanes = {part.tp: lane for part, lane in parts}
        return [self._on_latest_lane(each, lanes[each.part.tp]) for each in judged]

    def _on_latest_lane(self, judged: Judged, lane: Lane) -> Judged:
        now = self._lanes[judged.part.tp]
        if now is lane:
            return judged
        judged.part.epoch = now.epoch
        steps = [step._replace(base=now.judged[step.shard]) for step in judged.steps]
        return judged._replace(steps=[step for step in steps if step.base < step.last])


class RefusedIsFine(Pipeline):
    def _settle(self, judged: Judged, stored: Mapping[tuple[str, int], int | None]) -> None:
        super()._settle(judged, dict.fromkeys(stored))


class LettersAfterwards(Pipeline):
    async def _publish_first(self, judged: Iterable[Judged]) -> None:
        """Is put off."""

    async def _apply(self, judged: Sequence[Judged], trace: Trace) -> None:
        await super()._apply(judged, trace)
        await super()._publish_first(judged)


class StatesOfAnyMoment(Pipeline):
    async def _states(self, part: Part, lane: Lane) -> dict[str, bytes | None]:
        states = {each.product_id: lane.states.get(each.product_id) for each in part.events}
        missing = [each for each, state in states.items() if state is None]
        if missing:
            found = await retry(lambda: self._store.states(part.name, part.channel, missing), "read states")
            states.update(zip(missing, found.states, strict=True))
        return states


class AllToEveryShard(Pipeline):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        judge = _JudgeOfTheLast(self._model.judge)
        self._model = self._model._replace(judge=judge)  # type: ignore[arg-type]


class _JudgeOfTheLast:
    """Judges as if every shard were no further than the last of them, but for the base."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def judge(self, part: Part, scored: Any, basis: Basis, timing: Any) -> Judged:
        applied = basis.applied
        as_the_last = basis._replace(applied=(min(applied),) * len(applied))
        judged = self._judge.judge(part, scored, as_the_last, timing)
        steps = [step._replace(base=applied[step.shard]) for step in judged.steps]
        return judged._replace(steps=[step for step in steps if step.base < step.last])


# The lanes, and where they are read from.


class KeepsStates(Lanes):
    def close(self, tps: Iterable[Any]) -> None:
        tps = [tp for tp in tps if tp in self._lanes]
        states = {tp: self._lanes[tp].states for tp in tps}
        super().close(tps)
        for tp, remembered in states.items():
            self._lanes[tp].states = remembered

    def open(self, positions: Mapping[Any, Any]) -> Mapping[Any, int]:
        states = {tp: self._lanes[tp].states for tp in positions if tp in self._lanes}
        epochs = super().open(positions)
        for tp, remembered in states.items():
            self._lanes[tp].states = remembered
        return epochs


class TakesAnyRun(Lanes):
    def take(self, run: Run) -> bool:
        if self.is_current(run.tp, run.epoch):
            self._lanes[run.tp].next_number = run.number
        return super().take(run)


class TakesAnyEpoch(Lanes):
    def is_current(self, tp: Any, epoch: int) -> bool:
        lane = self._lanes.get(tp)
        return lane is not None and not lane.closed

    def take(self, run: Run) -> bool:
        return self.is_current(run.tp, run.epoch)


class SeenOfAnyMoment(Lanes):
    async def _fingerprints(self, positions: Mapping[Any, Position]) -> dict[Any, Mapping[int, bytes]]:
        if self._segments_kept is None:
            return {tp: {} for tp in positions}
        names = {tp: log_partition(partition_name(tp), at.log) for tp, at in positions.items()}
        wanted = {name: range(MOST_OFFSETS // SEGMENT_OFFSETS) for name in names.values()}
        stored = await self._store.seen(wanted)
        return {tp: stored[name].segments for tp, name in names.items()}


class NeverSuspects(Lanes):
    def _read_note(self, tp: Any, stored: bytes | None, applied: int) -> Note:
        return Note(worker=None, base=applied)


class ByTheGroup(SimConsumer):
    async def _seek_to_sink(self, tps: Any) -> Any:
        sought = await super()._seek_to_sink(tps)
        for tp in sought:
            committed = self._world.broker.group.committed.get(tp, 0)
            self._thread.client.seek(tp, max(committed, sought[tp]))
        return sought


# The publisher.


class DeliveredFirst(KafkaPublisher):
    async def deliver(self) -> None:
        for shard in range(self._store.shards):
            owned = self._owned()
            entries = [
                entry
                for entry in await self._store.outbox(shard)
                if plain_partition(entry.partition) in owned
            ]
            await self._store.delivered(entries)
            await self._send([Message("alerts", None, entry.alert) for entry in entries])


BUGS = {
    "no-fence": Bug("a step is taken whatever offset is stored", Parts(store=Unfenced)),
    "gaps-taken": Bug("the fence refuses only what is behind", Parts(store=GapsTaken)),
    "repeats-taken": Bug("the fence refuses only what leaves a gap", Parts(store=RepeatsTaken)),
    "ack-before-apply": Bug(
        "the offset is stored first, the counters in a second step",
        Parts(store=HalfStore, client=OffsetFirst),
    ),
    "offset-apart": Bug(
        "the counters are stored first, the offset in a second step",
        Parts(store=HalfStore, client=OffsetLast),
    ),
    "seen-apart": Bug(
        "what was counted is remembered for duplicates in a second step",
        Parts(store=HalfStore, client=SeenApart),
    ),
    "seen-of-any-moment": Bug(
        "what was counted is read without the offset it is as of",
        Parts(lanes=SeenOfAnyMoment),
        is_rare=True,
    ),
    "states-of-any-moment": Bug(
        "detector states are read without the offset they are as of",
        Parts(pipeline=StatesOfAnyMoment),
        is_rare=True,
    ),
    "states-kept": Bug("a rewind keeps the detector states it remembers", Parts(lanes=KeepsStates)),
    "lane-stays-open": Bug(
        "a refused step does not close its lane", Parts(pipeline=LaneStaysOpen), is_rare=True
    ),
    "latest-lane": Bug("a part is judged on a lane opened after it was read", Parts(pipeline=LatestLane)),
    "refused-is-fine": Bug("a refused step is taken for a repeated one", Parts(pipeline=RefusedIsFine)),
    "all-to-every-shard": Bug(
        "the shard that is ahead is given what it has again", Parts(pipeline=AllToEveryShard)
    ),
    "any-run": Bug("a missing run is not noticed", Parts(lanes=TakesAnyRun)),
    "any-epoch": Bug("runs from before a seek are taken for runs after it", Parts(lanes=TakesAnyEpoch)),
    "by-the-group": Bug("reading begins where the group committed", Parts(consumer=ByTheGroup)),
    "letters-afterwards": Bug(
        "dead letters are published after the step that counts them", Parts(pipeline=LettersAfterwards)
    ),
    "delivered-first": Bug(
        "alerts are taken out of the outbox before Kafka has them", Parts(publisher=DeliveredFirst)
    ),
    "erased-taken": Bug("a step is taken though what it builds on was erased", Parts(store=ErasedTaken)),
    "moves-unmarked": Bug(
        "an offset is moved over deleted records, and what workers remember of them stays",
        Parts(store=MovesUnmarked),
        is_rare=True,
    ),
    "erasure-counted-first": Bug(
        "an erasure is counted first, and done in a second step",
        Parts(store=CountsApart, eraser=CountedFirst),
    ),
    "outbox-left": Bug("an erasure leaves what is in the outbox", Parts(store=OutboxLeft), is_rare=True),
    "replaces-blindly": Bug(
        "a state without a customer takes the place of another than it was made from",
        Parts(store=ReplacesBlindly),
    ),
    "quiet-lanes-remember": Bug(
        "the audit does not look whether something was erased", Parts(pipeline=QuietLanesRemember)
    ),
    "never-suspects": Bug("a record that kills workers is never set aside", Parts(lanes=NeverSuspects)),
}
