"""Events at a steady pace, and what must become of each.

Rules:
- Whoever sends again what Kafka did not acknowledge sends the same event: it is counted once.
- What it is like (pace, products, texts, clock) may be changed at any moment; the next tick heeds it.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kafka.errors import KafkaError

from stream.client.producer import encode_event, open_producer

if TYPE_CHECKING:
    from types import TracebackType

    from stream.settings import Settings

TICK_S = 0.1
DELIVERY_S = 6.0
"""How long the client tries before we try again with what it knows anew of the broker."""
FLUSH_S = 60.0

PRODUCTS = tuple(f"product-{number}" for number in range(40))
NEGATIVE = (
    "It broke after two days and nobody answers my mails. Waste of money.",
    "Terrible quality, the battery died at once. I want a refund.",
    "Awful. It never worked and smells of burnt plastic.",
    "The worst purchase I ever made, do not buy this.",
)
POSITIVE = (
    "Works perfectly, I am very happy with it.",
    "Excellent quality and a great price, highly recommended!",
    "I love it. It arrived early and looks beautiful.",
    "Very good product, does exactly what it should.",
    "Great sound, easy to use, my whole family enjoys it.",
)


@dataclass
class Manner:
    """What the events are like."""

    events_per_s: float = 40.0
    products: tuple[str, ...] = PRODUCTS
    negative: float = 0.2
    """Share of complaints."""
    clock_ahead_s: float = 0.0
    """How far the sender's clock is ahead: its records' timestamps, and their events' times."""
    events_ahead_s: float = 0.0
    """How far the events' times are ahead of their records."""
    outcome: str = "counted"
    """What becomes of them."""


class _Event(NamedTuple):
    key: bytes
    value: bytes
    timestamp_ms: int


class Load:
    """Sends reviews while its context lasts, once told to ``go``.

    Args:
        settings: where to.
        manner: what they are like.

    Attributes:
        meant: how many were sent, by what must become of them.
    """

    def __init__(self, settings: Settings, manner: Manner) -> None:
        self.manner = manner
        self.meant: Counter[str] = Counter()
        self._settings = settings
        self._chance = random.Random(7)
        self._producer: Any = None
        self._sent: list[tuple[_Event, Any]] = []
        self._again: list[_Event] = []
        self._going = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._producer = open_producer(
            self._settings, idempotent=False, delivery_timeout_s=DELIVERY_S, compression=None
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._producer.close(timeout=1.0)

    def go(self) -> None:
        """Sends."""
        self._going.set()

    def hold(self) -> None:
        """Sends nothing more; returns when Kafka has all that was sent.

        Raises:
            TimeoutError: it does not take it.
        """
        with self._lock:
            self._going.clear()
        deadline = time.monotonic() + FLUSH_S
        while self._sent or self._again:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Kafka does not acknowledge {len(self._sent) + len(self._again)} events")
            time.sleep(TICK_S)

    def send_one(self, text: str) -> None:
        """One event with a text of its own that becomes a dead letter."""
        with self._lock:
            self._again.append(self._event(text))
            self.meant["dead"] += 1

    def _run(self) -> None:
        owed = 0.0
        while not self._ended.wait(TICK_S):
            with self._lock:
                events, self._again = self._again, []
                if self._going.is_set():
                    owed += self.manner.events_per_s * TICK_S
                    events += [self._new() for _ in range(int(owed))]
                    owed -= int(owed)
            self._send(events)
            self._settle()

    def _send(self, events: list[_Event]) -> None:
        for number, event in enumerate(events):
            try:
                future = self._producer.send(
                    self._settings.topic_reviews, event.value, event.key, timestamp_ms=event.timestamp_ms
                )
            except KafkaError:
                with self._lock:
                    self._again += events[number:]
                return
            self._sent.append((event, future))

    def _settle(self) -> None:
        waiting: list[tuple[_Event, Any]] = []
        failed: list[_Event] = []
        for event, future in self._sent:
            if not future.is_done:
                waiting.append((event, future))
            elif future.exception is not None:
                failed.append(event)
        with self._lock:
            self._again += failed
            self._sent = waiting

    def _new(self) -> _Event:
        self.meant[self.manner.outcome] += 1
        is_negative = self._chance.random() < self.manner.negative
        return self._event(self._chance.choice(NEGATIVE if is_negative else POSITIVE))

    def _event(self, text: str) -> _Event:
        at_s = time.time() + self.manner.clock_ahead_s
        product_id = self._chance.choice(self.manner.products)
        value = encode_event(
            {
                "event_id": f"{self._chance.getrandbits(64):016x}",
                "product_id": product_id,
                "text": text,
                "event_time": round((at_s + self.manner.events_ahead_s) * 1000),
            }
        )
        return _Event(product_id.encode(), value, round(at_s * 1000))
