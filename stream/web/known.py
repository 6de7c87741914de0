"""The ids of all products, in memory, for search.

Rules:
- Read once in full. How many there are is known with every look, so while none is new nothing is read.
- When some are new, what had an event since the last look is read: the set of active products says the
  minute. That finds no product whose first event is of an old time (history, a producer's clock). As long as
  some are missing, all are read again, at most once in ``WHOLE_S``.
- After a switch to another generation of counters it is read in full again.
- At most ``MOST_KNOWN`` ids are kept, some 150 bytes each.
- A search goes through all of them, on a thread: 100,000 take some 20 ms.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stream.client.counts import best_matches

if TYPE_CHECKING:
    from stream.client import AsyncLiveCounters
    from stream.store.layout import Layout

MOST_KNOWN = 1_000_000
OVERLAP_MS = 120_000
"""How much further back than the last look is looked."""
WHOLE_S = 60.0
SEARCHED_AT_ONCE = 2_000
"""So few are searched where we are."""


class KnownProducts:
    """Which products there are.

    Args:
        counters: the live counters.
        most: ids kept.
    """

    def __init__(self, counters: AsyncLiveCounters, most: int = MOST_KNOWN) -> None:
        self._counters = counters
        self._most = most
        self._ids: dict[str, None] = {}
        self._layout: Layout | None = None
        self._looked_at_ms: int | None = None
        self._whole_at_ms = 0

    def __len__(self) -> int:
        return len(self._ids)

    async def look(self, now_ms: int, products: int) -> None:
        """Reads what is new.

        Args:
            now_ms: the time, ms since the epoch.
            products: how many there are.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        if self._looked_at_ms is None:
            await self._look_at_all(now_ms)
            return
        if self._counters.layout == self._layout and len(self._ids) >= min(products, self._most):
            self._looked_at_ms = now_ms  # none is new: who moves on is no news
            return
        layout, found = await self._counters.active(self._looked_at_ms - OVERLAP_MS)
        if layout != self._layout:
            self._ids.clear()
            await self._look_at_all(now_ms)
            return
        self._looked_at_ms = now_ms
        self._take(found)
        is_time = now_ms - self._whole_at_ms >= WHOLE_S * 1000
        if is_time and len(self._ids) < min(products, self._most):
            await self._look_at_all(now_ms)

    async def _look_at_all(self, now_ms: int) -> None:
        self._layout, found = await self._counters.active(None)
        self._looked_at_ms = self._whole_at_ms = now_ms
        self._take(found)

    def _take(self, found: list[str]) -> None:
        for product_id in found:
            if len(self._ids) >= self._most:
                return
            self._ids[product_id] = None

    async def search(self, text: str, limit: int) -> list[str]:
        """Products whose ids contain a text, the best first; see ``stream.client.counts.best_matches``."""
        ids = list(self._ids)
        if len(ids) <= SEARCHED_AT_ONCE:
            return best_matches(ids, text, limit)
        return await asyncio.to_thread(best_matches, ids, text, limit)
