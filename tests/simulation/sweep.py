"""Many schedules, over all CPUs.

Rules:
- A schedule depends on its seed alone, so it does not matter which process runs it.
- The processes are fresh ones: what a test has imported or patched is not in them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.bugs import BUGS
from tests.simulation.world import Outcome, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEEDS_AT_ONCE = 20
"""Enough that handing them out costs nothing, few enough that no process is left with much at the end."""
MOST_SHOWN = 5
"""Failing seeds after which a sweep ends."""
GC_YOUNG_OBJECTS = 50_000


class Swept(NamedTuple):
    """What came of a sweep."""

    schedules: int
    failures: list[Outcome]
    strikes: Counter[str]
    seconds: float

    @property
    def rate(self) -> float:
        """Schedules a second."""
        return self.schedules / self.seconds


def sweep(
    schedules: int,
    *,
    first: int = 0,
    bug: str | None = None,
    processes: int | None = None,
    most_failures: int | None = MOST_SHOWN,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Swept:
    """Runs the schedules of seeds ``first`` and following.

    Args:
        schedules: how many.
        first: seed to begin with.
        bug: name of a planted bug.
        processes: how many at once; None for one a CPU.
        most_failures: ends after so many; None to go on.
        on_progress: called now and then with the number of schedules that were run.
    """
    started = time.monotonic()
    done, failures, strikes = 0, [], Counter[str]()
    batches = [
        (range(seed, min(seed + SEEDS_AT_ONCE, first + schedules)), bug)
        for seed in range(first, first + schedules, SEEDS_AT_ONCE)
    ]
    for outcomes in _in_processes(batches, processes or os.cpu_count() or 1):
        done += len(outcomes)
        for outcome in outcomes:
            strikes.update(outcome.strikes)
            if outcome.violation is not None:
                failures.append(outcome)
        on_progress(done)
        if most_failures is not None and len(failures) >= most_failures:
            break
    return Swept(done, failures, strikes, time.monotonic() - started)


def _in_processes(batches: list[tuple[range, str | None]], processes: int) -> Iterator[list[Outcome]]:
    """Outcomes of each batch, in the batches' order: the first failure is the one with the lowest seed."""
    if processes == 1:
        yield from map(run_batch, batches)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _calm_garbage_collector) as pool:
        yield from pool.imap(run_batch, batches)


def run_batch(batch: tuple[range, str | None]) -> list[Outcome]:
    """Runs a few schedules."""
    seeds, bug = batch
    parts = BUGS[bug].parts if bug else None
    return [simulate(seed, parts=parts) for seed in seeds]


def _calm_garbage_collector() -> None:
    """A schedule leaves cycles behind; what was imported need not be looked through for them each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 10, 10)
