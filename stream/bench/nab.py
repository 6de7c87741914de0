"""The rate detector on the Numenta Anomaly Benchmark's counts of tweets, by NAB's own score.

Rules:
- The score is written from the paper (Lavin and Ahmad 2015, "Evaluating Real-time Anomaly Detection
  Algorithms: the Numenta Anomaly Benchmark", section III; the code's edge cases from NAB's documentation):
  the first detection inside a labelled window counts by how early it is, each one outside costs by how far it
  is behind the last window, a missed window costs one; the first 15% (of at most 5,000 rows) is probation.
- The detector is ``stream.core.rate``'s: a bin of n tweets is n negatives in its time. The rule is the
  default one; the run length is the tweets a day of the probation over the false alarms a day that the budget
  allows the five streams together. No number is fitted to the labels, but the detector was built with these
  files' scores in view: blind is only what the other files of the set say.
- The profile is learned from the probation and anew each week, from what was before.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from stream.core.profile import HOURS, Profile, flat, hour_of_week, learn_profile
from stream.core.rate import (
    Belief,
    Pace,
    RateRule,
    belief_of,
    evidence_of,
    learn,
    learn_burst,
    quiet_of,
    recovery_rates,
)
from stream.core.surge import QUIET_DAYS, RECOVERED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BIN_MS = 300_000
BINS_A_WEEK = 2_016
FALSE_POSITIVE = 0.11
"""Cost of the standard profile; a true positive is worth 1 and a missed window costs 1."""
MIN_NEGATIVES = 8
FILES = ("AAPL", "CRM", "FB", "IBM", "PFE")

PUBLISHED = {
    "contextOSE": (1.58811, 2.58271, 1.72048, 1.25037, 3.45696),
    "ARTime": (2.91610, 2.10073, 1.21424, 0.77802, 2.58683),
    "earthgeckoSkyline": (2.88764, 1.48339, 0.48396, -0.91007, 2.64677),
    "knncad": (2.48335, 1.36482, 0.00985, 0.38346, 1.92040),
    "numenta": (1.20961, 0.71958, 1.38958, -0.07280, 2.68833),
    "htmjava": (1.32210, 2.51263, 1.16958, -1.10396, 0.37325),
    "twitterADVec": (0.16875, 1.78270, -0.14690, 0.30088, 1.69757),
    "windowedGaussian": (1.51400, 0.76385, 0.11975, -0.79911, 0.26558),
    "relativeEntropy": (-0.69281, -1.24821, 1.39048, 1.17137, 0.90544),
    "skyline": (2.48416, 0.39358, 1.53148, 0.33058, -4.0),
    "randomCutForest": (0.75008, 1.67850, -1.52802, -5.34295, 2.25931),
    "numentaTM": (1.25845, -1.30338, 1.27958, -2.56065, -2.47430),
    "bayesChangePt": (-3.50205, -4.35864, -1.27711, -0.90983, -4.0),
}
"""Raw standard scores of NAB's detectors on ``FILES``: ``results/*/*_standard_scores.csv`` in numenta/NAB.
NAB chose each detector's threshold there for its score over all labels, these files' among them."""


class Series(NamedTuple):
    """A file of NAB."""

    ends_ms: list[int]
    """Each bin's timestamp, taken for its end."""
    counts: list[float]
    windows: list[tuple[int, int]]
    """First and last row of each labelled window."""


class Score(NamedTuple):
    """What NAB's rule says of a detector on one file."""

    raw: float
    windows: int
    found: int
    false_positives: int

    @property
    def normalised(self) -> float:
        """0 for a detector that never detects, 100 for the perfect one."""
        return 100.0 * (self.raw + self.windows) / (2.0 * self.windows)


def total_of(scores: Sequence[Score]) -> Score:
    """The score of several files together.

    >>> total_of([Score(1.0, 1, 1, 0), Score(-1.0, 1, 0, 0)])
    Score(raw=0.0, windows=2, found=1, false_positives=0)
    """
    raw, windows, found, false_positives = zip(*scores, strict=True)
    return Score(sum(raw), sum(windows), sum(found), sum(false_positives))


def read_series(folder: Path, name: str) -> Series:
    """``Twitter_volume_<name>.csv.gz`` and its windows."""
    file = f"Twitter_volume_{name}.csv"
    with gzip.open(folder / f"{file}.gz", "rt", encoding="utf-8") as rows:
        read = [(_ms(row["timestamp"]), float(row["value"])) for row in csv.DictReader(rows)]
    ends_ms = [ms for ms, _ in read]
    labelled = json.loads((folder / "windows.json").read_text(encoding="utf-8"))[f"realTweets/{file}"]
    windows = [(ends_ms.index(_ms(first)), ends_ms.index(_ms(last))) for first, last in labelled]
    return Series(ends_ms, [count for _, count in read], windows)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def probation(rows: int) -> int:
    """Rows at the beginning that are not scored.

    >>> probation(15_902), probation(1_000)
    (750, 150)
    """
    return min(int(0.15 * rows), 750)


def sigmoid(position: float) -> float:
    """NAB's scaled sigmoid: of a window's left edge (-1) nearly 1, of its right edge (0) 0, far behind it -1.

    >>> [round(sigmoid(position), 5) for position in (-1.0, -0.5, 0.0, 1.0, 3.0)]
    [0.98661, 0.84828, 0.0, -0.98661, -1.0]
    """
    return -1.0 if position >= 3.0 else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def score(rows: int, windows: Sequence[tuple[int, int]], detections: Sequence[int]) -> Score:
    """NAB's raw standard score.

    Args:
        rows: of the file.
        windows: first and last row of each, in order, after the probation.
        detections: rows.

    >>> score(1_000, [(400, 499)], []).raw, score(1_000, [(400, 499)], [400, 430]).raw
    (-1.0, 1.0)
    """
    counted = [row for row in detections if row >= probation(rows)]
    best: dict[int, float] = {}
    raw, wrong = 0.0, 0
    for row in counted:
        inside = next((k for k, (first, last) in enumerate(windows) if first <= row <= last), None)
        if inside is not None:
            first, last = windows[inside]
            earned = sigmoid(-(last - row + 1) / (last - first + 1)) / sigmoid(-1.0)
            best[inside] = max(best.get(inside, -1.0), earned)
            continue
        behind = [window for window in windows if window[1] < row]
        position = (row - behind[-1][1]) / (behind[-1][1] - behind[-1][0]) if behind else 3.0
        raw += FALSE_POSITIVE * sigmoid(position)
        wrong += 1
    return Score(raw + sum(best.get(k, -1.0) for k in range(len(windows))), len(windows), len(best), wrong)


class _Watch:
    """One stream of counts under the rate detector."""

    def __init__(self, rule: RateRule) -> None:
        self.rule = rule
        self.pace = Pace()
        self.negatives = self.days = 0.0
        self.firing: tuple[Belief, tuple[float, float]] | None = None
        self.quiet = self.quiet_days = 0.0

    def alarms(self, count: float, days: float) -> bool:
        """Takes in a bin."""
        if self.firing is not None:
            self._recover(count, days, *self.firing)
            return False
        self.negatives += count
        self.days += days
        belief = belief_of(self.pace, self.rule)
        evidence = evidence_of(self.negatives, self.days, belief)
        if evidence >= belief.threshold and self.negatives >= MIN_NEGATIVES:
            learn_burst(self.pace, self.rule, self.negatives / self.days / belief.per_day)
            self.firing = belief, recovery_rates(belief, self.negatives / self.days)
            self.quiet = self.quiet_days = self.negatives = self.days = 0.0
            return True
        if evidence <= 0.0 or self.days >= belief.patience_days:
            learn(self.pace, self.rule, self.negatives, self.days)
            self.negatives = self.days = 0.0
        return False

    def _recover(self, count: float, days: float, belief: Belief, rates: tuple[float, float]) -> None:
        self.quiet += quiet_of(count, days, rates, belief.clump)
        self.quiet_days += days
        if self.quiet <= 0.0:
            self.quiet = self.quiet_days = 0.0
        if self.quiet >= RECOVERED and self.quiet_days >= QUIET_DAYS:
            self.firing = None


def detections(series: Series, rule: RateRule) -> list[int]:
    """Rows at which the rate detector alarms."""
    rows, on = len(series.counts), probation(len(series.counts))
    profile, watch, alarms = _profile_until(series, on), _Watch(rule), []
    for row in range(rows):
        if row > on and row % BINS_A_WEEK == 0:
            profile = _profile_until(series, row)
        days = profile.days(series.ends_ms[row] - BIN_MS, series.ends_ms[row])
        if row < on:
            learn(watch.pace, rule, series.counts[row], days)
        elif watch.alarms(series.counts[row], days):
            alarms.append(row)
    return alarms


def _profile_until(series: Series, row: int) -> Profile:
    """Of the rows before ``row``; its highest hundredth is cut, or one burst would be an hour's habit."""
    most = sorted(series.counts[:row])[int(0.99 * row)] if row else 0.0
    counts, hours = [0.0] * HOURS, [0.0] * HOURS
    for ms, count in zip(series.ends_ms[:row], series.counts[:row], strict=True):
        hour = hour_of_week(ms - BIN_MS)
        counts[hour] += min(count, most)
        hours[hour] += BIN_MS / 3_600_000
    return learn_profile(counts, hours, version="probation") if row else flat()


def tweets_a_day(all_series: Sequence[Series]) -> float:
    """Of the streams together, in their probations."""
    bins_a_day = 86_400_000 / BIN_MS
    return sum(
        sum(series.counts[: probation(len(series.counts))]) / probation(len(series.counts)) * bins_a_day
        for series in all_series
    )


def at_budget(all_series: Sequence[Series], false_alarms_per_day: float) -> list[Score]:
    """Each file's score at a budget for all of them together."""
    rule = RateRule(run_length=tweets_a_day(all_series) / false_alarms_per_day)
    return [score(len(each.counts), each.windows, detections(each, rule)) for each in all_series]


# Peers: each gives a bin a height; it alarms where the height first is above a level.


def by_quantile(counts: Sequence[float]) -> list[float]:
    """Static: the count over the probation's 99.9th percentile."""
    known = sorted(counts[: probation(len(counts))])
    high = max(known[int(0.999 * len(known))], 1.0)
    return [count / high for count in counts]


def by_ewma(counts: Sequence[float], weight: float = 0.05) -> list[float]:
    """The EWMA's deviation from the probation's mean, in its standard deviations (Roberts 1959)."""
    known = counts[: probation(len(counts))]
    mean = sum(known) / len(known)
    spread = math.sqrt(sum((count - mean) ** 2 for count in known) / len(known)) or 1.0
    limit = spread * math.sqrt(weight / (2.0 - weight))
    smooth = accumulate(counts, lambda before, count: before + weight * (count - before), initial=mean)
    return [(value - mean) / limit for value in list(smooth)[1:]]


def by_windowed_gaussian(counts: Sequence[float], window: int = 1_000) -> list[float]:
    """Deviation from the last 1,000 bins' mean in their standard deviations: NAB's windowedGaussian."""
    sums, squares = [0.0, *accumulate(counts)], [0.0, *accumulate(count * count for count in counts)]
    heights = [0.0]
    for row in range(1, len(counts)):
        start = max(0, row - window)
        mean = (sums[row] - sums[start]) / (row - start)
        variance = max((squares[row] - squares[start]) / (row - start) - mean * mean, 1e-6)
        heights.append((counts[row] - mean) / math.sqrt(variance))
    return heights


PEERS: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "static quantile": by_quantile,
    "EWMA 0.05": by_ewma,
    "windowed Gaussian": by_windowed_gaussian,
}
LEVELS = [2.0 ** (step / 4.0) for step in range(-4, 33)]
"""From a half to 256."""


def above(heights: Sequence[float], level: float, hold_bins: int = 48) -> list[int]:
    """Rows at which ``heights`` rise above ``level``; a rise within four hours of the last is the same one.

    >>> above([0, 3, 3, 0, 3, 0, 0, 3], 2, hold_bins=2)
    [1, 7]
    """
    rows: list[int] = []
    last = -hold_bins - 1
    for row, height in enumerate(heights):
        if height > level:
            if row - last > hold_bins:
                rows.append(row)
            last = row
    return rows


def best_of_peer(all_series: Sequence[Series], peer: str) -> tuple[float, Score]:
    """The level that scores best over all files, labels seen, and the score."""
    heights = [PEERS[peer](series.counts) for series in all_series]
    scores = [
        (
            level,
            total_of(
                [
                    score(len(height), series.windows, above(height, level))
                    for series, height in zip(all_series, heights, strict=True)
                ]
            ),
        )
        for level in LEVELS
    ]
    return max(scores, key=lambda each: each[1].raw)
