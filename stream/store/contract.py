"""The contract between the pipeline and whatever keeps the counters.

Rules:
- ``apply`` is the one atomic step of a partition on a shard: counters, detector states, ledger, outbox and
  offset together, or nothing.
- It is fenced: an apply names the offset it builds on, and is refused when another is stored.
- Counters live in generations (``stream.store.layout``). An apply names the one it was made for, and is
  refused when that is not the live one any more.
- So it is when something was erased since the states it builds on were read, by ``reviewpulse forget`` or by
  retention: what a worker remembers must not bring it back.
- A store does not retry. When a call fails with ``DependencyError`` the step may or may not have happened;
  repeating it is safe, because the fence lets it happen once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.events import Channel

NOTHING_APPLIED = -1
"""Stands for "no offset stored"."""
MOVED = -2
"""Stands for "the counters moved to another generation"."""
ERASED = -3
"""Stands for "something was erased since"."""


def log_partition(partition: str, log: str) -> str:
    """A partition's name in the store: with the log that its offsets are of, where that is known.

    >>> log_partition("reviews:0", "AaIJ0wQreMCVmGEQjgy6Jw"), log_partition("reviews:0", "")
    ('reviews:0@AaIJ0wQreMCVmGEQjgy6Jw', 'reviews:0')
    """
    return f"{partition}@{log}" if log else partition


def plain_partition(name: str) -> str:
    """``topic:number`` of a partition's name in the store.

    >>> plain_partition("reviews:0@AaIJ0wQreMCVmGEQjgy6Jw")
    'reviews:0'
    """
    return name.partition("@")[0]  # no topic's name may contain one


class ProductApply(NamedTuple):
    """What a step adds to one product."""

    product_id: str
    late: int
    first_event_ms: int
    last_event_ms: int
    state: bytes | None
    """New detector state; None leaves the stored one."""
    spans: list[tuple[tuple[int, ...], list[int]]]
    """(bucket fields, [negative, neutral, positive, sentiment in thousandths]). The buckets are retained at
    the step's ``arrival_ms``, so those of one product are no more than a hash may hold."""


class Apply(NamedTuple):
    """One atomic step."""

    shard: int
    partition: str
    """``topic:number`` and the log, see ``log_partition``."""
    base: int
    """Offset this step builds on."""
    last: int
    """Offset that is stored when it is done."""
    channel: Channel
    arrival_ms: int
    """Latest arrival in the step: what bucket retention is judged by."""
    ledger: dict[str, int]
    """``channel:outcome`` to how many."""
    products: list[ProductApply]
    transitions: list[bytes]
    """Alerts as JSON."""
    seen: Sequence[tuple[int, bytes]] = ()
    """(segment, fingerprints end to end) of the events counted; see ``stream.core.seen``."""
    forgotten: Sequence[int] = ()
    """Segments of which no fingerprint is needed any more."""
    generation: int = 0
    """Which the offsets and states it builds on are of."""
    model: str = ""
    """The version that scored it, where that is to be noted: with a lane's first step and after a switch. The
    store notes it when it is not the one noted last."""
    erased: int = 0
    """The shard's mark of erasures when the lane it builds on was opened; 0 where there was none."""


class Move(NamedTuple):
    """A stored offset that is put elsewhere, because the log is not what it was."""

    shard: int
    partition: str
    seen: int
    """The offset that must be stored still; else nothing is done."""
    offset: int
    renamed_from: str = ""
    """The partition's name so far, when the log's id has become known."""
    missing: bool = False
    """Whether the records between the two offsets are missing, and to be listed."""
    segments: Sequence[int] = ()
    """Of fingerprints: renamed with the partition, or else dropped."""
    raised_by: int = 0
    """What the shard's mark of erasures is raised by; 0 where the log only gets a name."""
    generation: int = 0
    """Which ``seen`` is of."""


class OutboxEntry(NamedTuple):
    """An alert transition that waits for Kafka."""

    shard: int
    entry_id: str
    partition: str
    alert: bytes
    generation: int = 0


Span = tuple[int, int]
"""The offset stored before something was read, and the one stored after it.

What is read is as of an offset between the two. Whoever goes on from there must know which: Redis may lose
writes, and then be again at an offset that what was read is long past. The fence cannot tell."""


class StoredSeen(NamedTuple):
    """Fingerprints of a partition's counted events."""

    segments: dict[int, bytes]
    """Those of the segments asked for."""
    as_of: tuple[Span, ...]
    """By shard."""


class StoredStates(NamedTuple):
    """Detector states."""

    states: list[bytes | None]
    """In the order asked."""
    as_of: dict[int, Span]
    """Of the partition asked for, by shard, where a state was asked of it."""
    erased: dict[int, frozenset[int]]
    """The marks of erasures before and after, by shard. Redis may lose an erasure, too."""


class CounterStore(Protocol):
    """What the pipeline needs of a store."""

    @property
    def shards(self) -> int:
        """Slots the products are spread over."""
        ...

    @property
    def generation(self) -> int:
        """The generation that ``applied`` last answered for."""
        ...

    @property
    def erased(self) -> tuple[int, ...]:
        """The marks of erasures, by shard, when ``applied`` last answered; empty where there was none."""
        ...

    async def open(self) -> None:
        """Connects; goes by the stored layout, or writes one.

        Raises:
            UsageError: the stored layout is of a version unknown here.
            DependencyError: the store is away, or stands still while its counters are moved.
        """
        ...

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Highest applied offset of each partition, by shard; ``NOTHING_APPLIED`` where there is none.

        They are of the live generation, which ``generation`` names when this returns.
        """
        ...

    async def logs(self, names: Sequence[str]) -> dict[str, str]:
        """What workers noted: of a topic its number of partitions, of a partition its log."""
        ...

    async def swap_log(self, name: str, before: str, after: str) -> bool:
        """Notes ``after``, if what is noted is ``before`` (empty: nothing); whether it was."""
        ...

    async def move(self, moves: Sequence[Move]) -> list[bool]:
        """Puts stored offsets elsewhere, each in one atomic step; which of them still were as seen."""
        ...

    async def forget(self, partition: str) -> None:
        """Drops the fingerprints of a log that is gone.

        Its offsets stay: they fence off a worker that still has some of it in hand. So do the counters.
        """
        ...

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, StoredSeen]:
        """Fingerprints of the events counted, of the segments asked for, by partition."""
        ...

    async def notes(self, partitions: Sequence[str]) -> list[bytes | None]:
        """What workers left at partitions, in the order asked; see ``stream.core.suspicion``."""
        ...

    async def leave_notes(self, notes: Mapping[str, bytes]) -> None:
        """Leaves a note at each partition, in place of the one there."""
        ...

    async def states(self, partition: str, channel: Channel, product_ids: Sequence[str]) -> StoredStates:
        """Detector states of products, and the offsets of ``partition`` that they are as of."""
        ...

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        """Runs each step.

        Returns:
            For each None where it was applied, else the offset stored instead of its base, ``MOVED`` or
            ``ERASED``.
        """
        ...

    async def outbox(self, shard: int) -> list[OutboxEntry]:
        """Alert transitions waiting, oldest first."""
        ...

    async def delivered(self, entries: Iterable[OutboxEntry]) -> None:
        """Takes transitions that Kafka has out of the outbox."""
        ...

    async def close(self) -> None:
        """Disconnects."""
        ...
