"""What the event loop sees of its worker, gathered for the watchdog; and the audit of what Redis holds.

Rules:
- It decides nothing: ``stream.core.watch`` does, and the pipeline about lost writes.
- That a server goes away, and that it is back, is one log line each.
- A server answers when somebody got an answer lately. It is asked all the time: Redis by the status board
  and the audit, Kafka for its logs' ends. That it is silent is seen before any call's own timeout.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog

from stream.backlog import Backlog
from stream.backoff import waits
from stream.core.watch import Seen
from stream.errors import DependencyError
from stream.lanes import partition_name
from stream.metrics.lag import LagWatch, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types import TP

    from stream.lanes import Lanes
    from stream.metrics.lag import Lag
    from stream.pipeline import Pipeline
    from stream.scorer.counted import Batches
    from stream.settings import Settings
    from stream.watchdog import Watchdog

log = structlog.get_logger("lookout")

BEAT_S = 1.0
LOOKS_PER_LIMIT = 5
LONGEST_PERIOD_S = 5.0
"""How often Kafka's logs and Redis' offsets are looked at, at least: a few requests of some bytes each."""


class Reach:
    """Whether a server answers, told by whoever asks it.

    Args:
        name: of the server, for people.
        patience_s: how long it may be silent.
    """

    def __init__(self, name: str, patience_s: float) -> None:
        self._name = name
        self._patience_s = patience_s
        self._answered_at = time.monotonic()
        self._error: str | None = None

    def answered(self) -> None:
        """It has answered."""
        self._answered_at = time.monotonic()
        self._error = None

    def failed(self, error: DependencyError) -> None:
        """It has not, and this is what was met instead."""
        self._error = str(error)

    @property
    def away(self) -> str | None:
        """Why it is thought to be away, if it is."""
        silent_s = time.monotonic() - self._answered_at
        if self._error is None and silent_s > self._patience_s:
            return f"{self._name} has not answered for {silent_s:.0f} s"
        return self._error


class Lookout:
    """Looks at one worker from its own event loop.

    Args:
        settings: where Kafka is, and how soon a stall is to be seen.
        app: Faust's; its consumer is looked at once ``joined`` is set.
        lanes: what was applied.
        pipeline: what is inside.
        batches: how many micro-batches were scored.

    Attributes:
        joined: whether the worker has asked for partitions.
        board: whether the status board answers; told by whoever posts there.
        lags: how far each partition of ours lies behind, as of the last beat.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        app: Any,
        lanes: Lanes,
        pipeline: Pipeline,
        batches: Batches,
    ) -> None:
        self.joined = False
        self.lags: Mapping[TP, Lag] = {}
        self._lag_watch = LagWatch()
        self._app = app
        self._lanes = lanes
        self._pipeline = pipeline
        self._batches = batches
        self._topics = set(settings.topics.values())
        self._backlog = Backlog(settings)
        self._waiting: Mapping[TP, int] = {}
        limit_s = settings.watchdog_stall_s or LOOKS_PER_LIMIT * LONGEST_PERIOD_S
        self._period_s = min(limit_s / LOOKS_PER_LIMIT, LONGEST_PERIOD_S)
        patience_s = 2 * self._period_s + BEAT_S
        self.board = Reach("Redis", patience_s)
        self._redis = Reach("Redis", patience_s)
        self._kafka = Reach("Kafka", patience_s)
        self._away: set[str] = set()

    async def beat(self, watchdog: Watchdog) -> None:
        """Tells the watchdog every second, until cancelled."""
        while True:
            seen = self.seen()
            self.lags = self._lag_watch.look(self._standings())
            self._say_who_is_away(seen)
            watchdog.see(seen)
            await asyncio.sleep(BEAT_S)

    def _say_who_is_away(self, seen: Seen) -> None:
        for server, why in (("Redis", seen.redis), ("Kafka", seen.kafka)):
            if why and server not in self._away:
                self._away.add(server)
                log.warning("a server is away; waiting for it", server=server, why=why)
            elif not why and server in self._away:
                self._away.discard(server)
                log.info("the server answers again", server=server)

    def seen(self) -> Seen:
        """What is to be seen now."""
        if not self.joined:
            return Seen(waits=_waits())
        applied = self._applied()
        return Seen(
            joined=True,
            rebalancing=self._app.rebalancing or not self._app.rebalancing_count,
            redis=self._redis.away or self.board.away,
            kafka=self._kafka.away,
            waits=_waits(),
            applied={partition_name(tp): offset for tp, offset in applied.items()},
            waiting=frozenset(
                partition_name(tp) for tp, offset in self._waiting.items() if applied.get(tp) == offset
            ),
            busy=self._pipeline.busy,
            batches=self._batches.count,
            rewinds=self._pipeline.progress.rewinds,
            missing=tuple((each.partition, each.first, each.last) for each in self._lanes.missing_ranges),
        )

    async def watch_backlog(self) -> None:
        """Asks Kafka now and then which partitions hold records that were not applied, until cancelled."""
        try:
            while True:
                applied = self._applied()
                try:
                    self._waiting = await self._backlog.look(applied, self._app.consumer.ends_seen(applied))
                except DependencyError as error:
                    self._kafka.failed(error)
                else:
                    self._kafka.answered()
                await asyncio.sleep(self._period_s)
        finally:
            await self._backlog.close()

    async def audit(self) -> None:
        """Has the pipeline compare what it applied with what Redis holds now and then, until cancelled."""
        while True:
            try:
                await self._pipeline.audit()
            except DependencyError as error:
                self._redis.failed(error)
            else:
                self._redis.answered()
            await asyncio.sleep(self._period_s)

    def _standings(self) -> dict[TP, Standing]:
        """What is known of each partition that this worker reads."""
        if not self.joined:
            return {}
        lanes = self._lanes.open_lanes()
        ends = self._app.consumer.ends_seen(lanes)
        standings = {}
        for tp, lane in lanes.items():
            applied = min(lane.applied)
            read_at, read_ms = self._backlog.read.get(tp, (None, None))
            was_read = read_at == applied
            end = max(ends.get(tp, 0), self._backlog.ends.get(tp, 0))
            standings[tp] = Standing(
                applied,
                end,
                inside_ms=lane.oldest_ms(),
                read_ms=read_ms if was_read else None,
                is_empty=was_read and read_ms is None,
                counted_ms=lane.counted_ms,
            )
        return standings

    def _applied(self) -> dict[TP, int]:
        """Highest applied offset of each partition that is ours."""
        ours = {tp for tp in self._app.consumer.assigned() if tp.topic in self._topics}
        return {tp: self._lanes.applied(tp) for tp in ours}


def _waits() -> tuple[str, ...]:
    return tuple(f"{wait.doing}: {wait.error}" for wait in waits())
