"""The store, timed: what each call takes, and which failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from stream.errors import DependencyError, UsageError
from stream.metrics.catalogue import BY_NAME
from stream.metrics.distribution import Distribution
from stream.redis_errors import kind_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from stream.core.events import Channel
    from stream.store.contract import (
        Apply,
        CounterStore,
        Move,
        OutboxEntry,
        StoredSeen,
        StoredStates,
    )

T = TypeVar("T")


class Trips:
    """What calls to the store took, and how often they failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, Distribution] = {}
        self.errors = dict.fromkeys(("away", "full", "refused", "other"), 0)

    async def timed(self, operation: str, call: Awaitable[T]) -> T:
        """Awaits a call.

        Raises:
            DependencyError: as the call does; so other errors.
        """
        started = time.perf_counter()
        try:
            return await call
        except (DependencyError, UsageError) as error:
            self.errors[kind_of(error)] += 1
            raise
        finally:
            if operation not in self.seconds:
                buckets = BY_NAME["reviewpulse_redis_trip_seconds"].buckets
                self.seconds = {**self.seconds, operation: Distribution(buckets)}  # read by another thread
            self.seconds[operation].add(time.perf_counter() - started)


class TimedStore:
    """A store whose calls are timed; see ``CounterStore`` for what they do.

    Args:
        store: does the work.
        trips: takes note.
    """

    def __init__(self, store: CounterStore, trips: Trips) -> None:
        self._store = store
        self._trips = trips

    @property
    def shards(self) -> int:
        """See ``CounterStore``; so below."""
        return self._store.shards

    @property
    def generation(self) -> int:
        """The live one."""
        return self._store.generation

    @property
    def erased(self) -> tuple[int, ...]:
        """How often something had been erased, by shard."""
        return self._store.erased

    async def open(self) -> None:
        """Timed."""
        await self._trips.timed("open", self._store.open())

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Timed."""
        return await self._trips.timed("applied", self._store.applied(partitions))

    async def logs(self, names: Sequence[str]) -> dict[str, str]:
        """Timed."""
        return await self._trips.timed("logs", self._store.logs(names))

    async def swap_log(self, name: str, before: str, after: str) -> bool:
        """Timed."""
        return await self._trips.timed("swap_log", self._store.swap_log(name, before, after))

    async def move(self, moves: Sequence[Move]) -> list[bool]:
        """Timed."""
        return await self._trips.timed("move", self._store.move(moves))

    async def forget(self, partition: str) -> None:
        """Timed."""
        await self._trips.timed("forget", self._store.forget(partition))

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, StoredSeen]:
        """Timed."""
        return await self._trips.timed("seen", self._store.seen(segments))

    async def notes(self, partitions: Sequence[str]) -> list[bytes | None]:
        """Timed."""
        return await self._trips.timed("notes", self._store.notes(partitions))

    async def leave_notes(self, notes: Mapping[str, bytes]) -> None:
        """Timed."""
        await self._trips.timed("leave_notes", self._store.leave_notes(notes))

    async def states(self, partition: str, channel: Channel, product_ids: Sequence[str]) -> StoredStates:
        """Timed."""
        return await self._trips.timed("states", self._store.states(partition, channel, product_ids))

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        """Timed."""
        return await self._trips.timed("apply", self._store.apply(steps))

    async def outbox(self, shard: int) -> list[OutboxEntry]:
        """Timed."""
        return await self._trips.timed("outbox", self._store.outbox(shard))

    async def delivered(self, entries: Iterable[OutboxEntry]) -> None:
        """Timed."""
        await self._trips.timed("delivered", self._store.delivered(entries))

    async def close(self) -> None:
        """Disconnects."""
        await self._store.close()
