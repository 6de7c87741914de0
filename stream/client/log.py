"""Reads a whole topic, as far as it goes now: what alert history and dead letters need.

Rules:
- No consumer group: nothing is joined, nobody's partitions move.
- The end is where the topic ended when reading began, so reading ends even while others write.
- It is taken from a fetch, not from the offsets API alone: the local broker (tansu) answers that with the
  start of the last batch plus one, short of the end by up to a batch.
- A broker that stops answering is an error after a while, not a wait without end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.errors import DependencyError
from stream.kafka_config import kafka_python_config
from stream.kafka_refusal import no_broker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.settings import Settings

STALLED_AFTER_S = 20.0
BOOTSTRAP_MS = 10_000
POLL_MS = 200


def open_consumer(settings: Settings, *, group: str | None = None) -> KafkaConsumer:
    """A consumer that commits only when told.

    Raises:
        DependencyError: no broker answers.
    """
    try:
        return KafkaConsumer(
            **kafka_python_config(settings),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            metrics_enabled=False,
        )
    except (KafkaError, OSError) as error:
        otherwise = (
            f"No Kafka broker answers at {settings.kafka} ({error}): is it running, and is REVIEWPULSE_KAFKA"
            " its address?"
        )
        raise DependencyError(no_broker(settings, otherwise)) from error


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """Every partition of a topic.

    Raises:
        DependencyError: there is no such topic.
    """
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise DependencyError(f"Kafka has no topic {topic!r}: `reviewpulse topics` creates it.")
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def ends_of(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition. Leaves the consumer assigned, positions undefined.

    Raises:
        DependencyError: the broker no longer answers.
    """
    consumer.unsubscribe()  # forgets the ends of earlier fetches
    consumer.assign(partitions)
    ends: dict[TopicPartition, int] = consumer.end_offsets(partitions)
    for partition, end in ends.items():
        consumer.seek(partition, max(end - 1, 0))
    unknown = {partition for partition, end in ends.items() if end > 0}
    deadline = time.monotonic() + STALLED_AFTER_S
    while unknown:
        consumer.poll(timeout_ms=POLL_MS)
        for partition in list(unknown):
            fetched_end = consumer.highwater(partition)
            if fetched_end is not None:
                ends[partition] = max(ends[partition], fetched_end)
                unknown.remove(partition)
        if unknown and time.monotonic() > deadline:
            raise _stalled(unknown)
    return ends


def read_to_end(
    consumer: KafkaConsumer, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> Iterator[Any]:
    """Records from each partition's position to its end; afterwards the consumer stands there.

    Args:
        consumer: assigned to the partitions.
        positions: where to begin.
        ends: from ``ends_of``.

    Raises:
        DependencyError: the broker no longer answers.
    """
    for partition, position in positions.items():
        consumer.seek(partition, position)
    unread = {partition: ends[partition] for partition, at in positions.items() if at < ends[partition]}
    deadline = time.monotonic() + STALLED_AFTER_S
    while unread:
        for partition, records in consumer.poll(timeout_ms=POLL_MS).items():
            end = unread.get(partition, 0)
            yield from (record for record in records if record.offset < end)
            if records[-1].offset >= end:  # what came meanwhile is left for the next reader
                consumer.seek(partition, end)
            # From here, not from the poll: whoever reads us may take as long as it likes.
            deadline = time.monotonic() + STALLED_AFTER_S
        # By position, not by the last record: compaction and transactions leave gaps at the end.
        unread = {each: end for each, end in unread.items() if consumer.position(each) < end}
        if unread and time.monotonic() > deadline:
            raise _stalled(unread)


def read_topic(settings: Settings, topic: str) -> Iterator[Any]:
    """Every record that a topic holds now, partition by partition as they come.

    Raises:
        DependencyError: no broker answers, or there is no such topic.
    """
    consumer = open_consumer(settings)
    try:
        partitions = partitions_of(consumer, topic)
        ends = ends_of(consumer, partitions)
        yield from read_to_end(consumer, consumer.beginning_offsets(partitions), ends)
    except KafkaError as error:
        raise DependencyError(f"Cannot read the topic {topic!r} at {settings.kafka}: {error}.") from error
    finally:
        consumer.close(autocommit=False)


def _stalled(partitions: Iterable[TopicPartition]) -> DependencyError:
    topics = ", ".join(sorted({each.topic for each in partitions}))
    return DependencyError(
        f"Kafka has stopped answering: nothing of {topics} was read for {STALLED_AFTER_S:g} s."
    )
