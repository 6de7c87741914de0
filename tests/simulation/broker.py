"""A modelled Kafka: the partitions' logs, the consumer group, and what the workers publish.

Rules:
- Offsets have gaps, as compaction and transactions leave them. Retention deletes from the beginning.
- The group gives each partition to one member, and tells a member at its next heartbeat. Until then the old
  owner goes on: two of them, for a while.
- A record that is published may arrive though its producer is told that it did not.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaTimeoutError

from tests.simulation.inputs import NAMES, PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP

    from tests.simulation.world import World

SESSION_S = 3.0
HEARTBEAT_S = 1.0
"""Short against Kafka's 45 s and 3 s, so that a schedule holds many rebalances."""


class PartitionLog:
    """One partition's records, in offset order."""

    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []
        self.offsets: list[int] = []
        self.first = 0
        """What is before it was deleted."""

    @property
    def end(self) -> int:
        """The next offset, as Kafka reports it."""
        return self.offsets[-1] + 1 if self.offsets else self.first

    def append(self, record: ConsumerRecord) -> None:
        self.records.append(record)
        self.offsets.append(record.offset)

    def read(self, position: int, most: int) -> Sequence[ConsumerRecord]:
        """Up to ``most`` records from ``position`` on, of those that are not deleted."""
        start = bisect_left(self.offsets, max(position, self.first))
        return self.records[start : start + most]

    def has(self, offset: int) -> bool:
        place = bisect_left(self.offsets, offset)
        return offset >= self.first and place < len(self.offsets) and self.offsets[place] == offset


class Group:
    """The coordinator of the workers' consumer group."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._beats: dict[str, float] = {}
        self.generation = 0
        self.assignment: dict[str, list[TP]] = {}
        self.committed: dict[TP, int] = {}

    def beat(self, member: str) -> tuple[int, list[TP]]:
        """A heartbeat: the generation, and what the member owns. One that was thrown out joins again."""
        now_s = self._world.loop.now_s
        late = [name for name, at_s in self._beats.items() if now_s - at_s > SESSION_S]
        for name in late:
            del self._beats[name]
            self._world.strike("a worker's session expired")
        joins = member not in self._beats
        self._beats[member] = now_s
        if joins or late:
            self.rebalance()
        return self.generation, self.assignment[member]

    def leave(self, member: str) -> None:
        if self._beats.pop(member, None) is not None and self._beats:
            self.rebalance()

    def rebalance(self) -> None:
        """Gives out the partitions anew."""
        members = list(self._beats)
        if not members:
            return
        self.generation += 1
        self.assignment = {member: [] for member in members}
        for tp in PARTITIONS:
            self.assignment[self._world.chance.choice(members)].append(tp)
        self._world.strike("rebalances")
        if self._world.trace is not None:
            owners = {name: [NAMES[tp] for tp in tps] for name, tps in self.assignment.items()}
            self._world.note(f"group: generation {self.generation}: {owners}")


class Broker:
    """All of Kafka."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.logs = {tp: PartitionLog() for tp in PARTITIONS}
        self.group = Group(world)
        tells_ids = world.chance.random() < 0.7
        self.topic_ids = {topic: f"{topic}-1" if tells_ids else None for topic in ("reviews", "chats")}
        """Which log each topic is; None for a broker that tells no ids."""
        self.letters: Counter[tuple[str, int, int]] = Counter()
        """Dead letters by source topic, partition and offset."""
        self.set_aside: set[tuple[str, int, int]] = set()
        """Those of them that workers are said to have died of."""
        self.alerts: Counter[bytes] = Counter()
        self.away = False
        self._fetches: dict[asyncio.Future[None], Collection[TP]] = {}

    def append(self, tp: TP, record: ConsumerRecord) -> None:
        """A producer's record arrives; fetches that wait for it are answered."""
        self.logs[tp].append(record)
        for waiting in [each for each, tps in self._fetches.items() if tp in tps]:
            self._answer_fetch(waiting)

    async def wait_for_more(self, tps: Collection[TP], timeout_s: float) -> None:
        """Until something is appended to one of ``tps``, or for so long."""
        loop = self._world.loop
        waiting = loop.create_future()
        self._fetches[waiting] = tps
        timer = loop.call_later(timeout_s, self._answer_fetch, waiting, context=self._world.context)
        await waiting
        timer.cancel()

    def _answer_fetch(self, waiting: asyncio.Future[None]) -> None:
        self._fetches.pop(waiting, None)
        if not waiting.done():
            waiting.set_result(None)

    def take(self, topic: str, value: bytes | None, headers: dict[str, bytes]) -> None:
        """Appends a published record."""
        if topic.endswith(".dlq"):
            topic, partition, offset, stage = (
                headers[name].decode()
                for name in ("source_topic", "source_partition", "source_offset", "stage")
            )
            self.letters[topic, int(partition), int(offset)] += 1
            if stage == "worker":
                self.set_aside.add((topic, int(partition), int(offset)))
        else:
            assert value is not None
            self.alerts[value] += 1

    async def answer(self) -> None:
        """The way to the broker and back.

        Raises:
            KafkaTimeoutError: it is away.
        """
        await asyncio.sleep(self._world.hop_s())
        if self.away:
            raise KafkaTimeoutError


class SimProducer:
    """Faust's producer, as the publisher uses it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, _partition: Any, _at: Any, headers: Any
    ) -> asyncio.Future[None]:
        """Returns what the acknowledgement is waited for with."""
        world = self._world
        acknowledged = world.loop.create_future()
        fails = world.broker.away or world.chance.random() < world.weather.publish_fails
        arrives = not world.broker.away and (not fails or world.chance.random() < 0.5)
        if fails:
            world.strike("publishes that failed, but arrived" if arrives else "publishes that failed")

        def arrive() -> None:
            if arrives:
                world.broker.take(topic, value, dict(headers or ()))
            if world.trace is not None:
                world.note(f"kafka: {topic} {'takes' if arrives else 'loses'} {value!r:.60}")

        def acknowledge() -> None:
            if not acknowledged.done():
                acknowledged.set_exception(KafkaTimeoutError()) if fails else acknowledged.set_result(None)

        out_s = world.hop_s()
        world.loop.call_later(out_s, arrive, context=world.context)
        world.loop.call_later(out_s + world.hop_s(), acknowledge)
        return acknowledged
