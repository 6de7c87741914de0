"""Sends reviews and chat lines to Kafka: what producers import.

Rules:
- An event that the worker would refuse is refused here, before it is sent, with the same reason.
- A product's events share their key, so they stay in order. The idempotent producer keeps that order
  through retries and writes each event once. Where a broker refuses it (``idempotent=False``), one request
  at a time keeps the order, but a retry may write an event twice.
- Nothing is lost in silence: what the broker did not acknowledge is counted, and ``flush`` raises.
- Memory is bounded: when too many events wait for their acknowledgement, ``send`` waits. (kafka-python 3
  has no bound of its own.)
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.partitioner.default import DefaultPartitioner, murmur2

from stream import settings as configuration
from stream.client.blocks import Block
from stream.client.trace import with_traceparent
from stream.client.validation import check, limits_of
from stream.core.events import EVENT_TYPES, Channel, Chat, EventTime, Review
from stream.errors import DependencyError, EventError, UsageError
from stream.kafka_config import kafka_python_config
from stream.kafka_refusal import no_broker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.settings import Settings

MAX_UNACKNOWLEDGED = 20_000
"""Events that may wait for the broker: about 20 MB, and a second's worth at full speed."""
LINGER_MS = 10
BATCH_BYTES = 131_072
"""Of one partition's batch. 128 KiB instead of the library's 16 took 38% less CPU an event here."""

_encode = msgspec.json.Encoder().encode
_NO_TOPIC_S = 15
"""How long a topic's absence is retried: one just created needs a moment to be known everywhere."""


class _RememberingPartitioner(DefaultPartitioner):  # type: ignore[misc]  # kafka-python has no types
    """Kafka's own partitioning by key (murmur2), with the hashes remembered: in Python each costs 10 µs."""

    def __init__(self) -> None:
        self._hash = lru_cache(65_536)(murmur2)

    def partition(self, topic: str, key: Any, serialized_key: bytes | None, *rest: Any) -> int:
        if serialized_key is None:
            somewhere: int = super().partition(topic, key, serialized_key, *rest)
            return somewhere
        cluster = rest[-1]
        partitions: int = len(cluster.partitions_for_topic(topic))
        hashed: int = self._hash(serialized_key)
        return (hashed & 0x7FFFFFFF) % partitions


class _RequiredFields(TypedDict):
    event_id: str
    product_id: str
    text: str
    event_time: EventTime


class ReviewFields(_RequiredFields, total=False):
    """What ``send_review`` takes: the fields of ``stream.core.events.Review``."""

    rating: float | None
    title: str | None
    lang: str | None
    category: str | None
    author_id: str | None


class _RequiredChatFields(_RequiredFields):
    conversation_id: str
    role: Literal["customer", "agent"]


class ChatFields(_RequiredChatFields, total=False):
    """What ``send_chat`` takes: the fields of ``stream.core.events.Chat``."""

    lang: str | None
    category: str | None
    author_id: str | None


class EventProducer(Block):
    """Sends events, validated, keyed by product, and acknowledged by every in-sync replica.

    >>> with EventProducer() as producer:                                      # doctest: +SKIP
    ...     producer.send_review(
    ...         event_id="r-1", product_id="B00004TZTZ", text="The battery died.", rating=1,
    ...         event_time=datetime.now(UTC))
    ...     producer.send("chats", {"event_id": "c-1", "conversation_id": "77", "role": "customer",
    ...         "product_id": "B00004TZTZ", "text": "It will not charge.", "event_time": 1_700_000_000})

    Leaving the block flushes. ``send`` only queues: call ``flush`` where you must know that everything
    arrived. One producer serves many threads.

    Args:
        settings: where Kafka is, what its topics are called; None takes them from the ``REVIEWPULSE_*``
            environment.
        idempotent: each event is written once and in order even when a request is retried. Needs a broker
            that knows idempotent producers (Kafka since 0.11).
        delivery_timeout_s: how long an event is retried before it counts as not delivered.
        compression: ``gzip``, ``lz4``, ``snappy``, ``zstd`` or None. On a local network none is fastest
            (gzip took 60% more CPU an event); across a slow one gzip sends a third of the bytes.

    Raises:
        DependencyError: no broker answers.
        UsageError: the settings are wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        idempotent: bool = True,
        delivery_timeout_s: float = 120.0,
        compression: str | None = None,
    ) -> None:
        self._settings = settings or configuration.load()
        self._limits = limits_of(self._settings)
        self._topics = self._settings.topics
        self._waiting: deque[Any] = deque()
        self._settling = threading.Lock()
        self._delivered = 0
        self._lost = 0
        self._reason: Exception | None = None
        self._producer = open_producer(
            self._settings,
            idempotent=idempotent,
            delivery_timeout_s=delivery_timeout_s,
            compression=compression,
        )

    def send_review(self, **fields: Unpack[ReviewFields]) -> None:
        """Sends a review. For fields of your own, use ``send("reviews", {...})``.

        Raises:
            EventError: a field is missing or wrong.
            DependencyError: Kafka takes no more.
        """
        self.send("reviews", fields)

    def send_chat(self, **fields: Unpack[ChatFields]) -> None:
        """Sends a chat line. For fields of your own, use ``send("chats", {...})``.

        Raises:
            EventError: a field is missing or wrong.
            DependencyError: Kafka takes no more.
        """
        self.send("chats", fields)

    def send(self, channel: Channel, event: Mapping[str, Any] | Review | Chat) -> None:
        """Sends an event.

        Args:
            channel: ``reviews`` or ``chats``.
            event: its fields. ``event_time`` may be a ``datetime`` with a time zone, an RFC 3339 string,
                or a number of seconds or milliseconds since the epoch. Fields that Reviewpulse does not
                know travel along.

        Raises:
            EventError: the worker would refuse it; the message says why.
            DependencyError: Kafka takes no more.
        """
        value = encode_event(event)
        topic = topic_of(self._topics, channel)
        (verdict,) = check(channel, [value], time.time_ns() // 1_000_000, self._limits)
        if isinstance(verdict, EventError):
            raise verdict
        self.send_record(topic, verdict.encode(), value)

    def send_encoded(
        self,
        channel: Channel,
        product_id: str,
        value: bytes,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Sends an event that is JSON already, as it is: nothing is checked.

        Args:
            channel: ``reviews`` or ``chats``.
            product_id: the record's key.
            value: the JSON object.
            headers: of the Kafka record.

        Raises:
            DependencyError: Kafka takes no more, or has no such topic.
        """
        self.send_record(topic_of(self._topics, channel), product_id.encode(), value, headers)

    def send_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Sends a record to any topic, as it is (a dead letter goes back to where it came from).

        Raises:
            DependencyError: Kafka takes no more, or has no such topic.
        """
        try:
            self._waiting.append(self._producer.send(topic, value, key, with_traceparent(headers)))
        except KafkaError as error:
            raise not_taken(self._settings, topic, error) from error
        self._settle(at_most=MAX_UNACKNOWLEDGED)

    @property
    def delivered(self) -> int:
        """Events known to be acknowledged; exact after ``flush``."""
        return self._delivered

    @property
    def lost(self) -> int:
        """Events known to be given up since the last ``flush``; a long sender may want to stop here."""
        return self._lost

    def flush(self, timeout_s: float | None = None) -> None:
        """Waits until every event sent so far is acknowledged.

        Args:
            timeout_s: how long at most; None waits for as long as delivery is retried.

        Raises:
            DependencyError: some were not delivered; the message says how many and why.
        """
        try:
            self._producer.flush(timeout_s)
        except KafkaTimeoutError as error:
            self._settle_done()
            waiting = len(self._waiting)
            raise DependencyError(
                f"{waiting:,} events are still not acknowledged by Kafka at {self._settings.kafka} after"
                f" {timeout_s:g} s; they are retried until they are delivered or given up."
            ) from error
        self._settle(at_most=0)
        lost, reason, self._lost, self._reason = self._lost, self._reason, 0, None
        if lost:
            raise not_delivered(self._settings, lost, reason) from reason

    def close(self) -> None:
        """Flushes and closes.

        Raises:
            DependencyError: some events were not delivered.
        """
        try:
            self.flush()
        finally:
            self._producer.close(timeout=5)

    def _settle(self, *, at_most: int) -> None:
        """Books what is acknowledged or given up; waits while more than ``at_most`` are neither."""
        self._settle_done()
        while len(self._waiting) > at_most:
            # The oldest: partitions are served in turn, so it is the next one or nearly so.
            with self._settling:
                if self._waiting:
                    self._book(self._waiting.popleft(), wait=True)

    def _settle_done(self) -> None:
        if self._settling.acquire(blocking=False):  # else another thread is at it
            try:
                while self._waiting and self._waiting[0].is_done:
                    self._book(self._waiting.popleft(), wait=False)
            finally:
                self._settling.release()

    def _book(self, sent: Any, *, wait: bool) -> None:
        try:
            if wait:
                sent.get()  # ends by the delivery timeout
            elif sent.exception is not None:
                raise sent.exception
            self._delivered += 1
        except KafkaError as error:
            self._lost += 1
            self._reason = error


def open_producer(
    settings: Settings, *, idempotent: bool, delivery_timeout_s: float, compression: str | None
) -> KafkaProducer:
    """The library's producer as ours use it; for the arguments see ``EventProducer``.

    Raises:
        DependencyError: no broker answers.
        UsageError: the settings are wrong.
    """
    delivery_timeout_ms = int(delivery_timeout_s * 1000)
    try:
        return KafkaProducer(
            **kafka_python_config(settings),
            acks="all",
            enable_idempotence=idempotent,
            max_in_flight_requests_per_connection=5 if idempotent else 1,
            delivery_timeout_ms=delivery_timeout_ms,
            request_timeout_ms=min(30_000, delivery_timeout_ms // 2),
            bootstrap_timeout_ms=min(15_000, delivery_timeout_ms),
            max_block_ms=min(_NO_TOPIC_S, delivery_timeout_s) * 1000,
            allow_auto_create_topics=False,
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            compression_type=compression,
            partitioner=_RememberingPartitioner(),
            metrics_enabled=False,
        )
    except KafkaError as error:
        otherwise = (
            f"No Kafka broker answers at {settings.kafka} ({error}): is it running, and is"
            " REVIEWPULSE_KAFKA its address?"
        )
        raise DependencyError(no_broker(settings, otherwise)) from error


def topic_of(topics: Mapping[str, str], channel: str) -> str:
    """The topic of a channel.

    Raises:
        UsageError: there is no such channel.
    """
    if channel not in EVENT_TYPES:
        raise UsageError(f"There is no channel {channel!r}: take one of {', '.join(EVENT_TYPES)}.")
    return topics[channel]


def not_taken(settings: Settings, topic: str, error: Exception) -> DependencyError:
    """What to say when an event could not even be queued."""
    return DependencyError(
        f"Kafka at {settings.kafka} does not take events for the topic {topic!r} ({error}):"
        " `reviewpulse topics` creates the topics, `reviewpulse doctor` says what is missing."
    )


def not_delivered(settings: Settings, lost: int, reason: Exception | None) -> DependencyError:
    """What to say of events that the broker did not acknowledge."""
    events = "1 event was" if lost == 1 else f"{lost:,} events were"
    return DependencyError(
        f"{events} not delivered to Kafka at {settings.kafka} ({reason}):"
        " send again when the broker is back; what did arrive is counted once all the same."
    )


def encode_event(event: Mapping[str, Any] | Review | Chat) -> bytes:
    """An event as it travels.

    Raises:
        EventError: a value has no place in JSON.

    >>> encode_event({"event_id": "1", "event_time": 1_700_000_000})
    b'{"event_id":"1","event_time":1700000000}'
    """
    try:
        return _encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise EventError("encode", f"the event cannot be written as JSON: {error}") from error
