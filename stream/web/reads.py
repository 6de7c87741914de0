"""Reads of counters by many at once, in as few round trips as there can be.

Rules:
- While a round trip is under way, whoever asks waits for the next one, which answers all of them together.
  Alone, nobody waits for anybody. Most of what a read costs is the trip, not the counting.
- Those who ask for the same product and window get the same answer.
- An answer is never older than the question: nothing is kept once it is given.
- A failure is told to all whom its trip was for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.client import AsyncLiveCounters, ProductCounts

Waiting: TypeAlias = "dict[str, asyncio.Future[ProductCounts]]"


class Reads:
    """Reads counters together.

    Args:
        counters: the live counters.
    """

    def __init__(self, counters: AsyncLiveCounters) -> None:
        self._counters = counters
        self._waiting: dict[str, Waiting] = {}
        """By window and product."""
        self._trip: asyncio.Task[None] | None = None

    async def get_many(self, product_ids: Sequence[str], window: str) -> list[ProductCounts]:
        """Counts of products in a window, in their order; see ``AsyncLiveCounters.get_many``.

        Raises:
            UsageError: there is no such window.
            DependencyError: Redis is away or refuses.
        """
        loop = asyncio.get_running_loop()
        waiting = self._waiting.setdefault(window, {})
        answers = [waiting.setdefault(each, loop.create_future()) for each in product_ids]
        if self._trip is None:
            self._trip = loop.create_task(self._travel())
        # Shielded: who goes away must not take the answer from the others.
        return [await asyncio.shield(answer) for answer in answers]

    async def _travel(self) -> None:
        try:
            await asyncio.sleep(0)  # those who ask in this turn of the loop
            while self._waiting:
                taken, self._waiting = self._waiting, {}
                for window, waiting in taken.items():
                    await self._answer(window, waiting)
        finally:
            self._trip = None

    async def _answer(self, window: str, waiting: Waiting) -> None:
        try:
            found = await self._counters.get_many(list(waiting), window)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is theirs who asked
            for answer in waiting.values():
                answer.set_exception(error)
                answer.exception()  # asked for, lest asyncio logs that nobody did
            return
        for answer, counts in zip(waiting.values(), found, strict=True):
            answer.set_result(counts)
