"""What metrics cost a worker: the whole path with them, asked for every second, and without.

Rules:
- One run, one broker, one topic; in each round a worker without metrics, one with, and one without again,
  each a process of its own, in an order that turns round by round. Ratios are taken within a round, and the
  figure is their median.
- The two without differ by nothing: their ratio is what the machine adds by itself, and a cost below its
  spread is none that was measured.
- CPU is the worker's whole process: what answers the questions is in it.
- Asking is done as Prometheus does it, over HTTP, from this process.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import threading
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from stream.bench.pipeline import fill, time_worker
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings

OFF, ON, AGAIN = "without", "with metrics", "without, again"
ORDERS = ((OFF, ON, AGAIN), (ON, OFF, AGAIN), (OFF, AGAIN, ON))


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """How much more one contestant takes than the other; 0.01 is one in a hundred."""

    cpu: float
    """CPU time an event; median of the rounds."""
    cpu_rounds: tuple[float, ...]
    throughput: float
    """Events a second that are lost; likewise."""
    throughput_rounds: tuple[float, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench metrics --json`` prints."""

    events: int
    products: int
    rounds: int
    cpu_us_per_event: dict[str, float]
    """Median by contestant."""
    events_per_s: dict[str, float]
    metrics: Cost
    noise: Cost
    """Of the second worker without metrics, beside the first."""
    scrapes: int
    scrape_ms: float
    """Median, as whoever asks sees it of a worker under full load."""
    page_bytes: int


def run(*, events: int, products: int, rounds: int, every_s: float = 1.0) -> Report:
    """Runs the bench on servers of its own.

    Args:
        events: records in the topic.
        products: the Zipf-distributed products they are of.
        rounds: turns each contestant gets.
        every_s: how often metrics are asked for.

    Raises:
        DependencyError: a server or contestant failed.
    """
    scraper = Scraper(every_s)
    with LocalServers() as servers:
        settings = load(
            kafka=servers.kafka, redis=servers.redis, session_timeout_s=LOCAL_SESSION_TIMEOUT_S, partitions=4
        )
        ensure(settings)
        asyncio.run(fill(settings, events, products))
        turns = [
            {name: _turn(settings, events, scraper, on=name == ON) for name in ORDERS[number % len(ORDERS)]}
            for number in range(rounds)
        ]
    return Report(
        events=events,
        products=products,
        rounds=rounds,
        cpu_us_per_event=_medians(turns, "cpu_us_per_event"),
        events_per_s=_medians(turns, "events_per_s"),
        metrics=_cost(turns, ON),
        noise=_cost(turns, AGAIN),
        scrapes=len(scraper.took_s),
        scrape_ms=statistics.median(scraper.took_s) * 1000,
        page_bytes=scraper.page_bytes,
    )


class Scraper:
    """Asks for metrics, again and again.

    Args:
        every_s: how often.
    """

    def __init__(self, every_s: float) -> None:
        self.took_s: list[float] = []
        self.page_bytes = 0
        self._every_s = every_s

    @contextmanager
    def asking(self, port: int) -> Iterator[None]:
        """Asks meanwhile."""
        ended = threading.Event()
        thread = threading.Thread(target=self._ask, args=(port, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _ask(self, port: int, ended: threading.Event) -> None:
        while not ended.wait(self._every_s):
            started = time.perf_counter()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    page = answer.read()
            except OSError:
                continue  # it is not up yet
            self.took_s.append(time.perf_counter() - started)
            self.page_bytes = max(self.page_bytes, len(page))


def _turn(settings: Settings, events: int, scraper: Scraper, *, on: bool) -> dict[str, float]:
    if not on:
        return time_worker(settings, events, {}, {"REVIEWPULSE_HEALTH": ""})
    port = _free_port()
    with scraper.asking(port):
        return time_worker(settings, events, {}, {"REVIEWPULSE_HEALTH": f"127.0.0.1:{port}"})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _medians(turns: list[dict[str, dict[str, float]]], figure: str) -> dict[str, float]:
    return {name: statistics.median(turn[name][figure] for turn in turns) for name in (OFF, ON, AGAIN)}


def _cost(turns: list[dict[str, dict[str, float]]], name: str) -> Cost:
    cpu = tuple(turn[name]["cpu_us_per_event"] / turn[OFF]["cpu_us_per_event"] - 1 for turn in turns)
    lost = tuple(1 - turn[name]["events_per_s"] / turn[OFF]["events_per_s"] for turn in turns)
    return Cost(
        cpu=statistics.median(cpu),
        cpu_rounds=cpu,
        throughput=statistics.median(lost),
        throughput_rounds=lost,
    )


def rows(report: Report) -> list[tuple[str, ...]]:
    """What is printed: contestant, events a second, µs CPU an event, and how they differ from the first."""
    found: list[tuple[str, ...]] = []
    for name, cost in ((OFF, None), (ON, report.metrics), (AGAIN, report.noise)):
        figures = f"{report.events_per_s[name]:,.0f}", f"{report.cpu_us_per_event[name]:.2f}"
        differs = ("", "") if cost is None else (_said(cost.cpu_rounds), _said(cost.throughput_rounds, -1))
        found.append((name, *figures, *differs))
    return found


def _said(rounds: tuple[float, ...], sign: int = 1) -> str:
    """The median and the range."""
    signed = [sign * each for each in rounds]
    return f"{statistics.median(signed):+.1%} ({min(signed):+.1%} to {max(signed):+.1%})"
