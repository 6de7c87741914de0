"""Events of a shop as they come: products by Zipf's law, one event after another, and what came before.

Rules:
- Drawn with a fixed seed: every reader of a stream of its own reads the same events.
- Products hold the buckets that they hold after a week, not after a second. Days of events would take too
  long, so of what is older than the last hour a product has one event in every bucket that it had any in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream.core.buckets import DAY_MS, HOUR_MS, MINUTE_MS, RESOLUTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

NOW_MS = 1_800_000_000_000
"""When the stream begins."""
LIVE_HISTORY = 180_000
"""Most events of the history that come one by one: an hour of 50 a second. A sorted set holds no others."""
LABEL_SHARES = (0.12, 0.08, 0.8)


class Events(NamedTuple):
    """A piece of the stream."""

    products: list[int]
    at_ms: list[int]
    labels: list[int]

    def cut(self, size: int) -> Iterator[Events]:
        """Consecutive pieces of at most ``size`` events."""
        for start in range(0, len(self.products), size):
            yield Events(*(column[start : start + size] for column in self))


class Stream:
    """The events that every way is given; each way reads a stream of its own, which is the same.

    Args:
        products: how many there are; the n-th has a frequency of ``n ** -exponent``.
        exponent: of Zipf's law.
        events_per_s: of the fleet.
        days: of history before the stream.
    """

    def __init__(self, *, products: int, exponent: float, events_per_s: float, days: int) -> None:
        self._rng = np.random.default_rng(1)
        weights = np.arange(1, products + 1, dtype=float) ** -exponent
        self._shares = weights / weights.sum()
        self._below = self._shares.cumsum()
        self._events_per_s = events_per_s
        self._days = days
        self._sent = 0

    def history(self) -> Iterator[list[Events]]:
        """The days before the stream: of each product one event in every bucket that it had any in.

        By quarters of a day, the last day by hours, its last hour by minutes, the end event by event.
        """
        for day in range(self._days, 1, -1):
            start_ms = NOW_MS - day * DAY_MS
            yield self._buckets(start_ms, start_ms + DAY_MS, RESOLUTIONS[2].width_ms)
        if self._days:
            live_events = round(min(self._events_per_s * 3600, LIVE_HISTORY))
            live_ms = NOW_MS - round(live_events / self._events_per_s * 1000)
            yield [
                *self._buckets(NOW_MS - DAY_MS, NOW_MS - HOUR_MS, HOUR_MS),
                *self._buckets(NOW_MS - HOUR_MS, live_ms, MINUTE_MS),
                self._live(live_events, live_ms),
            ]

    def take(self, number: int) -> Events:
        """The next events of the stream."""
        piece = self._live(number, NOW_MS + round(self._sent / self._events_per_s * 1000))
        self._sent += number
        return piece

    def _buckets(self, start_ms: int, end_ms: int, width_ms: int) -> list[Events]:
        return [self._bucket(at_ms, width_ms) for at_ms in range(start_ms, end_ms, width_ms)]

    def _bucket(self, start_ms: int, width_ms: int) -> Events:
        """One event of each product that has any in a bucket, in random order."""
        expected = self._shares * self._events_per_s * width_ms / 1000
        products = np.flatnonzero(self._rng.random(len(expected)) < -np.expm1(-expected))
        self._rng.shuffle(products)
        return self._events(products, start_ms + width_ms * np.arange(len(products)) // (len(products) + 1))

    def _live(self, number: int, start_ms: int) -> Events:
        products = self._below.searchsorted(self._rng.random(number) * self._below[-1])
        return self._events(products, start_ms + (np.arange(number) / self._events_per_s * 1000).astype(int))

    def _events(self, products: NDArray[Any], at_ms: NDArray[Any]) -> Events:
        labels = self._rng.choice(3, len(products), p=LABEL_SHARES)
        return Events(products.tolist(), at_ms.tolist(), labels.tolist())
