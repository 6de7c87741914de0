"""Health of a process that has no watchdog: whether its loop turns, and what it knows of its servers.

Rules:
- The loop looks at itself ``LOOK_S`` apart; how late it was is a metric, and that it looked is its heartbeat.
- ``/livez`` is well while the loop turns; ``/readyz`` while it turns and nothing is wrong.
- What is wrong is asked on the loop every ``PROBE_S``, with a limit: the pages are made in another thread, of
  the last answers.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from stream.core.watch import FRESH_S, Check, Report
from stream.metrics.catalogue import BY_NAME
from stream.metrics.distribution import Distribution
from stream.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stream.metrics.families import Values

LOOK_S = 0.25
"""How often the event loop's lateness is measured: some 100 µs a second."""
PROBE_S = 2.0
PATIENCE_S = 5.0
"""Of one probe."""


class LoopLag:
    """How late the event loop wakes up a task that sleeps."""

    def __init__(self) -> None:
        self.seconds = Distribution(BY_NAME["reviewpulse_event_loop_lag_seconds"].buckets)
        self.cpu_s = 0.0
        """CPU time of the loop's thread so far."""
        self.turned_at = time.monotonic()

    async def watch(self) -> None:
        """Looks until cancelled."""
        while True:
            due = time.perf_counter() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self.seconds.add(max(time.perf_counter() - due, 0.0))
            self.cpu_s = time.thread_time()
            self.turned_at = time.monotonic()


class Vitals:
    """Looks at a process from its own loop.

    Args:
        probe: by check, what is wrong with it, or None; awaited on the loop.
        lag: looks at the loop.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[Mapping[str, str | None]]], lag: LoopLag | None = None
    ) -> None:
        self.lag = lag or LoopLag()
        self._probe = probe
        self._checks: dict[str, Check] = {}
        self._began_at = time.monotonic()

    async def run(self) -> None:
        """Looks until cancelled."""
        watching = asyncio.create_task(self.lag.watch())
        try:
            while True:
                await self._look()
                await asyncio.sleep(PROBE_S)
        finally:
            await end([watching])

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._probe()
        except TimeoutError:
            found = dict.fromkeys(self._checks, f"no answer within {PATIENCE_S:g} s")
        now = time.monotonic()
        checks = {}
        for name, trouble in found.items():
            before = self._checks.get(name)
            is_same = before is not None and before.ok is (trouble is None)
            since = before.since if before is not None and is_same else now
            checks[name] = Check(name, trouble is None, since, trouble or "it is well")
        self._checks = checks  # at once: another thread reads them

    def report(self) -> Report:
        """How it is now; from any thread."""
        now, turned_at = time.monotonic(), self.lag.turned_at
        turns = now - turned_at < FRESH_S
        says = (
            "the event loop turns" if turns else f"the event loop has not turned for {now - turned_at:.0f} s"
        )
        loop = Check("loop", turns, self._began_at if turns else turned_at, says)
        checks = tuple(self._checks.values())
        if not checks:
            checks = (Check("started", False, self._began_at, "it has not looked at anything yet"),)
        return Report(at=now, live=(loop,), ready=(loop._replace(name="fresh"), *checks))

    def read(self, values: Values) -> None:
        """The metrics of all that."""
        report = self.report()
        checks = {check.name: check for check in (*report.live, *report.ready)}
        values.checks(checks.values())
        for server in ("redis", "kafka"):
            values.set(f"reviewpulse_{server}_up", server in checks and checks[server].ok)
        values.histogram("reviewpulse_event_loop_lag_seconds", self.lag.seconds)
