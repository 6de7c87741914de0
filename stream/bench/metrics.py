"""What metrics cost a worker: their own CPU time while it works, and turns with them beside turns without.

Rules:
- Two workers that differ by nothing differ by 5% here, so one worker has both: metrics for so many events,
  none for as many, and so on (``stream.bench.metered_worker``). A turn with them is compared with the mean
  of the two without beside it, and what drifts through a worker's life falls away.
- The noise is found in the same way: a turn without beside the next two without.
- Steadier than any difference is what metrics' own code takes of a turn's CPU, timed around each call on its
  thread. What they take from others (caches, the interpreter's lock) is in the differences alone.
- Each worker is a process of its own and reads the topic from its beginning. Its first two turns are left
  out: it warms up.
- CPU is the worker's whole process: what answers the questions is in it. It is asked once in every turn with
  metrics, over HTTP, from this process, oftener than Prometheus does. What an answer takes is found apart,
  when the worker idles.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
import numpy as np

from stream.bench.metered_worker import Turn
from stream.bench.pipeline import cpu_seconds, fill, worker_environment
from stream.errors import DependencyError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stream.settings import Settings

WARM_UP_TURNS = 2
IDLE_SCRAPES = 200
IDLE_AFTER_S = 1.0
"""The last events, fewer than two turns, are counted by then."""
RESAMPLES = 10_000
INTERVAL = (2.5, 97.5)
"""Percentiles."""


class Share(msgspec.Struct, frozen=True):
    """How much more a turn takes; 0.01 is one in a hundred."""

    median: float
    low: float
    """From here to ``high`` is a 95% interval of the median, by the bootstrap over turns."""
    high: float
    turns: int


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Turns beside their neighbours."""

    cpu: Share
    """CPU time an event."""
    wall: Share
    """Time an event: what throughput loses."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench metrics --json`` prints."""

    events: int
    products: int
    workers: int
    turn_events: int
    cpu_us_per_event: float
    """Without metrics; median of the turns."""
    events_per_s: float
    """Likewise."""
    metrics: Cost
    noise: Cost
    """Of turns without metrics beside others without."""
    own_cpu: Share
    """What metrics' own code took of the CPU time of turns with them, answers to questions left out."""
    own_us_per_event: dict[str, float]
    """The same by what the meter was told; medians."""
    scrapes: int
    scrape_ms: float
    """Median, as whoever asks sees it of a worker under full load."""
    scrape_cpu_ms: float
    """CPU time of one answer, of an idle worker."""
    page_bytes: int


def run(*, events: int, products: int, workers: int, turn_events: int) -> Report:
    """Runs the bench on servers of its own.

    Args:
        events: records in the topic.
        products: the Zipf-distributed products they are of.
        workers: that read them all, one after another.
        turn_events: events of a turn.

    Raises:
        DependencyError: a server or worker failed.
        ValueError: of so few events there are no turns to compare.
    """
    if events < (WARM_UP_TURNS + 6) * turn_events:
        raise ValueError(f"{events:,} events make no eight turns of {turn_events:,}")
    scraper = Scraper()
    with LocalServers() as servers:
        settings = load(
            kafka=servers.kafka, redis=servers.redis, session_timeout_s=LOCAL_SESSION_TIMEOUT_S, partitions=4
        )
        ensure(settings)
        asyncio.run(fill(settings, events, products))
        lives = [_turns_of_a_worker(settings, events, turn_events, scraper) for _ in range(workers)]
    without = [turn for life in lives for turn in life if not turn.metered]
    metered = [turn for life in lives for turn in life if turn.metered]
    told = {name for turn in metered for name in turn.own_cpu_s}
    return Report(
        events=events,
        products=products,
        workers=workers,
        turn_events=turn_events,
        cpu_us_per_event=statistics.median(turn.cpu_s / turn.events for turn in without) * 1e6,
        events_per_s=statistics.median(turn.events / turn.wall_s for turn in without),
        metrics=_cost([pair for life in lives for pair in beside(life, metered=True)]),
        noise=_cost([pair for life in lives for pair in beside(life, metered=False)]),
        own_cpu=share([sum(turn.own_cpu_s.values()) / turn.cpu_s for turn in metered]),
        own_us_per_event={
            name: statistics.median(turn.own_cpu_s.get(name, 0.0) / turn.events for turn in metered) * 1e6
            for name in sorted(told)
        },
        scrapes=len(scraper.took_s),
        scrape_ms=statistics.median(scraper.took_s) * 1000,
        scrape_cpu_ms=statistics.median(scraper.cpu_s) * 1000,
        page_bytes=scraper.page_bytes,
    )


class Scraper:
    """Asks for metrics.

    Attributes:
        took_s: until each answer of a worker that works.
        cpu_s: of a worker that idles, an answer; one figure a worker.
        page_bytes: the largest answer.
    """

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self.cpu_s: list[float] = []
        self.page_bytes = 0

    def ask(self, port: int) -> None:
        """Asks once.

        Raises:
            DependencyError: the worker does not answer.
        """
        started = time.perf_counter()
        self._ask(port)
        self.took_s.append(time.perf_counter() - started)

    def ask_idle(self, pid: int, port: int) -> None:
        """Asks a worker that idles so often that its CPU time can be told from none."""
        before_s = cpu_seconds(pid)
        for _ in range(IDLE_SCRAPES):
            self._ask(port)
        self.cpu_s.append((cpu_seconds(pid) - before_s) / IDLE_SCRAPES)

    def _ask(self, port: int) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                page = answer.read()
        except OSError as error:
            raise DependencyError(f"The worker does not show its metrics: {error}") from error
        self.page_bytes = max(self.page_bytes, len(page))


def _turns_of_a_worker(settings: Settings, events: int, turn_events: int, scraper: Scraper) -> list[Turn]:
    """All its turns but the first; metrics are asked for in each that has them."""
    port = _free_port()
    turns: list[Turn] = []
    with _turning_worker(settings, turn_events, port) as (pid, next_turn):
        seen = 0
        # The last events may be too few for a turn, and a turn may hold a window more than it should.
        while seen < events - 2 * turn_events:
            turn = next_turn()
            seen += turn.events
            if not turn.metered:
                scraper.ask(port)  # in the turn that has begun
            turns.append(turn)
        time.sleep(IDLE_AFTER_S)
        scraper.ask_idle(pid, port)
    return turns[WARM_UP_TURNS:]


@contextlib.contextmanager
def _turning_worker(
    settings: Settings, turn_events: int, port: int
) -> Iterator[tuple[int, Callable[[], Turn]]]:
    namespace = f"bench-{uuid4().hex[:8]}"
    own = settings.model_copy(update={"namespace": namespace, "group": namespace})
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "stream.bench.metered_worker", str(turn_events)],
            env=worker_environment(own) | {"REVIEWPULSE_HEALTH": f"127.0.0.1:{port}"},
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert worker.stdout is not None
        told = worker.stdout

        def next_turn() -> Turn:
            line = told.readline()
            if not line:
                raise DependencyError("The worker ended by itself: `reviewpulse worker` says why.")
            return msgspec.json.decode(line, type=Turn)

        try:
            yield worker.pid, next_turn
        finally:
            worker.terminate()
            worker.wait(60)
            told.close()  # not before: it may end another turn yet


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def beside(turns: Sequence[Turn], *, metered: bool) -> list[tuple[float, float]]:
    """What turns took an event beside the mean of two turns without metrics, less one: CPU and time.

    Args:
        turns: a worker's, metered and not by turns.
        metered: compare those with metrics, else those without.
    """
    reach = 1 if metered else 2
    found = []
    for before, turn, after in zip(turns, turns[reach:], turns[2 * reach :], strict=False):
        if turn.metered == metered:
            others_cpu_s = (before.cpu_s / before.events + after.cpu_s / after.events) / 2
            others_wall_s = (before.wall_s / before.events + after.wall_s / after.events) / 2
            found.append(
                (turn.cpu_s / turn.events / others_cpu_s - 1, turn.wall_s / turn.events / others_wall_s - 1)
            )
    return found


def _cost(found: Sequence[tuple[float, float]]) -> Cost:
    cpu, wall = zip(*found, strict=True)
    return Cost(cpu=share(cpu), wall=share(wall))


def share(values: Sequence[float]) -> Share:
    """Median and interval."""
    drawn = np.random.default_rng(1).choice(np.asarray(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), INTERVAL)
    return Share(statistics.median(values), float(low), float(high), len(values))


def rows(report: Report) -> list[tuple[str, str, str, str]]:
    """What is printed: which turns, how many, and what they take more of CPU and time an event."""
    return [
        (name, f"{cost.cpu.turns}", _said(cost.cpu), _said(cost.wall))
        for name, cost in (("with metrics", report.metrics), ("without: the noise", report.noise))
    ]


def _said(share: Share) -> str:
    return f"{share.median:+.1%} ({share.low:+.1%} to {share.high:+.1%})"
