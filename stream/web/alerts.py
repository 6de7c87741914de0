"""The alerts there are, in memory, followed from Kafka once for the whole server.

Rules:
- The topic is compacted: it holds each alert's last transition, and the earlier ones until compaction. What
  it holds is read at the start; ``caught_up`` says that this is done.
- One thread reads; everything else happens on the event loop, so that readers need no lock.
- A broker that is away is waited for, and what it told before stays readable: ``trouble`` says what is wrong.
- Memory is bounded by ``KEPT`` alerts; the ones whose last transition is oldest go first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from bisect import bisect_left, insort
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from stream.client import AlertSubscriber
from stream.errors import ReviewpulseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from stream.core.events import Alert
    from stream.settings import Settings

logger = logging.getLogger(__name__)

KEPT = 5_000
"""Alerts of more than a year at a dozen a day; about 5 KB each with quotes and phrases."""
TRANSITIONS_KEPT = 16
"""Of one alert. It fires, becomes critical, resolves: three."""
RETRY_S = 2.0

Place = tuple[str, str]
"""Where an alert stands in the order of time: when its last transition was, its id."""


class AlertBook:
    """All alerts as they are now.

    Attributes:
        caught_up: all that the topic held at the start is known.
        trouble: what keeps it from hearing news, as a sentence; None when all is well.
    """

    def __init__(self, settings: Settings, *, kept: int = KEPT) -> None:
        self._settings = settings
        self._kept = kept
        self._transitions: dict[str, list[Alert]] = {}
        self._order: list[Place] = []
        self._listeners: list[Callable[[Alert], None]] = []
        self._stopped = threading.Event()
        self._subscriber: AlertSubscriber | None = None
        self.caught_up = False
        self.trouble: str | None = "The alerts are still being read."

    def __len__(self) -> int:
        return len(self._order)

    def listen(self, listener: Callable[[Alert], None]) -> Callable[[], None]:
        """Calls ``listener`` on the event loop with each transition that comes after catching up.

        Returns:
            What ends it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def transitions(self, alert_id: str) -> list[Alert]:
        """All transitions known of one alert, oldest first; none for one that is not known."""
        return list(self._transitions.get(alert_id, ()))

    def latest(self, alert_id: str) -> Alert | None:
        """An alert as it is now."""
        known = self._transitions.get(alert_id)
        return known[-1] if known else None

    def newest_first(self, before: Place | None = None) -> Iterator[Alert]:
        """Alerts as they are now, by their last transition.

        Args:
            before: goes on after this one.
        """
        end = len(self._order) if before is None else bisect_left(self._order, before)
        for _, alert_id in reversed(self._order[:end]):
            yield self._transitions[alert_id][-1]

    def firing(self) -> Iterable[Alert]:
        """Those that fire now and are not historic, the newest first."""
        return (each for each in self.newest_first() if each.state == "firing" and not each.historic)

    def add(self, alert: Alert) -> None:
        """Takes note of a transition; one that is known, or older than what is known, changes nothing."""
        known = self._transitions.setdefault(alert.id, [])
        if known:
            if alert.sequence <= known[-1].sequence:
                return
            del self._order[bisect_left(self._order, place(known[-1]))]
        known.append(alert)
        del known[:-TRANSITIONS_KEPT]
        insort(self._order, place(alert))
        if len(self._order) > self._kept:
            _, oldest = self._order.pop(0)
            del self._transitions[oldest]
        if self.caught_up:
            for listener in list(self._listeners):
                listener(alert)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follows the topic meanwhile, in a thread."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._follow, args=(loop,), name="alerts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            if self._subscriber is not None:
                self._subscriber.stop()
            # Not joined without end: a broker that hangs must not keep the server from ending.
            await asyncio.to_thread(thread.join, 2.0)

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        def tell(call: Callable[..., None], *arguments: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(call, *arguments)

        while not self._stopped.is_set():
            try:
                with AlertSubscriber(self._settings, from_beginning=True) as subscriber:
                    self._subscriber = subscriber
                    for alert in subscriber.available():
                        tell(self.add, alert)
                    tell(self._is_well)
                    if not self._stopped.is_set():
                        for alert in subscriber:
                            tell(self.add, alert)
            except ReviewpulseError as error:
                tell(self._is_not_well, str(error))
                self._stopped.wait(RETRY_S)

    def _is_well(self) -> None:
        if self.trouble is not None and self.caught_up:
            logger.info("alerts are followed again")
        self.caught_up = True
        self.trouble = None

    def _is_not_well(self, trouble: str) -> None:
        if self.trouble != trouble:
            logger.warning("alerts cannot be followed: %s", trouble)
        self.trouble = trouble


def place(alert: Alert) -> Place:
    """Where an alert stands in the order of time."""
    return alert.at, alert.id
