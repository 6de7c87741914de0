"""The leaders of a window, for many who ask: one reading of the counters answers all of them for a while.

Rules:
- Leaders are found by reading every product that had an event in the window: milliseconds for a shop,
  seconds for 100,000 products. So an answer holds for ``FRESH_S``, and for ``REST`` times as long as it
  took: reading takes a twentieth of a core at most for each question that is asked, however many ask it.
- One reading at a time, on a thread: the event loop goes on meanwhile.
- Whoever asks for what is too old waits for a new answer; several wait for the same one. Where reading is
  dear, nobody waits: the old answer is given once more, for ``STALE_S`` at most, while a new one is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from stream.client import LiveCounters
from stream.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.client import ProductCounts
    from stream.client.counts import LeaderBy
    from stream.settings import Settings

logger = logging.getLogger(__name__)

FRESH_S = 3.0
REST = 20.0
DEAR_S = 0.5
"""A reading that took longer is not waited for."""
STALE_S = 60.0
LEAST_LIMIT = 50
"""Of what is read: those who ask for ten and for twenty share an answer."""
MOST_QUESTIONS = 64
"""Remembered: windows, orders and minimums that people ask for."""


class _Question(NamedTuple):
    window: str
    by: LeaderBy
    min_events: int


class _Answer(NamedTuple):
    products: Sequence[ProductCounts]
    limit: int
    took_s: float
    holds_until_s: float


class Leaders:
    """Answers who leads.

    Args:
        settings: where Redis is.
        ask: reads the leaders of a window; None asks Redis.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ask: Callable[[str, LeaderBy, int, int], Sequence[ProductCounts]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._ask = ask or self._read
        self._clock = clock
        self._counters: LiveCounters | None = None
        self._answers: dict[_Question, _Answer] = {}
        self._one_at_a_time = asyncio.Lock()
        self._reading: dict[_Question, asyncio.Task[_Answer]] = {}
        """What is read for those to come."""

    async def get(
        self, window: str, by: LeaderBy, *, min_events: int = 1, limit: int = 10
    ) -> Sequence[ProductCounts]:
        """The products that lead, best first; see ``LiveCounters.leaders``.

        Raises:
            UsageError: there is no such window or order.
            DependencyError: Redis is away or refuses.
        """
        question = _Question(window, by, min_events)
        if (known := self._known(question, limit)) is None:
            old = self._known(question, limit, STALE_S)
            if old is not None and old.took_s > DEAR_S:
                self._read_again(question, limit)
                return old.products[:limit]
            known = await self._read_anew(question, limit)
        return known.products[:limit]

    async def _read_anew(self, question: _Question, limit: int) -> _Answer:
        async with self._one_at_a_time:
            known = self._known(question, limit)
            if known is None:  # nobody asked meanwhile
                known = await asyncio.to_thread(self._answer, question, max(limit, LEAST_LIMIT))
                self._remember(question, known)
            return known

    def _read_again(self, question: _Question, limit: int) -> None:
        if question in self._reading:
            return
        reading = asyncio.create_task(self._read_anew(question, limit), name="leaders")
        self._reading[question] = reading

        def done(read: asyncio.Task[_Answer]) -> None:
            self._reading.pop(question, None)
            if not read.cancelled() and (error := read.exception()) is not None:
                logger.warning("cannot read the leaders: %s", error)  # whoever asks next tries again

        reading.add_done_callback(done)

    def _known(self, question: _Question, limit: int, stale_s: float = 0.0) -> _Answer | None:
        answer = self._answers.get(question)
        if answer is None or answer.limit < limit or self._clock() >= answer.holds_until_s + stale_s:
            return None
        return answer

    def _answer(self, question: _Question, limit: int) -> _Answer:
        began_s = self._clock()
        products = self._ask(*question, limit)
        took_s = self._clock() - began_s
        return _Answer(products, limit, took_s, self._clock() + max(FRESH_S, REST * took_s))

    def _remember(self, question: _Question, answer: _Answer) -> None:
        self._answers.pop(question, None)
        self._answers[question] = answer
        if len(self._answers) > MOST_QUESTIONS:
            del self._answers[next(iter(self._answers))]

    def _read(self, window: str, by: LeaderBy, min_events: int, limit: int) -> Sequence[ProductCounts]:
        if self._counters is None:
            self._counters = LiveCounters(self._settings)
        return self._counters.leaders(window, by, min_events=min_events, limit=limit)

    async def close(self) -> None:
        """Closes the connection."""
        await end(self._reading.values())
        if self._counters is not None:
            await asyncio.to_thread(self._counters.close)
