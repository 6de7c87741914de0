"""Follows alerts from asyncio.

Rules:
- What comes, what is left out, and when it is finished is ``AlertSubscriber``'s, which runs in a thread of
  its own here: alerts are few, and one way to read them is enough.
- Waiting for the next alert may be cancelled, by a timeout or a task that ends: what comes meanwhile is
  handed out next time, and is not finished before.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from stream import settings as configuration
from stream.client.alerts import AlertSubscriber
from stream.client.blocks import AsyncBlock
from stream.core.events import Alert

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stream.settings import Settings


_END = object()


class AsyncAlertSubscriber(AsyncBlock):
    """``AlertSubscriber`` for asyncio: the same alerts, awaited.

    >>> async with AsyncAlertSubscriber(group="dashboard") as alerts:           # doctest: +SKIP
    ...     async for alert in alerts:
    ...         await tell(alert.product_id, alert.state)

    Args:
        settings: as in ``AlertSubscriber``.
        from_beginning: as in ``AlertSubscriber``.
        group: as in ``AlertSubscriber``.

    Raises:
        UsageError: the settings are wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        from_beginning: bool = False,
        group: str | None = None,
    ) -> None:
        self._settings = settings or configuration.load()
        self._from_beginning = from_beginning
        self._group = group
        self._thread = ThreadPoolExecutor(1, "reviewpulse-alerts")
        self._opening = asyncio.Lock()
        self._subscriber: AlertSubscriber | None = None
        self._steps: Iterator[Alert | None] | None = None
        self._fetching: tuple[Iterator[Alert | None], asyncio.Future[Any]] | None = None
        """The next alert, asked for and not handed out, and of what."""
        self._is_dealt_with = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Alert:
        """The next transition; the iteration ends after ``stop``.

        Raises:
            DependencyError: no broker answers, there is no alerts topic, or the broker refuses.
        """
        subscriber = await self._opened()
        if self._steps is None:
            self._steps = subscriber.steps()
        alert = await self._next(self._steps)
        if alert is None:
            raise StopAsyncIteration
        return alert

    async def available(self) -> AsyncIterator[Alert]:
        """Transitions from here to where the topic ends now.

        Raises:
            DependencyError: as iterating.
        """
        subscriber = await self._opened()
        steps = subscriber.available()
        while (alert := await self._next(steps)) is not None:
            yield alert

    def stop(self) -> None:
        """Ends the iteration within half a second."""
        if self._subscriber is not None:
            self._subscriber.stop()

    async def close(self) -> None:
        """Keeps the position, where there is a group, and closes the connection."""
        async with self._opening:
            subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            subscriber.stop()
            await self._in_thread(_leave, subscriber, self._is_dealt_with)
        self._thread.shutdown(wait=False)

    async def _open(self) -> None:
        await self._opened()

    async def _finish(self) -> None:
        self._is_dealt_with = self._fetching is None

    async def _opened(self) -> AlertSubscriber:
        async with self._opening:
            if self._subscriber is None:
                self._subscriber = await self._in_thread(
                    lambda: AlertSubscriber(
                        self._settings, from_beginning=self._from_beginning, group=self._group
                    )
                )
            return self._subscriber

    async def _next(self, steps: Iterator[Alert | None]) -> Alert | None:
        """The next alert of ``steps``, or what an earlier wait asked for and did not live to see."""
        while True:
            if self._fetching is None:
                self._fetching = steps, self._in_thread(next, steps, _END)
            asked, fetching = self._fetching
            try:
                found = await asyncio.shield(fetching)
            except Exception:  # unlike being cancelled, which leaves it to be fetched
                self._fetching = self._steps = None
                raise
            self._fetching = None
            if isinstance(found, Alert):
                return found
            if found is _END and asked is steps:
                return None

    def _in_thread(self, call: Any, *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)


def _leave(subscriber: AlertSubscriber, is_dealt_with: bool) -> None:
    if is_dealt_with:
        subscriber.__exit__(None, None, None)
    else:
        subscriber.close()
