"""A worker's consumer: the real transport's seeking, looking and cutting of runs, on a modelled client.

What Faust's services and aiokafka do around it is modelled after what they were seen to do: a rebalance stops
the flow and clears the buffers, what a fetch returns meanwhile is dropped, and then all is sought anew.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stream import transport
from stream.errors import DependencyError
from stream.topic_ids import TopicFacts
from stream.transport import RUN_RECORDS
from tests.simulation.broker import HEARTBEAT_S
from tests.simulation.inputs import NAMES, PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP

    from stream.lanes import Lanes
    from stream.runs import Cursor, Run
    from stream.store.contract import CounterStore
    from tests.simulation.world import World

BUFFERED_RUNS = 8
"""Runs that may wait between fetch and pipeline, as in ``stream.worker``."""
NOTES_S = 2.0
POLL_S = 1.0
"""How long a fetch waits where nothing comes."""


class Partitions(set[Any]):
    """A set of partitions that is iterated in the order of the names, not of the process's hash seed."""

    def __iter__(self) -> Iterator[Any]:
        return iter([tp for tp in PARTITIONS if tp in self])

    def __and__(self, other: Any) -> Partitions:
        return Partitions([tp for tp in self if tp in other])

    def __rand__(self, other: Any) -> Partitions:
        return self & other

    def __sub__(self, other: Any) -> Partitions:
        return Partitions([tp for tp in self if tp not in other])


class FetchingClient:
    """aiokafka's consumer, as the transport's thread uses it; its own client and cluster, too."""

    def __init__(self, world: World, member: str, run_records: int) -> None:
        self._world = world
        self._run_records = run_records
        self.positions: dict[Any, int] = {}
        self.assigned = Partitions()
        self.member = member
        self.generation = 0
        self._client = self.cluster = self
        self._fetcher = SimpleNamespace(_fetch_max_wait_ms=0)
        self._conns: dict[str, object] = {}

    def assignment(self) -> Partitions:
        return self.assigned

    def subscription(self) -> set[str]:
        return {"reviews", "chats"}

    def partitions_for_topic(self, name: str) -> set[int]:
        return {tp.partition for tp in PARTITIONS if tp.topic == name}

    def seek(self, key: Any, offset: int) -> None:
        self.positions[key] = offset

    async def beginning_offsets(self, keys: Sequence[Any]) -> dict[Any, int]:
        await self._world.broker.answer()
        return {key: self._world.broker.logs[key].first for key in keys}

    async def end_offsets(self, keys: Sequence[Any]) -> dict[Any, int]:
        await self._world.broker.answer()
        return {key: self._world.reported_end(key) for key in keys}

    async def commit(self, offsets: Mapping[Any, int]) -> None:
        await self._world.broker.answer()
        self._world.commit(offsets, self.member, self.generation)

    async def committed(self, key: Any) -> int | None:
        await self._world.broker.answer()
        return self._world.broker.group.committed.get(key)

    def read(self) -> dict[Any, Sequence[ConsumerRecord]]:
        """What a fetch finds; moves the positions.

        Raises:
            OffsetOutOfRangeError: a position is not in its log.
        """
        found, outside = {}, {}
        for key in self.assigned:
            if key in self.positions:
                log, position = self._world.broker.logs[key], self.positions[key]
                if not log.first <= position <= log.end:
                    outside[key] = position
                    continue
                most = 1 + int(self._world.chance.random() * self._run_records)
                records = log.read(position, most)
                if records:
                    self.positions[key] = records[-1].offset + 1
                    found[key] = records
        if outside and not found:  # aiokafka hands over what it has before it says what is wrong
            for key in outside:
                del self.positions[key]
            self._world.strike("fetches out of range")
            raise OffsetOutOfRangeError(outside)
        return found


class SimThread:
    """The consumer's thread: the real one's methods on a modelled client."""

    getmany = transport.ConsumerThread.getmany
    _fetch_runs = transport.ConsumerThread._fetch_runs
    _pace = transport.ConsumerThread._pace
    _fetch = transport.ConsumerThread._fetch
    _cut = transport.ConsumerThread._cut
    _look = transport.ConsumerThread._look
    _doubt = transport.ConsumerThread._doubt
    topics = transport.ConsumerThread.topics
    ends = transport.ConsumerThread.ends
    _ends = transport.ConsumerThread._ends
    committed = transport.ConsumerThread.committed
    seek_all = transport.ConsumerThread.seek_all
    _seek_all = transport.ConsumerThread._seek_all
    commit_applied = transport.ConsumerThread.commit_applied
    _commit_applied = transport.ConsumerThread._commit_applied

    def __init__(self, world: World, consumer: SimConsumer, member: str, run_records: int) -> None:
        self._world = world
        self.consumer = consumer
        self.client = FetchingClient(world, member, run_records)
        self._cursors: dict[TP, Cursor] = {}
        self._look_at = 0.0
        self._brought_at = 0.0
        self._looked_over: list[Any] = []
        self._in_doubt: set[str] = set()

    async def call_thread(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Two threads take turns: before the call or after it, others may have theirs."""
        if self._world.chance.random() < 0.5:
            await asyncio.sleep(self._world.work_s())
            return await call(*args)
        result = await call(*args)
        await asyncio.sleep(self._world.work_s())
        return result

    def _ensure_consumer(self) -> FetchingClient:
        return self.client

    async def _fetch_records(
        self, consumer: FetchingClient, active: Collection[Any], timeout: float, most: int
    ) -> dict[Any, Sequence[ConsumerRecord]]:
        assert most == RUN_RECORDS
        broker = self._world.broker
        await asyncio.sleep(self._world.hop_s())
        if not active:
            await asyncio.sleep(timeout)
            return {}
        if not broker.away and (found := consumer.read()):
            return found
        await broker.wait_for_more(consumer.assigned, timeout)
        return {} if broker.away else consumer.read()

    async def _topics(self, names: Iterable[str]) -> dict[str, TopicFacts]:
        await self._world.broker.answer()
        ids = self._world.broker.topic_ids
        return {
            name: TopicFacts(ids[name], len(self.client.partitions_for_topic(name))) for name in sorted(names)
        }

    async def has_record(self, tp: TP, offset: int) -> bool | None:
        await self._world.broker.answer()
        return self._world.broker.logs[tp].has(offset)


class SimConsumer:
    """What a worker reads with: the real consumer's methods, and a model of what Faust does with it."""

    seek_to_committed = transport.Consumer.seek_to_committed
    _resume_after = transport.Consumer._resume_after
    rewind = transport.Consumer.rewind
    _seek_to_sink = transport.Consumer._seek_to_sink
    force_commit = transport.Consumer.force_commit

    def __init__(
        self, world: World, member: str, lanes: Lanes, store: CounterStore, run_records: int
    ) -> None:
        self._world = world
        self._member = member
        self._sink = lanes
        self._store = store
        self._thread = SimThread(world, self, member, run_records)
        self._seeking = asyncio.Lock()
        self._seeks: set[asyncio.Task[Any]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._paused = Partitions()
        self._buffer: asyncio.Queue[Run] = asyncio.Queue(BUFFERED_RUNS)
        self.flow_active = False

    # What the transport asks of Faust's consumer.

    def assignment(self) -> Partitions:
        return self._thread.client.assignment()

    def pause_partitions(self, tps: Collection[TP]) -> None:
        self._paused = Partitions([*self._paused, *tps])

    def resume_partitions(self, tps: Collection[TP]) -> None:
        self._paused -= Partitions(tps)

    def add_future(self, coro: Any) -> None:
        assert self._tasks is not None
        self._tasks.create_task(coro)

    # What Faust does.

    async def belong(self) -> None:
        """Takes part in the group until cancelled; each assignment is sought by a task of its own."""
        client, generation = self._thread.client, 0
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                try:
                    await self._world.broker.answer()
                except KafkaError:
                    pass
                else:
                    now, assigned = self._world.broker.group.beat(self._member)
                    if now != generation:
                        generation = now
                        await self._revoked()
                        client.generation = generation
                        client.assigned = Partitions(assigned)
                        self._paused.clear()
                        self._tasks.create_task(self._resume())
                await asyncio.sleep(HEARTBEAT_S * (0.5 + self._world.chance.random()))

    async def _revoked(self) -> None:
        self.flow_active = False
        while not self._buffer.empty():
            self._buffer.get_nowait()
        await asyncio.sleep(self._world.work_s())
        self._sink.close(self.assignment())
        await self.take_notes_back()
        self._thread.client.positions.clear()

    async def take_notes_back(self) -> None:
        """As ``stream.worker`` does when partitions are left in peace."""
        notes = self._sink.notes_to_take_back(self.assignment())
        if notes:
            with suppress(DependencyError, TimeoutError):
                await asyncio.wait_for(self._store.leave_notes(notes), NOTES_S)

    async def _resume(self) -> None:
        await self.seek_to_committed()
        self.flow_active = True

    async def fetch(self) -> None:
        """Fills the buffer until cancelled, as Faust's fetcher does."""
        while True:
            active = [tp for tp in self.assignment() if tp not in self._paused]
            runs = await self._thread.getmany(active, POLL_S)
            if runs and not self.flow_active:
                await self._seek_again()
                continue
            for tp, [run] in runs.items():
                if tp in self._paused:
                    continue
                if self._world.chance.random() < self._world.weather.run_lost:
                    self._world.strike("runs lost on the way")
                    self._world.note(f"{self._member}: run {run.number} of {NAMES[tp]} is lost on the way")
                else:
                    await self._buffer.put(run)

    async def _seek_again(self) -> None:
        """What Faust does with records that come while the flow is stopped: drops them and seeks."""
        self._world.strike("runs dropped in a rebalance")
        try:
            await self.seek_to_committed()
        except Exception as error:  # noqa: BLE001 - as Faust does, which says so and goes on
            self._world.note(f"{self._member}: seek failed: {error}")

    async def feed(self, put: Callable[[Run], Awaitable[None]]) -> None:
        """The agent: hands the runs on until cancelled."""
        while True:
            await put(await self._buffer.get())
