"""Silences and acknowledgements, for a server: off the event loop, on one connection.

Rules:
- ``stream.silences`` decides what can be said and how it is kept; here is only the way to it.
- What was said is remembered for ``FRESH_S``: a list of alerts asks for it with every request. Whoever says
  something through this server is heard at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from stream.redis_config import connect
from stream.silences import Silences

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.core.silence import Acknowledgement, Said, Silence
    from stream.redis_config import Client
    from stream.settings import Settings

T = TypeVar("T")

FRESH_S = 1.0


def now_ms() -> int:
    """The time, ms since the epoch."""
    return time.time_ns() // 1_000_000


class People:
    """What people said about alerts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._silences: Silences | None = None
        self._one_at_a_time = asyncio.Lock()
        self._said: Said | None = None
        self._read_at_s = 0.0

    async def said(self) -> Said:
        """All that was said.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        async with self._one_at_a_time:
            if self._said is None or time.monotonic() >= self._read_at_s + FRESH_S:
                self._said = await self._run(lambda silences: silences.read())
                self._read_at_s = time.monotonic()
            return self._said

    async def silence(self, silence: Silence) -> None:
        """Adds a silence.

        Raises:
            UsageError: a text is too long, or no text.
            DependencyError: Redis is away or refuses.
        """
        await self._change(lambda silences: silences.add(silence, now_ms()))

    async def end_silence(self, silence_id: str) -> Silence:
        """Ends a silence now; returns it as it was.

        Raises:
            UsageError: there is none of this id, or it is over.
            DependencyError: Redis is away or refuses.
        """
        return await self._change(lambda silences: silences.end(silence_id, now_ms()))

    async def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Notes that somebody looks after an alert.

        Raises:
            UsageError: a text is too long, or no text.
            DependencyError: Redis is away or refuses.
        """
        await self._change(lambda silences: silences.acknowledge(acknowledgement))

    async def close(self) -> None:
        """Closes the connection."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def _change(self, call: Callable[[Silences], T]) -> T:
        async with self._one_at_a_time:
            self._said = None
            return await self._run(call)

    async def _run(self, call: Callable[[Silences], T]) -> T:
        return await asyncio.to_thread(self._called, call)

    def _called(self, call: Callable[[Silences], T]) -> T:
        if self._client is None or self._silences is None:
            self._client = connect(self._settings)
            self._silences = Silences(self._settings, self._client)
        return call(self._silences)
