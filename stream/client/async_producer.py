"""Sends reviews and chat lines from asyncio.

Rules:
- Awaited means acknowledged, by every in-sync replica. Send concurrently, or in batches, for speed: one
  event at a time waits for one round trip, and what waits is sent together.
- What is refused, how events are keyed, kept in order and retried is ``EventProducer``'s: the same library
  producer sends them, from a thread of its own, so the event loop never waits for a socket.
- Memory is bounded: when too many events wait for their acknowledgement, sending waits.
- Cancelling gives up the wait, not the event. Whoever does not know whether it arrived sends it again: the
  worker counts an event once.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from kafka.errors import KafkaError

from stream import settings as configuration
from stream.client.blocks import AsyncBlock
from stream.client.producer import (
    MAX_UNACKNOWLEDGED,
    encode_event,
    not_delivered,
    not_taken,
    open_producer,
    topic_of,
)
from stream.client.trace import with_traceparent
from stream.client.validation import check, limits_of
from stream.errors import DependencyError, EventError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kafka import KafkaProducer

    from stream.client.producer import ChatFields, ReviewFields
    from stream.core.events import Channel, Chat, Review
    from stream.settings import Settings

EVENTS_A_STEP = 500
"""Of a batch, queued at once: others get their turn in between."""
CLOSE_S = 5.0


class _Step:
    """Events on their way, and what became of them."""

    def __init__(self, events: int) -> None:
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting = events
        self.lost = 0
        self.reason: Exception | None = None

    def settle(self, error: Exception | None) -> None:
        self.waiting -= 1
        if error is not None:
            self.lost += 1
            self.reason = error
        if not self.waiting and not self.settled.done():  # done: whoever waited was cancelled
            self.settled.set_result(None)


class AsyncEventProducer(AsyncBlock):
    """Sends events, validated and keyed by product; awaited means acknowledged.

    >>> async with AsyncEventProducer() as producer:                           # doctest: +SKIP
    ...     await producer.send_review(
    ...         event_id="r-1", product_id="B00004TZTZ", text="The battery died.", rating=1,
    ...         event_time=datetime.now(UTC))
    ...     await producer.send_many("reviews", [{"event_id": "r-2", ...}, {"event_id": "r-3", ...}])

    One producer serves all tasks of an event loop: make it when the service starts. Events of one product
    that are sent one after another, or in one batch, stay in order.

    Args:
        settings: where Kafka is, what its topics are called; None takes them from the ``REVIEWPULSE_*``
            environment.
        idempotent: as in ``EventProducer``.
        delivery_timeout_s: how long an event is retried before it counts as not delivered.
        compression: as in ``EventProducer``.

    Raises:
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
        self._connect = partial(
            open_producer,
            self._settings,
            idempotent=idempotent,
            delivery_timeout_s=delivery_timeout_s,
            compression=compression,
        )
        self._thread = ThreadPoolExecutor(1, "reviewpulse-producer")  # one: calls stay in order
        self._producer: KafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._unacknowledged = 0
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()

    async def send_review(self, **fields: Unpack[ReviewFields]) -> None:
        """Sends a review; see ``send``. For fields of your own, use ``send("reviews", {...})``."""
        await self.send("reviews", fields)

    async def send_chat(self, **fields: Unpack[ChatFields]) -> None:
        """Sends a chat line; see ``send``. For fields of your own, use ``send("chats", {...})``."""
        await self.send("chats", fields)

    async def send(self, channel: Channel, event: Mapping[str, Any] | Review | Chat) -> None:
        """Sends an event; it is in Kafka when this returns.

        Args:
            channel: ``reviews`` or ``chats``.
            event: its fields, as in ``EventProducer.send``.

        Raises:
            EventError: the worker would refuse it; the message says why.
            DependencyError: no broker answers, or it did not acknowledge the event.
        """
        await self._send(channel, [event], "{reason}")

    async def send_many(self, channel: Channel, events: Sequence[Mapping[str, Any] | Review | Chat]) -> None:
        """Sends a batch; all of it is in Kafka when this returns.

        Args:
            channel: ``reviews`` or ``chats``.
            events: each as in ``send``.

        Raises:
            EventError: the worker would refuse one; the message says which and why. None was sent.
            DependencyError: no broker answers, or it did not acknowledge some; the message says how many.
                Send the whole batch again: what did arrive is counted once.
        """
        await self._send(channel, events, "event {number} of {all}: {reason}")

    async def close(self) -> None:
        """Closes the connection; gives what is on its way a few seconds more."""
        async with self._opening:
            producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError):  # whoever waits for an event that is lost is told so
                await self._in_thread(producer.close, CLOSE_S)
        self._thread.shutdown(wait=False)

    async def _open(self) -> None:
        await self._opened()

    async def _opened(self) -> KafkaProducer:
        async with self._opening:
            if self._producer is None:
                self._producer = await self._in_thread(self._connect)
            return self._producer

    async def _send(
        self, channel: Channel, events: Sequence[Mapping[str, Any] | Review | Chat], refusal: str
    ) -> None:
        topic = topic_of(self._settings.topics, channel)
        records = list(self._checked(channel, events, refusal))
        producer = await self._opened()
        steps = [
            await self._queue(producer, topic, records[start : start + EVENTS_A_STEP])
            for start in range(0, len(records), EVENTS_A_STEP)
        ]
        for step in steps:
            await step.settled
        lost = sum(step.lost for step in steps)
        if lost:
            reason = next(step.reason for step in steps if step.reason is not None)
            if isinstance(reason, DependencyError):
                raise reason
            raise not_delivered(self._settings, lost, reason) from reason

    def _checked(
        self, channel: Channel, events: Sequence[Mapping[str, Any] | Review | Chat], refusal: str
    ) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of each."""
        now_ms = time.time_ns() // 1_000_000
        for number, event in enumerate(events, start=1):
            try:
                value = encode_event(event)
                (verdict,) = check(channel, [value], now_ms, self._limits)
                if isinstance(verdict, EventError):
                    raise verdict
            except EventError as error:
                said = refusal.format(number=number, all=len(events), reason=error.reason)
                raise EventError(error.stage, said) from None
            yield verdict.encode(), value

    async def _queue(
        self, producer: KafkaProducer, topic: str, records: Sequence[tuple[bytes, bytes]]
    ) -> _Step:
        async with self._turn:
            while self._unacknowledged + len(records) > MAX_UNACKNOWLEDGED:
                self._room.clear()
                await self._room.wait()
            self._unacknowledged += len(records)
        loop = asyncio.get_running_loop()
        step = _Step(len(records))
        headers = with_traceparent(None)  # here: a thread knows nothing of the caller's context

        def settle(error: Exception | None) -> None:
            self._unacknowledged -= 1
            self._room.set()
            step.settle(error)

        def settle_soon(error: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(settle, error)

        def queue() -> None:
            for key, value in records:
                try:
                    sent = producer.send(topic, value, key, headers)
                except KafkaError as error:
                    settle_soon(not_taken(self._settings, topic, error))
                else:
                    sent.add_callback(lambda _: settle_soon(None))
                    sent.add_errback(settle_soon)

        # Not given up when the caller is: every event that was taken in is settled.
        await asyncio.shield(self._in_thread(queue))
        return step

    def _in_thread(self, call: Any, *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
