"""The way in for events over HTTP: judged, written to Kafka, and answered when the broker has them.

Rules:
- An event is judged as ``EventProducer`` judges it, by the worker's own decoder. Bad ones of a batch are
  named by line; the good ones go.
- "Accepted" means that every in-sync replica has acknowledged it. So whoever was told so need not care what
  becomes of this server; whoever was not told sends again: what arrives twice counts once (by ``event_id``).
- One producer for all, without Kafka's idempotence: a retry within it repeats at most what the counting
  leaves out anyway, and every broker takes it. It keeps the order of a partition.
- What waits is bounded in bytes (``REVIEWPULSE_WEB_INFLIGHT_BYTES``): beyond it callers are told to come
  again. So they are, at once, while Kafka is away; a new producer is made until one is connected.
- Judging holds the event loop for ``EVENTS_A_STEP`` events at a time. A thread would hold the interpreter for
  as long: it is msgspec and dictionaries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from stream.backoff import FIRST_WAIT_S, LONGEST_WAIT_S
from stream.client.validation import check, limits_of
from stream.core.traceparent import HEADER
from stream.errors import EventError, UsageError
from stream.kafka_config import aiokafka_config
from stream.kafka_refusal import no_broker
from stream.tasks import end, within
from stream.web.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from stream.core.events import Channel
    from stream.settings import Settings

logger = logging.getLogger(__name__)

EVENTS_A_STEP = 256
"""About a millisecond of judging."""
MOST_EVENTS = 10_000
"""Of one batch: what an event costs while it waits is more than its bytes."""
EVENT_OVERHEAD_BYTES = 1_024
"""What one costs here beside its bytes, roughly: a future, a record, its key."""
DELIVERY_S = 15.0
"""Until a batch that the broker does not acknowledge is given up; callers wait for 30 to 60 s as a rule."""
FLUSH_S = 5.0
LINGER_MS = 5
BATCH_BYTES = 256 * 1024
"""Of one partition's batch."""
LARGEST_REQUEST_BYTES = 1 << 20
"""aiokafka's own bound of a record, unless events may be larger."""


class Refused(NamedTuple):
    """An event that is not taken."""

    line: int
    reason: str


class Taken(NamedTuple):
    """What became of a batch."""

    accepted: int
    refused: list[Refused]


class Ingest:
    """Takes events.

    Args:
        settings: where Kafka is; what an event may be.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.web_inflight_bytes < 2 * settings.web_batch_bytes:
            raise UsageError(
                "REVIEWPULSE_WEB_INFLIGHT_BYTES must be at least twice REVIEWPULSE_WEB_BATCH_BYTES, or a"
                " large batch would never be taken."
            )
        self._settings = settings
        self._limits = limits_of(settings)
        self._waiting_bytes = 0
        self.outcomes = {"accepted": 0, "refused": 0, "busy": 0}
        """Events so far."""
        self._producer: Any = None
        self._broken = asyncio.Event()
        self.trouble: str | None = "Kafka is being connected to."

    @property
    def waiting_bytes(self) -> int:
        """What is held now for callers that wait."""
        return self._waiting_bytes

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps a producer connected meanwhile."""
        keeping = asyncio.create_task(self._keep_connected())
        try:
            yield
        finally:
            await end([keeping])

    @contextmanager
    def holding(self) -> Iterator[Holding]:
        """Room for one caller's bytes, given back at the end."""
        holding = Holding(self)
        try:
            yield holding
        finally:
            self._waiting_bytes -= holding.held_bytes

    async def take(
        self,
        channel: Channel,
        events: Sequence[tuple[int, bytes]],
        holding: Holding,
        traceparent: bytes | None = None,
    ) -> Taken:
        """Judges events and writes the good ones; returns when the broker has acknowledged all of them.

        Args:
            channel: which topic they are for.
            events: line number and JSON object of each.
            holding: the caller's room, with the events' bytes in it already.
            traceparent: the trace that the caller is in; it goes on with each record.

        Raises:
            Unavailable: Kafka did not acknowledge; some of them may be written all the same.
        """
        holding.add(len(events) * EVENT_OVERHEAD_BYTES, events=len(events))
        producer = self._producer
        if producer is None:
            self.outcomes["busy"] += len(events)
            raise Unavailable(self.trouble or "Kafka is away.")
        refused: list[Refused] = []
        sent: list[tuple[int, Any]] = []
        topic = self._settings.topics[channel]
        headers = None if traceparent is None else [(HEADER, traceparent)]
        try:
            async with asyncio.timeout(DELIVERY_S + 1):  # the producer's own bound comes first
                for step in _steps(events):
                    now_ms = time.time_ns() // 1_000_000
                    verdicts = check(channel, [value for _, value in step], now_ms, self._limits)
                    for (line, value), verdict in zip(step, verdicts, strict=True):
                        if isinstance(verdict, EventError):
                            refused.append(Refused(line, verdict.reason))
                        else:
                            written = producer.send(topic, value, key=verdict.encode(), headers=headers)
                            sent.append((line, await written))
                    await asyncio.sleep(0)  # let the others have a turn
                too_large = [line for line, future in sent if not await _is_written(future)]
        except (KafkaError, TimeoutError) as error:
            self.outcomes["refused"] += len(refused)
            self.outcomes["busy"] += len(events) - len(refused)
            raise self._failed(producer, error, len(sent)) from error
        reason = "Kafka takes no record so large: see the topic's max.message.bytes"
        refused += [Refused(line, reason) for line in too_large]
        self.outcomes["refused"] += len(refused)
        self.outcomes["accepted"] += len(sent) - len(too_large)
        return Taken(len(sent) - len(too_large), sorted(refused))

    def _hold(self, size: int, events: int) -> None:
        if self._waiting_bytes + size > self._settings.web_inflight_bytes:
            self.outcomes["busy"] += events
            sentence = "Too many events are on their way to Kafka already: send these again soon."
            raise Unavailable(sentence, 429)
        self._waiting_bytes += size

    def _failed(self, producer: Any, error: Exception, sent: int) -> Unavailable:
        why = f"Kafka at {self._settings.kafka} did not acknowledge ({type(error).__name__})"
        logger.warning("%s", why)
        if producer is self._producer:
            self._producer = None
            self.trouble = f"{why}; it is tried again."
            self._broken.set()
        return Unavailable(
            f"{why}: send all {sent:,} events again. Those that arrived nevertheless are counted once."
        )

    async def _keep_connected(self) -> None:
        stopping: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._broken.clear()
                self._producer = await self._connected()
                self.trouble = None
                producer = self._producer
                try:
                    await self._broken.wait()
                finally:
                    self._producer = None
                    # Beside: others wait for their acknowledgements from it yet, or for its giving up.
                    old = asyncio.create_task(_stop(producer))
                    stopping.add(old)
                    old.add_done_callback(stopping.discard)
        finally:
            if stopping:
                await asyncio.wait(stopping, timeout=FLUSH_S)

    async def _connected(self) -> Any:
        wait_s = FIRST_WAIT_S
        while True:
            producer = AIOKafkaProducer(
                **aiokafka_config(self._settings),
                acks="all",
                linger_ms=LINGER_MS,
                max_batch_size=BATCH_BYTES,
                max_request_size=max(LARGEST_REQUEST_BYTES, 2 * self._settings.max_event_bytes),
                request_timeout_ms=int(DELIVERY_S * 1000),
                partitioner=_partition,
            )
            try:
                await producer.start()
                metadata = await producer.client.fetch_all_metadata()
                missing = sorted(set(self._settings.topics.values()) - set(metadata.topics()))
                if not missing:
                    logger.info("events are taken")
                    return producer
                trouble = f"Kafka has no topic {', '.join(missing)}: run `reviewpulse topics`."
            except KafkaError as error:
                otherwise = f"No Kafka broker answers at {self._settings.kafka} ({type(error).__name__})."
                trouble = await asyncio.to_thread(no_broker, self._settings, otherwise)
            except asyncio.CancelledError:
                await _stop(producer)
                raise
            if self.trouble != trouble:
                logger.warning("no events are taken: %s", trouble)
            self.trouble = trouble
            await _stop(producer)
            await asyncio.sleep(random.uniform(0, wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class Holding:
    """What one caller's events take of the room there is."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self.held_bytes = 0

    def add(self, size: int, *, events: int = 1) -> None:
        """Takes more.

        Args:
            size: in bytes.
            events: how many are sent away where there is no room.

        Raises:
            Unavailable: there is no more now.
        """
        self._ingest._hold(size, events)  # noqa: SLF001  # one thing in two classes
        self.held_bytes += size


def lines_of(body: bytes) -> list[tuple[int, bytes]]:
    r"""Numbered lines of JSON lines, without blank ones.

    >>> lines_of(b'{"a": 1}\n\n {"b": 2}\r\n')
    [(1, b'{"a": 1}'), (3, b'{"b": 2}')]
    """
    lines = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [(number, line) for number, each in enumerate(lines, start=1) if (line := each.strip())]


def _steps(events: Sequence[tuple[int, bytes]]) -> Iterable[Sequence[tuple[int, bytes]]]:
    return (events[start : start + EVENTS_A_STEP] for start in range(0, len(events), EVENTS_A_STEP))


async def _is_written(future: Any) -> bool:
    """Waits for the broker; False when it takes no record of this size."""
    try:
        await future
    except MessageSizeTooLargeError:
        return False
    return True


_hash = lru_cache(65_536)(murmur2)  # in Python each costs 10 µs


def _partition(key: bytes, all_partitions: list[int], _: list[int]) -> int:
    """Kafka's own partitioning by key, as ``EventProducer`` has it."""
    hashed: int = _hash(key)
    return all_partitions[(hashed & 0x7FFFFFFF) % len(all_partitions)]


async def _stop(producer: Any) -> None:
    with suppress(KafkaError):
        await within(DELIVERY_S + FLUSH_S, producer.stop())
