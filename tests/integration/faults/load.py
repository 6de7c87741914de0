"""A steady load on Kafka while faults strike, and what its log holds in the end.

Rules:
- A header carries an event's number: a record read back is known by it, whatever its value; some are no JSON.
- What the log holds is read back by a consumer of its own. What was meant to be sent proves nothing: a retry
  may be there twice, and what the broker refused may be there all the same.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from stream.topics import wanted
from tests.integration.conservation import Sent, events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.settings import Settings

NUMBER_HEADER = "number"
REPEATS_WITHIN = 500
"""A producer that repeats itself goes back so many events at most."""
READ_BACK_S = 30.0
QUIET_S = 0.8
"""A log that gives nothing for so long, and has all that was acknowledged, is read to its end. The end that
the broker names is no help: the local one's lags."""


class Load:
    """Sends events at a steady pace until told to finish. What the broker does not take is tried again.

    Args:
        settings: where to, and the topics' names.
        seed: of the events.
        events_per_s: the pace.
        repeats: share of events that are sent once more, some time later and out of order, as a producer
            does that was not told that Kafka had them.
    """

    def __init__(self, settings: Settings, seed: int, *, events_per_s: float, repeats: float = 0.0) -> None:
        self.sent: list[Sent] = []
        """By number."""
        self.acknowledged: dict[TopicPartition, int] = {}
        """Highest offset."""
        self._kafka = settings.kafka
        self._events = events(settings, seed)
        self._chance = random.Random(seed)
        self._events_per_s = events_per_s
        self._repeats = repeats
        self._unanswered = 0
        self._going = threading.Event()
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()), name="load")
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begins to send."""
        self._going.set()
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._thread.is_alive()

    def hold(self) -> None:
        """Sends nothing more for now."""
        self._going.clear()

    def pause(self) -> None:
        """Sends nothing more; returns when the broker has answered to all that was sent."""
        self.hold()
        while self._unanswered and self._thread.is_alive():
            time.sleep(0.01)

    def resume(self) -> None:
        """Sends again."""
        self._going.set()

    def finish(self) -> None:
        """Ends when the broker has answered to all that was sent.

        Raises:
            BaseException: whatever ended the sending before its time.
        """
        self._finishing.set()
        self._going.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    async def _send_all(self) -> None:
        try:
            producer = AIOKafkaProducer(bootstrap_servers=self._kafka, linger_ms=2, acks="all")
            await producer.start()
            try:
                while not self._finishing.is_set():
                    await self._send_some(producer)
            finally:
                await producer.stop()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is seen
            self._error = error

    async def _send_some(self, producer: AIOKafkaProducer) -> None:
        """A fiftieth of a second's worth; a load that was held up does not hurry afterwards."""
        began = time.monotonic()
        if self._going.is_set():
            for _ in range(round(self._events_per_s / 50)):
                self.sent.append(next(self._events))
                await self._send(producer, len(self.sent) - 1)
                if self._chance.random() < self._repeats:
                    earlier = max(0, len(self.sent) - REPEATS_WITHIN)
                    await self._send(producer, self._chance.randrange(earlier, len(self.sent)))
        await asyncio.sleep(max(began + 0.02 - time.monotonic(), 0))

    async def _send(self, producer: AIOKafkaProducer, number: int) -> None:
        event = self.sent[number]
        self._unanswered += 1
        answer = await producer.send(
            event.topic,
            event.value,
            key=event.product_id.encode(),
            headers=[(NUMBER_HEADER, str(number).encode())],
        )
        answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self._unanswered -= 1
        if not answer.cancelled() and answer.exception() is None:
            metadata = answer.result()
            known = self.acknowledged.get(metadata.topic_partition, -1)
            self.acknowledged[metadata.topic_partition] = max(known, metadata.offset)


class Logged(NamedTuple):
    """A record as an independent consumer found it in the log."""

    tp: TopicPartition
    offset: int
    headers: dict[str, bytes]

    @property
    def number(self) -> int:
        """Which event it is."""
        return int(self.headers[NUMBER_HEADER])


def read_back(
    settings: Settings, topics: Iterable[str], at_least: dict[TopicPartition, int] | None = None
) -> list[Logged]:
    """Everything the log holds, each partition in its order.

    Args:
        settings: where, and how many partitions a topic has.
        topics: their names.
        at_least: offsets that are known to be there.
    """
    partitions = {topic.name: topic.partitions for topic in wanted(settings)}
    tps = [TopicPartition(topic, number) for topic in topics for number in range(partitions[topic])]
    return asyncio.run(_read_back(settings.kafka, tps, dict(at_least or {})))


async def _read_back(
    kafka: str, tps: list[TopicPartition], missing: dict[TopicPartition, int]
) -> list[Logged]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        found: list[Logged] = []
        deadline = time.monotonic() + READ_BACK_S
        quiet_since = time.monotonic()
        while missing or time.monotonic() < quiet_since + QUIET_S:
            assert time.monotonic() < deadline, f"the log lacks what was acknowledged: {missing}"
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                quiet_since = time.monotonic()
                found += [Logged(tp, record.offset, dict(record.headers)) for record in records]
                if records[-1].offset >= missing.get(tp, -1):
                    missing.pop(tp, None)
        return found
    finally:
        await consumer.stop()
