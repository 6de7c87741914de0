"""Which partitions hold records that were not applied yet, asked of Kafka on a connection of its own.

Rules:
- The worker's own consumer may be what is stuck, so it is not asked.
- An end beyond what was applied is only a hint: what lies between may be a transaction's marker, or compacted
  away, and no record at all. A partition counts as one that has a record when the record was read.
- It is read only where nothing has been applied since the last time. A busy worker costs one request of ends.
- It answers, or Kafka is away: every call that returns is proof that Kafka serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import DependencyError
from stream.kafka_config import aiokafka_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP

    from stream.settings import Settings

REQUEST_TIMEOUT_S = 10.0
READ_S = 1.0
"""How long the first record is waited for. One that takes longer is read next time."""


class Backlog:
    """Remembers what was applied when it last looked.

    Args:
        settings: where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._before: dict[TP, int] = {}
        self._waiting: dict[TP, int] = {}
        """What was applied when a record was read beyond it."""
        self.ends: dict[TP, int] = {}
        """The log's next offset of each partition, as Kafka said last."""
        self.read: dict[TP, tuple[int, int | None]] = {}
        """Where it was read: what was applied then, and the timestamp of the record beyond; None: there was
        none."""

    async def look(self, applied: Mapping[TP, int], ends: Mapping[TP, int]) -> dict[TP, int]:
        """Looks where records wait.

        Args:
            applied: highest applied offset of each partition this worker has; below 0 for none.
            ends: ends of the log that are known otherwise. Kafka may answer with an older one.

        Returns:
            What was applied, for each partition that holds a record beyond it.

        Raises:
            DependencyError: Kafka does not answer.
        """
        try:
            if self._consumer is None:
                self._consumer = await self._connect()
            unmoved = {tp for tp, offset in applied.items() if self._before.get(tp) == offset}
            self._before = dict(applied)
            self._waiting = {tp: offset for tp, offset in self._waiting.items() if applied.get(tp) == offset}
            hinted = await self._hinted(self._consumer, applied, ends)
            if doubtful := (unmoved & hinted) - set(self._waiting):
                await self._read(self._consumer, {tp: applied[tp] + 1 for tp in doubtful})
        except KafkaError as error:
            await self.close()
            raise DependencyError(f"Kafka at {self._settings.kafka}: {error!r}") from error
        return dict(self._waiting)

    async def close(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000),
            **aiokafka_config(self._settings),
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        return consumer

    async def _hinted(
        self, consumer: AIOKafkaConsumer, applied: Mapping[TP, int], ends: Mapping[TP, int]
    ) -> set[TP]:
        """Partitions whose log ends beyond what was applied."""
        if not applied:
            await consumer.topics()  # no partition to ask about, but Kafka is to answer
            return set()
        partitions = {TopicPartition(*tp) for tp in applied}
        if partitions != consumer.assignment():
            consumer.assign(list(partitions))
            consumer.pause(*partitions)  # it fetches as soon as it may
        asked = await consumer.end_offsets(list(partitions))
        self.ends = {tp: max(asked[TopicPartition(*tp)], ends.get(tp, 0)) for tp in applied}
        return {tp for tp, offset in applied.items() if self.ends[tp] > offset + 1}

    async def _read(self, consumer: AIOKafkaConsumer, positions: Mapping[TP, int]) -> None:
        partitions = [TopicPartition(*tp) for tp in positions]
        for tp, position in positions.items():
            consumer.seek(TopicPartition(*tp), position)
        consumer.resume(*partitions)
        try:
            fetched = await consumer.getmany(*partitions, timeout_ms=round(READ_S * 1000))
        finally:
            consumer.pause(*partitions)
        for tp, position in positions.items():
            records = fetched.get(TopicPartition(*tp))
            if records:
                self._waiting[tp] = position - 1
            self.read[tp] = (position - 1, records[0].timestamp if records else None)
