"""Whether a worker still makes progress, decided from what it says of itself.

Rules:
- The event loop says now and then what it sees (``Seen``). That something new comes is its heartbeat; the
  rest is judged only when it is new.
- Time is counted, not read: a look that comes late (SIGSTOP, a suspended machine, a starved processor) proves
  nothing, and counts for no more than ``LONGEST_STEP_S``.
- A server that is away is waited for, however long. While it is, neither a stall nor a missing assignment is
  counted, and when it is back the counting starts again.
- Records wait in Kafka and nothing is applied: stuck. A scored micro-batch is a sign of life, too, for a slow
  model's window may take long; but not after a rewind, or a worker that rewinds for ever would look alive.
- One partition may wait while others are served: a backlog is read a megabyte of a partition at a time. It is
  passed over only when the worker had nothing else to do. Looks at a busy worker do not count.
- A worker without partitions is not stuck: there may be more workers than partitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_STEP_S = 2.0
"""Most that one look counts: twice the time between looks."""
FRESH_S = 5.0
"""A loop that has not turned for so long is not ready; it may still be alive."""
PARTITIONS_NAMED = 5


class Limits(NamedTuple):
    """How long a worker may go without a sign of life; 0 is for ever."""

    loop_s: float = 30.0
    """The event loop does not turn."""
    stall_s: float = 120.0
    """Records wait, none is applied."""
    rebalance_s: float = 180.0
    """The group gives no assignment."""
    stop_s: float = 45.0
    """It was told to stop, or has crashed, and the process is still there."""


class Seen(NamedTuple):
    """What the event loop sees of its worker."""

    joined: bool = False
    """Whether it has asked for partitions."""
    rebalancing: bool = False
    """Whether the group has taken the last assignment back and not given another."""
    redis: str | None = None
    """Why Redis is thought to be away."""
    kafka: str | None = None
    """Why Kafka is thought to be away."""
    waits: tuple[str, ...] = ()
    """What is tried again and again until a server is back."""
    applied: Mapping[str, int] = {}
    """Highest applied offset of each assigned partition."""
    waiting: frozenset[str] = frozenset()
    """Partitions that hold a record beyond it."""
    busy: bool = False
    """Whether the pipeline has anything inside."""
    batches: int = 0
    """Micro-batches scored so far."""
    rewinds: int = 0
    """Rewinds so far."""
    missing: tuple[tuple[str, int, int], ...] = ()
    """Partition, first and last offset of what it found deleted before it was counted; the latest of it."""

    @property
    def away(self) -> str:
        """What is waited for, as a clause; empty when nothing is."""
        return "; ".join(why for why in (self.redis, self.kafka, *self.waits) if why)


class Check(NamedTuple):
    """One thing looked at."""

    name: str
    ok: bool
    since: float
    """When ``ok`` last changed, on the clock of the looks; seconds."""
    says: str


class Stuck(NamedTuple):
    """Why the process must end."""

    check: Literal["loop", "progress", "assignment", "stop"]
    says: str


class Report(NamedTuple):
    """The result of a look."""

    at: float
    live: tuple[Check, ...] = ()
    """Not ok is reason to end the process."""
    ready: tuple[Check, ...] = ()
    """Not ok is reason to wait."""
    stuck: Stuck | None = None
    missing: tuple[tuple[str, int, int], ...] = ()
    """As it was seen: no reason for anything."""


class Watch:
    """Looks at one worker, again and again.

    Args:
        limits: how long it may go without a sign of life.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._looked_at = now
        self._clock = 0.0
        """Seconds counted so far."""
        self._beats = 0
        self._turned_at = 0.0
        self._stopping_at: float | None = None
        self._seen = Seen()
        self._rewinds_at_progress = 0
        self._unassigned_s = 0.0
        self._stalled_s = 0.0
        self._passed_over_s: dict[str, float] = {}
        self._since: dict[str, tuple[bool, float]] = {}

    def look(self, now: float, beats: int, seen: Seen, stopping: str | None = None) -> Report:
        """Looks once.

        Args:
            now: seconds, of the clock given at first.
            beats: how often the loop has said something.
            seen: the latest of it.
            stopping: why the worker is about to end, if it is.

        Returns:
            The checks, and the first that failed for too long.
        """
        self._clock += min(max(now - self._looked_at, 0.0), LONGEST_STEP_S)
        self._looked_at = now
        if stopping is not None and self._stopping_at is None:
            self._stopping_at = self._clock
        if beats != self._beats:
            self._beats = beats
            self._count(seen, min(self._clock - self._turned_at, LONGEST_STEP_S))
            self._turned_at = self._clock
            self._seen = seen
        # A worker that stops is judged by that alone: its loop and its lanes go away.
        lives = [self._stop(stopping)] if stopping else [self._loop(), self._progress(), self._assignment()]
        return Report(
            at=now,
            live=tuple(self._check(stuck.check, not over, stuck.says) for over, stuck in lives),
            ready=tuple(self._check(*each) for each in self._readiness(stopping)),
            stuck=next((stuck for over, stuck in lives if over), None),
            missing=seen.missing,
        )

    def _count(self, seen: Seen, passed_s: float) -> None:
        """Adds the time since the last sight to what it is evidence for."""
        before = self._seen
        if seen.away or not seen.joined:
            self._unassigned_s = self._stalled_s = 0.0
            self._passed_over_s.clear()
            return
        self._unassigned_s = self._unassigned_s + passed_s if seen.rebalancing else 0.0
        moved = {name for name, offset in seen.applied.items() if offset != before.applied.get(name)}
        scored = seen.batches != before.batches and seen.rewinds == self._rewinds_at_progress
        if moved or seen.rebalancing or not seen.waiting:
            self._rewinds_at_progress = seen.rewinds
            self._stalled_s = 0.0
        elif scored:
            self._stalled_s = 0.0
        else:
            self._stalled_s += passed_s
        counts = 0.0 if seen.busy else passed_s
        self._passed_over_s = {
            name: self._passed_over_s.get(name, 0.0) + counts
            for name in seen.waiting
            if name not in moved and not seen.rebalancing
        }

    def _loop(self) -> tuple[bool, Stuck]:
        late_s, limit_s = self._clock - self._turned_at, self._limits.loop_s
        over = _over(late_s, limit_s)
        if over or late_s >= FRESH_S:
            return over, Stuck("loop", f"the event loop has not turned for {late_s:.0f} s{_limit(limit_s)}")
        return over, Stuck("loop", "the event loop turns")

    def _progress(self) -> tuple[bool, Stuck]:
        seen, limit_s = self._seen, self._limits.stall_s
        passed_over = {name for name, waited_s in self._passed_over_s.items() if _over(waited_s, limit_s)}
        stalled = _over(self._stalled_s, limit_s)
        if not seen.joined:
            says = "it has not joined the group yet"
        elif seen.away:
            says = f"it waits: {seen.away}"
        elif seen.rebalancing:
            says = "the group rebalances"
        elif passed_over and not stalled:
            says = (
                f"records wait in {_names(passed_over)}, and a worker that had nothing else to do"
                f" has not applied them for {limit_s:g} s"
            )
        elif seen.waiting and self._stalled_s:
            says = (
                f"records wait in {_names(seen.waiting)}, and nothing has been applied for"
                f" {self._stalled_s:.0f} s{_limit(limit_s)}"
            )
        else:
            says = "records are applied" if seen.waiting else "no records wait"
        return stalled or bool(passed_over), Stuck("progress", says)

    def _assignment(self) -> tuple[bool, Stuck]:
        seen, limit_s = self._seen, self._limits.rebalance_s
        if not seen.joined:
            says = "it has not joined the group yet"
        elif seen.rebalancing and self._unassigned_s:
            says = f"the group has given no assignment for {self._unassigned_s:.0f} s{_limit(limit_s)}"
        else:
            says = _assigned(seen)
        return _over(self._unassigned_s, limit_s), Stuck("assignment", says)

    def _stop(self, stopping: str | None) -> tuple[bool, Stuck]:
        stops_s = self._clock - (self._stopping_at if self._stopping_at is not None else self._clock)
        limit_s = self._limits.stop_s
        says = f"it has been stopping for {stops_s:.0f} s{_limit(limit_s)}: {stopping}"
        return _over(stops_s, limit_s), Stuck("stop", says)

    def _readiness(self, stopping: str | None) -> Iterable[tuple[str, bool, str]]:
        """Name, whether it is well, and a sentence, of each thing a ready worker has."""
        seen = self._seen
        late_s = self._clock - self._turned_at
        if late_s >= FRESH_S:
            yield "fresh", False, f"the event loop has not turned for {late_s:.0f} s; what follows is old"
        else:
            yield "fresh", True, "the event loop turns"
        yield "serving", stopping is None, f"it stops: {stopping}" if stopping else "it takes records"
        yield "redis", seen.redis is None, seen.redis or "Redis answers"
        yield "kafka", seen.kafka is None, seen.kafka or "Kafka answers"
        yield "waits", not seen.waits, "; ".join(seen.waits) or "nothing is tried again"
        yield "assigned", seen.joined and not seen.rebalancing, _assigned(seen)

    def _check(self, name: str, ok: bool, says: str) -> Check:
        was, since = self._since.get(name, (None, self._looked_at))
        if was is not ok:
            since = self._looked_at
        self._since[name] = (ok, since)
        return Check(name, ok, since, says)


def _over(spent_s: float, limit_s: float) -> bool:
    return bool(limit_s) and spent_s >= limit_s


def _limit(limit_s: float) -> str:
    return f" (limit {limit_s:g} s)" if limit_s else ""


def _names(partitions: Iterable[str]) -> str:
    """The first few, and how many more.

    >>> _names({"reviews:1", "reviews:0"})
    'reviews:0, reviews:1'
    >>> _names({f"reviews:{n}" for n in range(7)})
    'reviews:0, reviews:1, reviews:2, reviews:3, reviews:4 and 2 more'
    """
    ordered = sorted(partitions)
    more = len(ordered) - PARTITIONS_NAMED
    return ", ".join(ordered[:PARTITIONS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _assigned(seen: Seen) -> str:
    if not seen.joined:
        return "it has not joined the group yet"
    if seen.rebalancing:
        return "the group rebalances"
    if not seen.applied:
        return "no partition is assigned: other workers have them all"
    return f"{len(seen.applied)} partition{'' if len(seen.applied) == 1 else 's'} assigned"
