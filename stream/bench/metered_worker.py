"""A worker as shipped that keeps its metrics by turns, with them for so many events and without for as many.

Rules:
- Everything that metrics cost is in a turn with them but the look at the event loop, 0.1 ms a second, and
  one call more for each of the store's.
- A window is tokenised, scored and counted by several threads, and two are inside at once: of a turn's
  events, a window or two were metered as in the turn before.
- A turn's figures are a line of JSON on standard output, told as it ends.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from stream import logs, worker
from stream.metrics.store import Trips
from stream.metrics.worker import WorkerMeter, WorkerReading
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from stream.core.events import Channel
    from stream.record import Judged
    from stream.runs import Run
    from stream.scorer.contract import Scorer
    from stream.scorer.isolate import Scored
    from stream.watchdog import Watchdog


class Turn(msgspec.Struct, frozen=True):
    """What a turn took."""

    metered: bool
    events: int
    cpu_s: float
    """Of the whole process."""
    wall_s: float
    own_cpu_s: dict[str, float]
    """Of it, what the meter's methods took, by name; on whichever threads."""


class TurningMeter(WorkerMeter):
    """Keeps what it is told in every other turn, from the second on.

    Args:
        turn_events: events of a turn, at least.
        tell: of a turn that ended.
    """

    def __init__(self, turn_events: int, tell: Callable[[Turn], None]) -> None:
        super().__init__()
        self.is_on = False
        self._turn_events = turn_events
        self._tell = tell
        self._events = 0
        self._own_cpu_s: dict[str, float] = {}
        self._adding = threading.Lock()
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def taken(self, channel: Channel, run: Run) -> None:
        """See ``Meter``; so below."""
        self._metered("taken", super().taken, channel, run)

    def stage(self, stage: str, seconds: float) -> None:
        """In its turn."""
        self._metered("stage", super().stage, stage, seconds)

    def encoded(self, scorer: Scorer[Any], texts: Sequence[str], encoded: Any) -> None:
        """In its turn."""
        self._metered("encoded", super().encoded, scorer, texts, encoded)

    def scored(self, scorer: Scorer[Any], scored: Scored) -> None:
        """In its turn."""
        self._metered("scored", super().scored, scorer, scored)

    def batch(self, lengths: NDArray[Any], cpu_s: float) -> None:
        """In its turn."""
        self._metered("batch", super().batch, lengths, cpu_s)

    def applied(self, judged: Judged, now_ms: float) -> None:
        """In its turn; and ends the turn."""
        self._metered("applied", super().applied, judged, now_ms)
        self._events += len(judged.events)
        if self._events >= self._turn_events:
            self._end_turn()

    def _metered(self, name: str, keep: Callable[..., None], *told: Any) -> None:
        if not self.is_on:
            return
        started_s = time.thread_time()
        keep(*told)
        took_s = time.thread_time() - started_s
        with self._adding:
            self._own_cpu_s[name] = self._own_cpu_s.get(name, 0.0) + took_s

    def _end_turn(self) -> None:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self._tell(
            Turn(self.is_on, self._events, cpu_s - self._cpu_s, wall_s - self._wall_s, self._own_cpu_s)
        )
        self._own_cpu_s = {}
        self.is_on = not self.is_on
        self._events = 0
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()


class TurningTrips(Trips):
    """Times calls in the meter's turns.

    Args:
        meter: whose.
    """

    def __init__(self, meter: TurningMeter) -> None:
        super().__init__()
        self._meter = meter

    async def timed(self, operation: str, call: Awaitable[Any]) -> Any:
        """See ``Trips``."""
        return await (super().timed(operation, call) if self._meter.is_on else call)


def main() -> None:
    """Runs a worker by the environment's settings; the argument is the events of a turn."""
    meter = TurningMeter(int(sys.argv[1]), lambda turn: print(msgspec.json.encode(turn).decode(), flush=True))

    def reading(watchdog: Watchdog) -> WorkerReading:
        return WorkerReading(lambda: watchdog.report, meter, TurningTrips(meter))

    settings = load(scorer="constant")
    logs.configure(settings)  # to standard error
    asyncio.run(worker.serve(settings, reading))


if __name__ == "__main__":
    main()
