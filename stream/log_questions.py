"""Questions about a partition's log beyond reading on: where it begins and ends, what it still has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.types import TP

if TYPE_CHECKING:
    from collections.abc import Iterable

PROBE_MS = 3000
"""How long a record that should be there is waited for."""


async def ask_ends(consumer: AIOKafkaConsumer, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
    """First and next offset of each partition, as Kafka has them now."""
    partitions = [TopicPartition(tp.topic, tp.partition) for tp in tps]
    first = await consumer.beginning_offsets(partitions)
    end = await consumer.end_offsets(partitions)
    return {TP(*key): (first[key], end[key]) for key in partitions}


async def probe(tp: TP, offset: int, **config: Any) -> bool | None:
    """Whether the record at ``offset`` can be read; None when Kafka neither gives it nor denies it.

    Costs a connection: for cases in doubt.

    Args:
        tp: the partition.
        offset: of the record.
        config: how to connect, as ``AIOKafkaConsumer`` takes it.
    """
    partition = TopicPartition(tp.topic, tp.partition)
    consumer = AIOKafkaConsumer(auto_offset_reset="none", **config)
    try:
        await consumer.start()
        consumer.assign([partition])
        consumer.seek(partition, offset)
        fetched = await consumer.getmany(partition, timeout_ms=PROBE_MS, max_records=1)
    except (OffsetOutOfRangeError, NoOffsetForPartitionError):
        return False
    finally:
        await consumer.stop()
    # Nothing within the wait: a new leader may not give what its followers do not have yet.
    return True if any(record.offset == offset for record in fetched.get(partition, ())) else None
