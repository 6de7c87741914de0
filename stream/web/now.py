"""How things are now, looked at once for everybody who watches.

Rules:
- One look a second for all viewers, never one a viewer: what it finds is encoded once and put in their queues
  (``viewers``). Without viewers it still looks, for ``GET /api/v1/overview`` answers from memory.
- Redis or Kafka that is away is said in the overview (``redis_ok``, ``kafka_ok``) and nothing else changes:
  the last figures stay, every look tries again, and nothing waits for a server longer than ``ANSWER_S``.
- An alert goes out as it is heard, not with the next look.
- What people say (silences, acknowledgements) is looked at every ``LISTEN_S``; a change is shown, and each
  firing alert that it changes is told again.
- The lag is asked of Kafka in a task of its own, so that a broker that hangs holds nothing else up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from stream.client import ChannelTotals, ProductCounts, Series  # noqa: TC001  # msgspec reads them
from stream.core.events import rfc3339
from stream.core.silence import Said
from stream.errors import DependencyError, ReviewpulseError
from stream.status import StatusBoard
from stream.tasks import end, within
from stream.web.api.alerts import Acknowledged, AlertView, view
from stream.web.api.people import SilenceView
from stream.web.api.people import view as silence_view
from stream.web.known import KnownProducts
from stream.web.lag import Lag, waiting
from stream.web.viewers import MOST_WAITING, Viewers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence

    from litestar import Litestar

    from stream.client import Fleet
    from stream.core.events import Alert
    from stream.status import WorkerStatus
    from stream.web.shared import Shared
    from stream.web.viewers import Viewer

logger = logging.getLogger(__name__)

_Words: TypeAlias = "tuple[str | None, Acknowledged | None]"
"""What people said of an alert: silenced until when, and who looks after it."""

TICK_S = 1.0
LISTEN_S = 2.0
SEARCH_S = 5.0
LEADERS_S = 4.0
LAG_S = 2.0
ANSWER_S = 5.0
"""After so long Redis is taken for away; its clients wait longer by themselves."""
RATE_S = 5.0
"""Events a second are those of the last so many seconds."""
OVERVIEW_WINDOWS = ("5m", "1h", "24h")
LEADERS_WINDOW: Literal["1h"] = "1h"
LEADERS_MIN_EVENTS = 5
LEADERS_SHOWN = 10
TAIL_POINTS = 3
"""Minutes of a product's series that come with each look: the one that is now, and those that may still
change."""
MOST_WATCHED = 512
"""Products whose figures are read at each look; of more that are watched, the others have their turn
later."""


class WorkerView(msgspec.Struct, frozen=True):
    """One worker, as it says itself."""

    name: str
    model_version: str
    provider: str
    events_per_s: float
    partitions: list[str]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """How things are."""

    at: datetime
    events_per_s: float | None
    """Events that came to an end, over the last seconds; null until that is known."""
    lag: int | None
    """Events that wait to be counted; null until that is known."""
    latency_p50_ms: float | None
    """From Kafka's timestamp to visible in Redis: of the slowest worker."""
    latency_p99_ms: float | None
    workers: list[WorkerView]
    products: int
    """Known so far."""
    negative_share: dict[str, float | None]
    """Of the fleet, by window; null in a window without events."""
    events: dict[str, int]
    """Of the fleet, by window."""
    firing: int
    """Alerts, historic ones left out."""
    critical: int
    """Of those."""
    totals: dict[str, ChannelTotals]
    """What became of all events, by channel."""
    redis_ok: bool
    kafka_ok: bool


class Leading(msgspec.Struct, frozen=True):
    """The event ``leaders``."""

    window: str
    products: Sequence[ProductCounts]


class ProductNow(msgspec.Struct, frozen=True):
    """The event ``product``."""

    counters: list[ProductCounts]
    series_tail: Series


class Silenced(msgspec.Struct, frozen=True):
    """The event ``silences``: those that hold now or will."""

    silences: list[SilenceView]


class Rate:
    """Events a second, from a number that grows.

    >>> rate = Rate()
    >>> rate.add(0.0, 100), rate.add(1.0, 300), rate.add(2.0, 500), rate.add(3.0, 50)
    (None, 200.0, 200.0, None)
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, number: int) -> float | None:
        """Takes the number as it is now.

        Returns:
            The rate over ``RATE_S``; None where there is nothing to compare with.
        """
        if self._seen and number < self._seen[-1][1]:
            self._seen.clear()  # other counters: a rebuild, a new namespace
        self._seen.append((at_s, number))
        while len(self._seen) > 2 and self._seen[1][0] <= at_s - RATE_S:
            self._seen.popleft()
        first_s, first = self._seen[0]
        return (number - first) / (at_s - first_s) if at_s > first_s else None


class LiveView:
    """How things are, looked at once for all.

    Args:
        shared: what the server's parts share.
        now_ms: the time, ms since the epoch.
    """

    def __init__(
        self, shared: Shared, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._shared = shared
        self._now_ms = now_ms
        self._counters = shared.counters
        self._board = StatusBoard(shared.redis, shared.settings.namespace)
        self._lag_of = Lag(shared.settings)
        self._rate = Rate()
        self._encode = msgspec.json.Encoder().encode
        self._tasks: list[asyncio.Task[None]] = []
        self._said = Said()
        self._shown_said: bytes | None = None
        self._last_words: dict[str, _Words] = {}
        """Of each firing alert: what was last told that people said of it."""
        self._lag: int | None = None
        self._kafka_ok = False
        self._redis_ok = False
        self._watched_from = 0
        self.known = KnownProducts(shared.counters)
        self.viewers = Viewers()
        self.overview = self._overview(None, [], None)

    @asynccontextmanager
    async def running(self, _: Litestar) -> AsyncIterator[None]:
        """Looks meanwhile."""
        stop_listening = self._shared.alerts.listen(self._tell)
        await self.tick()  # so that the first to ask does not see nothing
        self._tasks = [
            asyncio.create_task(self._every(TICK_S, self.tick), name="live view"),
            asyncio.create_task(self._every(LISTEN_S, self.listen), name="silences"),
            asyncio.create_task(self._every(SEARCH_S, self._learn_products), name="products"),
            asyncio.create_task(self._every(LEADERS_S, self._lead), name="leaders"),
            asyncio.create_task(self._every(LAG_S, self._measure_lag), name="lag"),
            asyncio.create_task(self._end_streams(), name="end of streams"),
        ]
        try:
            yield
        finally:
            stop_listening()
            self.viewers.close()
            await end(self._tasks)
            await self._lag_of.close()

    async def _end_streams(self) -> None:
        await self._shared.stopping.wait()
        self.viewers.close()

    @staticmethod
    async def _every(period_s: float, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Looks every so often, whatever happens: a look that fails is logged, once in a row."""
        was_well = True
        while True:
            began_s = time.monotonic()
            try:
                await look()
                was_well = True
            except Exception as error:
                if was_well:
                    known = isinstance(error, ReviewpulseError)
                    logger.warning("cannot look: %s", error, exc_info=None if known else error)
                was_well = False
            await asyncio.sleep(max(period_s - (time.monotonic() - began_s), 0.05))

    # Figures.

    async def tick(self) -> None:
        """Looks at Redis and shows what it finds."""
        fleet: Fleet | None = None
        workers: list[WorkerStatus] = []

        async def ask() -> None:
            nonlocal fleet, workers
            workers = await self._board.workers()
            fleet = await self._counters.fleet(OVERVIEW_WINDOWS)
            await self._look_at_products()

        try:
            self._redis_ok = await within(ANSWER_S, ask())
        except DependencyError:
            self._redis_ok = False
        rate = None
        if fleet is not None:
            rate = self._rate.add(time.monotonic(), sum(each.ended for each in fleet.totals.values()))
        self.overview = self._overview(fleet, workers, rate)
        self.viewers.show("overview", self._encode(self.overview))

    def _overview(self, fleet: Fleet | None, workers: list[WorkerStatus], rate: float | None) -> Overview:
        firing = list(self._shared.alerts.firing())
        figures: dict[str, Any]
        if fleet is not None:
            figures = {
                "products": fleet.products,
                "negative_share": {each.window: each.negative_share for each in fleet.windows},
                "events": {each.window: each.events for each in fleet.windows},
                "totals": fleet.totals,
                "events_per_s": rate,
                "latency_p50_ms": _worst(each.latency_p50_ms for each in workers),
                "latency_p99_ms": _worst(each.latency_p99_ms for each in workers),
                "workers": [
                    WorkerView(
                        each.name, each.model_version, each.provider, each.events_per_s, each.partitions
                    )
                    for each in workers
                ],
            }
        elif (before := getattr(self, "overview", None)) is not None:
            figures = {name: getattr(before, name) for name in _FIGURES} | {"events_per_s": None}
        else:
            figures = {
                "products": 0,
                "negative_share": dict.fromkeys(OVERVIEW_WINDOWS),
                "events": dict.fromkeys(OVERVIEW_WINDOWS, 0),
                "totals": {},
                "events_per_s": None,
                "latency_p50_ms": None,
                "latency_p99_ms": None,
                "workers": [],
            }
        return Overview(
            **figures,
            at=datetime.fromtimestamp(self._now_ms() / 1000, UTC),
            lag=self._lag,
            firing=len(firing),
            critical=sum(each.severity == "critical" for each in firing),
            redis_ok=self._redis_ok,
            kafka_ok=self._kafka_ok and self._shared.alerts.trouble is None,
        )

    async def _look_at_products(self) -> None:
        """Reads what is watched and shows it to those who watch."""
        watched = self.viewers.products
        first = self._watched_from % len(watched) if watched else 0
        self._watched_from = first + MOST_WATCHED
        await self.look_at_products((watched[first:] + watched[:first])[:MOST_WATCHED])

    async def look_at_products(self, product_ids: Sequence[str]) -> None:
        """Reads products' figures, all in one round trip, and shows each to those who watch it.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        if not product_ids:
            return
        for product_id, figures in zip(
            product_ids, await self._counters.figures(product_ids, points=TAIL_POINTS), strict=True
        ):
            self.viewers.show_product(product_id, self._encode(ProductNow(figures.counters, figures.tail)))

    async def _lead(self) -> None:
        if not len(self.viewers):
            return  # nobody looks, and it is the dearest of all questions
        products = await self._shared.leaders.get(
            LEADERS_WINDOW, "negative_share", min_events=LEADERS_MIN_EVENTS, limit=LEADERS_SHOWN
        )
        self.viewers.show("leaders", self._encode(Leading(LEADERS_WINDOW, products)))

    async def _learn_products(self) -> None:
        await self.known.look(self._now_ms(), self.overview.products)

    async def _measure_lag(self) -> None:
        try:
            ends = await self._lag_of.ends()
        except DependencyError:
            self._kafka_ok, self._lag = False, None
            raise
        self._kafka_ok = True
        self._lag = waiting(ends, await self._counters.applied())

    # Alerts, and what people say of them.

    def _tell(self, alert: Alert) -> None:
        now_ms = self._now_ms()
        told = view(alert, self._said, now_ms)
        self._last_words[alert.id] = _words(told)
        self.viewers.tell(self._encode(told), now_ms)

    async def listen(self) -> None:
        """Looks at what people said; what has changed is shown.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        said = self._said = await self._shared.people.said()
        now_ms = self._now_ms()
        in_force = [each for each in said.silences if each.end_ms > now_ms]
        shown = self._encode(Silenced([silence_view(each, now_ms) for each in in_force]))
        if shown != self._shown_said:
            self._shown_said = shown
            self.viewers.show("silences", shown)
        firing = {alert.id: alert for alert in self._shared.alerts.firing()}
        before, self._last_words = self._last_words, {}
        for alert in firing.values():
            words = self._last_words[alert.id] = _words(view(alert, said, now_ms))
            if words != before.get(alert.id, (None, None)):
                self._tell(alert)

    async def begin_stream(self, product_id: str | None, last_id: str) -> Viewer:
        """Begins a stream; its viewer sees how things are at once."""
        viewer = self.viewers.add(product_id, last_id)
        if (since_ms := self.viewers.away_since(last_id)) is not None:
            now_ms = self._now_ms()
            alerts = takewhile(
                lambda alert: alert.at >= rfc3339(max(since_ms, 0)), self._shared.alerts.newest_first()
            )
            recent = list(islice(alerts, MOST_WAITING // 2))
            for alert in reversed(recent):
                self.viewers.tell_one(viewer, self._encode(view(alert, self._said, now_ms)), now_ms)
        if product_id is not None and self._redis_ok:
            try:
                await within(ANSWER_S, self.look_at_products([product_id]))
            except DependencyError:
                logger.debug("the first look at a product failed; the next one is due in a second")
        return viewer


_FIGURES = (
    "products",
    "negative_share",
    "events",
    "totals",
    "latency_p50_ms",
    "latency_p99_ms",
    "workers",
)
"""Of the overview: what stays as it was while Redis is away."""


def _words(told: AlertView) -> _Words:
    return told.silenced_until, told.acknowledged


def _worst(values: Iterable[float | None]) -> float | None:
    return max((each for each in values if each is not None), default=None)
