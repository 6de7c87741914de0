"""Runs of records: what a partition's fetches are cut into, and where its next record must be.

Rules:
- Each seek starts a new *epoch* of its partition, and runs are numbered within it. A consumer of runs that
  sees a number missing knows that one was lost on the way (Faust drops messages in some rebalance races), and
  asks for a rewind; runs of an older epoch are stale and to be dropped.
- Records continue a log. What does not (an offset below the next one, an offset the log does not have,
  another log under the same name) *ends* the epoch: a run without records says so, and nothing follows it
  until a seek.
- An offset beyond the next one is ordinary: compaction and the markers of transactions leave gaps. Where
  retention made one, the broker refuses the fetch instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP

SAY_AGAIN_S = 5.0
"""How long an ended partition waits to be rewound before it says so again: Faust drops messages in some
rebalance races, and this one would be followed by no other."""


class Run(NamedTuple):
    """Consecutive records of one partition."""

    tp: TP
    epoch: int
    number: int
    """Within the epoch, from 0."""
    records: Sequence[ConsumerRecord]
    log: str = ""
    """Kafka's id of the topic they are from; empty where it tells none."""
    ended: str = ""
    """Why the log does not go on here; then there are no records."""
    taken_at: float = 0.0
    """When the pipeline took it in, by ``time.perf_counter``."""


class Position(NamedTuple):
    """Where a partition is to be read from, and why the sink wants it so."""

    offset: int
    applied: tuple[int, ...]
    """Highest applied offset of each shard; -1 for none."""
    generation: int = 0
    """Of the counters that ``applied`` is about."""
    log: str = ""
    """The log that these are offsets of; see ``Run``."""
    erased: tuple[int, ...] = ()
    """The marks of erasures, by shard; empty where there was none."""


@dataclass
class Cursor:
    """Where the reading of a partition is, from one seek to the next."""

    tp: TP
    epoch: int
    next_offset: int
    log: str
    next_number: int = 0
    ended: str = ""
    said_at: float = 0.0
    """Monotonic time of the latest run that said that it ended."""

    def run(self, records: Sequence[ConsumerRecord]) -> Run | None:
        """The next run, made of fetched records; None when they do not continue the log."""
        if not self.ended and records[0].offset < self.next_offset:
            self.end(f"offset {records[0].offset} came where {self.next_offset} is next: it is another log")
        if self.ended:
            return None
        self.next_offset = records[-1].offset + 1
        return self._numbered(records)

    def end(self, reason: str) -> None:
        """Nothing more is read in this epoch. The first reason stands."""
        self.ended = self.ended or reason

    def farewell(self, now: float) -> Run | None:
        """The run that says that it ended, when there is cause to say so.

        Args:
            now: monotonic time, seconds.
        """
        if not self.ended or (self.said_at and now - self.said_at < SAY_AGAIN_S):
            return None
        self.said_at = now
        return self._numbered(())

    def _numbered(self, records: Sequence[ConsumerRecord]) -> Run:
        run = Run(self.tp, self.epoch, self.next_number, records, self.log, self.ended)
        self.next_number += 1
        return run
