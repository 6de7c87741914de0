"""One lane per assigned partition: which runs are next, and how far the sink has applied.

Rules:
- The sink owns the offsets: a lane starts where the store says, and its base for the next apply is what the
  store last confirmed.
- A run is taken only when it is of the lane's epoch and the next number in it. When one is missing, or the
  store refused an apply, the lane is closed: everything of it is dropped until a rewind opens it anew.
- Whoever works on a partition leaves a note there, so that a record which kills workers is found
  (``stream.core.suspicion``).
- Where it is when the log is not what it was: ``stream/resume.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import msgspec
import structlog
from msgspec.structs import replace

from stream.core import suspicion
from stream.core.seen import Seen
from stream.core.segments import DEFAULT_SEGMENTS_KEPT, segment_of, segments_in_reach
from stream.core.suspicion import Note
from stream.resume import Resume
from stream.store.contract import NOTHING_APPLIED, log_partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP

    from stream.core.events import Channel
    from stream.runs import Position, Run
    from stream.store.contract import CounterStore
    from stream.store.missing import Missing
    from stream.transport import Log

log = structlog.get_logger("lanes")

_offset = attrgetter("offset")
_decode_note = msgspec.json.Decoder(Note).decode


class RunMissing(Exception):  # noqa: N818
    """A run was lost between the fetch and the pipeline; the lane must be rewound."""


MAX_STATES = 50_000
"""Detector states a lane remembers (some 150 bytes each); those pushed out are read from the store again.

More than the products of all windows between judge and store (three of at most 16,384 events): their states
are not in the store yet."""


NO_NOTE = Note(worker=None, base=NOTHING_APPLIED)


@dataclass
class Lane:
    """What the worker knows of one assigned partition."""

    tp: TP
    channel: Channel
    epoch: int = 0
    log: str = ""
    """The log that is read; see ``stream.runs.Run``."""
    next_number: int = 0
    closed: bool = False
    generation: int = 0
    """Of the counters it was opened on; what is judged here is for no other."""
    erased: tuple[int, ...] = ()
    """Their marks of erasures then: what is remembered here may not bring back what was erased since."""
    applied: list[int] = field(default_factory=list)
    """Highest offset the store has confirmed, by shard."""
    judged: list[int] = field(default_factory=list)
    """Highest judged offset by shard: what the next step builds on."""
    states: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    """Detector states as of ``judged``, the latest last."""
    seen: Seen | None = None
    """Which events were counted lately, as of ``judged``; None when nobody asks for duplicates."""
    model: str = ""
    """The version that scored up to ``judged``; empty before the first step of this lane."""
    note: Note = NO_NOTE
    """What is known of workers that died here."""
    note_left: bool = False
    """Whether the store has the note."""
    committed: int = NOTHING_APPLIED
    """Highest offset the group was told of."""
    inside: deque[Sequence[ConsumerRecord]] = field(default_factory=deque)
    """Runs that were taken and are not applied to their end, oldest first."""
    counted_ms: int | None = None
    """Timestamp of the last record that every shard has."""

    @property
    def name(self) -> str:
        """The partition as the store knows it."""
        return log_partition(partition_name(self.tp), self.log)

    def advance(self, shard: int, offset: int) -> None:
        """The store has everything of a shard up to ``offset``."""
        self.applied[shard] = offset
        self._let_go(min(self.applied))
        if self.note.width:
            self.note = suspicion.widened(self.note, min(self.applied))
            self.note_left = bool(self.note.width)

    def _let_go(self, applied: int) -> None:
        """Forgets the runs that are applied."""
        while self.inside and self.inside[0][-1].offset <= applied:
            self.counted_ms = self.inside.popleft()[-1].timestamp

    def oldest_ms(self) -> int | None:
        """Timestamp of the oldest record inside that is not applied; None where there is none."""
        if not self.inside:
            return None
        records = self.inside[0]
        place = bisect_right(records, min(self.applied), key=_offset)
        timestamp: int = records[min(place, len(records) - 1)].timestamp
        return timestamp

    def close(self) -> None:
        """Nothing of it is applied any more; frees what it takes, for the partition may never come back."""
        self.closed = True
        self.states = OrderedDict()
        self.seen = None
        self.inside = deque()

    def remember(self, states: Mapping[str, bytes]) -> None:
        """Keeps new detector states for the next window."""
        for product_id, state in states.items():
            self.states[product_id] = state
            self.states.move_to_end(product_id)
        while len(self.states) > MAX_STATES:
            self.states.popitem(last=False)


class Confirmed(NamedTuple):
    """What the store has confirmed of a lane."""

    name: str
    """The partition as the store knows it."""
    epoch: int
    generation: int
    applied: tuple[int, ...]
    """By shard."""
    erased: tuple[int, ...]


def partition_name(tp: TP) -> str:
    """``topic:number``."""
    return f"{tp.topic}:{tp.partition}"


class _Recalled(NamedTuple):
    """What the store knows of a partition besides its offset, on its way from ``positions`` to ``open``."""

    seen: Seen | None
    note: Note


NOTHING_RECALLED = _Recalled(None, NO_NOTE)


class Lanes:
    """All lanes of a worker; the ``OffsetSink`` of the transport.

    Args:
        store: who owns the offsets.
        channels: channel by Kafka topic.
        segments_kept: how far back duplicates are looked for, in segments of ``stream.core.seen``; None
            counts every record.
    """

    def __init__(
        self,
        store: CounterStore,
        channels: Mapping[str, Channel],
        *,
        segments_kept: int | None = DEFAULT_SEGMENTS_KEPT,
    ) -> None:
        self._store = store
        self._channels = channels
        self._segments_kept = segments_kept
        self._worker = uuid4().hex
        self._recalled: dict[TP, _Recalled] = {}
        self._resume = Resume(store, segments_kept)
        self._lanes: dict[TP, Lane] = {}

    def __getitem__(self, tp: TP) -> Lane:
        return self._lanes[tp]

    def open_lanes(self) -> dict[TP, Lane]:
        """Those that this worker reads now."""
        return {tp: lane for tp, lane in self._lanes.items() if not lane.closed}

    def owned(self) -> set[str]:
        """Names of the partitions this worker reads now."""
        return {partition_name(tp) for tp, lane in self._lanes.items() if not lane.closed}

    async def positions(self, tps: set[TP], kafka: Log) -> Mapping[TP, Position]:
        """Where to read each partition from; see ``OffsetSink``."""
        positions: dict[TP, Position] = {}
        fingerprints: dict[TP, Mapping[int, bytes]] = {}
        while unsettled := tps - fingerprints.keys():
            positions |= await self._resume.positions(unsettled, kafka)
            fingerprints |= await self._fingerprints({tp: positions[tp] for tp in unsettled})
        await self._recall(positions, fingerprints)
        return positions

    async def _fingerprints(self, positions: Mapping[TP, Position]) -> dict[TP, Mapping[int, bytes]]:
        """Those of what was counted up to exactly these positions; no partition that moved on meanwhile.

        They must not be of a later moment: Redis may lose what came between, and with it be back at these
        offsets. The fence would then let pass a step that takes lost events for counted ones.
        """
        kept = self._segments_kept
        counted = {tp: at for tp, at in positions.items() if max(at.applied) != NOTHING_APPLIED}
        if kept is None or not counted:
            return {tp: {} for tp in positions}
        names = {tp: log_partition(partition_name(tp), at.log) for tp, at in counted.items()}
        stored = await self._store.seen(
            {
                names[tp]: range(
                    segments_in_reach(min(at.applied) + 1, kept).start, segment_of(max(at.applied)) + 1
                )
                for tp, at in counted.items()
            }
        )
        found: dict[TP, Mapping[int, bytes]] = {tp: {} for tp in positions.keys() - counted.keys()}
        for tp, at in counted.items():
            segments, as_of = stored[names[tp]]
            if self._store.generation == at.generation and as_of == tuple(
                (each, each) for each in at.applied
            ):
                found[tp] = segments
        return found

    async def _recall(
        self, positions: Mapping[TP, Position], fingerprints: Mapping[TP, Mapping[int, bytes]]
    ) -> None:
        """Keeps what else the store knows until ``open``."""
        kept = self._segments_kept
        notes = await self._store.notes(
            [log_partition(partition_name(tp), at.log) for tp, at in positions.items()]
        )
        for (tp, position), note in zip(positions.items(), notes, strict=True):
            self._recalled[tp] = _Recalled(
                None if kept is None else Seen(kept, fingerprints[tp]),
                self._read_note(tp, note, min(position.applied)),
            )

    def _read_note(self, tp: TP, stored: bytes | None, applied: int) -> Note:
        found = None
        with suppress(msgspec.MsgspecError):  # another version's words
            found = _decode_note(stored) if stored else None
        note = suspicion.read(found, self._worker, applied)
        if note.width and (found is None or note != found):
            log.error(
                "workers died here, one after the other: looking for the record that kills them",
                partition=partition_name(tp),
                counted_to=applied,
                records_at_a_time=note.width,
                condemned=list(note.condemned),
            )
        return note

    def notes_to_leave(self, tps: Iterable[TP], at: tuple[int, int]) -> dict[str, bytes]:
        """What the store must have before these partitions are worked on, by partition name.

        Args:
            tps: partitions of the next window.
            at: first and last offset of it, where it is one of suspects.
        """
        notes = {}
        for tp in tps:
            lane = self._lanes[tp]
            if lane.note.width:
                lane.note = replace(lane.note, at=at)
            elif lane.note_left:
                continue
            lane.note_left = True
            notes[lane.name] = msgspec.json.encode(lane.note)
        return notes

    def notes_to_take_back(self, tps: Iterable[TP]) -> dict[str, bytes]:
        """What the store must have when these partitions are left in peace, by partition name."""
        return {
            lane.name: msgspec.json.encode(replace(lane.note, worker=None, at=None))
            for lane in (self._lanes[tp] for tp in tps if tp in self._lanes)
            if lane.note_left
        }

    @property
    def missing(self) -> int:
        """Offsets that this worker found deleted before they were counted."""
        return self._resume.missing

    @property
    def missing_ranges(self) -> tuple[Missing, ...]:
        """Where they are, the latest of them."""
        return self._resume.missing_ranges

    def open(self, positions: Mapping[TP, Position]) -> Mapping[TP, int]:
        """Starts a new epoch of each partition; see ``OffsetSink``."""
        log.info("reading from what Redis holds", partitions=sorted(map(partition_name, positions)))
        for tp, position in positions.items():
            epoch = self._lanes[tp].epoch + 1 if tp in self._lanes else 1
            recalled = self._recalled.pop(tp, NOTHING_RECALLED)
            self._lanes[tp] = Lane(
                tp,
                self._channels[tp.topic],
                epoch,
                position.log,
                generation=position.generation,
                erased=position.erased,
                applied=list(position.applied),
                judged=list(position.applied),
                seen=recalled.seen,
                note=recalled.note,
            )
            log.debug("reading", partition=partition_name(tp), offset=position.offset, log=position.log)
        return {tp: self._lanes[tp].epoch for tp in positions}

    def applied(self, tp: TP) -> int:
        """Offset up to which every shard has applied; ``NOTHING_APPLIED`` where the lane is not known."""
        return min(self._lanes[tp].applied) if tp in self._lanes else NOTHING_APPLIED

    def confirmed(self) -> dict[TP, Confirmed]:
        """What the store has confirmed of each open lane."""
        return {
            tp: Confirmed(lane.name, lane.epoch, lane.generation, tuple(lane.applied), lane.erased)
            for tp, lane in self._lanes.items()
            if not lane.closed
        }

    def close(self, tps: Iterable[TP]) -> None:
        """Drops whatever of these partitions is still on its way, and what was remembered of them."""
        for tp in tps:
            if tp in self._lanes:
                self._lanes[tp].close()

    def is_current(self, tp: TP, epoch: int) -> bool:
        """Whether work of that epoch may still be applied."""
        lane = self._lanes.get(tp)
        return lane is not None and lane.epoch == epoch and not lane.closed

    def take(self, run: Run) -> bool:
        """Whether a run is the next of its lane; False when it is stale.

        Raises:
            RunMissing: a run before it was lost on the way.
        """
        if not self.is_current(run.tp, run.epoch):
            return False
        lane = self._lanes[run.tp]
        if run.number != lane.next_number:
            raise RunMissing(
                f"run {lane.next_number} of {partition_name(run.tp)} is missing, run {run.number} came"
            )
        lane.next_number += 1
        if run.records:
            lane.inside.append(run.records)
        return True

    def committable(self) -> Mapping[TP, int]:
        """Next offset of each partition whose progress the group has not been told; see ``OffsetSink``."""
        offsets = {}
        for tp, lane in self._lanes.items():
            applied = min(lane.applied, default=NOTHING_APPLIED)
            if applied > lane.committed and not lane.closed:
                offsets[tp] = applied + 1
        return offsets

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """The group was told of these next offsets."""
        for tp, offset in offsets.items():
            lane = self._lanes[tp]
            # A lane that was opened anew meanwhile may be behind: it says so again.
            lane.committed = min(offset - 1, min(lane.applied, default=NOTHING_APPLIED))
