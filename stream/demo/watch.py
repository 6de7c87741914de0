"""What the demo sees of the pipeline, through the clients that anybody would use."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from stream.client import AlertSubscriber, LiveCounters
from stream.client.counts import leading
from stream.dead_letters import read_letters
from stream.demo.view import LEADERS_SHOWN, Trends
from stream.errors import ReviewpulseError
from stream.redis_config import connect_async
from stream.status import StatusBoard

if TYPE_CHECKING:
    from types import TracebackType

    from stream.client import ChannelTotals, ProductCounts
    from stream.core.events import Alert
    from stream.settings import Settings
    from stream.status import WorkerStatus

POLL_S = 0.5
MIN_EVENTS_TO_LEAD = 10


class AlertFollower:
    """Gathers alerts as they come, on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.alerts: list[Alert] = []
        self._subscriber = AlertSubscriber(settings, from_beginning=True)
        self._error: ReviewpulseError | None = None
        self._thread = threading.Thread(target=self._follow, name="alerts", daemon=True)

    def _follow(self) -> None:
        try:
            for alert in self._subscriber:
                self.alerts.append(alert)
        except ReviewpulseError as error:
            self._error = error

    def check(self) -> None:
        """Looks whether the thread still follows.

        Raises:
            DependencyError: the broker refused.
        """
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._subscriber.stop()
        self._thread.join()
        self._subscriber.close()


class Watch:
    """Counters, the worker's own numbers and alerts, as a context manager.

    Attributes:
        done: events that came to an end.
        done_at: when ``done`` last grew, on the monotonic clock.
        worker: what the worker says; None until it is up.
        leaders: by negative share in the last five minutes.
        trends: recent negative shares of every product.

    Args:
        settings: where everything is.
        product_ids: what to watch.
    """

    def __init__(self, settings: Settings, product_ids: list[str]) -> None:
        self._settings = settings
        self._product_ids = product_ids
        self._resources = ExitStack()
        self._polled_at = float("-inf")
        self.done = 0
        self.done_at = time.monotonic()
        self.worker: WorkerStatus | None = None
        self.leaders: list[ProductCounts] = []
        self.trends = Trends()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._counters = opened.enter_context(LiveCounters(self._settings))
            self._loop = opened.enter_context(asyncio.Runner())
            self._board = StatusBoard(connect_async(self._settings), self._settings.namespace)
            opened.callback(lambda: self._loop.run(self._board.close()))
            self._follower = opened.enter_context(AlertFollower(self._settings))
            self._resources = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    @property
    def alerts(self) -> list[Alert]:
        """Every transition so far."""
        return list(self._follower.alerts)

    def look(self) -> None:
        """Counts what is done; twice a second, looks at everything.

        Raises:
            DependencyError: a server is away.
        """
        self._follower.check()
        done = sum(each.ended for each in self.totals().values())
        if done != self.done:
            self.done, self.done_at = done, time.monotonic()
        if time.monotonic() - self._polled_at >= POLL_S:
            self._polled_at = time.monotonic()
            workers = self._loop.run(self._board.workers())
            self.worker = workers[0] if workers else None
            recent = self._counters.get_many(self._product_ids, "5m")
            self.leaders = leading(
                (each for each in recent if each.events >= MIN_EVENTS_TO_LEAD),
                "negative_share",
                LEADERS_SHOWN,
            )
            self.trends.add(self._counters.get_many(self._product_ids, "all"))

    def totals(self) -> dict[str, ChannelTotals]:
        """What became of every event so far, by channel.

        Raises:
            DependencyError: Redis is away.
        """
        return self._counters.totals()

    def all_products(self) -> list[ProductCounts]:
        """All-time counters of every product that has any, the shop's or not.

        Raises:
            DependencyError: Redis is away.
        """
        return self._counters.leaders("all", by="events", limit=10 * len(self._product_ids))

    def dead_letters(self) -> dict[str, int]:
        """How many dead letters there are for each reason, the most frequent first.

        Raises:
            DependencyError: Kafka is away.
        """
        letters = read_letters(self._settings, self._settings.topics.values())
        return dict(Counter(letter.reason for letter in letters).most_common())
