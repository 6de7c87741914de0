"""Figures of the spike detector: ``reviewpulse bench detector``.

Rules:
- Run lengths and delays with a known baseline are exact. The rest is drawn with a fixed seed and judged by
  the real ``judge``, from a product never seen.
- A drawn product leaves its fleet at its first false alarm: a second one of the same product is not news.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from stream.core.run_length import run_length
from stream.core.spike import Observation, SpikeDetector, SpikeRule, rule_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

NEGATIVE = Observation("n", 0, 0, True, 0.9, None, "bad")
OTHER = Observation("o", 0, 0, False, 0.1, None, "good")
FLEETS = {"Beta(3, 17)": (3.0, 17.0), "Beta(1, 5.7)": (1.0, 5.7), "Beta(2, 3)": (2.0, 3.0)}
FLEETS |= {"Beta(30, 170)": (30.0, 170.0), "Beta(0.6, 1.4)": (0.6, 1.4)}


def rule(run: float, min_negatives: int = 8) -> SpikeRule:
    """The default rule at a run length."""
    return rule_from(1.0, run, min_events=20, min_negatives=min_negatives, historic_after_ms=86_400_000)


def drawn(rng: Generator, share: float, count: int) -> list[Observation]:
    """``count`` observations of a negative share."""
    return [NEGATIVE if low else OTHER for low in rng.random(count) < share]


def fleet_budget(run: float, spread: tuple[float, float], mean_events: int, total: int) -> tuple[int, float]:
    """False alarms of a fleet learned from nothing, and their ratio to the budget."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(run), "bench")
    alarms = seen = 0
    for share in rng.beta(*spread, total // mean_events):
        state, left = None, max(1, int(rng.exponential(mean_events)))
        while left > 0:
            count = min(256, left)
            state, alerts = detector.judge("p", "reviews", state, drawn(rng, share, count))
            seen, left = seen + count, left - count
            if alerts:
                alarms += 1
                break
    return alarms, alarms * run / seen


def delays(run: float, learned: int, risen: float, tries: int = 200) -> tuple[list[int], list[int], int]:
    """Events to fire after a rise from 0.12, events to resolve after the return, and rises never found."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(run), "bench")
    to_fire, to_resolve, missed = [], [], 0
    for _ in range(tries):
        state, alerts = detector.judge("p", "reviews", None, drawn(rng, 0.12, learned))
        if alerts:
            continue
        state, events = _until_alert(detector, state, rng, risen)
        if events is None:
            missed += 1
            continue
        to_fire.append(events)
        state, ended = detector.judge("p", "reviews", state, drawn(rng, risen, 60))
        if not ended:
            events = _until_alert(detector, state, rng, 0.12)[1]
            to_resolve.append(3_000 if events is None else events)
    return to_fire, to_resolve, missed


def missed_jumps(usual: float, learned: int, burst: int = 80, tries: int = 200) -> float:
    """Share of jumps to 0.6, ``burst`` events long, that a young product's detector never fires on."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(1e6), "bench")
    missed = judged = 0
    for _ in range(tries):
        state, alerts = detector.judge("p", "reviews", None, drawn(rng, usual, learned))
        if not alerts:
            judged += 1
            missed += _until_alert(detector, state, rng, 0.6, burst)[1] is None
    return missed / judged


def _until_alert(
    detector: SpikeDetector, state: bytes, rng: Generator, share: float, most: int = 3_000
) -> tuple[bytes, int | None]:
    for events, each in enumerate(drawn(rng, share, most), 1):
        state, alerts = detector.judge("p", "reviews", state, [each])
        if alerts:
            return state, events
    return state, None


def cost_us(observations_a_call: int, calls: int = 20_000) -> float:
    """Microseconds of CPU a call of a quiet product takes; the best of five."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(1e6), "bench")
    told = [
        [
            msgspec.structs.replace(each, author_id=f"a{call}")
            for each in drawn(rng, 0.12, observations_a_call)
        ]
        for call in range(calls)
    ]
    best = float("inf")
    for _ in range(5):
        state = None
        began = time.process_time()
        for observations in told:
            state, _ = detector.judge("p", "reviews", state, observations)
        best = min(best, time.process_time() - began)
    return best / calls * 1e6


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    return table


def main() -> None:
    """Prints every table."""
    out = Console()
    shares = (0.01, 0.05, 0.12, 0.2, 0.35, 0.5, 0.7, 0.9)
    known = [
        (f"{run:,.0f}", least, *(run_length(rule(run, least), each, each) / run for each in shares))
        for run in (2e3, 3.8e4, 1e6)
        for least in (1, 8)
    ]
    out.print(
        _table("Run length / target, baseline known", ("target", "least negatives", *map(str, shares)), known)
    )
    exact = [
        (f"{run:,.0f}", *(run_length(rule(run), 0.12, risen) for risen in (0.2, 0.25, 0.35, 0.5, 0.7)))
        for run in (3.8e4, 1e6)
    ]
    out.print(
        _table("Delay in events, 0.12 known", ("run length", "0.2", "0.25", "0.35", "0.5", "0.7"), exact)
    )
    fleets = [
        (name, mean_events, *fleet_budget(run, spread, mean_events, total), f"{run:,.0f}")
        for run, total in ((5e3, 2_000_000), (5e4, 6_000_000))
        for name, spread in FLEETS.items()
        for mean_events in (150, 3_000)
    ]
    columns = ("base rates", "events a product", "false alarms", "of the budget", "run length")
    out.print(_table("Fleets learned from nothing", columns, fleets))
    learned_rows = []
    for run in (3.8e4, 1e6):
        for learned in (200, 1_000):
            for risen in (0.35, 0.5):
                fire, resolve, missed = delays(run, learned, risen)
                quantiles = [*np.quantile(fire, (0.5, 0.9)), *np.quantile(resolve, (0.5, 0.9))]
                learned_rows.append((f"{run:,.0f}", learned, risen, *map(int, quantiles), missed))
    headings = (
        "run length",
        "learned",
        "risen to",
        "fires p50",
        "p90",
        "resolves p50",
        "p90",
        "missed of 200",
    )
    out.print(_table("Events to fire and to resolve, 0.12 learned", headings, learned_rows))
    histories = (30, 60, 120, 200, 400)
    jumps = [(usual, *(missed_jumps(usual, learned) for learned in histories)) for usual in (0.05, 0.12, 0.2)]
    after = ("usual share", *(f"after {learned}" for learned in histories))
    out.print(_table("Jumps to 0.6 for 80 events that are missed, run length 1,000,000", after, jumps))
    costs = [(size, cost_us(size)) for size in (1, 2, 5, 50)]
    out.print(_table("Cost of a call", ("observations", "us"), costs))
