"""Reads a whole topic, as far as it goes now: what alert history and dead letters need.

Rules:
- No consumer group: nothing is joined, nobody's partitions move.
- The end is where the topic ended when reading began, so reading ends even while others write.
- A broker that stops answering is an error after a while, not a wait without end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream.errors import DependencyError
from stream.kafka_config import kafka_python_config

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        raise DependencyError(
            f"No Kafka broker answers at {settings.kafka} ({error}): is it running, and is REVIEWPULSE_KAFKA"
            " its address?"
        ) from error


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """Every partition of a topic.

    Raises:
        DependencyError: there is no such topic.
    """
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise DependencyError(f"Kafka has no topic {topic!r}: `reviewpulse topics` creates it.")
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def read_to_end(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> Iterator[Any]:
    """Records from each assigned partition's position to where it ends now.

    Raises:
        DependencyError: the broker no longer answers.
    """
    unread = {
        partition: end
        for partition, end in consumer.end_offsets(partitions).items()
        if consumer.position(partition) < end
    }
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
            topics = ", ".join(sorted({each.topic for each in unread}))
            raise DependencyError(
                f"Kafka has stopped answering: nothing of {topics} was read for {STALLED_AFTER_S:g} s."
            )


def read_topic(settings: Settings, topic: str) -> Iterator[Any]:
    """Every record that a topic holds now, partition by partition as they come.

    Raises:
        DependencyError: no broker answers, or there is no such topic.
    """
    consumer = open_consumer(settings)
    try:
        partitions = partitions_of(consumer, topic)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        yield from read_to_end(consumer, partitions)
    except KafkaError as error:
        raise DependencyError(f"Cannot read the topic {topic!r} at {settings.kafka}: {error}.") from error
    finally:
        consumer.close(autocommit=False)
