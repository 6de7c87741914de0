"""Figures of the rate detector: ``reviewpulse bench rate``.

Rules:
- Everything is drawn with a fixed seed and judged by the real ``judge``, from a product never seen.
- A drawn product leaves its fleet at its first false alarm: a second one of the same product is not news.
- NAB's part reads its files from a folder, and is left out without one.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from stream.bench import nab
from stream.core.profile import HOURS, Profile, flat
from stream.core.rate import threshold
from stream.core.spike import Observation
from stream.core.surge import SurgeDetector, SurgeRule, surge_rule_from
from stream.core.surge_run_length import run_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
CALL = 256
EVENING = Profile(
    [0.25 if hour % 24 < 7 else 2.5 if hour % 24 >= 18 else 1.0 for hour in range(HOURS)], "evening"
)
"""Ten times as much in the evening as at night."""


def rule(run: float) -> SurgeRule:
    """The default rule at a run length."""
    return surge_rule_from(1.0, run, min_negatives=8, historic_after_ms=DAY_MS)


def complaints(arrivals_ms: NDArray[np.int64]) -> list[Observation]:
    """A negative of nobody's at each moment."""
    return [Observation("n", at_ms, at_ms, True, 0.9, None, "") for at_ms in arrivals_ms.tolist()]


def steady(rng: Generator, per_day: float, count: int) -> NDArray[np.float64]:
    """Days at which ``count`` negatives of a Poisson process arrive."""
    return np.cumsum(rng.exponential(1.0 / per_day, count))


def bursty(
    rng: Generator, per_day: float, count: int, burstiness: float, slot_days: float
) -> NDArray[np.float64]:
    """The same, where each slot's rate is a gamma of this variance over its square."""
    slots = int(1.2 * count / (per_day * slot_days)) + 50
    sizes = rng.poisson(per_day * slot_days * rng.gamma(1.0 / burstiness, burstiness, slots))
    starts = np.repeat(np.arange(slots) * slot_days, sizes)
    days: NDArray[np.float64] = np.sort(starts + rng.random(starts.size) * slot_days)
    return days[:count]


def in_evenings(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moments of operational time of ``EVENING`` as ordinary ones."""
    hours = np.concatenate(([0.0], np.cumsum(np.roll(EVENING.weights, -_START_HOUR))))
    weeks, rest = np.divmod(days * 24.0, hours[-1])
    moments: NDArray[np.float64] = (weeks * HOURS + np.interp(rest, hours, np.arange(HOURS + 1.0))) / 24.0
    return moments


_START_HOUR = int((START_MS // 3_600_000 + 72) % HOURS)


def arrivals(days: NDArray[np.float64]) -> NDArray[np.int64]:
    """Days since the start as records' timestamps; the start is at the beginning of an hour."""
    return (START_MS // 3_600_000 * 3_600_000 + days * DAY_MS).astype(np.int64)


class Alarms(NamedTuple):
    """What a stationary fleet did."""

    false: int
    of_budget: float


def until_alarm(detector: SurgeDetector, days: NDArray[np.float64]) -> tuple[bool, int]:
    """Whether a product alarms, and the negatives it had until then."""
    told, state = complaints(arrivals(days)), None
    for start in range(0, len(told), CALL):
        state, alerts = detector.judge("p", "reviews", state, told[start : start + CALL])
        if alerts:
            return True, start + CALL
    return False, len(told)


def fleet(
    run: float, streams: Iterator[NDArray[np.float64]], total: int, profile: Profile | None = None
) -> Alarms:
    """False alarms of products learned from nothing, and their ratio to the budget."""
    detector = SurgeDetector(rule(run), "bench", profile)
    false = seen = 0
    while seen < total:
        alarmed, negatives = until_alarm(detector, next(streams))
        false, seen = false + alarmed, seen + negatives
    return Alarms(false, false * run / seen)


def endless(draw: Callable[[Generator], NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """One product after another."""
    rng = np.random.default_rng(7)
    while True:
        yield draw(rng)


def zipf_like(
    rng: Generator, mean_count: int, low: float = 0.5, high: float = 200.0
) -> Iterator[NDArray[np.float64]]:
    """Steady products of rates from ``low`` to ``high`` a day, as many of each order of magnitude."""
    while True:
        per_day = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        yield steady(rng, per_day, max(1, int(rng.exponential(mean_count))))


def delays(
    per_day: float, factor: float, tries: int = 40, run: float = 150_000.0
) -> tuple[list[float], list[int], int]:
    """Hours and negatives from a rise to the alert after 60 steady days, and rises missed for 14 days."""
    rng = np.random.default_rng(7)
    detector = SurgeDetector(rule(run), "bench")
    hours, counts, missed = [], [], 0
    for _ in range(tries):
        before = steady(rng, per_day, int(90 * per_day) + 20)
        before = before[before < 60.0]
        state, alerts = detector.judge("p", "reviews", None, complaints(arrivals(before)))
        if alerts:
            continue
        risen = 60.0 + steady(rng, per_day * factor, min(int(14 * per_day * factor) + 8, 2_000))
        fired = None
        for number, told in enumerate(complaints(arrivals(risen[risen < 74.0])), 1):
            state, alerts = detector.judge("p", "reviews", state, [told])
            if alerts:
                fired = number
                break
        if fired is None:
            missed += 1
        else:
            hours.append(float(risen[fired - 1] - 60.0) * 24.0)
            counts.append(fired)
    return hours, counts, missed


def cost_us(calls: int = 20_000) -> float:
    """Microseconds of CPU a call with one negative of a steady product takes; the best of five."""
    told = complaints(arrivals(steady(np.random.default_rng(7), 20.0, calls)))
    detector = SurgeDetector(rule(1e6), "bench")
    best = float("inf")
    for _ in range(5):
        state, began = None, time.process_time()
        for each in told:
            state, _ = detector.judge("p", "reviews", state, [each])
        best = min(best, time.process_time() - began)
    return best / calls * 1e6


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    return table


def _known() -> Table:
    rows = [
        (factor, *(run_length(threshold(run, factor), factor) / run for run in (1e3, 1e4, 1e5, 1e6)))
        for factor in (2.0, 3.0, 5.0)
    ]
    return _table("Run length / target, rate known (exact)", ("factor", "1e3", "1e4", "1e5", "1e6"), rows)


def _fleets(total: int) -> Table:
    rows: list[Sequence[object]] = []
    for run in (2_000.0, 20_000.0):
        for mean_count in (300, 3_000):
            rng = np.random.default_rng(7)
            rows.append((f"{run:,.0f}", mean_count, *fleet(run, zipf_like(rng, mean_count), total)))
    columns = ("run length", "negatives a product", "false alarms", "of the budget")
    return _table("Steady fleets, 0.5 to 200 negatives a day, learned from nothing", columns, rows)


def _evenings(per_day: float, rng: Generator) -> NDArray[np.float64]:
    return in_evenings(steady(rng, per_day, 3_000))


def _bursty(per_day: float, burstiness: float, slot_days: float, rng: Generator) -> NDArray[np.float64]:
    return bursty(rng, per_day, 3_000, burstiness, slot_days)


def _patterns(total: int) -> Table:
    rows: list[Sequence[object]] = []
    for per_day in (5.0, 50.0):
        for profile in (flat(), EVENING):
            told = fleet(2_000.0, endless(partial(_evenings, per_day)), total, profile)
            rows.append((per_day, profile.version, *told))
    columns = ("negatives a day", "profile", "false alarms", "of the budget")
    return _table("Ten times as many in the evening as at night, run length 2,000", columns, rows)


def _bursts(total: int) -> Table:
    rows: list[Sequence[object]] = []
    for per_day, slot_days in ((5.0, 1.0), (50.0, 1.0), (50.0, 1.0 / 24.0), (500.0, 1.0 / 24.0)):
        for burstiness in (0.1, 0.25, 0.5):
            draw = partial(_bursty, per_day, burstiness, slot_days)
            told = fleet(2_000.0, endless(draw), total)
            rows.append((per_day, f"{slot_days * 24:.0f} h", burstiness, *told))
    columns = ("negatives a day", "slot", "burstiness", "false alarms", "of the budget")
    return _table("Bursty fleets (negative binomial), run length 2,000", columns, rows)


def _delays() -> Table:
    rows: list[Sequence[object]] = []
    for per_day in (0.5, 2.0, 10.0, 50.0, 200.0):
        for factor in (2.0, 3.0, 5.0, 10.0):
            hours, counts, missed = delays(per_day, factor)
            told = (
                (*np.quantile(hours, (0.5, 0.9)).tolist(), float(np.median(counts)))
                if hours
                else ("", "", "")
            )
            rows.append((per_day, factor, *told, f"{missed} of {missed + len(hours)}"))
    columns = ("negatives a day", "times", "hours p50", "p90", "negatives p50", "missed")
    return _table("From a rise to the alert after 60 days, run length 150,000", columns, rows)


def _nab(folder: Path) -> Sequence[Table]:
    series = [nab.read_series(folder, name) for name in nab.FILES]
    days = len(series[0].counts) * nab.BIN_MS / DAY_MS
    rows: list[Sequence[object]] = []
    for budget in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        scores = nab.at_budget(series, budget)
        total = nab.total_of(scores)
        each = [round(score.raw, 2) for score in scores]
        rows.append(
            (
                budget,
                total.normalised,
                f"{total.found} of {total.windows}",
                total.false_positives / days,
                *each,
            )
        )
    columns = ("false alarms a day allowed", "score", "windows found", "outside, a day", *nab.FILES)
    ours = _table("NAB realTweets, standard profile; the default budget is 1", columns, rows)
    peers: list[Sequence[object]] = []
    for peer in nab.PEERS:
        level, best = nab.best_of_peer(series, peer)
        peers.append(
            (f"{peer} over {level:.3g}, run here", best.normalised, f"{best.found} of {best.windows}")
        )
    for name, raw in nab.PUBLISHED.items():
        published = nab.Score(sum(raw), sum(len(each.windows) for each in series), 0, 0)
        peers.append((f"{name}, published", published.normalised, ""))
    peers.sort(key=lambda row: -float(str(row[1])))
    title = "Others on the same files, each at the threshold that suits the labels best"
    return ours, _table(title, ("detector", "score", "windows found"), peers)


def main(nab_folder: Path | None, total: int = 400_000) -> None:
    """Prints every table."""
    out = Console()
    out.print(_known())
    out.print(_fleets(total))
    out.print(_patterns(total // 2))
    out.print(_bursts(total // 4))
    out.print(_delays())
    out.print(f"A call with one negative: {cost_us():.1f} us")
    if nab_folder is None:
        out.print("NAB: not run; name the folder of its files with --nab")
        return
    for table in _nab(nab_folder):
        out.print(table)
