"""The leaders of a window, for many who ask: one reading of the counters answers all of them for a while.

Rules:
- Leaders are found by reading every product that had an event in the window: milliseconds for a shop,
  seconds for 100,000 products. So an answer holds for ``FRESH_S``, and for ``REST`` times as long as it
  took: reading takes a twentieth of a core at most for each question that is asked, however many ask it.
- One reading at a time, on a thread: the event loop goes on meanwhile.
- Whoever asks for what is too old waits for a new answer; several wait for the same one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from stream.client import LiveCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.client import ProductCounts
    from stream.client.counts import LeaderBy
    from stream.settings import Settings

FRESH_S = 3.0
REST = 20.0
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
            async with self._one_at_a_time:
                known = self._known(question, limit)
                if known is None:  # nobody asked meanwhile
                    known = await asyncio.to_thread(self._answer, question, max(limit, LEAST_LIMIT))
                    self._remember(question, known)
        return known.products[:limit]

    def _known(self, question: _Question, limit: int) -> _Answer | None:
        answer = self._answers.get(question)
        if answer is None or answer.limit < limit or self._clock() >= answer.holds_until_s:
            return None
        return answer

    def _answer(self, question: _Question, limit: int) -> _Answer:
        began_s = self._clock()
        products = self._ask(*question, limit)
        ended_s = self._clock()
        return _Answer(products, limit, ended_s + max(FRESH_S, REST * (ended_s - began_s)))

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
        if self._counters is not None:
            await asyncio.to_thread(self._counters.close)
