"""How many events wait to be counted: what Kafka has beyond what the counters contain.

Rules:
- Asked of Kafka on a connection of its own, without a group; nobody's partitions move.
- It answers, or Kafka is away: so this is also how the live view knows that Kafka serves. A call never
  takes longer than ``ANSWER_S``, and the next one connects again.
- What a partition has applied is the least of its shards'; of a partition nobody has read, all that it
  holds waits.
- Offsets that hold no record (compaction, transactions) count as waiting until somebody reads past them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import DependencyError
from stream.kafka_config import aiokafka_config
from stream.tasks import within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.settings import Settings

ANSWER_S = 5.0
LIST_EVERY = 30
"""Questions between two looks at which partitions there are."""


def waiting(ends: Mapping[str, tuple[int, int]], applied: Mapping[str, int]) -> int:
    """Offsets that are not applied yet.

    Args:
        ends: first and next offset by ``topic:number``.
        applied: highest applied offset by ``topic:number``.

    >>> waiting({"reviews:0": (0, 10), "reviews:1": (5, 8)}, {"reviews:0": 7})
    5
    """
    return sum(max(end - max(first, applied.get(name, -1) + 1), 0) for name, (first, end) in ends.items())


class Lag:
    """Asks Kafka.

    Args:
        settings: where it is, and which topics are read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []
        self._asked = 0

    async def ends(self) -> dict[str, tuple[int, int]]:
        """First and next offset of every partition of the topics that workers read, by ``topic:number``.

        Raises:
            DependencyError: Kafka does not answer.
        """
        found: dict[str, tuple[int, int]] = {}

        async def ask() -> None:
            consumer = self._consumer or await self._connect()
            if self._asked % LIST_EVERY == 0 or not self._partitions:
                await self._list(consumer)
            self._asked += 1
            first = await consumer.beginning_offsets(self._partitions)
            end = await consumer.end_offsets(self._partitions)
            found.update({f"{each.topic}:{each.partition}": (first[each], end[each]) for each in end})

        try:
            is_in_time = await within(ANSWER_S, ask())
        except KafkaError as error:
            await self.close()
            raise DependencyError(f"Kafka at {self._settings.kafka}: {error!r}") from error
        if not is_in_time:
            await self.close()
            raise DependencyError(f"Kafka at {self._settings.kafka} has not answered for {ANSWER_S:g} s.")
        return found

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **aiokafka_config(self._settings),
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=round(ANSWER_S * 1000),
        )
        try:
            await consumer.start()
        except BaseException:
            await asyncio.shield(consumer.stop())
            raise
        self._consumer = consumer
        return consumer

    async def _list(self, consumer: AIOKafkaConsumer) -> None:
        await consumer.topics()
        self._partitions = [
            TopicPartition(topic, number)
            for topic in self._settings.topics.values()
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]

    async def close(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await within(ANSWER_S, consumer.stop())
