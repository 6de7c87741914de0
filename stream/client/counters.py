"""Live counters, read from Redis: synchronous and asynchronous.

Rules:
- Reading never writes, and never needs a worker to be up.
- Before the first event there is no layout in Redis: everything is empty, nothing fails.
- What the questions are, and how they find the live counters, is in ``stream.client.counts``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from stream import settings as configuration
from stream.client import counts
from stream.client.blocks import AsyncBlock, Block
from stream.client.counts import LiveLayout, best_matches
from stream.core.buckets import WINDOWS
from stream.errors import DependencyError
from stream.redis_config import connect, connect_async
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange, exchange_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.client.counts import (
        Baseline,
        ChannelTotals,
        Figures,
        Fleet,
        LeaderBy,
        ProductCounts,
        Question,
        Series,
    )
    from stream.redis_config import AsyncClient, Client
    from stream.settings import Settings
    from stream.store.layout import Layout

A = TypeVar("A")
ALL_WINDOWS = tuple(WINDOWS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Reader:
    """What both clients know: where to read, and which question each method asks."""

    def __init__(self, settings: Settings | None, now_ms: Callable[[], int]) -> None:
        self._settings = settings or configuration.load()
        self._now_ms = now_ms
        self._live = LiveLayout(self._settings.namespace)

    @property
    def layout(self) -> Layout:
        """Where the counters were when something was read last; it changes with a rebuild or a reshard."""
        return self._live.layout

    def _get(self, product_ids: Sequence[str], window: str) -> Question[list[ProductCounts]]:
        return self._live.asked(
            lambda layout: counts.ask_products(layout, product_ids, window, self._now_ms())
        )

    def _windows(self, product_id: str, windows: Sequence[str]) -> Question[list[ProductCounts]]:
        return self._live.asked(
            lambda layout: counts.ask_windows(layout, product_id, windows, self._now_ms())
        )

    def _leaders(
        self, window: str, by: LeaderBy, min_events: int, limit: int
    ) -> Question[list[ProductCounts]]:
        return self._live.asked(
            lambda layout: counts.ask_leaders(
                layout, window, self._now_ms(), by=by, min_events=min_events, limit=limit
            )
        )

    def _totals(self) -> Question[dict[str, ChannelTotals]]:
        return self._live.asked(lambda layout: counts.ask_totals(layout, self._settings.topics))

    def _fleet(self, windows: Sequence[str]) -> Question[Fleet]:
        topics = self._settings.topics
        return self._live.asked(lambda layout: counts.ask_fleet(layout, windows, topics, self._now_ms()))

    def _series(self, product_id: str | None, windows: Sequence[str]) -> Question[list[Series]]:
        return self._live.asked(lambda layout: counts.ask_series(layout, product_id, windows, self._now_ms()))

    def _figures(self, product_ids: Sequence[str], points: int) -> Question[list[Figures]]:
        return self._live.asked(
            lambda layout: counts.ask_figures(layout, product_ids, points, self._now_ms())
        )

    def _baselines(self, product_id: str) -> Question[list[Baseline]]:
        return self._live.asked(lambda layout: counts.ask_baselines(layout, product_id))

    def _active(self, since_ms: int | None) -> Question[tuple[Layout, list[str]]]:
        return self._live.asked(lambda layout: counts.ask_active(layout, since_ms))

    def _applied(self) -> Question[dict[str, int]]:
        return self._live.asked(counts.ask_applied)

    def _failed(self, error: Exception) -> DependencyError:
        return DependencyError(f"Cannot read counters. {told(error, self._settings.redis)}")


class LiveCounters(_Reader, Block):
    """Reads the live counters; a dashboard's or a script's way in.

    >>> with LiveCounters() as counters:                                       # doctest: +SKIP
    ...     counts = counters.get("B00004TZTZ", "1h")
    ...     print(counts.negative_share, counts.events)
    0.31 87

    One client serves many threads. Every method raises ``DependencyError`` when Redis is away or refuses,
    and ``UsageError`` for a window, an order or a setting that does not exist or fit.

    Args:
        settings: where Redis is; None takes it from the ``REVIEWPULSE_*`` environment.
        client: a redis-py client to use instead of an own one (with ``decode_responses=False``); it stays
            yours to close.
        now_ms: the clock that windows end at, ms since the epoch.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        client: Client | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        super().__init__(settings, now_ms)
        self._owns_client = client is None
        self._given_client = client
        self._connecting = threading.Lock()

    @property
    def _client(self) -> Client:
        """Made when it is needed: a cluster's asks the cluster, which may be away now and back later."""
        with self._connecting:
            if self._given_client is None:
                self._given_client = connect(self._settings)
            return self._given_client

    def get(self, product_id: str, window: str = "1h") -> ProductCounts:
        """Counts of a product; zeros for one that was never seen.

        Args:
            product_id: the product.
            window: ``5m``, ``1h``, ``24h``, ``7d`` or ``all``.
        """
        return self.get_many([product_id], window)[0]

    def get_many(self, product_ids: Sequence[str], window: str = "1h") -> list[ProductCounts]:
        """Counts of several products, in their order: one round trip for 512 of them."""
        return self._ask(self._get(product_ids, window))

    def windows(self, product_id: str, windows: Sequence[str] = ALL_WINDOWS) -> list[ProductCounts]:
        """Counts of a product in several windows, in one round trip and as of one moment."""
        return self._ask(self._windows(product_id, windows))

    def leaders(
        self,
        window: str = "1h",
        by: LeaderBy = "negative_share",
        *,
        min_events: int = 1,
        limit: int = 10,
    ) -> list[ProductCounts]:
        """The products that lead, best first.

        Reads every product that had an event in the window; ask for it every few seconds, not every few
        milliseconds.

        Args:
            window: ``5m``, ``1h``, ``24h``, ``7d`` or ``all``.
            by: ``negative_share`` (by the lower end of its 95% interval, so that small samples do not
                lead), ``negative`` or ``events``.
            min_events: leaves out products with fewer events in the window.
            limit: how many at most.
        """
        return self._ask(self._leaders(window, by, min_events, limit))

    def totals(self) -> dict[str, ChannelTotals]:
        """What became of every event so far, by channel (``reviews``, ``chats``)."""
        return self._ask(self._totals())

    def fleet(self, windows: Sequence[str] = ALL_WINDOWS) -> Fleet:
        """All products together: counts by window, how many products, what became of every event.

        One round trip, whatever the number of products. Counts begin with the first worker of a version that
        keeps them, the totals with the first worker.
        """
        return self._ask(self._fleet(windows))

    def series(self, product_id: str | None, window: str = "1h") -> Series:
        """Counts over time, oldest first, with the empty buckets.

        Args:
            product_id: the product; None for the whole fleet.
            window: ``1h`` in minutes, ``24h`` in hours, ``7d`` in quarter-days.
        """
        return self._ask(self._series(product_id, [window]))[0]

    def figures(self, product_ids: Sequence[str], *, points: int = 3) -> list[Figures]:
        """What a live view shows of products: all windows, and the last minutes of their series.

        One round trip for 512 products.
        """
        return self._ask(self._figures(product_ids, points))

    def baselines(self, product_id: str) -> list[Baseline]:
        """What share of negatives is usual for a product, by channel, as its detectors learned it.

        Nothing for a channel that was never seen, or whose state another version of a worker wrote.
        """
        return self._ask(self._baselines(product_id))

    def applied(self) -> dict[str, int]:
        """Highest offset that the counters contain, by ``topic:number``: Kafka's end less this is the lag."""
        return self._ask(self._applied())

    def products(self, search: str = "", *, limit: int = 20) -> list[str]:
        """Known products whose ids contain a text, whatever the case, the best first.

        Reads the id of every product; a server that is asked often remembers them (``stream.web.live`` does).
        """
        _, known = self._ask(self._active(None))
        return best_matches(known, search, limit)

    def _ask(self, question: Question[A]) -> A:
        try:
            commands = next(question)
            while True:
                commands = question.send(exchange(self._client, commands))
        except StopIteration as answered:
            answer: A = answered.value
            return answer
        except REDIS_ERRORS as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Closes the connections."""
        if self._owns_client and self._given_client is not None:
            self._given_client.close()


class AsyncLiveCounters(_Reader, AsyncBlock):
    """``LiveCounters`` for asyncio: the same questions, awaited.

    >>> async with AsyncLiveCounters() as counters:                             # doctest: +SKIP
    ...     worst = await counters.leaders("1h", "negative_share", min_events=20)
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        client: AsyncClient | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        super().__init__(settings, now_ms)
        self._owns_client = client is None
        self._client = client or connect_async(self._settings)

    async def get(self, product_id: str, window: str = "1h") -> ProductCounts:
        """See ``LiveCounters.get``."""
        return (await self.get_many([product_id], window))[0]

    async def get_many(self, product_ids: Sequence[str], window: str = "1h") -> list[ProductCounts]:
        """See ``LiveCounters.get_many``."""
        return await self._ask(self._get(product_ids, window))

    async def windows(self, product_id: str, windows: Sequence[str] = ALL_WINDOWS) -> list[ProductCounts]:
        """See ``LiveCounters.windows``."""
        return await self._ask(self._windows(product_id, windows))

    async def leaders(
        self,
        window: str = "1h",
        by: LeaderBy = "negative_share",
        *,
        min_events: int = 1,
        limit: int = 10,
    ) -> list[ProductCounts]:
        """See ``LiveCounters.leaders``."""
        return await self._ask(self._leaders(window, by, min_events, limit))

    async def totals(self) -> dict[str, ChannelTotals]:
        """See ``LiveCounters.totals``."""
        return await self._ask(self._totals())

    async def fleet(self, windows: Sequence[str] = ALL_WINDOWS) -> Fleet:
        """See ``LiveCounters.fleet``."""
        return await self._ask(self._fleet(windows))

    async def series(self, product_id: str | None, window: str = "1h") -> Series:
        """See ``LiveCounters.series``."""
        return (await self._ask(self._series(product_id, [window])))[0]

    async def figures(self, product_ids: Sequence[str], *, points: int = 3) -> list[Figures]:
        """See ``LiveCounters.figures``."""
        return await self._ask(self._figures(product_ids, points))

    async def baselines(self, product_id: str) -> list[Baseline]:
        """See ``LiveCounters.baselines``."""
        return await self._ask(self._baselines(product_id))

    async def applied(self) -> dict[str, int]:
        """See ``LiveCounters.applied``."""
        return await self._ask(self._applied())

    async def products(self, search: str = "", *, limit: int = 20) -> list[str]:
        """See ``LiveCounters.products``."""
        _, known = await self.active(None)
        return best_matches(known, search, limit)

    async def active(self, since_ms: int | None) -> tuple[Layout, list[str]]:
        """Products that had an event since a time, and where the counters are that say so; see ``counts``."""
        return await self._ask(self._active(since_ms))

    async def _ask(self, question: Question[A]) -> A:
        try:
            commands = next(question)
            while True:
                commands = question.send(await exchange_async(self._client, commands))
        except StopIteration as answered:
            answer: A = answered.value
            return answer
        except REDIS_ERRORS as error:
            raise self._failed(error) from error

    async def close(self) -> None:
        """Closes the connections."""
        if self._owns_client:
            await self._client.aclose()
